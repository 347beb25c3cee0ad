//! Rollouts: what is asked for, and whether it works.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{RolloutId, RolloutName},
    instruction::ActivateOn,
    time::Timestamp,
};

use super::{Approved, Caps, HaltRule, Pace, PhaseProgress};

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
    /// What moves through the phases together; `site` only with the progressive policy.
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
    /// Minutes that an installation takes, at most 1440: it does not begin with less of the window left, or before the site
    /// trades.
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
    /// How many devices are offered the release in a minute; any number by default.
    #[serde(default)]
    pub pace: Option<Pace>,
    /// When it stops by itself.
    #[serde(default)]
    pub halt: Vec<HaltRule>,
    /// 0 to 1000; the highest is considered first.
    #[serde(default = "priority")]
    pub priority: u16,
    /// Attempts of a device, 1 to 10.
    #[serde(default = "max_attempts")]
    pub max_attempts: u32,
    /// Whether a release older than the installed one is meant.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Whether freezes let it pass once a second person has approved it.
    #[serde(default)]
    pub security: bool,
}

/// Body of `PATCH /rollouts/{rollout}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EditRollout {
    /// The rollout as it is to be, the whole of it.
    pub spec: RolloutSpec,
    /// Why, for the event log.
    #[serde(default)]
    pub reason: String,
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
    /// The name of the API token that made it; of a rollout that a halt has made, the rollout that was halted.
    pub created_by: String,
    /// The name of the API token that changed it last, if one did.
    pub edited_by: Option<String>,
    /// The second person who approved it as it is.
    pub countersigned: Option<Approved>,
    /// The rollout whose release it takes back, after a halt.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub takes_back: Option<RolloutName>,
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
