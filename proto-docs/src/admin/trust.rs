//! What devices trust, and when that ends.

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, head::HeadProduct, time::Timestamp};

/// Answer to `GET /trust`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The server's clock.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub server_time: Timestamp,
    /// The newest root, if one is published.
    pub root: Option<TrustRoot>,
    /// The newest head that this root accepts.
    pub head: Option<TrustHead>,
    /// The keys that this server has.
    pub online_keys: Vec<OnlineKey>,
    /// The CAs whose device certificates this server takes; the first one issues.
    pub device_cas: Vec<DeviceCa>,
    /// Where the devices in service stood with their last check-ins.
    pub standings: Vec<Standing>,
    /// Published releases that devices would not install any more, for whatever reason, as `product@version`.
    pub distrusted_releases: Vec<String>,
    /// What breaks when, the next first.
    pub ahead: Vec<Ahead>,
}

/// The newest root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustRoot {
    /// Its version.
    pub version: u64,
    /// Digest of the signed bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sha256: Digest,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub issued_at: Timestamp,
    /// No new installs from then on.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires: Timestamp,
    /// Who may do what.
    pub roles: Vec<TrustRole>,
    /// Where devices check in, in the order in which they try.
    pub servers: Vec<TrustServer>,
}

/// An address that the newest root lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustServer {
    /// The address.
    pub url: String,
    /// Certificates of which one must have issued the server's.
    pub ca: Vec<TrustCa>,
}

/// The certificate of a CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustCa {
    /// Digest of the certificate.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sha256: Digest,
    /// When it ends; absent if it cannot be read.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expires: Option<Timestamp>,
    /// Whether it is this server's.
    pub own: bool,
}

/// One role of the newest root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustRole {
    /// `root`, `release`, `head` or `online`.
    pub kind: String,
    /// Of a release role.
    pub name: Option<String>,
    /// Its keys.
    pub keys: Vec<TrustKey>,
    /// How many of them must sign.
    pub threshold: u32,
    /// How many of its keys may be lost before it can sign nothing any more; below 0 if it cannot now.
    pub spare: i64,
    /// Of a release or head role.
    pub epoch: Option<u32>,
    /// Of a release role; every product if empty.
    pub products: Vec<String>,
    /// Of a release role; every channel if empty.
    pub channels: Vec<String>,
}

/// A key of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustKey {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: Digest,
    /// Its algorithm.
    pub alg: String,
    /// Whether its signatures count in this role, by what this version knows.
    pub counted: bool,
}

/// The newest head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustHead {
    /// Its serial.
    pub serial: u64,
    /// Its epoch.
    pub epoch: u32,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub issued_at: Timestamp,
    /// The next one is due from then on.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub half_life: Timestamp,
    /// No new installs from then on.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires: Timestamp,
    /// What it says.
    pub products: Vec<HeadProduct>,
}

/// A CA of devices' certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceCa {
    /// Digest of its certificate.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sha256: Digest,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires: Timestamp,
    /// Whether it issues certificates.
    pub issues: bool,
    /// Devices in service that showed a certificate of it with their last check-in.
    pub devices: u64,
}

/// Devices whose last check-ins were alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The root that they trusted; absent if they have not checked in yet.
    pub root_version: Option<u64>,
    /// Host and port by which they came.
    pub address: Option<String>,
    /// How many.
    pub devices: u64,
}

/// A key that this server signs instructions with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OnlineKey {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: Digest,
    /// Whether the newest root lists it.
    pub listed: bool,
    /// Whether devices that trust the newest root are answered with it.
    pub signs: bool,
}

/// Something that breaks some day, or is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Ahead {
    /// When; absent for what depends on people and not on time.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub at: Option<Timestamp>,
    /// Whether somebody should look after it by now.
    pub alarm: bool,
    /// What, and what helps.
    pub text: String,
}
