//! The admin API's shapes: what operators and the CLI exchange with the server under `/api/v1`.
//!
//! Unknown fields are errors. Lists are pages: pass `next` back as `after`. Wherever a device is named, its id or
//! its name will do; wherever a rollout is named, its id or its name; wherever a release is named, its digest or
//! `product@version`.

mod api_token;
mod attention;
mod audit;
mod check;
mod clone;
mod enrolment;
mod forecast;
mod freeze;
mod grant;
mod guard;
mod person;
mod preview;
mod progress;
mod registry;
mod rollout;
mod simulation;
mod trust;
mod webhook;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{DeviceName, Product, RolloutName},
    release::{Hook, Installer, Kind, Payload, Requirement, Restart, Rollback},
    time::Timestamp,
    version::Version,
};

pub use api_token::*;
pub use attention::*;
pub use audit::*;
pub use check::{MAX_DESCRIPTION, MAX_LABEL_KEY, MAX_LABELS, MAX_REASON, check_labels, check_token_name};
pub use clone::*;
pub use enrolment::*;
pub use forecast::*;
pub use freeze::*;
pub use grant::*;
pub use guard::*;
pub use person::*;
pub use preview::*;
pub use progress::*;
pub use registry::*;
pub use rollout::*;
pub use simulation::*;
pub use trust::*;
pub use webhook::*;

/// Items of a page unless `limit` says otherwise.
pub const DEFAULT_PAGE: u32 = 100;

/// Most items of a page.
pub const MAX_PAGE: u32 = 1000;

/// Sites or devices in one import at most; the CLI splits larger files.
pub const MAX_IMPORT: usize = 5000;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Pass as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Labels: key to value.
pub type Labels = BTreeMap<String, String>;

/// What an import did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// New ones.
    pub created: u64,
    /// Changed ones.
    pub updated: u64,
    /// Those that were so already.
    pub unchanged: u64,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Active rollouts for which the change makes devices eligible.
    pub eligible: Vec<Eligible>,
}

/// Devices that an edit makes eligible for an active rollout: nothing but time, pace or a gate keeps it from them then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Eligible {
    /// Which rollout.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub rollout: RolloutName,
    /// How many devices.
    pub devices: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Rises.
    pub seq: i64,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// A stable word, such as `device.enrolled` or `rollout.paused`.
    pub kind: String,
    /// Which device, if one.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub device: Option<DeviceName>,
    /// Which rollout, if one.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub rollout: Option<RolloutName>,
    /// A sentence.
    pub text: String,
}

/// Answer to an upload: what the server computed itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StoredPayload {
    /// Digest of the bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Digest of the chunk list.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub chunks_sha256: Digest,
}

/// How much of a payload has come in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PartialPayload {
    /// Bytes; all of them once the payload was checked and is there.
    pub received: u64,
}

/// A published release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Its identity: the digest of the signed bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sha256: Digest,
    /// What it is a release of.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub product: Product,
    /// For people.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub version: Version,
    /// With `counter`, the order of releases.
    pub epoch: u32,
    /// Rises with every release of an epoch.
    pub counter: u64,
    /// Once it is committed, devices accept nothing below this counter of its epoch.
    pub min_floor: u64,
    /// The counter that what a device runs of the product must have at least before.
    pub requires_at_least: Option<u64>,
    /// Other products that must be there before.
    pub requires: Vec<Requirement>,
    /// The oldest agent that can install it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub requires_agent: Option<Version>,
    /// From then on no device takes it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub not_after: Option<Timestamp>,
    /// Why it exists.
    pub kind: Kind,
    /// What puts it in place.
    pub installer: Installer,
    /// What is restarted after the switch.
    pub restart: Restart,
    /// Programs of its tree that devices run during the update.
    pub hooks: Vec<Hook>,
    /// What going back takes.
    pub rollback: Rollback,
    /// Whether devices keep it only after they have reached the server under it.
    pub needs_server_contact: bool,
    /// For so many seconds at most devices may put the switch off; none means without a limit.
    pub max_postpone_s: Option<u32>,
    /// Channels it is meant for.
    pub channels: Vec<String>,
    /// Hardware it runs on.
    pub hw: Vec<String>,
    /// Its bytes.
    pub payloads: Vec<Payload>,
    /// Ids of the keys that signed it.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub signed_by: Vec<Digest>,
    /// When it was published here.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub published_at: Timestamp,
    /// Why devices would not install it any more: the head takes it back, or the root does not accept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distrusted: Option<String>,
}

/// Body of `POST /rollouts/{rollout}/start`, `pause`, `resume`, `cancel`, `approve` and `skip-soak`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// For the event log; `skip-soak` needs one. At most [`MAX_REASON`] bytes, as every reason.
    #[serde(default)]
    pub reason: String,
    /// For `resume`: gates look past the failures so far.
    #[serde(default)]
    pub acknowledge_failures: bool,
}

/// Body of `POST /rollouts/{rollout}/open-phase`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenPhase {
    /// The name of the phase; it must be the next one.
    pub phase: String,
    /// Why, for the event log; not empty.
    pub reason: String,
}

/// Body of `POST /rollouts/{rollout}/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// An older release of the same product that every device accepts, by digest or `product@version`.
    pub to: String,
    /// Why, for the event log; not empty.
    pub reason: String,
}

/// The fleet in numbers, for the overview page and `GET /overview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// Devices by status.
    pub devices: BTreeMap<String, u64>,
    /// Devices that checked in within the last minute.
    pub seen_last_minute: u64,
    /// Open assignments by state.
    pub assignments: BTreeMap<String, u64>,
    /// Enrolments that wait for an operator.
    pub enrolments_waiting: u64,
    /// Devices that have told within the last hour of something that no honest server sends, by kind. Those of which an
    /// operator has taken note are left out.
    pub attacks: BTreeMap<String, u64>,
    /// Kinds of which many devices tell: ten, of a fleet of less than forty every fourth, and never fewer than three.
    pub attack_alarms: Vec<String>,
}
