//! What a rollout would do.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{DeviceName, RolloutName},
    instruction::Reason,
    time::Timestamp,
};

/// What a rollout would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// When this was looked at.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// The release's digest.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: Digest,
    /// Matching devices.
    pub devices: u32,
    /// Of them, those that checked in lately.
    pub online: u32,
    /// Of them, those that run the release.
    pub already_installed: u32,
    /// Of them, those that have not reported yet what they are and run. They are members until they do; then some may
    /// turn out to need nothing, or to be unable to have the release.
    pub unreported: u32,
    /// Which; the first thousand.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub unreported_devices: Vec<DeviceName>,
    /// What looks like a mistake, such as a label in a selector that no device has.
    pub warnings: Vec<String>,
    /// When its devices could first install, by time zone: windows, trading hours and freezes hold it back until then.
    pub zones: Vec<PreviewZone>,
    /// Devices of each phase.
    pub phases: Vec<PreviewPhase>,
    /// Devices that cannot have the release.
    pub incompatible: u32,
    /// Which, and why; the first thousand.
    pub incompatible_devices: Vec<Incompatible>,
    /// Active rollouts of the same product that are not through with some of the same devices.
    pub conflicts: Vec<PreviewConflict>,
}

/// Another rollout that is for some of the same devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PreviewConflict {
    /// Which rollout.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub rollout: RolloutName,
    /// How many devices in common.
    pub devices: u32,
    /// Which of the two they would be offered first, if this one was started now.
    pub comes_first: ComesFirst,
}

/// Which of two rollouts comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ComesFirst {
    /// The one that is previewed.
    This,
    /// The one that is active.
    Other,
}

/// The devices of one time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PreviewZone {
    /// Its IANA name.
    pub zone: String,
    /// Where it comes from, such as `the site's zone`.
    pub source: String,
    /// How many devices follow it.
    pub devices: u32,
    /// When the first of them could install.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub first_opens_at: Option<Timestamp>,
    /// Until when it could. None if nothing ends that in the next four weeks.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub first_closes_at: Option<Timestamp>,
    /// When the last of them could for the first time; later than the first where sites trade at other hours.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_opens_at: Option<Timestamp>,
    /// Devices for which there is no such time in the next four weeks.
    pub never: u32,
}

/// The members of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PreviewPhase {
    /// Its name.
    pub name: String,
    /// How many devices.
    pub size: u32,
    /// Of them, those that checked in lately.
    pub online: u32,
    /// Which; the first thousand.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub devices: Vec<DeviceName>,
}

/// A device that cannot have the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Incompatible {
    /// Which device.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceName,
    /// Why.
    pub reason: Reason,
}
