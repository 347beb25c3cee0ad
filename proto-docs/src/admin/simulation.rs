//! Simulations: a rollout before it happens.

use serde::{Deserialize, Serialize};

use super::{Counts, RolloutSpec, RolloutState};
use crate::{digest::Digest, text, time::Timestamp};

/// Days that a simulation may look ahead at most.
pub const MAX_SIMULATED_DAYS: u32 = 60;
/// Longest download or install that is assumed, in seconds: a day.
const MAX_STEP_S: u32 = 86_400;

/// Asks for a simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Simulate {
    /// What is to be simulated, as if it were started now.
    pub rollout: RolloutSpec,
    /// What is assumed.
    #[serde(default)]
    pub assume: Assume,
}

/// What nobody can know, and is assumed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Assume {
    /// How far to look ahead: 1 to 60.
    pub days: u32,
    /// Installs in a hundred that roll back.
    pub failure_percent: f64,
    /// Time in a hundred in which a device is away that would usually be there.
    pub offline_percent: f64,
    /// What a download takes in the middle, in seconds; from half to one and a half of it.
    pub download_s: u32,
    /// What an install takes with its trial, in seconds.
    pub install_s: u32,
    /// Where chance begins: the same number gives the same course.
    pub seed: u32,
}

impl Default for Assume {
    fn default() -> Self {
        Self { days: 14, failure_percent: 0.0, offline_percent: 0.0, download_s: 600, install_s: 300, seed: 1 }
    }
}

impl Assume {
    /// Everything that is wrong with it.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.days == 0 || self.days > MAX_SIMULATED_DAYS {
            faults.push(format!("assume.days is {}; 1 to {MAX_SIMULATED_DAYS} are allowed", self.days));
        }
        for (name, percent) in [("failure_percent", self.failure_percent), ("offline_percent", self.offline_percent)] {
            if !(0.0..=100.0).contains(&percent) {
                faults.push(format!("assume.{name} is {percent}; 0 to 100 are allowed"));
            }
        }
        for (name, seconds) in [("download_s", self.download_s), ("install_s", self.install_s)] {
            if seconds == 0 || seconds > MAX_STEP_S {
                faults.push(format!("assume.{name} is {seconds}; 1 to {MAX_STEP_S} seconds are allowed"));
            }
        }
        faults
    }
}

impl text::Check for Simulate {
    fn check(&self) -> Result<(), String> {
        let mut faults = self.assume.faults();
        faults.extend(self.rollout.check().err().map(|what| format!("rollout.{what}")));
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// The release's digest.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: Digest,
    /// When it was started: now.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub from: Timestamp,
    /// How far it was looked ahead.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub to: Timestamp,
    /// What was assumed.
    pub assume: Assume,
    /// Devices of the registry that were played, whether the rollout is for them or not.
    pub devices: u32,
    /// Of them, those that are taken to stay away: never seen, abandoned or out of service.
    pub gone: u32,
    /// How the rollout ended, or stands at the end.
    pub state: RolloutState,
    /// Why.
    pub state_reason: Option<String>,
    /// What happened to the rollout, oldest first.
    pub marks: Vec<SimulatedMark>,
    /// How each phase stands at the end.
    pub phases: Vec<SimulatedPhase>,
    /// How it went, hour by hour, until nothing more happens.
    pub hours: Vec<SimulatedHour>,
}

/// Something that happened to the rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SimulatedMark {
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// What.
    pub what: SimulatedEvent,
    /// Which phase, if it is about one.
    pub phase: Option<String>,
    /// In words.
    pub text: String,
}

/// What can happen to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SimulatedEvent {
    /// It was started.
    Started,
    /// The gate of the phase was met.
    GateMet,
    /// It was met no longer.
    GateLost,
    /// A person is assumed to have approved the phase.
    Approved,
    /// The phase was opened.
    PhaseOpened,
    /// It paused itself. Nobody resumes it.
    Paused,
    /// A halt rule cancelled it.
    Cancelled,
    /// A halt rule cancelled it, and brought another release to the devices that had got its.
    TakenBack,
    /// It completed.
    Completed,
}

/// A phase at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SimulatedPhase {
    /// Its name.
    pub name: String,
    /// Its devices without the excluded ones, counted by state.
    pub counts: Counts,
}

/// One hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SimulatedHour {
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub until: Timestamp,
    /// Devices of each phase that had succeeded by then.
    pub succeeded: Vec<u32>,
    /// Devices of all phases then, without the excluded ones, counted by state.
    pub counts: Counts,
    /// Check-ins of the whole fleet.
    pub check_ins: u32,
    /// Downloads that were offered.
    pub offers: u32,
    /// The most of them in one minute.
    pub offers_in_busiest_minute: u32,
    /// Installs that were granted.
    pub installs: u32,
    /// The most devices that were downloading at the same time.
    pub downloading: u32,
}
