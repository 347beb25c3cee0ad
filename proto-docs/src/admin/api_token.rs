//! API tokens: what operators and their programs show to be let in.

use serde::{Deserialize, Serialize};

use super::Grant;
use crate::{ids::TokenId, time::Timestamp};

/// Body of `POST /api-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// Whose it is: the event log says who did what by this name. No two usable tokens have the same.
    pub name: String,
    /// What it may do, 1 to 16; everything without them.
    #[serde(default = "everything")]
    pub grants: Vec<Grant>,
    /// Seconds until it ends, 60 to 316224000 (ten years); it has no end without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

fn everything() -> Vec<Grant> {
    vec![Grant::everything()]
}

/// Answer to [`NewApiToken`]; the only time that the token is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApiTokenCreated {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: TokenId,
    /// Whose it is.
    pub name: String,
    /// The token: `cba_` and 26 characters each of id and secret, with `_` between.
    pub token: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<Timestamp>,
}

/// An API token in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: TokenId,
    /// Whose it is.
    pub name: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it was revoked.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub revoked_at: Option<Timestamp>,
}
