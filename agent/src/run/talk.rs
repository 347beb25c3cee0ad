//! A conversation as a future: reports first, so that the server decides on what it knows, then the check-in.

use std::{pin::Pin, rc::Rc};

use callboard_proto::{
    digest::Digest,
    report::{Event, Failure, Report},
};

use super::{Answer, CheckInError, ClientError, check_in, outbox};
use crate::{agent::Agent, journal::Attempt};

/// Longest failure text; it stands in the journal too, which is small.
const MAX_TEXT: usize = 2000;

/// A conversation going on.
pub(super) type Talking = Pin<Box<dyn Future<Output = Talk>>>;

/// What came of it.
pub(super) struct Talk {
    /// `None` if only reports were to be delivered.
    pub(super) answer: Option<Result<Answer, CheckInError>>,
    pub(super) reported: Result<(), ClientError>,
}

impl Talk {
    pub(super) fn failed(&self) -> bool {
        self.reported.is_err() || matches!(self.answer, Some(Err(_)))
    }
}

/// Begins a conversation.
pub(super) fn begin(agent: Rc<Agent>, with_check_in: bool) -> Talking {
    Box::pin(async move {
        let reported = check_in::flush(&agent).await;
        if !with_check_in {
            return Talk { answer: None, reported };
        }
        let answer = check_in::check_in(&agent).await;
        // Reports never stand in the way of a check-in, and a clock that was wrong may be right now.
        let reported = match (&answer, reported) {
            (Ok(_), Err(_)) => check_in::flush(&agent).await,
            (_, reported) => reported,
        };
        Talk { answer: Some(answer), reported }
    })
}

/// A report as it goes into the outbox.
pub(super) fn report(
    agent: &Agent,
    attempt: Attempt,
    release_sha256: Digest,
    event: Event,
    failure: Option<Failure>,
) -> Report {
    let failure = failure.map(|failure| Failure { text: crate::client::plain(&failure.text, MAX_TEXT), ..failure });
    Report {
        assignment_id: attempt.assignment_id,
        attempt: attempt.attempt,
        seq: outbox::seq(event),
        event,
        at: agent.clock.trusted_now(),
        release_sha256,
        failure,
    }
}
