//! A conversation as a future: reports first, so that the server decides on what it knows, then the check-in.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use callboard_proto::{
    digest::Digest,
    report::{Event, Failure, MAX_FAILURE_TEXT, Report},
};

use super::{Answer, CheckInError, ClientError, boottime, check_in, outbox};
use crate::{
    agent::Agent,
    hooks,
    journal::Attempt,
    renew,
    servers::{self, Place},
    words::Code,
};

/// Longest failure text; it stands in the journal too, which is small.
const MAX_TEXT: usize = 2000;

/// A conversation going on.
pub(super) struct Talking {
    future: Pin<Box<dyn Future<Output = Talk>>>,
    /// Whether the server may hold its answer back.
    pub(super) waits: bool,
}

impl Future for Talking {
    type Output = Talk;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Talk> {
        self.future.as_mut().poll(context)
    }
}

/// What came of it.
pub(super) struct Talk {
    /// When the check-in was sent, in time since boot.
    pub(super) asked: Duration,
    /// Whether its answer could be held back.
    pub(super) waited: bool,
    /// `None` if only reports were to be delivered.
    pub(super) answer: Option<Result<Answer, CheckInError>>,
    pub(super) reported: Result<(), ClientError>,
}

impl Talk {
    /// Before anything was said.
    fn nothing() -> Self {
        Self { asked: boottime(), waited: false, answer: None, reported: Ok(()) }
    }

    pub(super) fn failed(&self) -> bool {
        self.reported.is_err() || matches!(self.answer, Some(Err(_)))
    }
}

/// Only delivers reports.
pub(super) fn report_only(agent: Rc<Agent>) -> Talking {
    let talk = async move {
        servers::go_home(&agent);
        let reported = check_in::flush(&agent).await;
        count(&agent, None, &reported);
        Talk { reported, ..Talk::nothing() }
    };
    Talking { future: Box::pin(talk), waits: false }
}

/// Delivers reports and asks, at one address after the other until one gives an answer that can be believed; the device's
/// own server may hold it back for `wait_s`.
pub(super) fn begin(agent: Rc<Agent>, wait_s: u32) -> Talking {
    let talk = async move {
        let home = agent.identity.borrow().place();
        let (mut said, mut elsewhere) = (Talk::nothing(), false);
        for place in servers::to_ask(&agent) {
            let own = servers::is_own(&agent, &place);
            let talk = ask(&agent, &place, if own { wait_s } else { 0 }).await;
            elsewhere |= !own;
            let goes_on = matches!(&talk.answer, Some(Err(error)) if servers::go_on(&agent, &place, error));
            // What goes wrong at an address that has proved nothing is not the news.
            if own || !goes_on || said.answer.is_none() {
                said = talk;
            }
            if !goes_on {
                break;
            }
        }
        if elsewhere && servers::is_own(&agent, &home) {
            servers::stay(&agent);
        }
        said
    };
    Talking { future: Box::pin(talk), waits: wait_s > 0 }
}

/// A conversation at one address. One that is not the device's own yet gets no reports before it has given an answer.
async fn ask(agent: &Agent, place: &Place, wait_s: u32) -> Talk {
    if let Err(error) = servers::turn_to(agent, place) {
        return Talk { answer: Some(Err(CheckInError::Place(error))), ..Talk::nothing() };
    }
    let own = servers::is_own(agent, place);
    let reported = if own { Some(check_in::flush(agent).await) } else { None };
    let asked = boottime();
    let mut answer = check_in::check_in(agent, wait_s).await;
    // The server's clock says what this one's did not.
    if answer.as_ref().is_err_and(CheckInError::is_expired) && renew::now(agent).await {
        answer = check_in::check_in(agent, wait_s).await;
    }
    match &answer {
        Ok(_) => {
            renew::answered(agent);
            // Now that the time is known.
            renew::if_due(agent).await;
        }
        Err(_) if own => renew::unanswered(agent),
        Err(_) => {}
    }
    // Reports never stand in the way of a check-in, and a clock that was wrong may be right now.
    let reported = match (&answer, reported) {
        (Ok(_), None | Some(Err(_))) => check_in::flush(agent).await,
        (_, reported) => reported.unwrap_or(Ok(())),
    };
    count(agent, answer.as_ref().err(), &reported);
    Talk { asked, waited: wait_s > 0, answer: Some(answer), reported }
}

/// Counts answers that no honest server gives.
fn count(agent: &Agent, answer: Option<&CheckInError>, reported: &Result<(), ClientError>) {
    if let Some(CheckInError::Client(error)) = answer {
        agent.unusable(error);
    }
    if let Err(error) = reported {
        agent.unusable(error);
    }
}

/// A report as it goes into the outbox.
pub(super) fn report(
    agent: &Agent,
    attempt: Attempt,
    release_sha256: Digest,
    event: Event,
    failure: Option<Failure>,
) -> Report {
    let failure = failure.map(|failure| with_output(agent, attempt, failure));
    let state = agent.state();
    let deferral = state.task().and_then(|task| task.course.deferral.as_ref()).filter(|_| event == Event::Deferred);
    Report {
        assignment_id: attempt.assignment_id,
        attempt: attempt.attempt,
        seq: deferral.map_or(outbox::seq(event), |deferral| outbox::seq_of_deferral(deferral.times)),
        event,
        at: agent.clock.trusted_now(),
        release_sha256,
        failure,
    }
}

/// The failure, and behind it all that a hook had to say of it.
fn with_output(agent: &Agent, attempt: Attempt, failure: Failure) -> Failure {
    let mut text = crate::client::plain(&failure.text, MAX_TEXT);
    let of_hook = [Code::HookFailed, Code::HookTimeout].iter().any(|code| code.as_str() == failure.code);
    if of_hook && let Some(said) = hooks::said(agent, attempt) {
        let room = MAX_FAILURE_TEXT - text.len() - 1;
        let from = (0..=said.len()).find(|at| said.len() - at <= room && said.is_char_boundary(*at));
        text.push('\n');
        text.push_str(said.get(from.unwrap_or(said.len())..).unwrap_or_default());
    }
    Failure { text, ..failure }
}
