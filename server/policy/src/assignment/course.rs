//! The course of an assignment: what an event does to it beside its state, and what a device's word about it is worth.
//!
//! Whoever keeps assignments, in a database or in memory, moves them by [`happen`] and hears reports by [`hear`].

use std::time::Duration;

use callboard_proto::{
    digest::Digest,
    ids::DeviceId,
    report::{Event as Reported, Failure, Report},
    state::AssignmentState as State,
    time::Timestamp,
};

use super::{Event, IllegalTransition, activated_alone, is_failure, transition};
use crate::{
    bucket::bucket,
    device::{Assignment, Deferral},
    rollout::Plan,
};

/// Back-off before the second try, at most; doubled for every further one.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(60);
/// Longest back-off.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// What a rollout allows its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Attempts for one device.
    pub max_attempts: u32,
    /// Whether devices may activate by themselves.
    pub offline_activation: bool,
}

/// What a report says that was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The device had activated without a grant that it held, as it had been allowed to before:
    /// [`Event::ActivatedAlone`] happened first.
    pub alone: bool,
    /// What happened then.
    pub event: Event,
    /// Why the device waits, if that is what it reported.
    pub deferral: Option<Deferral>,
}

/// Why a report will never be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// It names a release that the assignment does not install.
    #[error("the assignment is about another release")]
    OtherRelease(Digest),
    /// The assignment is in another attempt.
    #[error("the report is of attempt {reported}, the assignment is in attempt {current}")]
    OtherAttempt {
        /// The report's.
        reported: u32,
        /// The assignment's.
        current: u32,
    },
    /// It cannot have happened.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

impl Plan {
    /// What it allows its devices.
    pub fn terms(&self) -> Terms {
        Terms { max_attempts: self.max_attempts, offline_activation: self.offline_activation }
    }
}

/// Judges a report about `one`, of whose attempt the last one heard had the number `last`. `None` if it was heard
/// before: the answer was lost.
///
/// # Errors
/// Says why it will never be taken.
pub fn hear(one: &Assignment, last: u32, report: &Report, terms: Terms) -> Result<Option<Heard>, Unheard> {
    if report.release_sha256 != one.release {
        return Err(Unheard::OtherRelease(report.release_sha256));
    }
    if report.attempt != one.attempt {
        return Err(Unheard::OtherAttempt { reported: report.attempt, current: one.attempt });
    }
    if report.seq <= last {
        return Ok(None);
    }
    let alone = (terms.offline_activation || one.lapsed) && activated_alone(one.state, report.event);
    let state = if alone { transition(one.state, Event::ActivatedAlone)? } else { one.state };
    let class = report.failure.as_ref().map(|failure| failure.class);
    let event = Event::from_report(report.event, class, one.failures, terms.max_attempts);
    transition(state, event)?;
    let deferral = (report.event == Reported::Deferred).then(|| deferral(report.failure.as_ref()));
    Ok(Some(Heard { alone, event, deferral }))
}

/// Who or what put it off; codes are an open set.
fn deferral(failure: Option<&Failure>) -> Deferral {
    match failure.map(|failure| failure.code.as_str()) {
        Some("postponed") => Deferral::User,
        _ => Deferral::Inhibitor,
    }
}

/// The longest wait after so many `failures`.
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF)
}

/// Lets something happen to an assignment of `device`; gives the state before.
///
/// # Errors
/// Says which state does not allow which event; nothing is changed then.
pub fn happen(
    one: &mut Assignment,
    device: DeviceId,
    event: Event,
    now: Timestamp,
) -> Result<State, IllegalTransition> {
    let before = one.state;
    let after = transition(before, event)?;
    if after != before || matches!(event, Event::Reported(_)) {
        // What it waited for is over; it has been heard of, or is in nobody's hands.
        (one.deferred, one.silent) = (None, false);
    }
    one.state = after;
    if event.raises_attempt() && after == State::Queued {
        one.attempt = one.attempt.saturating_add(1);
        (one.not_before, one.lapsed, one.begun) = (None, false, false);
    }
    match event {
        Event::DownloadGranted | Event::ActivationGranted => {
            (one.granted_at, one.heard_at) = (now, now);
            (one.not_before, one.lapsed, one.begun) = (None, false, false);
        }
        Event::ActivatedAlone => {
            (one.granted_at, one.heard_at) = (now, now);
            (one.lapsed, one.begun) = (false, true);
        }
        Event::Reported(reported) => {
            one.heard_at = now;
            one.begun |= after == State::Verifying || (after == State::Activating && reported == Reported::Activating);
        }
        Event::Lapsed => one.lapsed = true,
        Event::FailedForNow if after == State::Queued => {
            one.failures = one.failures.saturating_add(1);
            // Devices that failed together do not come back together.
            let key = [device.as_bytes().as_slice(), &one.attempt.to_be_bytes()].concat();
            one.not_before = Some(now + bucket(one.rollout, &key).spread(backoff(one.failures)));
        }
        Event::Retried => one.failures = 0,
        _ => {}
    }
    one.attention_since = match event {
        Event::Skipped => None,
        _ if !is_failure(after) => None,
        _ if is_failure(before) => one.attention_since,
        _ => Some(now),
    };
    Ok(before)
}

impl Assignment {
    /// The device was heard of, without a report.
    pub fn heard(&mut self, now: Timestamp) {
        (self.heard_at, self.silent) = (self.heard_at.max(now), false);
    }

    /// Whether the device has something of it that may still be used.
    pub fn is_on_device(&self) -> bool {
        matches!(self.state, State::Downloading | State::Staged) || (self.state == State::Queued && self.lapsed)
    }

    /// Whether an operator took note of its failure.
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.state, State::RolledBack | State::Failed) && self.attention_since.is_none()
    }

    /// Why it waits, if it could go on otherwise.
    pub fn deferral(&self) -> Option<Deferral> {
        self.deferred.filter(|_| !self.state.is_final())
    }
}

#[cfg(test)]
mod tests {
    use callboard_proto::report::FailureClass;

    use super::*;
    use crate::fixture::{assignment, at, release, rollout_id, till};

    const TERMS: Terms = Terms { max_attempts: 3, offline_activation: false };

    fn one(state: State) -> Assignment {
        assignment(rollout_id(1), &release("2.2.0", 22), state)
    }

    fn report(one: &Assignment, seq: u32, event: Reported) -> Report {
        let (assignment_id, attempt, release_sha256) = (one.id, one.attempt, one.release);
        Report { assignment_id, attempt, seq, event, at: at("2026-11-23T00:00:00Z"), release_sha256, failure: None }
    }

    fn failed(one: &Assignment, class: FailureClass) -> Report {
        let failure = Some(Failure { class, code: "no_space".to_owned(), text: String::new() });
        Report { failure, ..report(one, 2, Reported::Failed) }
    }

    #[test]
    fn a_report_is_heard_once_and_only_in_its_attempt() {
        let one = one(State::Downloading);
        let staged = report(&one, 2, Reported::Staged);
        let news = Some(Heard { alone: false, event: Event::Reported(Reported::Staged), deferral: None });
        assert_eq!(hear(&one, 1, &staged, TERMS), Ok(news));
        assert_eq!(hear(&one, 2, &staged, TERMS), Ok(None), "heard before");
        assert_eq!(hear(&one, 9, &staged, TERMS), Ok(None), "overtaken");
        let late = Report { attempt: 2, ..staged.clone() };
        let error = hear(&one, 0, &late, TERMS).expect_err("another attempt");
        assert_eq!(error, Unheard::OtherAttempt { reported: 2, current: 1 });
        let other = Report { release_sha256: Digest::of(b"other"), ..staged };
        assert_eq!(hear(&one, 0, &other, TERMS), Err(Unheard::OtherRelease(Digest::of(b"other"))));
    }

    #[test]
    fn an_activation_without_a_grant_is_heard_where_the_rollout_allows_it() {
        let one = one(State::Staged);
        let succeeded = report(&one, 5, Reported::Succeeded);
        let error = hear(&one, 1, &succeeded, TERMS).expect_err("nobody allowed it");
        assert_eq!(
            error.to_string(),
            "an assignment that is staged does not allow Reported(Succeeded): it has not been granted an activation"
        );
        let event = Event::Reported(Reported::Succeeded);
        let terms = Terms { offline_activation: true, ..TERMS };
        assert_eq!(hear(&one, 1, &succeeded, terms), Ok(Some(Heard { alone: true, event, deferral: None })));
    }

    #[test]
    fn a_passing_failure_begins_another_attempt_after_a_while() {
        let (now, mut one) = (at("2026-11-23T00:00:00Z"), one(State::Downloading));
        let heard = hear(&one, 1, &failed(&one, FailureClass::Transient), TERMS).expect("taken").expect("new");
        assert_eq!(happen(&mut one, till(1).id, heard.event, now), Ok(State::Downloading));
        assert_eq!((one.state, one.attempt), (State::Queued, 2));
        let waits = |one: &Assignment| one.not_before.map(|at| at.since(now)).expect("a time");
        assert!(waits(&one) < backoff(1), "{:?}", waits(&one));
        let mut other = self::one(State::Downloading);
        happen(&mut other, till(2).id, Event::FailedForNow, now).expect("allowed");
        assert_ne!(waits(&one), waits(&other), "they do not come back together");
        happen(&mut one, till(1).id, Event::DownloadGranted, now).expect("allowed");
        assert_eq!(one.not_before, None);
    }

    #[test]
    fn what_was_called_off_stays_in_its_attempt() {
        let now = at("2026-11-23T00:00:00Z");
        for state in [State::Cancelled, State::Expired] {
            let mut one = one(state);
            happen(&mut one, till(1).id, Event::FailedForNow, now).expect("allowed");
            assert_eq!((one.state, one.attempt, one.not_before), (state, 1, None));
        }
    }

    #[test]
    fn a_withdrawn_download_begins_anew_at_once() {
        let now = at("2026-11-23T00:00:00Z");
        let mut one = Assignment { not_before: Some(now), ..one(State::Staged) };
        happen(&mut one, till(1).id, Event::Requeued, now).expect("allowed");
        assert_eq!((one.state, one.attempt, one.not_before), (State::Queued, 2, None));
    }

    #[test]
    fn back_off_doubles_up_to_an_hour() {
        let longest = |failures| backoff(failures).as_secs();
        assert_eq!([0, 1, 2, 3, 7, 8, 99].map(longest), [60, 60, 120, 240, 3600, 3600, 3600]);
    }

    #[test]
    fn a_lapsed_grant_allows_what_it_allowed_and_who_puts_it_off_says_why() {
        let lapsed = Assignment { lapsed: true, ..one(State::Staged) };
        let begun = report(&lapsed, 5, Reported::Activating);
        let heard = hear(&lapsed, 1, &begun, TERMS).expect("taken").expect("new");
        assert_eq!((heard.alone, heard.deferral), (true, None));
        let granted = one(State::Activating);
        let says = |code: &str| {
            let failure = Failure { class: FailureClass::Transient, code: code.to_owned(), text: String::new() };
            let report = Report { failure: Some(failure), ..report(&granted, 2, Reported::Deferred) };
            hear(&granted, 1, &report, TERMS).expect("taken").expect("new").deferral
        };
        assert_eq!((says("sale_open"), says("postponed")), (Some(Deferral::Inhibitor), Some(Deferral::User)));
    }
}
