//! When a rollout will be done.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// When a rollout will be done, as far as that can be told from how it went so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// Devices from which something is still expected.
    pub left: u32,
    /// Of these, those that were never given it.
    pub unreached: u32,
    /// Not before. None if there is not enough to go by, or nothing left to do.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub from: Option<Timestamp>,
    /// Not after, most likely. None if it may take longer than anything can be said about.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub to: Option<Timestamp>,
    /// What this is made of, or why nothing can be said.
    pub basis: String,
}
