//! The instruction: the server's signed answer to one check-in.

use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    digest::Digest,
    ids::{AssignmentId, DeviceId},
    parsed::parsed,
    signed::Document,
    time::Timestamp,
};

/// 32 random bytes that tie an answer to its question; 64 lower-case hexadecimal digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce(pub [u8; 32]);

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl FromStr for Nonce {
    type Err = BadNonce;

    fn from_str(text: &str) -> Result<Self, BadNonce> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(BadNonce)
    }
}

/// Text that is not a [`Nonce`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a nonce is 64 lower-case hexadecimal digits")]
pub struct BadNonce;

/// What one device is to do now. Signed by the online key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Format version, 1.
    pub v: u32,
    /// Equal to `server_time`.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
    /// Whom it is for.
    pub device_id: DeviceId,
    /// The nonce of the check-in it answers.
    pub nonce: Nonce,
    /// SHA-256 of the exact body of that check-in.
    pub request_sha256: Digest,
    /// The server's clock; the device's only authenticated source of time.
    pub server_time: Timestamp,
    /// What to do.
    pub action: Action,
    /// Why, for logs and people.
    pub reason: Reason,
    /// The release to download or install; the assignment's, for `cancel` and `hold` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_sha256: Option<Digest>,
    /// Which assignment this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment_id: Option<AssignmentId>,
    /// The assignment's attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Not to be activated before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Activation not to be begun after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// With `download` and `hold`: the device may activate by itself between `not_before` and `not_after`. The right
    /// lasts until the next answer, which gives it anew or takes it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline_activation: bool,
    /// When it uses that right. With `now` it does if it cannot ask then.
    #[serde(default, skip_serializing_if = "ActivateOn::is_now")]
    pub activate_on: ActivateOn,
    /// Whether a release older than the installed one is meant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
    /// With `download`: so many payload bytes a second at most, 0 excepted. It holds until the next answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_s: Option<u64>,
    /// Seconds until the next check-in; the device adds its own jitter and clamps to 10 s .. 24 h.
    pub next_checkin_s: u32,
    /// Newest root that the server has; 0 without one.
    pub root_version: u64,
    /// Serial of the newest head that the server has, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_serial: Option<u64>,
    /// What the server would like to see in the next check-in. Reserved: servers send none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub want: Vec<String>,
}

/// What a device is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    None,
    /// Fetch, verify and stage the release; do not switch.
    Download,
    /// Switch to the staged release (fetch it first if it is not there).
    Install,
    /// Drop the assignment, unless the switch has begun.
    Cancel,
    /// Keep what is there and wait: no download, no switch.
    Hold,
}

/// When a device activates what it has staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActivateOn {
    /// As soon as it may.
    #[default]
    Now,
    /// When the machine is shut down or restarted in an orderly way.
    Shutdown,
    /// When the machine has started.
    Boot,
}

impl ActivateOn {
    fn is_now(&self) -> bool {
        *self == Self::Now
    }
}

/// Why something was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reason {
    /// A stable word for programs.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

impl Document for Instruction {
    const TYPE: &'static str = "application/vnd.callboard.instruction.v1+json";
    const MAX_BYTES: usize = 16 * 1024;
    const FIELDS: &'static [&'static str] = &[
        "v",
        "issued_at",
        "device_id",
        "nonce",
        "request_sha256",
        "server_time",
        "action",
        "reason",
        "release_sha256",
        "assignment_id",
        "attempt",
        "not_before",
        "not_after",
        "offline_activation",
        "activate_on",
        "allow_downgrade",
        "max_bytes_per_s",
        "next_checkin_s",
        "root_version",
        "head_serial",
        "want",
    ];

    fn format(&self) -> u32 {
        self.v
    }

    fn crit(&self) -> &[String] {
        &self.crit
    }

    fn check(&self) -> Result<(), String> {
        let needs = matches!(self.action, Action::Download | Action::Install | Action::Cancel);
        if needs && (self.release_sha256.is_none() || self.assignment_id.is_none() || self.attempt.is_none()) {
            return Err("action without release_sha256, assignment_id or attempt".to_owned());
        }
        let about = self.release_sha256.is_some() && self.assignment_id.is_some() && self.attempt.is_some();
        let bounded = self.not_before.is_some() && self.not_after.is_some();
        let fits = matches!(self.action, Action::Download | Action::Hold) && about && bounded;
        if self.offline_activation && !fits {
            return Err(
                "offline_activation without download or hold, an assignment, not_before or not_after".to_owned()
            );
        }
        if self.max_bytes_per_s.is_some_and(|rate| rate == 0 || self.action != Action::Download) {
            return Err("max_bytes_per_s is 0, or without download".to_owned());
        }
        if let (Some(from), Some(to)) = (self.not_before, self.not_after)
            && from > to
        {
            return Err("not_before is later than not_after".to_owned());
        }
        Ok(())
    }
}
