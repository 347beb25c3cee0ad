//! Rollouts: what is asked for, and how it stands.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{AssignmentId, DeviceName, RolloutId, RolloutName},
    instruction::{ActivateOn, Reason},
    report::Failure,
    state::AssignmentState,
    time::Timestamp,
};

use super::{Caps, Eligible};

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
    /// Completed devices that the next phase needs at least, 1 or more; all of a smaller phase.
    #[serde(default = "min_completed")]
    pub min_completed: u32,
    /// After so many minutes `min_completed` is enough.
    #[serde(default)]
    pub max_wait_min: Option<u32>,
    /// Minutes for which it must stay healthy after its gate is met; none by default, at most 90 days.
    #[serde(default)]
    pub soak_min: u32,
    /// Who opens the next phase then.
    #[serde(default)]
    pub approval: Approval,
}

/// Who opens the next phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// The rollout, by itself.
    #[default]
    Auto,
    /// A person, by `approve`.
    Manual,
}

/// The JSON Schema of rollout files: what [`RolloutSpec`] reads.
pub const ROLLOUT_SCHEMA: &str = include_str!("../../rollout.schema.json");

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
    /// From then on nothing is offered, and what is not activating expires. A live rollout without it never completes.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub ends_at: Option<Timestamp>,
    /// For `on_connect`: an absence of so many seconds makes a new connection; 3600 by default.
    #[serde(default)]
    pub min_absence_s: Option<u32>,
    /// Times at which it may work; always by default.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Minutes that an installation takes: it does not begin with less of the window left, or before the site trades.
    #[serde(default)]
    pub expected_install_min: u32,
    /// Whether installations may begin while the site trades.
    #[serde(default)]
    pub during_trading: bool,
    /// Whether devices are told beforehand when they may install by themselves, for the case that they cannot ask.
    #[serde(default)]
    pub offline_activation: bool,
    /// When they install: as soon as they may, or by that right when they are shut down or have started.
    #[serde(default)]
    pub activate_on: ActivateOn,
    /// The zone of devices of which none is known; `UTC` by default.
    #[serde(default)]
    pub default_tz: Option<String>,
    /// For `progressive`: at least one.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// How many devices may download, and how many may activate, at the same time; any number by default.
    #[serde(default)]
    pub caps: Caps,
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

/// Whether a rollout works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Not started.
    Draft,
    /// Makes grants.
    Running,
    /// Makes no grants; can go on. Devices that have begun to activate finish.
    Paused,
    /// Every member is done, or the end has passed.
    Completed,
    /// Called off.
    Cancelled,
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
    /// Why it is paused or cancelled, or what came of it.
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
    /// What looks like a mistake, such as a label in a selector that no device has. Told when it is made.
    pub warnings: Vec<String>,
}

/// How a phase stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PhaseProgress {
    /// Its name.
    pub name: String,
    /// When it opened.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub opened_at: Option<Timestamp>,
    /// What the next phase waits for, said of the last open phase. Of the last of all only if it has a soak.
    pub gate: Option<Reason>,
    /// Since when its gate is met without a break; the soak runs from then on.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub gate_met_at: Option<Timestamp>,
    /// When an operator ended its soak.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub soak_skipped_at: Option<Timestamp>,
    /// Who approved it.
    pub approved: Option<Approved>,
    /// Its devices, counted.
    pub counts: Counts,
}

/// Somebody's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// The name of the API token.
    pub by: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
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
    /// Of the three before, those that could go on, by why they do not.
    pub deferred: Deferred,
    /// Hold an activation grant.
    pub activating: u32,
    /// On probation.
    pub verifying: u32,
    /// Of the two before, those that have begun to switch and have not been heard of for 15 minutes.
    pub silent: u32,
    /// Committed.
    pub succeeded: u32,
    /// Back on the previous release.
    pub rolled_back: u32,
    /// Given up.
    pub failed: u32,
    /// Silent for too long.
    pub timed_out: u32,
    /// Called off, or expired.
    pub cancelled: u32,
    /// Of the rolled back and failed ones, those that an operator took note of; gates look past them.
    pub acknowledged: u32,
}

/// Devices that could go on, counted by why they do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Deferred {
    /// No window is open.
    pub window: u32,
    /// Their site trades.
    pub trading_hours: u32,
    /// A freeze is in force.
    pub freeze: u32,
    /// Something on the device is in the way, such as an open sale.
    pub inhibitor: u32,
    /// A person at the device put it off.
    pub user: u32,
}

impl Deferred {
    /// All of them.
    pub const fn total(&self) -> u32 {
        self.window + self.trading_hours + self.freeze + self.inhibitor + self.user
    }
}

impl Counts {
    /// Members that the phase is about: without the excluded ones.
    pub const fn wanted(&self) -> u32 {
        self.size.saturating_sub(self.excluded)
    }

    /// Devices that hold a place or wait for one.
    pub const fn open(&self) -> u32 {
        self.queued + self.downloading + self.staged + self.activating + self.verifying
    }

    /// Devices on which it went wrong: rolled back, given up, or silent for too long.
    pub const fn unsuccessful(&self) -> u32 {
        self.rolled_back + self.failed + self.timed_out
    }

    /// Devices from which nothing more is expected, whether it went well or not.
    pub const fn done(&self) -> u32 {
        self.succeeded + self.unsuccessful() + self.cancelled
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
    /// Of them, those that have not reported yet what they are and run. They are members until they do; then some may
    /// turn out to need nothing, or to be unable to have the release.
    pub unreported: u32,
    /// Which; the first thousand.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub unreported_devices: Vec<DeviceName>,
    /// What looks like a mistake, such as a label in a selector that no device has.
    pub warnings: Vec<String>,
    /// Devices of each phase.
    pub phases: Vec<PreviewPhase>,
    /// Devices that cannot have the release, and why; the first thousand.
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

const fn success_percent() -> u8 {
    95
}

const fn completed_percent() -> u8 {
    80
}

const fn min_completed() -> u32 {
    1
}

const fn priority() -> u16 {
    500
}

const fn max_attempts() -> u32 {
    3
}
