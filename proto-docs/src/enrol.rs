//! Enrolment: how a device becomes known, and the bundle that is all it needs for that.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{DeviceId, DeviceName, SiteId},
    text::{self, Check, MAX_TEXT},
    time::Timestamp,
};

/// Largest enrolment body in bytes.
pub const MAX_BYTES: usize = 16 * 1024;

/// Body of `POST /v1/enrol`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// Fields that the server must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
    /// The enrolment token: `cbe_` and 26 characters of lower-case base32 for id and secret each, with `_` between.
    pub token: String,
    /// PKCS#10 request in PEM, for an ECDSA P-256 key. Its names are ignored.
    pub csr_pem: String,
    /// The name it would like to have; a bound token or serial decides instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DeviceName>,
    /// Serial number, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Hardware model.
    pub hw: String,
    /// Processor architecture.
    pub arch: String,
}

/// Answer to [`Enrol`]. The same token with the same key gives the same certificate again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The device's id.
    pub device_id: DeviceId,
    /// Its unique name.
    pub name: DeviceName,
    /// Where it stands, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// Its certificate, in PEM.
    pub certificate_pem: String,
    /// When the certificate ends.
    pub expires_at: Timestamp,
    /// From when on the device should renew it.
    pub renew_at: Timestamp,
    /// The server's clock. Not signed: good for logs, not for trust.
    pub server_time: Timestamp,
}

/// Body of `POST /v1/renew`: a new key for the device whose certificate opened the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// Fields that the server must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
    /// PKCS#10 request in PEM, for a new ECDSA P-256 key. Its names are ignored.
    pub csr_pem: String,
}

/// Answer to [`Renew`]. The same key gives the same certificate again, until it was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The certificate of the new key, in PEM. The one before is refused from the first request with this one on.
    pub certificate_pem: String,
    /// When the certificate ends.
    pub expires_at: Timestamp,
    /// From when on the device should renew it.
    pub renew_at: Timestamp,
    /// The server's clock. Not signed: good for logs, not for trust.
    pub server_time: Timestamp,
}

/// The one file that a till needs: made by `callboard token create --bundle`, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Format version, 1.
    pub v: u32,
    /// The device listener, such as `https://updates.example.com:8443`.
    pub server_url: String,
    /// The certificate that issued the server's, in PEM.
    pub server_ca_pem: String,
    /// The root envelope, as it was published.
    pub root: serde_json::Value,
    /// The enrolment token.
    pub token: String,
}

impl Enrol {
    /// The fields this implementation understands when they are named in `crit`.
    pub const FIELDS: &'static [&'static str] = &["token", "csr_pem", "name", "serial", "hw", "arch"];
}

impl Renew {
    /// The fields this implementation understands when they are named in `crit`.
    pub const FIELDS: &'static [&'static str] = &["csr_pem"];
}

impl Check for Renew {
    fn check(&self) -> Result<(), String> {
        text::critical(&self.crit, Self::FIELDS)
    }
}

impl Check for Enrol {
    fn check(&self) -> Result<(), String> {
        text::critical(&self.crit, Self::FIELDS)?;
        text::some("serial", self.serial.as_ref(), MAX_TEXT)?;
        text::field("hw", &self.hw, MAX_TEXT)?;
        text::field("arch", &self.arch, MAX_TEXT)
    }
}
