//! Guards of a rollout: caps, its pace, halt rules.

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

/// How fast a rollout spreads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Devices that are offered the release in a minute of the clock, at least 1.
    pub max_offers_per_minute: u32,
    /// After every so many successes it doubles; it stays as it is by default.
    #[serde(default)]
    pub doubles_every: Option<u32>,
}

/// When a rollout stops by itself: as soon as one of the limits is reached, of which there is at least one. Devices are
/// counted, not attempts; failures that an operator took note of count for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HaltRule {
    /// Completed devices (succeeded, rolled back, failed or timed out) before which `failure_percent` says nothing;
    /// needed with it.
    #[serde(default)]
    pub min_completed: Option<u32>,
    /// Failures in a hundred completed devices that halt it, 1 to 100.
    #[serde(default)]
    pub failure_percent: Option<u32>,
    /// Failures that are borne; one more halts it.
    #[serde(default)]
    pub max_failures: Option<u32>,
    /// Devices that fail one after the other, without a success between them, 1 to 100.
    #[serde(default)]
    pub consecutive_failures: Option<u32>,
    /// Devices that are borne that have begun to switch and have not been heard of for 15 minutes; one more halts it.
    #[serde(default)]
    pub max_silent: Option<u32>,
    /// What it does.
    #[serde(default)]
    pub action: HaltAction,
    /// For `rollback_to`: an older release of the same product, by digest or `product@version`, that every device
    /// accepts.
    #[serde(default)]
    pub rollback_to: Option<String>,
}

/// What a halt rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HaltAction {
    /// Nothing is granted any more; it can be resumed.
    #[default]
    Pause,
    /// It is cancelled.
    Cancel,
    /// It is cancelled, and another rollout brings `rollback_to` to the devices that got its release.
    RollbackTo,
}
