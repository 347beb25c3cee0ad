//! Guards of a rollout: caps.

use serde::{Deserialize, Serialize};

/// How many devices may hold a grant at the same time. A device that has downloaded and waits holds none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// On devices that download.
    #[serde(default)]
    pub downloads: Cap,
    /// On devices that switch or run the release on probation.
    #[serde(default)]
    pub activations: Cap,
}

/// A cap on one kind of grant; without numbers there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Devices at the same time, at least 1.
    #[serde(default)]
    pub max_in_flight: Option<u32>,
    /// Devices of one site at the same time, at least 1. A device without a site is a site of its own.
    #[serde(default)]
    pub max_in_flight_per_site: Option<u32>,
}
