//! People: who logs in with a password, and their sessions.

use serde::{Deserialize, Serialize};

use super::Grant;
use crate::{ids::TokenId, time::Timestamp};

/// Body of `POST /users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// By which the event log knows the person; no other person and no usable API token has the same.
    pub name: String,
    /// 12 to 128 bytes. Without one the server makes one and shows it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What the person may do, 1 to 16.
    pub grants: Vec<Grant>,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The person's name.
    pub name: String,
    /// What the person may do.
    pub grants: Vec<Grant>,
    /// Whether a login takes a code beside the password.
    pub totp: bool,
    /// When the person was made known.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// Since when the person may not log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub disabled_at: Option<Timestamp>,
    /// The issuer of the identity provider by which the person logs in, if there is no password here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// Answer to [`NewUser`] and [`SetPassword`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserPassword {
    /// The person.
    pub user: User,
    /// The password that the server has made; the only time that it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Body of `PUT /users/{user}/grants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetGrants {
    /// What the person may do from now on, 1 to 16.
    pub grants: Vec<Grant>,
}

/// Body of `PUT /users/{user}/password`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// As in [`NewUser`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Body of `PUT /session/password`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The one so far.
    pub old: String,
    /// The one from now on, 12 to 128 bytes.
    pub new: String,
}

/// Body of `POST /session/totp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BeginTotp {
    /// One's password, again.
    pub password: String,
}

/// Body of `PUT /session/totp` and `POST /session/totp/disable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TotpCode {
    /// What the app shows: six digits.
    pub code: String,
}

/// Answer to `POST /users/{user}/totp` and `POST /session/totp`; the only time that the secret is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TotpSecret {
    /// In base 32, as apps take it: SHA-1, 6 digits, 30 seconds.
    pub secret: String,
    /// The same as an `otpauth://` URI, for a picture of it.
    pub uri: String,
}

/// Body of `POST /session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The person's name; whether letters are large or small makes no difference.
    pub name: String,
    /// The password.
    pub password: String,
    /// Six digits, for whoever has a TOTP secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Who asks, and what that one may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WhoAmI {
    /// Name of the person or the API token.
    pub name: String,
    /// The person behind it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// What may be done.
    pub grants: Vec<Grant>,
    /// Sent as `X-CSRF-Token` with every change; of sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf_token: Option<String>,
}

/// A session of somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Its id, which is no secret.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: TokenId,
    /// Whose it is.
    pub user: String,
    /// When it began.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it was used last, to the minute.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub last_used_at: Timestamp,
    /// When it ends, however much it is used.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub ends_at: Timestamp,
    /// The address that logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}
