//! The states of an assignment: one table, and a named refusal for everything that is not in it.
//!
//! ```text
//! queued -> downloading -> staged -> activating -> verifying -> succeeded -> failed (it regressed)
//!    ^___________|___________|_________|  |_____________|       -> rolled_back | failed | timed_out
//!      lapsed, superseded, or a failure with a try left         cancelled, expired: only before activating
//! ```
//!
//! A grant runs ahead of the device's reports, so a report that tells what is known already changes nothing.

mod course;
mod refusal;

use callboard_proto::{
    report::{Event as Reported, FailureClass},
    state::AssignmentState as State,
};
pub use course::{FIRST_BACKOFF, Heard, MAX_BACKOFF, Terms, Unheard, backoff, happen, hear};
pub use refusal::{IllegalTransition, Refusal};

/// What happens to an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The server granted the download.
    DownloadGranted,
    /// The server granted the activation.
    ActivationGranted,
    /// The device reported something. A failure that is to be tried again is [`Event::FailedForNow`].
    Reported(Reported),
    /// It failed, that may pass, and a try is left. Raises the attempt.
    FailedForNow,
    /// The device activated by a right that it was given beforehand, or by a grant that has lapsed. Precedes what it
    /// reports then.
    ActivatedAlone,
    /// The device was seen running the release.
    SeenInstalled,
    /// The device was seen running something older, after it had succeeded.
    Regressed,
    /// Superseded. Raises the attempt, so that what the device still has to say about the old one is not taken for
    /// the new one.
    Requeued,
    /// The grant was not made use of for too long. It may go on later, in the same attempt.
    Lapsed,
    /// The rollout was cancelled, or an operator wants nothing more of this device in it.
    Cancelled,
    /// The rollout ended.
    Expired,
    /// The device is not the one that it was: taken out of service, enrolled anew, or with a new image. Its failures say
    /// nothing any more.
    Left,
    /// Silence after the device had begun to activate.
    TimedOut,
    /// An operator wants another try. Raises the attempt.
    Retried,
    /// An operator took note of the failure, and nothing more is to be done about it.
    Skipped,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 23] = [
        Self::DownloadGranted,
        Self::ActivationGranted,
        Self::Reported(Reported::Downloading),
        Self::Reported(Reported::Staged),
        Self::Reported(Reported::Deferred),
        Self::Reported(Reported::Activating),
        Self::Reported(Reported::Verifying),
        Self::Reported(Reported::Succeeded),
        Self::Reported(Reported::RolledBack),
        Self::Reported(Reported::Failed),
        Self::Reported(Reported::Cancelled),
        Self::FailedForNow,
        Self::ActivatedAlone,
        Self::SeenInstalled,
        Self::Regressed,
        Self::Requeued,
        Self::Lapsed,
        Self::Cancelled,
        Self::Expired,
        Self::Left,
        Self::TimedOut,
        Self::Retried,
        Self::Skipped,
    ];

    /// What a report means for an assignment that has failed `failures` times before. A rollback is never repeated by
    /// itself, and a failure without a class is not expected to pass.
    pub fn from_report(event: Reported, class: Option<FailureClass>, failures: u32, max_attempts: u32) -> Self {
        let passing = class == Some(FailureClass::Transient) && try_left(failures, max_attempts);
        if event == Reported::Failed && passing { Self::FailedForNow } else { Self::Reported(event) }
    }

    /// Whether the assignment begins a new attempt with it, if it is queued then.
    pub const fn raises_attempt(self) -> bool {
        matches!(self, Self::FailedForNow | Self::Requeued | Self::Retried)
    }
}

/// Whether another try may follow one more failure. Attempts that ended otherwise do not count.
pub const fn try_left(failures: u32, max_attempts: u32) -> bool {
    failures.saturating_add(1) < max_attempts
}

/// Whether a report shows that the device activated without a grant that it holds.
pub const fn activated_alone(state: State, reported: Reported) -> bool {
    matches!(reported, Reported::Activating | Reported::Verifying | Reported::Succeeded | Reported::RolledBack)
        && may_activate_alone(state)
}

/// It may not have heard yet that it was called off; what happened counts.
const fn may_activate_alone(state: State) -> bool {
    before_activation(state) || called_off(state)
}

/// Whether operators have to look at it.
pub const fn is_failure(state: State) -> bool {
    matches!(state, State::RolledBack | State::Failed | State::TimedOut)
}

/// The state after `event`.
///
/// # Errors
/// Says which state does not allow which event, and why; nothing is changed then.
pub fn transition(state: State, event: Event) -> Result<State, IllegalTransition> {
    let next = match event {
        Event::Reported(reported) => after_report(state, reported),
        Event::FailedForNow => match state {
            _ if called_off(state) => Some(state),
            State::TimedOut => Some(State::Queued),
            _ => (!state.is_final()).then_some(State::Queued),
        },
        Event::DownloadGranted => (state == State::Queued).then_some(State::Downloading),
        Event::ActivationGranted => (state == State::Staged).then_some(State::Activating),
        Event::ActivatedAlone => may_activate_alone(state).then_some(State::Activating),
        Event::SeenInstalled => {
            (!state.is_final() || matches!(state, State::TimedOut | State::Failed)).then_some(State::Succeeded)
        }
        Event::Regressed => (state == State::Succeeded).then_some(State::Failed),
        Event::Requeued => before_activation(state).then_some(State::Queued),
        Event::Lapsed => match state {
            State::Downloading => Some(State::Queued),
            State::Activating => Some(State::Staged),
            _ => None,
        },
        Event::Cancelled => (before_activation(state) || is_failure(state)).then_some(State::Cancelled),
        Event::Expired => before_activation(state).then_some(State::Expired),
        Event::Left => (!state.is_final() || is_failure(state)).then_some(State::Cancelled),
        Event::TimedOut => in_activation(state).then_some(State::TimedOut),
        Event::Retried => (is_failure(state) || state == State::Cancelled).then_some(State::Queued),
        Event::Skipped => match state {
            State::TimedOut => Some(State::Failed),
            State::RolledBack | State::Failed => Some(state),
            _ => None,
        },
    };
    next.ok_or_else(|| IllegalTransition { state, event, refusal: refusal::of(state, event) })
}

fn after_report(state: State, reported: Reported) -> Option<State> {
    let activated = in_activation(state) || state == State::TimedOut;
    match (reported, state) {
        // Known already: the grant or the cancellation ran ahead of the report.
        (Reported::Downloading, State::Downloading | State::Staged)
        | (Reported::Staged, State::Staged)
        | (Reported::Deferred, State::Queued | State::Downloading | State::Staged)
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
        (Reported::Downloading | Reported::Staged | Reported::Deferred | Reported::Failed, _) if called_off(state) => {
            Some(state)
        }
        // Its grant has lapsed: it goes on when there is a place for it again.
        (Reported::Downloading, State::Queued) => Some(state),
        (Reported::Staged, State::Queued | State::Downloading) => Some(State::Staged),
        // The switch was put off before it began, so the grant comes back: every gate is asked again.
        (Reported::Deferred, State::Activating) => Some(State::Staged),
        (Reported::Verifying, State::Activating) => Some(State::Verifying),
        (Reported::Succeeded, _) if activated => Some(State::Succeeded),
        (Reported::RolledBack, _) if activated => Some(State::RolledBack),
        (Reported::Failed, _) if activated || before_activation(state) => Some(State::Failed),
        // Dropped by the device, as a person there or an earlier instruction said.
        (Reported::Cancelled, State::Downloading | State::Staged) => Some(State::Cancelled),
        (Reported::Succeeded, State::Succeeded)
        | (Reported::RolledBack, State::RolledBack)
        | (Reported::Failed, State::Failed) => Some(state),
        _ => None,
    }
}

const fn before_activation(state: State) -> bool {
    matches!(state, State::Queued | State::Downloading | State::Staged)
}

const fn in_activation(state: State) -> bool {
    matches!(state, State::Activating | State::Verifying)
}

const fn called_off(state: State) -> bool {
    matches!(state, State::Cancelled | State::Expired)
}

#[cfg(test)]
mod tests;
