//! The check-in: what a device says of itself when it asks "what is my update?".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{AssignmentId, Product},
    instruction::Nonce,
    state::AgentState,
    text::{self, Check, MAX_TEXT},
    version::Version,
};

/// Largest check-in body in bytes.
pub const MAX_BYTES: usize = 16 * 1024;
/// Products of one device at most.
pub const MAX_INSTALLED: usize = 32;
/// Attributes of one device at most.
pub const MAX_ATTRIBUTES: usize = 32;
/// Kinds of attacks of one device at most.
pub const MAX_ATTACKS: usize = 32;
/// Kinds of attacks that an agent counts.
pub const ATTACKS: [&str; 12] = [
    "bad_sig",
    "threshold",
    "wrong_device",
    "nonce_mismatch",
    "rollback",
    "expired",
    "bad_chunk",
    "path_escape",
    "oversize",
    "slow",
    "clock_back",
    "flood",
];
/// What a server makes of all kinds that it does not know.
pub const OTHER_ATTACK: &str = "other";
/// Longest wait for an answer in seconds: shorter than what lines and proxies take for dead.
pub const MAX_WAIT_S: u32 = 55;

/// Body of `POST /v1/checkin`. Unknown fields are ignored, unless named in `crit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckIn {
    /// Fields that the server must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
    /// Comes back in the instruction; new for every check-in.
    pub nonce: Nonce,
    /// Rises with every check-in of a device.
    pub checkin_seq: u64,
    /// Changes when the device boots: the first check-in of a connection is told by it.
    pub boot_id: String,
    /// Seconds since boot.
    #[serde(default)]
    pub uptime_s: u64,
    /// Hardware, software and attributes.
    pub facts: Facts,
    /// Where the agent stands.
    pub state: AgentState,
    /// What it is working on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The root it trusts.
    pub root_version: u64,
    /// Serial of the newest head it has, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_serial: Option<u64>,
    /// Free bytes where releases are staged: the least of all these places. None if it cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Code of the last failure, until something succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What it refused, counted by kind since it was enrolled (`bad_sig`, `nonce_mismatch`, `bad_chunk`, ...); at most
    /// 32 kinds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attacks: BTreeMap<String, u64>,
    /// For so long, in seconds, the answer may be held back while it would say nothing new; at most [`MAX_WAIT_S`]. Not
    /// to be asked for by a device that did not get the answer to its last check-in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wait_s: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

/// What a device reports about itself and what rarely changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the agent.
    pub agent: String,
    /// Hardware model, such as `verifone-m440`.
    pub hw: String,
    /// Processor architecture, such as `x86_64`.
    pub arch: String,
    /// The device's own IANA time zone, where it knows one. A server ignores one that it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    /// Serial number, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Which installation of the system this is; another one than before is a new beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Which machine this is: the same again after a new image, another one on other hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_id: Option<String>,
    /// Channels it accepts.
    #[serde(default)]
    pub channels: Vec<String>,
    /// What is installed: at most one release of each product.
    #[serde(default)]
    pub installed: Vec<Installed>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// One installed product. Software that was never a release has a version alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Installed {
    /// Which product.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub product: Product,
    /// For people.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub version: Version,
    /// The release, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub release: Option<Digest>,
    /// Epoch of the release, else 0.
    #[serde(default)]
    pub epoch: u32,
    /// Counter of the release, else 0.
    #[serde(default)]
    pub counter: u64,
    /// Lowest counter of `epoch` that the device still accepts.
    #[serde(default)]
    pub floor: u64,
}

/// What the agent is working on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Which assignment.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub assignment_id: AssignmentId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Verified bytes on disk.
    pub bytes_done: u64,
    /// Bytes of all payloads.
    pub bytes_total: u64,
}

impl CheckIn {
    /// The fields this implementation understands when they are named in `crit`.
    pub const FIELDS: &'static [&'static str] = &[
        "nonce",
        "checkin_seq",
        "boot_id",
        "uptime_s",
        "facts",
        "state",
        "progress",
        "root_version",
        "head_serial",
        "free_bytes",
        "last_error",
        "attacks",
        "wait_s",
    ];
}

impl Check for CheckIn {
    fn check(&self) -> Result<(), String> {
        text::critical(&self.crit, Self::FIELDS)?;
        let facts = &self.facts;
        if facts.agent.is_empty() {
            return Err("facts.agent is empty; the version of the agent is wanted".to_owned());
        }
        text::count("facts.installed", facts.installed.len(), MAX_INSTALLED)?;
        text::count("facts.attributes", facts.attributes.len(), MAX_ATTRIBUTES)?;
        text::count("attacks", self.attacks.len(), MAX_ATTACKS)?;
        if self.wait_s > MAX_WAIT_S {
            return Err(format!("wait_s is {}; at most {MAX_WAIT_S} are allowed", self.wait_s));
        }
        for (n, one) in facts.installed.iter().enumerate() {
            if facts.installed.iter().take(n).any(|other| other.product == one.product) {
                return Err(format!("product {} stands twice in installed", one.product));
            }
        }
        for (name, text) in [
            ("boot_id", &self.boot_id),
            ("facts.agent", &facts.agent),
            ("facts.hw", &facts.hw),
            ("facts.arch", &facts.arch),
        ] {
            text::field(name, text, MAX_TEXT)?;
        }
        for (name, text) in [
            ("facts.tz", &facts.tz),
            ("facts.serial", &facts.serial),
            ("facts.image_id", &facts.image_id),
            ("facts.hardware_id", &facts.hardware_id),
            ("last_error", &self.last_error),
        ] {
            text::some(name, text.as_ref(), MAX_TEXT)?;
        }
        text::each("facts.channels", &facts.channels, MAX_TEXT)?;
        text::pairs("facts.attributes", &facts.attributes, MAX_TEXT)?;
        self.attacks.keys().try_for_each(|kind| text::field("a kind of attacks", kind, MAX_TEXT))
    }
}
