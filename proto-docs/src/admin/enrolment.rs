//! Enrolments that wait for an operator: of tokens that do not accept by themselves, and of keys that claim to be a
//! device that has another one.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{DeviceName, EnrolmentId, TokenId},
    time::Timestamp,
};

/// An enrolment that waits, or was decided and not yet asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WaitingEnrolment {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: EnrolmentId,
    /// SHA-256 of the public key, as the device shows it: compare them before you accept.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub key: Digest,
    /// What is done about it.
    pub state: EnrolmentState,
    /// Why it was not accepted at once.
    pub why: String,
    /// The device that it claims to be, or will be.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub device: Option<DeviceName>,
    /// The name it would like to have, or will have.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub name: Option<DeviceName>,
    /// The serial number that it gave.
    pub serial: Option<String>,
    /// The hardware that it gave.
    pub hw: String,
    /// The processor architecture that it gave.
    pub arch: String,
    /// The address that it came from.
    pub source: Option<String>,
    /// The token that it used.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub token: TokenId,
    /// When it asked first.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub first_at: Timestamp,
    /// When it asked last.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub last_at: Timestamp,
    /// Who decided.
    pub decided_by: Option<String>,
}

/// What is done about an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EnrolmentState {
    /// Nothing yet.
    Waiting,
    /// It becomes a device the next time that it asks.
    Accepted,
    /// It is refused each time.
    Rejected,
}

/// Body of `POST /enrolments/{enrolment}/accept`. Without either it becomes the device that it claims to be, else a new
/// one with the name that it asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcceptEnrolment {
    /// It becomes this device, by name or id; the key that the device has is refused from then on.
    #[serde(default)]
    pub device: Option<String>,
    /// It becomes a new device with this name.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub name: Option<DeviceName>,
}
