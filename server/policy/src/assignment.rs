//! The states of an assignment: one table, and an error for everything that is not in it.
//!
//! ```text
//! queued -> downloading -> staged -> activating -> verifying -> succeeded
//!    ^___________|___________|___________|_____________|       -> rolled_back | failed | timed_out
//!      requeued, or a failure with an attempt left             cancelled, expired: only before activating
//! ```
//!
//! A grant runs ahead of the device's reports, so a report that tells what is known already changes nothing.

mod course;

use std::time::Duration;

use callboard_proto::{
    report::{Event as Reported, FailureClass},
    state::AssignmentState as State,
};
pub use course::{Heard, Terms, Unheard, happen, hear};

/// Back-off before the second attempt, at most; doubled for every further one.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(60);
/// Longest back-off.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// What happens to an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The server granted the download.
    DownloadGranted,
    /// The server granted the activation.
    ActivationGranted,
    /// The device reported something. A failure that is to be tried again is [`Event::FailedForNow`].
    Reported(Reported),
    /// The device reported a failure that may pass, and an attempt is left. Raises the attempt.
    FailedForNow,
    /// The device activated by a right that it was given beforehand. Precedes what it reports then.
    ActivatedAlone,
    /// The device was seen running the release.
    SeenInstalled,
    /// Superseded, or its download grant lapsed. Raises the attempt, so that what the device still has to say about
    /// the old one is not taken for the new one.
    Requeued,
    /// The rollout or the assignment was cancelled.
    Cancelled,
    /// The rollout ended.
    Expired,
    /// Silence after the activation grant.
    TimedOut,
    /// An operator wants another try. Raises the attempt.
    Retried,
}

impl Event {
    /// What a report means for an assignment in its `attempt`th of `max_attempts`. A rollback is never repeated by
    /// itself, and a failure without a class is not expected to pass.
    pub fn from_report(event: Reported, class: Option<FailureClass>, attempt: u32, max_attempts: u32) -> Self {
        let passing = class == Some(FailureClass::Transient) && attempt < max_attempts;
        if event == Reported::Failed && passing { Self::FailedForNow } else { Self::Reported(event) }
    }

    /// Whether the assignment begins a new attempt with it, if it is queued then.
    pub const fn raises_attempt(self) -> bool {
        matches!(self, Self::FailedForNow | Self::Requeued | Self::Retried)
    }
}

/// An event that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an assignment that is {} does not allow {event:?}", state.as_str())]
pub struct IllegalTransition {
    /// Where the assignment stands.
    pub state: State,
    /// What should have happened.
    pub event: Event,
}

/// Whether a report shows that the device activated by itself, without a grant.
pub const fn activated_alone(state: State, reported: Reported) -> bool {
    matches!(reported, Reported::Activating | Reported::Verifying | Reported::Succeeded | Reported::RolledBack)
        && matches!(state, State::Downloading | State::Staged | State::Cancelled | State::Expired)
}

/// The state after `event`.
///
/// # Errors
/// Says which state does not allow which event; nothing is changed then.
pub fn transition(state: State, event: Event) -> Result<State, IllegalTransition> {
    let next = match event {
        Event::Reported(reported) => after_report(state, reported),
        Event::FailedForNow => match state {
            State::Downloading | State::Staged | State::Activating | State::Verifying | State::TimedOut => {
                Some(State::Queued)
            }
            State::Cancelled | State::Expired => Some(state),
            _ => None,
        },
        Event::DownloadGranted => (state == State::Queued).then_some(State::Downloading),
        Event::ActivationGranted => (state == State::Staged).then_some(State::Activating),
        // It may not have heard yet that it was called off; what happened counts.
        Event::ActivatedAlone => {
            matches!(state, State::Downloading | State::Staged | State::Cancelled | State::Expired)
                .then_some(State::Activating)
        }
        Event::SeenInstalled => (!state.is_final() || state == State::TimedOut).then_some(State::Succeeded),
        Event::Requeued => before_activation(state).then_some(State::Queued),
        Event::Cancelled => before_activation(state).then_some(State::Cancelled),
        Event::Expired => before_activation(state).then_some(State::Expired),
        Event::TimedOut => in_activation(state).then_some(State::TimedOut),
        Event::Retried => matches!(state, State::RolledBack | State::Failed | State::TimedOut).then_some(State::Queued),
    };
    next.ok_or(IllegalTransition { state, event })
}

fn after_report(state: State, reported: Reported) -> Option<State> {
    let activated = in_activation(state) || state == State::TimedOut;
    let called_off = matches!(state, State::Cancelled | State::Expired);
    match (reported, state) {
        // Known already: the grant or the cancellation ran ahead of the report.
        (Reported::Downloading, State::Downloading | State::Staged)
        | (Reported::Staged, State::Staged)
        | (Reported::Deferred, State::Downloading | State::Staged)
        | (Reported::Activating, State::Activating | State::Verifying)
        | (Reported::Verifying, State::Verifying)
        | (Reported::Cancelled, State::Queued | State::Cancelled | State::Expired) => Some(state),
        (Reported::Downloading | Reported::Staged, _) if activated => Some(state),
        (Reported::Activating | Reported::Verifying | Reported::Deferred, State::TimedOut) => Some(state),
        // The device was seen running the release before its reports arrived.
        (Reported::Downloading | Reported::Staged | Reported::Activating | Reported::Verifying, State::Succeeded) => {
            Some(state)
        }
        // The device has not heard yet that it was called off.
        (Reported::Downloading | Reported::Staged | Reported::Deferred | Reported::Failed, _) if called_off => {
            Some(state)
        }
        // A grant was withdrawn while the device was at work.
        (Reported::Downloading, State::Queued) => Some(State::Downloading),
        (Reported::Staged, State::Queued | State::Downloading) => Some(State::Staged),
        // The switch was put off before it began, so the grant comes back: every gate is asked again.
        (Reported::Deferred, State::Activating) => Some(State::Staged),
        (Reported::Verifying, State::Activating) => Some(State::Verifying),
        (Reported::Succeeded, _) if activated => Some(State::Succeeded),
        (Reported::RolledBack, _) if activated => Some(State::RolledBack),
        (Reported::Failed, State::Downloading | State::Staged) => Some(State::Failed),
        (Reported::Failed, _) if activated => Some(State::Failed),
        // Dropped by the device, as a person there or an earlier instruction said.
        (Reported::Cancelled, State::Downloading | State::Staged) => Some(State::Cancelled),
        (Reported::Succeeded, State::Succeeded)
        | (Reported::RolledBack, State::RolledBack)
        | (Reported::Failed, State::Failed) => Some(state),
        _ => None,
    }
}

fn before_activation(state: State) -> bool {
    matches!(state, State::Queued | State::Downloading | State::Staged)
}

fn in_activation(state: State) -> bool {
    matches!(state, State::Activating | State::Verifying)
}

/// The longest wait before `attempt` (the second is the first that waits).
pub fn backoff(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(2).min(16);
    FIRST_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests;
