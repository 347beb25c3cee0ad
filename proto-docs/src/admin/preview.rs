//! What a rollout would do.

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, ids::DeviceName, instruction::Reason};

use super::Eligible;

/// What a rollout would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Preview {
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
    /// Devices of each phase.
    pub phases: Vec<PreviewPhase>,
    /// Devices that cannot have the release, and why; the first thousand.
    pub incompatible: Vec<Incompatible>,
    /// Active rollouts of the same product with devices in common.
    pub conflicts: Vec<Eligible>,
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
