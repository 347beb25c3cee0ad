//! Sites, devices and enrolment tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    check_in::{Installed, Progress},
    enrol::Bundle,
    ids::{DeviceId, DeviceName, Product, RolloutName, SiteId, TokenId},
    instruction::Reason,
    report::Failure,
    state::{AgentState, AssignmentState},
    time::Timestamp,
    version::Version,
};

use super::{AttackCount, Eligible, Labels};

/// A site that is to be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportSite {
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
    /// When it trades: nothing is activated then. An import without them leaves those that are there.
    #[serde(default)]
    pub trading_hours: Option<Vec<TradingHours>>,
    /// What its downloads may take. An import without it leaves what is there.
    #[serde(default)]
    pub bandwidth: Option<Vec<BandwidthLimit>>,
}

/// Whether a site is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// Rollouts are for its devices.
    Active,
    /// No rollout touches its devices for now, and their silence says nothing.
    Suspended,
    /// It will not open again: its devices are in no rollout.
    Closed,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: SiteId,
    /// For people.
    pub name: String,
    /// IANA time zone.
    pub tz: String,
    /// Inherited by its devices.
    pub labels: Labels,
    /// When it trades: nothing is activated then.
    pub trading_hours: Vec<TradingHours>,
    /// What its downloads may take together. The first limit whose hours it is holds.
    pub bandwidth: Vec<BandwidthLimit>,
    /// Whether it is there.
    pub state: SiteState,
    /// Why it is suspended or closed.
    pub state_reason: Option<String>,
    /// Held, and why.
    pub hold: Option<Hold>,
}

/// Body of `POST /sites/{site}/suspend` and `close`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeSite {
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Body of `POST /sites/{site}/activate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ActivateSite {
    /// Why, for the event log.
    #[serde(default)]
    pub reason: String,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What activating a site did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SiteActivated {
    /// As it is now.
    pub site: Site,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Active rollouts that go on with its devices, or begin with them.
    pub eligible: Vec<Eligible>,
}

/// A weekly span of trading, by the clock of the site's zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TradingHours {
    /// `mon` to `sun`; all days by default.
    #[serde(default)]
    pub days: Vec<String>,
    /// Local time of day, such as `08:00`.
    pub opens: String,
    /// Local time of day, on the next one if it is not after `opens`; `24:00` is the end of the day.
    pub closes: String,
}

/// What the downloads of a site may take together at some hours, by the clock of the site's zone; without `from` and `to`
/// on whole days, and without days always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BandwidthLimit {
    /// `mon` to `sun`; all days by default.
    #[serde(default)]
    pub days: Vec<String>,
    /// Local time of day, such as `08:00`.
    #[serde(default)]
    pub from: Option<String>,
    /// Local time of day, on the next one if it is not after `from`; `24:00` is the end of the day.
    #[serde(default)]
    pub to: Option<String>,
    /// Bytes a second, from 4096 on; 0 lets nobody download.
    pub bytes_per_s: u64,
}

/// Body of `PUT /sites/{site}/bandwidth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetBandwidth {
    /// All of them; none for a site without limits.
    pub bandwidth: Vec<BandwidthLimit>,
}

/// Body of `PUT /sites/{site}/trading-hours`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetTradingHours {
    /// All of them; none for a site that never trades.
    pub trading_hours: Vec<TradingHours>,
}

/// Body of `POST /sites/import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportSites {
    /// All are taken, or none.
    pub sites: Vec<ImportSite>,
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
    /// Host and port by which it came then.
    pub address: Option<String>,
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
    /// Whether its clock shows another time than its site's; windows follow the site's.
    pub tz_mismatch: bool,
    /// Anything else it reports.
    pub attributes: Labels,
    /// Whether it may have a copy, and why; until an operator has looked at it.
    pub possible_clone: Option<super::PossibleClone>,
    /// Until when it may enrol again by its serial number or its name, although it has a key.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub reenrol_until: Option<Timestamp>,
    /// Held, and why.
    pub hold: Option<Hold>,
    /// Whether it was decommissioned.
    pub decommissioned: bool,
    /// What it refused because no honest server sends it, as it tells.
    pub attacks: Vec<AttackCount>,
}

/// A hold: no rollout touches the device, or any device of the site.
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

/// Body of `PUT /devices/{device}/serial`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetSerial {
    /// The serial number, which no other device may have.
    pub serial: String,
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
    /// Its last check-in.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_seen: Option<Timestamp>,
    /// When its next check-in is to be expected: as it was told, or when it is usually there again. In the past if it is
    /// overdue; none if it never checked in, never comes, or is out of service.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expected_at: Option<Timestamp>,
    /// What its next check-in would bring.
    pub next: Reason,
    /// Seconds after it in which the device would be told to ask again; sooner if it waits for answers.
    pub next_check_in_s: u32,
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
    /// Why an attempt failed here, the last one that did.
    pub failure: Option<Failure>,
}

/// Body of `POST /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Only for serial numbers like this, such as `VF-*`: `*` is any run of characters, `?` is one.
    #[serde(default)]
    pub serial_pattern: Option<String>,
    /// Whether devices are accepted at once; else each waits for an operator. True by default.
    #[serde(default = "yes")]
    pub auto_approve: bool,
    /// How many devices may use it; 1 by default.
    #[serde(default)]
    pub max_uses: Option<u32>,
    /// Seconds until it expires; 7 days by default, at most 366 days.
    #[serde(default)]
    pub ttl_s: Option<u64>,
}

impl Default for NewToken {
    fn default() -> Self {
        Self {
            device: None,
            site: None,
            labels: Labels::new(),
            serial_pattern: None,
            auto_approve: yes(),
            max_uses: None,
            ttl_s: None,
        }
    }
}

const fn yes() -> bool {
    true
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
    /// Only for serial numbers like this.
    pub serial_pattern: Option<String>,
    /// Whether devices are accepted at once.
    pub auto_approve: bool,
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
