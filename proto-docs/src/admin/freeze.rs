//! Freezes: dates on which nothing is offered or installed.

use serde::{Deserialize, Serialize};

use crate::{ids::FreezeName, time::Timestamp};

/// Body of `POST /freezes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewFreeze {
    /// Unique.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: FreezeName,
    /// Why, for everybody who wonders.
    pub reason: String,
    /// First day by each device's own clock, `YYYY-MM-DD`.
    pub from: String,
    /// Last day.
    pub to: String,
    /// Which devices; all by default.
    #[serde(default)]
    pub selector: Option<String>,
}

/// A freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Unique.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: FreezeName,
    /// Why.
    pub reason: String,
    /// First day by each device's own clock, `YYYY-MM-DD`.
    pub from: String,
    /// Last day.
    pub to: String,
    /// Which devices; all without one.
    pub selector: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
}
