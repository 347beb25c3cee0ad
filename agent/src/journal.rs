//! What the agent was doing. Progress (bytes, percent) is never journalled.

use std::collections::BTreeMap;

use callboard_proto::{ids::AssignmentId, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    machine::State,
    slots::{self, Body, Slots},
};

/// The newest record, and where the next one goes.
pub(crate) type Journal = Slots<Record>;

/// Everything that must survive a power cut and changes with the agent's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Where the agent stands.
    pub(crate) state: State,
    /// Check-in numbers below this one may have been used.
    pub(crate) checkin_seq: u64,
    /// The last attempt that ended here, whatever the end was; it is not begun again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_ended: Option<Attempt>,
    /// Code of the last failure, until something succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// What was refused, by kind. Written with the state, and else only when a count doubles.
    #[serde(default)]
    pub(crate) attacks: BTreeMap<String, u64>,
    /// Failed check-ins in a row, roughly, so that a crash loop does not forget them.
    #[serde(default)]
    pub(crate) failures: u32,
    /// How many payload bytes a second were allowed last, to within a factor of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_bytes_per_s: Option<u64>,
    /// The boot of the machine in which `recover` ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recovered: Option<String>,
    /// The last restart of the machine that an installer program asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restart: Option<Restart>,
    /// Nothing signed offline is newer, as far as this device knows.
    #[serde(default)]
    pub(crate) floor_time: Timestamp,
}

impl Body for Record {
    fn encode(&self, _schema: u32) -> Vec<u8> {
        slots::json(self)
    }

    fn decode(_schema: u32, bytes: &[u8]) -> Option<Self> {
        slots::from_json(bytes)
    }
}

/// One attempt of one assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) assignment_id: AssignmentId,
    pub(crate) attempt: u32,
}

/// A restart of the machine, without which a switch is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restart {
    /// In which attempt it was asked for.
    pub(crate) attempt: Attempt,
    /// On the way back to the previous version.
    pub(crate) back: bool,
    /// In which boot; it has happened when the boot is another.
    pub(crate) boot_id: String,
}
