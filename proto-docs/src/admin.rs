//! The admin API's shapes: what operators, the CLI and the pages exchange with the server under `/api/v1`.
//!
//! Unknown fields are errors. Lists are pages: pass `next` back as `after`. Wherever a device is named, its id or
//! its name will do; wherever a rollout is named, its id or its name; wherever a release is named, its digest or
//! `product@version`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    check_in::{Installed, Progress},
    digest::Digest,
    enrol::Bundle,
    ids::{AssignmentId, DeviceId, DeviceName, Product, RolloutId, RolloutName, SiteId, TokenId},
    instruction::Reason,
    release::{Kind, Payload},
    report::Failure,
    state::{AgentState, AssignmentState},
    time::Timestamp,
    version::Version,
};

/// Items of a page unless `limit` says otherwise.
pub const DEFAULT_PAGE: u32 = 100;
/// Most items of a page.
pub const MAX_PAGE: u32 = 1000;
/// Labels of one device or site at most.
pub const MAX_LABELS: usize = 32;
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

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its id, chosen by people.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: SiteId,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// IANA time zone.
    pub tz: String,
    /// Inherited by its devices.
    #[serde(default)]
    pub labels: Labels,
}

/// Body of `POST /sites/import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportSites {
    /// All are taken, or none.
    pub sites: Vec<Site>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// A device that is to be known before it is switched on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportDevice {
    /// Its unique name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: DeviceName,
    /// Where it stands.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub site: Option<SiteId>,
    /// Binds an enrolment that reports it.
    #[serde(default)]
    pub serial: Option<String>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its own labels.
    #[serde(default)]
    pub labels: Labels,
    /// What is believed to be installed, as `product` to version, until the device says so itself.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    pub installed: BTreeMap<Product, Version>,
}

/// Body of `POST /devices/import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportDevices {
    /// All are taken, or none.
    pub devices: Vec<ImportDevice>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

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
    /// Running rollouts for which the change makes devices eligible.
    pub eligible: Vec<Eligible>,
}

/// Devices that an edit makes eligible for a running rollout.
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

/// How a device stands with the server; derived when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    /// Never checked in.
    Unknown,
    /// Seen within two poll intervals.
    Online,
    /// Seen before that.
    Offline,
    /// Silent for 30 days.
    Abandoned,
}

/// A device in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: DeviceId,
    /// Its unique name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: DeviceName,
    /// Where it stands.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub site: Option<SiteId>,
    /// For people.
    pub description: String,
    /// How it stands with the server.
    pub status: DeviceStatus,
    /// Its last check-in.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_seen: Option<Timestamp>,
    /// When it got its certificate.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub enrolled_at: Option<Timestamp>,
    /// Serial number.
    pub serial: Option<String>,
    /// Its own labels and its site's.
    pub labels: Labels,
    /// What it runs.
    pub installed: Vec<Installed>,
    /// Hardware model.
    pub hw: String,
    /// Processor architecture.
    pub arch: String,
    /// Version of the agent.
    pub agent: String,
    /// Time zone it reports.
    pub tz: Option<String>,
    /// Anything else it reports.
    pub attributes: Labels,
    /// Held, and why.
    pub hold: Option<Hold>,
    /// Whether it was decommissioned.
    pub decommissioned: bool,
}

/// A hold: no rollout touches the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// Until when; without it until it is lifted.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub until: Option<Timestamp>,
}

/// Body of `POST /devices/{device}/decommission`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Decommission {
    /// Why.
    pub reason: String,
}

/// Body of `POST /devices/labels`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EditLabels {
    /// Which devices: a selector, such as `name = till-1`.
    pub selector: String,
    /// To set.
    #[serde(default)]
    pub set: Labels,
    /// To remove.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
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

/// Why a device gets what it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// Which device.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceName,
    /// The time it was decided for.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub now: Timestamp,
    /// What its next check-in would bring.
    pub next: Reason,
    /// Every active rollout, in the order considered.
    pub rollouts: Vec<Considered>,
    /// Its open assignment, with what the device last said of it.
    pub progress: Option<Progress>,
    /// Where its agent stands.
    pub agent_state: Option<AgentState>,
    /// The code of its last failure.
    pub last_error: Option<String>,
}

/// What one rollout means for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Considered {
    /// Which rollout.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub rollout: RolloutName,
    /// The first rule that decided.
    pub reason: Reason,
    /// The assignment's state, if there is one.
    pub assignment: Option<AssignmentState>,
}

/// Body of `POST /tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// The imported device that may use it; else whoever holds it.
    #[serde(default)]
    pub device: Option<String>,
    /// Site of devices that enrol with it.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub site: Option<SiteId>,
    /// Labels of devices that enrol with it.
    #[serde(default)]
    pub labels: Labels,
    /// How many devices may use it; 1 by default.
    #[serde(default)]
    pub max_uses: Option<u32>,
    /// Seconds until it expires; 7 days by default, at most 366 days.
    #[serde(default)]
    pub ttl_s: Option<u64>,
}

/// Answer to [`NewToken`]; the only time that the token is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenCreated {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: TokenId,
    /// When it expires.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// All that a till needs, the token among it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub bundle: Bundle,
}

/// An enrolment token in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: TokenId,
    /// The device that may use it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub device: Option<DeviceName>,
    /// Site of devices that enrol with it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub site: Option<SiteId>,
    /// Labels of devices that enrol with it.
    pub labels: Labels,
    /// How many devices have used it.
    pub uses: u32,
    /// How many may.
    pub max_uses: u32,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it expires.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
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
    /// Why it exists.
    pub kind: Kind,
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
}

/// When a rollout offers its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// At the next check-in of every device.
    Immediate,
    /// From `start_at` on, inside the windows.
    Scheduled,
    /// Phase by phase.
    Progressive,
    /// At the first check-in of a connection.
    OnConnect,
}

/// Whether devices that match later join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// They join.
    #[default]
    Live,
    /// Membership is fixed at the start.
    Frozen,
}

/// What moves through the phases together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Each device for itself.
    #[default]
    Device,
    /// A whole site.
    Site,
}

/// What a window holds back while it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WindowGate {
    /// Fetching.
    Download,
    /// Switching.
    Install,
}

/// What happens to a device that was absent for a whole window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WindowMode {
    /// It waits for the next.
    #[default]
    Hard,
    /// It is admitted at its next check-in.
    BestEffort,
}

/// A recurring window in local time: `start` with `days`, or `cron`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// `site`, or an IANA time zone.
    #[serde(default = "site_zone")]
    pub tz: String,
    /// `mon` to `sun`; all days by default.
    #[serde(default)]
    pub days: Vec<String>,
    /// Local time of day, such as `02:00`.
    #[serde(default)]
    pub start: Option<String>,
    /// Five cron fields instead of `days` and `start`.
    #[serde(default)]
    pub cron: Option<String>,
    /// Elapsed minutes.
    pub duration_min: u32,
    /// What it holds back; `install` by default.
    #[serde(default = "install_gate")]
    pub gates: Vec<WindowGate>,
    /// What happens to a device that was absent.
    #[serde(default)]
    pub mode: WindowMode,
}

fn site_zone() -> String {
    "site".to_owned()
}

fn install_gate() -> Vec<WindowGate> {
    vec![WindowGate::Install]
}

/// A phase of a progressive rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// For people.
    pub name: String,
    /// Cumulative share of the audience; the last is 100.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Instead of a share: exactly these devices.
    #[serde(default)]
    pub selector: Option<String>,
    /// Successes among the completed that the next phase needs, 1 to 100.
    #[serde(default = "success_percent")]
    pub success_percent: u8,
    /// Completed share of the phase that the next phase needs, 1 to 100.
    #[serde(default = "completed_percent")]
    pub completed_percent: u8,
    /// Completed devices that the next phase needs at least.
    #[serde(default = "min_completed")]
    pub min_completed: u32,
    /// After so many minutes `min_completed` is enough.
    #[serde(default)]
    pub max_wait_min: Option<u32>,
}

const fn success_percent() -> u8 {
    95
}

const fn completed_percent() -> u8 {
    80
}

const fn min_completed() -> u32 {
    1
}

/// Body of `POST /rollouts` and `POST /rollouts/preview`; also the format of rollout files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// Unique.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: RolloutName,
    /// The release: digest, or `product@version`.
    pub release: String,
    /// Which devices; all by default.
    #[serde(default)]
    pub selector: Option<String>,
    /// Whether devices that match later join.
    #[serde(default)]
    pub audience: Audience,
    /// What moves through the phases together.
    #[serde(default)]
    pub unit: Unit,
    /// When the release is offered.
    pub policy: Policy,
    /// For `scheduled`: not before.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub start_at: Option<Timestamp>,
    /// Past it windows are ignored.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub deadline: Option<Timestamp>,
    /// From then on nothing is offered; what has not begun to activate expires. A live rollout without an end stays
    /// in force for every device that matches later.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub ends_at: Option<Timestamp>,
    /// For `on_connect`: an absence of so many seconds makes a new connection; 3600 by default.
    #[serde(default)]
    pub min_absence_s: Option<u32>,
    /// Times at which it may work; always by default.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Minutes that an installation takes: it does not begin with less of the window left.
    #[serde(default)]
    pub expected_install_min: u32,
    /// The zone of devices of which none is known; `UTC` by default.
    #[serde(default)]
    pub default_tz: Option<String>,
    /// For `progressive`: at least one.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// 0 to 1000; the highest is considered first.
    #[serde(default = "priority")]
    pub priority: u16,
    /// Attempts of a device, 1 to 10.
    #[serde(default = "max_attempts")]
    pub max_attempts: u32,
    /// Whether a release older than the installed one is meant.
    #[serde(default)]
    pub allow_downgrade: bool,
}

const fn priority() -> u16 {
    500
}

const fn max_attempts() -> u32 {
    3
}

/// Whether a rollout works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Not started.
    Draft,
    /// Makes grants.
    Running,
    /// Makes no grants; can go on.
    Paused,
    /// Every member is done.
    Completed,
    /// Called off.
    Cancelled,
}

/// Body of `POST /rollouts/{rollout}/pause`, `resume` and `cancel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// For the event log.
    #[serde(default)]
    pub reason: String,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: RolloutId,
    /// What was asked for.
    pub spec: RolloutSpec,
    /// The release's digest.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: Digest,
    /// Whether it works.
    pub state: RolloutState,
    /// Why it is paused or cancelled.
    pub state_reason: Option<String>,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it was started.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub started_at: Option<Timestamp>,
    /// When it completed or was cancelled.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub ended_at: Option<Timestamp>,
    /// One for each phase; a rollout without phases has one.
    pub phases: Vec<PhaseProgress>,
}

/// How a phase stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PhaseProgress {
    /// Its name.
    pub name: String,
    /// When it opened.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub opened_at: Option<Timestamp>,
    /// What its gate waits for.
    pub gate: Option<Reason>,
    /// Its devices, counted.
    pub counts: Counts,
}

/// Devices of a phase, counted by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Members.
    pub size: u32,
    /// Members that had the release already, cannot have it or were decommissioned.
    pub excluded: u32,
    /// Members without an assignment.
    pub unreached: u32,
    /// Waiting for a download grant.
    pub queued: u32,
    /// Hold a download grant.
    pub downloading: u32,
    /// Complete on the device, waiting for an activation grant.
    pub staged: u32,
    /// Hold an activation grant.
    pub activating: u32,
    /// On probation.
    pub verifying: u32,
    /// Committed.
    pub succeeded: u32,
    /// Back on the previous release.
    pub rolled_back: u32,
    /// Given up.
    pub failed: u32,
    /// Silent for too long.
    pub timed_out: u32,
    /// Called off.
    pub cancelled: u32,
}

impl Counts {
    /// Devices that hold a place or wait for one.
    pub const fn open(&self) -> u32 {
        self.queued + self.downloading + self.staged + self.activating + self.verifying
    }
}

/// One device in one rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: AssignmentId,
    /// Which device.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceName,
    /// Index of its phase, from 0.
    pub phase: u32,
    /// Where it stands.
    pub state: AssignmentState,
    /// From 1.
    pub attempt: u32,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When it last changed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
}

/// What a rollout would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// The release's digest.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub release: Digest,
    /// Matching devices.
    pub devices: u32,
    /// Of them, those that checked in lately.
    pub online: u32,
    /// Of them, those that run the release.
    pub already_installed: u32,
    /// Devices of each phase.
    pub phases: Vec<PreviewPhase>,
    /// Devices that cannot have the release, and why.
    pub incompatible: Vec<Incompatible>,
    /// Active rollouts of the same product with devices in common.
    pub conflicts: Vec<Eligible>,
}

/// The members of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PreviewPhase {
    /// Its name.
    pub name: String,
    /// How many devices.
    pub size: u32,
    /// Which; the first thousand.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub devices: Vec<DeviceName>,
}

/// A device that cannot have the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Incompatible {
    /// Which device.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceName,
    /// Why.
    pub reason: Reason,
}

/// The fleet in numbers, for the overview page and `GET /overview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// Devices by status.
    pub devices: BTreeMap<String, u64>,
    /// Open assignments by state.
    pub assignments: BTreeMap<String, u64>,
}
