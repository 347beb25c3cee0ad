//! Devices that two machines may be, and devices that may enrol again.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A device that two machines may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PossibleClone {
    /// When it was seen first.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// When it was seen last.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub last: Timestamp,
    /// What was seen last.
    pub text: String,
}

/// Body of `POST /devices/{device}/clone/keep`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct KeepDevice {
    /// What was found, for the event log; not empty.
    pub reason: String,
}

/// Body of `PUT /devices/{device}/reenrolment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AllowReenrolment {
    /// Until when; at most 31 days ahead.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub until: Timestamp,
}
