//! Needs attention: failures that no rollout tries again by itself, and what operators do about them.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{AssignmentId, DeviceName, RolloutName, SiteId},
    report::Failure,
    state::AssignmentState,
    time::Timestamp,
    version::Version,
};

/// Devices named in one request at most.
pub const MAX_NAMED: usize = 1000;

/// A failure that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Its assignment.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: AssignmentId,
    /// Which rollout.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub rollout: RolloutName,
    /// Which device.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceName,
    /// Where that stands.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub site: Option<SiteId>,
    /// The release's digest.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: Digest,
    /// The release's version.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub version: Version,
    /// `rolled_back`, `failed` or `timed_out`.
    pub state: AssignmentState,
    /// From 1.
    pub attempt: u32,
    /// Why it failed, if the device said so.
    pub failure: Option<Failure>,
    /// Since when it waits.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
}

/// Body of `POST /rollouts/{rollout}/devices/retry`, `skip` and `cancel`: which devices, by name or by selector, and
/// why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DevicesOfRollout {
    /// Names or ids, at most 1000. These or `selector`.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Every device that it selects and that the request can be about; others are left out silently.
    #[serde(default)]
    pub selector: Option<String>,
    /// Why, for the event log; not empty.
    pub reason: String,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Dealt {
    /// Devices for which it was done. With a selector the first 1000 of them.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub devices: Vec<DeviceName>,
    /// How many there are.
    pub total: u32,
    /// Named devices for which it was not done.
    pub refused: Vec<NotDealt>,
    /// Whether the rollout had completed and runs again.
    pub reopened: bool,
}

/// A named device for which it was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NotDealt {
    /// As it was named.
    pub device: String,
    /// Why not.
    pub reason: String,
}

/// How often a device has refused something that no honest server sends, as it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AttackCount {
    /// A kind that `check-in.md` lists, or `other` for all that the server does not know.
    pub kind: String,
    /// How often so far, at most 4294967295. It goes on when the device begins anew.
    pub total: u32,
    /// The part of that which an operator has taken note of.
    pub acknowledged: u32,
    /// When it rose last.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub last_at: Timestamp,
}

/// A device that told of attacks of which no operator has taken note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Attacked {
    /// Which device.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceName,
    /// Where that stands.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub site: Option<SiteId>,
    /// What it told.
    pub attacks: Vec<AttackCount>,
    /// When that rose last.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub last_at: Timestamp,
}

/// Body of `POST /attention/attacks/acknowledge`: whose attacks are taken note of, by name or by selector, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeAttacks {
    /// Names or ids, at most 1000. These or `selector`.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Every device on the list that it selects.
    #[serde(default)]
    pub selector: Option<String>,
    /// Why, for the event log; not empty.
    pub reason: String,
}

/// What was taken note of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// Devices whose attacks were. With a selector the first 1000 of them.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub devices: Vec<DeviceName>,
    /// How many there are.
    pub total: u32,
    /// Named devices that were not.
    pub refused: Vec<NotDealt>,
}
