//! A rollout before it happens: the fleet that the registry knows is played through the days ahead, on a [`Ledger`], so
//! by the same decisions, transitions, gates, caps and timers as on the server.
//!
//! Only check-ins at which something can change are played. A device that waits says what for: a time, a phase, a place
//! under a cap, the end of another rollout. It is woken by that, at the check-in that it would make next then. All
//! other check-ins are counted, not played.
//!
//! What nobody can know is assumed, and [`Assumptions`] says it:
//!
//! * Devices are there in the hours in which they usually are ([`crate::rhythm`]), less the share of time that is assumed
//!   besides, in stretches of [`STRETCH`]. A device that never checked in, or has been abandoned, stays away.
//! * A download takes its time while the device is there, and so does an install with its trial; some roll back.
//! * People approve at once what waits for approval, a second person too, and do nothing else.
//! * Nothing happens on a device that is away, but for installs on shutdown and on boot where the rollout has them.
//! * A device that is there checks in on its own beat, and besides when it was told to. Only one that waits for its turn
//!   under a pace, or under a cap over all sites, keeps to its beat: there are many others who could take that turn.
//!
//! The same seed gives the same course.

mod actor;
mod dice;
mod engine;
mod habits;
mod timeline;
mod visit;
mod waits;

use std::time::Duration;

use callboard_proto::{ids::RolloutId, time::Timestamp};
pub use dice::Chance;
pub use habits::STRETCH;
pub use timeline::{Hour, Mark, Timeline, What};

use crate::{
    assignment::{IllegalTransition, Unheard},
    ledger::{Ledger, Unit},
    release::Release,
    rollout::Plan,
};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Subject {
    /// When it is started.
    pub now: Timestamp,
    /// The id that it is to have; salts the times at which its devices come.
    pub id: RolloutId,
    /// What it is to do.
    pub plan: Plan,
    /// What it brings.
    pub release: Release,
}

/// What is assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// How far to look ahead.
    pub time: Duration,
    /// Installs that roll back.
    pub failures: Chance,
    /// Time in which a device is away that would usually be there.
    pub offline: Chance,
    /// What a download takes in the middle; from half to one and a half of it.
    pub download: Duration,
    /// What an install takes, its trial included.
    pub install: Duration,
    /// Where chance begins.
    pub seed: u64,
    /// Check-ins that are played at most.
    pub most_played: u64,
}

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// It cannot be started.
    #[error("{0}")]
    Start(String),
    /// Nobody asks for it any more.
    #[error("nobody asks for the simulation any more")]
    GivenUp,
    /// Too much happens.
    #[error("{played} check-ins were played and it is only {at}; look less far ahead, or at fewer devices")]
    TooMuch {
        /// So many.
        played: u64,
        /// How far it came.
        at: Timestamp,
    },
    /// A decision proposed what its assignment does not allow.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// A report was refused that a device would send.
    #[error(transparent)]
    Unheard(#[from] Unheard),
}

/// Starts a rollout on `ledger`, which holds what else is under way, and plays `fleet` through what follows. `given_up` is
/// asked again and again, and ends it.
///
/// # Errors
/// The rollout cannot be started, too much happens, or it was given up.
pub fn simulate(
    subject: Subject,
    ledger: Ledger,
    fleet: Vec<Unit>,
    assumptions: &Assumptions,
    given_up: &dyn Fn() -> bool,
) -> Result<Timeline, SimulateError> {
    engine::Engine::new(subject, ledger, fleet, assumptions)?.run(given_up)
}

#[cfg(test)]
mod tests;
