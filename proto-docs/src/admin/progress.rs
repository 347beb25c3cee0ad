//! How a rollout stands: its phases with their counters, and its devices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AssignmentId, DeviceName},
    instruction::Reason,
    report::Failure,
    state::AssignmentState,
    time::Timestamp,
};

/// How a phase stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PhaseProgress {
    /// Its name.
    pub name: String,
    /// When it opened.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub opened_at: Option<Timestamp>,
    /// What the next phase waits for, said of the last open phase. Of the last of all only if it has a soak.
    pub gate: Option<Reason>,
    /// Since when its gate is met without a break; the soak runs from then on.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub gate_met_at: Option<Timestamp>,
    /// When an operator ended its soak.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub soak_skipped_at: Option<Timestamp>,
    /// Who approved it.
    pub approved: Option<Approved>,
    /// Its devices, counted.
    pub counts: Counts,
    /// The excluded ones by why: `already_installed`, `out_of_service`, `left_audience`, or the code of why they cannot have the release.
    pub excluded: BTreeMap<String, u32>,
    /// Bytes of payloads that its devices were sent while they downloaded.
    pub bytes_served: u64,
    /// When something happened to one of its devices for the first time.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub first_event_at: Option<Timestamp>,
    /// And for the last time.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_event_at: Option<Timestamp>,
}

/// Somebody's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// The name of the API token.
    pub by: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
}

/// Devices of a phase, counted by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Members.
    pub size: u32,
    /// Members that had the release already, cannot have it or were decommissioned.
    pub excluded: u32,
    /// Members without an assignment.
    pub unreached: u32,
    /// Waiting for a download grant.
    pub queued: u32,
    /// Hold a download grant.
    pub downloading: u32,
    /// Complete on the device, waiting for an activation grant.
    pub staged: u32,
    /// Of the three before, those that could go on, by why they do not.
    pub deferred: Deferred,
    /// Hold an activation grant.
    pub activating: u32,
    /// On probation.
    pub verifying: u32,
    /// Of the two before, those that have begun to switch and have not been heard of for 15 minutes.
    pub silent: u32,
    /// Committed.
    pub succeeded: u32,
    /// Back on the previous release.
    pub rolled_back: u32,
    /// Given up.
    pub failed: u32,
    /// Silent for too long.
    pub timed_out: u32,
    /// Called off, or expired.
    pub cancelled: u32,
    /// Of the rolled back and failed ones, those that an operator took note of; gates look past them.
    pub acknowledged: u32,
}

/// Devices that could go on, counted by why they do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Deferred {
    /// No window is open.
    pub window: u32,
    /// Their site trades.
    pub trading_hours: u32,
    /// A freeze is in force.
    pub freeze: u32,
    /// Something on the device is in the way, such as an open sale.
    pub inhibitor: u32,
    /// A person at the device put it off.
    pub user: u32,
}

impl Deferred {
    /// All of them.
    pub const fn total(&self) -> u32 {
        let outside = self.window.saturating_add(self.trading_hours).saturating_add(self.freeze);
        outside.saturating_add(self.inhibitor).saturating_add(self.user)
    }
}

impl Counts {
    /// Members that the phase is about: without the excluded ones.
    pub const fn wanted(&self) -> u32 {
        self.size.saturating_sub(self.excluded)
    }

    /// Devices that hold a place or wait for one.
    pub const fn open(&self) -> u32 {
        let waiting = self.queued.saturating_add(self.downloading).saturating_add(self.staged);
        waiting.saturating_add(self.activating).saturating_add(self.verifying)
    }

    /// Devices on which it went wrong: rolled back, given up, or silent for too long.
    pub const fn unsuccessful(&self) -> u32 {
        self.rolled_back.saturating_add(self.failed).saturating_add(self.timed_out)
    }

    /// Devices from which nothing more is expected, whether it went well or not.
    pub const fn done(&self) -> u32 {
        self.succeeded.saturating_add(self.unsuccessful()).saturating_add(self.cancelled)
    }
}

/// One device in one rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: AssignmentId,
    /// Which device.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceName,
    /// Index of its phase, from 0.
    pub phase: u32,
    /// Where it stands.
    pub state: AssignmentState,
    /// From 1.
    pub attempt: u32,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When it last changed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
}
