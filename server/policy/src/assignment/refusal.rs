//! Why a state does not allow an event.

use callboard_proto::state::AssignmentState as State;

use super::{Event, before_activation, called_off, in_activation};

/// An event that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an assignment that is {} does not allow {event:?}: {refusal}", state.as_str())]
pub struct IllegalTransition {
    /// Where the assignment stands.
    pub state: State,
    /// What should have happened.
    pub event: Event,
    /// Why it cannot.
    pub refusal: Refusal,
}

/// Why a state does not allow an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It was never allowed to activate.
    #[error("it has not been granted an activation")]
    NotGranted,
    /// The release is not on the device.
    #[error("it is not staged")]
    NotStaged,
    /// It holds this grant, or a later one.
    #[error("it has been granted that already")]
    Granted,
    /// There is no grant that could lapse.
    #[error("it holds no grant")]
    HoldsNothing,
    /// It is activating: it finishes.
    #[error("it is left alone until it has finished")]
    LeftAlone,
    /// It goes on by itself.
    #[error("it is under way")]
    UnderWay,
    /// It was cancelled or has expired.
    #[error("it was called off")]
    CalledOff,
    /// It has ended.
    #[error("it has ended")]
    Ended,
    /// It has not succeeded.
    #[error("it has not succeeded before")]
    NotSucceeded,
}

/// Why `state` refuses `event`.
pub(super) fn of(state: State, event: Event) -> Refusal {
    match event {
        Event::Regressed => Refusal::NotSucceeded,
        _ if called_off(state) => Refusal::CalledOff,
        _ if state.is_final() => Refusal::Ended,
        Event::Retried | Event::Skipped => Refusal::UnderWay,
        Event::DownloadGranted | Event::ActivatedAlone => Refusal::Granted,
        Event::ActivationGranted if before_activation(state) => Refusal::NotStaged,
        Event::ActivationGranted => Refusal::Granted,
        _ if in_activation(state) => Refusal::LeftAlone,
        Event::Lapsed => Refusal::HoldsNothing,
        _ => Refusal::NotGranted,
    }
}
