//! The release document: what is installed, signed offline and never changed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::Product,
    payload::{Format, MAX_CHUNK_SIZE, MIN_CHUNK_SIZE},
    signed::Document,
    time::Timestamp,
    version::Version,
};
pub use hook::{Hook, MAX_PATH as MAX_HOOK_PATH, MAX_POSTPONE_S, MAX_TIMEOUT_S as MAX_HOOK_TIMEOUT_S, Rollback, Stage};

mod hook;

/// Payloads of one release at most: parts of a product, not a file list.
pub const MAX_PAYLOADS: usize = 16;
/// Other products that one release needs at most.
pub const MAX_REQUIRED: usize = 16;
/// Bytes that stay free on a device while a release is put in place beside what is there.
pub const SPARE_BYTES: u64 = 64 << 20;

/// One immutable release of one product. Its identity is the SHA-256 of the signed bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Format version, 1.
    pub v: u32,
    /// When it was built.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default)]
    pub crit: Vec<String>,
    /// What it is a release of.
    pub product: Product,
    /// For people; does not order releases.
    pub version: Version,
    /// With `counter`, the order of releases of a product.
    pub epoch: u32,
    /// Rises with every release of an epoch.
    pub counter: u64,
    /// Once this release is committed, nothing below this counter of its epoch is accepted any more.
    #[serde(default)]
    pub min_floor: u64,
    /// Channels it is meant for; a device accepts only its own channels.
    pub channels: Vec<String>,
    /// Hardware it runs on; `*` matches any run of characters.
    pub hw: Vec<String>,
    /// No new installs from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Why it exists.
    #[serde(default)]
    pub kind: Kind,
    /// Where people read about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
    /// The oldest agent that can install it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_agent: Option<Version>,
    /// A stepping stone: what a device runs of this product must have this counter of the epoch, or a higher one, before
    /// this release is installed. It asks nothing of a device that has nothing of the product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_at_least: Option<u64>,
    /// Other products that must be there before this release is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
    /// Which installer of the agent puts it in place.
    pub installer: Installer,
    /// What must be restarted after the switch.
    #[serde(default)]
    pub restart: Restart,
    /// Programs of its tree that the device runs during the update; one for each stage at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// What going back to the previous version takes.
    #[serde(default, skip_serializing_if = "Rollback::is_safe")]
    pub rollback: Rollback,
    /// Whether the new version is kept only after the device has reached the server under it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_server_contact: bool,
    /// For so many seconds at most the device may put the switch off because of what it is doing. Without it, for as
    /// long as it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_postpone_s: Option<u32>,
    /// Its bytes.
    pub payloads: Vec<Payload>,
}

/// Another product that a release needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Which.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub product: Product,
    /// Its oldest version that will do.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub at_least: Version,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} or newer", self.product, self.at_least)
    }
}

impl Release {
    /// The first product that it needs and that is not there, or is too old; `version_of` says what is there of a product.
    pub fn unmet<'a>(&self, version_of: impl Fn(&Product) -> Option<&'a Version>) -> Option<&Requirement> {
        unmet(&self.requires, version_of)
    }

    /// Free bytes that it takes at least to put it in place beside what is there: its payloads, packed and unpacked, and
    /// some to spare. What a program does with payloads, and whether it takes them as a stream, only the device knows.
    pub fn space(&self) -> u64 {
        if self.installer == Installer::Command {
            return 0;
        }
        self.payloads.iter().map(|payload| payload.size + payload.unpacked_size).sum::<u64>() + SPARE_BYTES
    }

    /// The fields that it uses and that no reader may overlook: they belong into `crit`.
    pub fn critical(&self) -> Vec<&'static str> {
        let conditions =
            [("requires_at_least", self.requires_at_least.is_some()), ("requires", !self.requires.is_empty())];
        conditions.into_iter().chain(self.conduct()).filter(|(_, used)| *used).map(|(field, _)| field).collect()
    }

    /// Fields about the update itself: an agent that did not know them would lose data or cut itself off.
    fn conduct(&self) -> [(&'static str, bool); 3] {
        [
            ("hooks", !self.hooks.is_empty()),
            ("rollback", self.rollback != Rollback::Safe),
            ("needs_server_contact", self.needs_server_contact),
        ]
    }

    fn check_conduct(&self) -> Result<(), String> {
        for (field, used) in self.conduct() {
            if used && !self.crit.iter().any(|name| name == field) {
                return Err(format!("{field} is used and not named in crit"));
            }
        }
        hook::check(&self.hooks, self.rollback)?;
        match self.max_postpone_s {
            Some(longest) if longest > MAX_POSTPONE_S => {
                Err(format!("max_postpone_s is {longest}; at most {MAX_POSTPONE_S} are allowed"))
            }
            _ => Ok(()),
        }
    }

    /// A program of the device knows neither trees nor archives, and says itself when the machine has to start anew.
    fn check_installer(&self) -> Result<(), String> {
        if self.installer != Installer::Command {
            return Ok(());
        }
        if let Some(payload) = self.payloads.iter().find(|payload| payload.format != Format::Raw) {
            let name = &payload.name;
            return Err(format!("payload {name:?} is an archive; the installer command takes files as they are"));
        }
        if !self.hooks.is_empty() {
            return Err("hooks are programs of an installed tree, and the installer command has none".to_owned());
        }
        if self.restart == Restart::Reboot {
            return Err("restart is reboot; with the installer command the device's program says when".to_owned());
        }
        Ok(())
    }

    fn check_requirements(&self) -> Result<(), String> {
        if self.requires.len() > MAX_REQUIRED {
            return Err(format!("requires names {} products; {MAX_REQUIRED} are allowed", self.requires.len()));
        }
        for (n, one) in self.requires.iter().enumerate() {
            if one.product == self.product {
                return Err(format!("requires names {} itself; requires_at_least is meant for that", self.product));
            }
            if self.requires.iter().take(n).any(|other| other.product == one.product) {
                return Err(format!("requires names {} twice", one.product));
            }
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The first of `required` that is not there, or is too old; `version_of` says what is there of a product.
pub fn unmet<'a, 'r>(
    required: &'r [Requirement],
    version_of: impl Fn(&Product) -> Option<&'a Version>,
) -> Option<&'r Requirement> {
    required.iter().find(|one| version_of(&one.product).is_none_or(|version| *version < one.at_least))
}

/// Why a release exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Closes a hole.
    Security,
    /// Adds something.
    #[default]
    Feature,
    /// Both.
    Mixed,
}

/// How a release is put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Installer {
    /// Versioned directories and one symbolic link.
    Directory,
    /// The program that the device names for the product: packages, image slots, firmware. Its payloads are `raw`.
    Command,
}

/// What is restarted after the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Nothing.
    None,
    /// The product's service unit, where the device names one.
    #[default]
    Service,
    /// The machine; the trial begins after it has come up.
    Reboot,
}

/// One content-addressed part of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Payload {
    /// A file name, 1 to 200 of `A-Z a-z 0-9 . _ - +` and no dot first: for `raw` the name in the installed tree.
    pub name: String,
    /// Digest of all bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Bytes per chunk, a power of two; the last chunk may be shorter.
    pub chunk_size: u32,
    /// Digest of the chunk list: the SHA-256 of each chunk, 32 bytes each, one after the other.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub chunks_sha256: Digest,
    /// How the bytes are to be read.
    pub format: Format,
    /// Bytes of all files after unpacking.
    pub unpacked_size: u64,
    /// Files, directories and links after unpacking; 1 for `raw`.
    pub entries: u32,
}

impl Payload {
    /// How many chunks there are.
    pub fn chunk_count(&self) -> u64 {
        self.size.div_ceil(u64::from(self.chunk_size.max(1)))
    }

    fn check(&self) -> Result<(), String> {
        let name = self.name.as_str();
        let legal = (1..=200).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'+'));
        if !legal {
            return Err(format!("payload name {name:?} is not a plain file name"));
        }
        if self.size == 0 || self.size > MAX_PAYLOAD_BYTES || self.unpacked_size > MAX_PAYLOAD_BYTES {
            return Err(format!("payload {name:?} has a size of 0 or over {MAX_PAYLOAD_BYTES} bytes"));
        }
        if !self.chunk_size.is_power_of_two() || !(MIN_CHUNK_SIZE..=MAX_CHUNK_SIZE).contains(&self.chunk_size) {
            return Err(format!("payload {name:?} has chunks of {} bytes", self.chunk_size));
        }
        Ok(())
    }
}

/// Largest payload: 1 TiB, so that no sum of sizes can overflow.
pub const MAX_PAYLOAD_BYTES: u64 = 1 << 40;

impl Document for Release {
    const TYPE: &'static str = "application/vnd.callboard.release.v1+json";
    const MAX_BYTES: usize = 64 * 1024;
    const FIELDS: &'static [&'static str] = &[
        "v",
        "issued_at",
        "product",
        "version",
        "epoch",
        "counter",
        "min_floor",
        "channels",
        "hw",
        "not_after",
        "kind",
        "advisory",
        "requires_agent",
        "requires_at_least",
        "requires",
        "installer",
        "restart",
        "hooks",
        "rollback",
        "needs_server_contact",
        "max_postpone_s",
        "payloads",
    ];

    fn format(&self) -> u32 {
        self.v
    }

    fn crit(&self) -> &[String] {
        &self.crit
    }

    fn check(&self) -> Result<(), String> {
        if self.payloads.is_empty() || self.payloads.len() > MAX_PAYLOADS {
            return Err(format!("{} payloads; 1 to {MAX_PAYLOADS} are allowed", self.payloads.len()));
        }
        for (n, payload) in self.payloads.iter().enumerate() {
            payload.check()?;
            if self.payloads.iter().take(n).any(|other| other.name == payload.name) {
                return Err(format!("payload name {:?} stands twice", payload.name));
            }
        }
        if self.hw.is_empty() || self.channels.is_empty() {
            return Err("hw and channels must each name at least one value".to_owned());
        }
        let max_counter = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
        if self.counter == 0 || self.counter > max_counter || self.min_floor > self.counter {
            return Err("counter must be 1 to 2^63-1, and min_floor at most counter".to_owned());
        }
        self.check_installer()?;
        self.check_requirements()?;
        self.check_conduct()?;
        if let Some(least) = self.requires_at_least.filter(|least| !(1..self.counter).contains(least)) {
            return Err(format!("requires_at_least is {least}; a counter below the release's own is wanted"));
        }
        Ok(())
    }
}
