//! `agent.toml`: fragments as written, and the validated settings made from them.
//!
//! Unknown fields are errors. Whatever passes [`Settings::parse`] is consistent; nothing is checked again later.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::{
    check_in,
    ids::Product,
    text::{self, MAX_TEXT},
};
use serde::Deserialize;

use crate::image;
pub(crate) use hooks::HookSettings;
pub(crate) use network::{Network, Proxy, Shows, Way};
pub(crate) use product::{InstalledBy, InstallerProgram, ProductSettings};

mod hooks;
mod network;
mod product;

/// Where `agent.toml` is looked for without `--config`.
pub(crate) const DEFAULT_PATH: &str = "/etc/callboard/agent.toml";
const DEFAULT_STATE_DIR: &str = "/var/lib/callboard";
/// A configuration is some dozens of lines; anything of this size is another file.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const DAY_S: u64 = 86_400;

/// Everything that the device's owner decides.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) state_dir: PathBuf,
    pub(crate) hw: String,
    pub(crate) arch: String,
    pub(crate) serial: Serial,
    /// What tells one installation of the system from another, if anything does.
    pub(crate) image_id_file: Option<PathBuf>,
    /// Whether the device's key is sealed by systemd.
    pub(crate) seal_key: bool,
    pub(crate) tz: Option<String>,
    /// Bytes that payloads, trees and backups may take together.
    pub(crate) quota: Option<u64>,
    pub(crate) channels: Vec<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) polling: Polling,
    pub(crate) network: Network,
    pub(crate) hooks: HookSettings,
    pub(crate) products: BTreeMap<Product, ProductSettings>,
}

/// Where the serial number stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serial {
    given: Option<String>,
    file: Option<PathBuf>,
}

/// Local bounds of the interval that the server chooses, and how an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polling {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) first_max: Duration,
    /// How long the server may hold an answer back, in seconds; 0 not at all.
    pub(crate) wait_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fragment {
    state_dir: Option<PathBuf>,
    hw: Option<String>,
    arch: Option<String>,
    serial: Option<String>,
    serial_file: Option<PathBuf>,
    image_id_file: Option<PathBuf>,
    #[serde(default)]
    seal_key: bool,
    tz: Option<String>,
    quota_bytes: Option<u64>,
    channels: Option<Vec<String>>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    polling: PollingFragment,
    #[serde(default)]
    network: network::Fragment,
    #[serde(default)]
    hooks: hooks::Fragment,
    #[serde(default)]
    products: BTreeMap<Product, product::Fragment>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PollingFragment {
    min_s: Option<u64>,
    max_s: Option<u64>,
    first_max_s: Option<u64>,
    wait_s: Option<u32>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: larger than {MAX_CONFIG_BYTES} bytes, this is not an agent.toml")]
    TooLarge { path: PathBuf },
    #[error("{path}: {reason}")]
    Invalid { path: PathBuf, reason: String },
}

impl Settings {
    /// Reads and validates the file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|reason| ConfigError::Invalid { path: path.to_owned(), reason })
    }

    /// Validates the text of an `agent.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fragment: Fragment = toml::from_str(text).map_err(|error| one_line(text, &error))?;
        let settings = Self {
            state_dir: absolute("state_dir", fragment.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()))?,
            hw: short("hw", fragment.hw.unwrap_or_else(|| "generic".to_owned()))?,
            arch: short("arch", fragment.arch.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))?,
            serial: Serial::new(fragment.serial, fragment.serial_file)?,
            image_id_file: match fragment.image_id_file.unwrap_or_else(|| image::MACHINE_ID.into()) {
                none if none.as_os_str().is_empty() => None,
                path => Some(absolute("image_id_file", path)?),
            },
            seal_key: fragment.seal_key,
            tz: fragment.tz.map(|tz| short("tz", tz)).transpose()?,
            quota: fragment.quota_bytes.map(quota).transpose()?,
            channels: channels(fragment.channels.unwrap_or_else(|| vec!["stable".to_owned()]))?,
            attributes: attributes(fragment.attributes)?,
            polling: fragment.polling.validate()?,
            network: fragment.network.validate()?,
            hooks: fragment.hooks.validate()?,
            products: products(fragment.products)?,
        };
        Ok(settings)
    }
}

impl Serial {
    fn new(given: Option<String>, file: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self {
            given: given.map(|serial| short("serial", serial)).transpose()?,
            file: file.map(|file| absolute("serial_file", file)).transpose()?,
        })
    }

    /// The serial number: from the file, which the machine has and an image for many machines has not; else as it is
    /// given.
    pub(crate) fn read(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.file else { return Ok(self.given.clone()) };
        match (std::fs::read_to_string(file), &self.given) {
            (Ok(text), _) => {
                let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
                short("serial_file", text.to_owned()).map(Some)
            }
            (Err(_), Some(given)) => Ok(Some(given.clone())),
            (Err(error), None) => Err(format!("serial_file {}: {error}", file.display())),
        }
    }
}

impl PollingFragment {
    fn validate(self) -> Result<Polling, String> {
        let min_s = seconds("polling.min_s", self.min_s.unwrap_or(10), 0, DAY_S)?;
        let max_s = seconds("polling.max_s", self.max_s.unwrap_or(DAY_S), 0, DAY_S)?;
        if min_s > max_s {
            return Err("polling.min_s is larger than polling.max_s".to_owned());
        }
        let first_max = seconds("polling.first_max_s", self.first_max_s.unwrap_or(300), 0, DAY_S)?;
        let wait_s = self.wait_s.unwrap_or(check_in::MAX_WAIT_S);
        if wait_s > check_in::MAX_WAIT_S {
            return Err(format!("polling.wait_s is {wait_s}, allowed is 0 to {}", check_in::MAX_WAIT_S));
        }
        Ok(Polling { min: min_s, max: max_s, first_max, wait_s })
    }
}

fn seconds(key: &str, value: u64, low: u64, high: u64) -> Result<Duration, String> {
    if (low..=high).contains(&value) {
        Ok(Duration::from_secs(value))
    } else {
        Err(format!("{key} is {value}, allowed is {low} to {high}"))
    }
}

fn short(key: &str, text: String) -> Result<String, String> {
    if text.is_empty() || text::check(&text, MAX_TEXT).is_err() {
        return Err(format!("{key} must be 1 to {MAX_TEXT} bytes without control characters"));
    }
    Ok(text)
}

fn absolute(key: &str, path: PathBuf) -> Result<PathBuf, String> {
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && plain && path.parent().is_some() {
        Ok(path)
    } else {
        Err(format!("{key} is {path:?}, wanted is an absolute path below / without `..`"))
    }
}

fn quota(bytes: u64) -> Result<u64, String> {
    const LEAST: u64 = 1 << 20;
    if bytes < LEAST { Err(format!("quota_bytes is {bytes}; at least {LEAST} is wanted")) } else { Ok(bytes) }
}

fn channels(channels: Vec<String>) -> Result<Vec<String>, String> {
    if channels.is_empty() {
        return Err("channels is empty, so no release could ever be accepted; name at least one".to_owned());
    }
    channels.into_iter().map(|channel| short("channels", channel)).collect()
}

fn attributes(attributes: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    if attributes.len() > check_in::MAX_ATTRIBUTES {
        return Err(format!("attributes has {} entries, at most {}", attributes.len(), check_in::MAX_ATTRIBUTES));
    }
    attributes
        .into_iter()
        .map(|(key, value)| Ok((short("a key of attributes", key)?, short("a value of attributes", value)?)))
        .collect()
}

fn products(fragments: BTreeMap<Product, product::Fragment>) -> Result<BTreeMap<Product, ProductSettings>, String> {
    if fragments.len() > check_in::MAX_INSTALLED {
        return Err(format!("products has {} entries, at most {}", fragments.len(), check_in::MAX_INSTALLED));
    }
    let mut directories = BTreeSet::new();
    let mut products = BTreeMap::new();
    for (name, fragment) in fragments {
        let settings = fragment.validate(&name)?;
        if let Some(directory) = settings.directory()
            && !directories.insert(directory.to_owned())
        {
            return Err(format!("products.{name}.directory is used by another product too"));
        }
        products.insert(name, settings);
    }
    Ok(products)
}

/// TOML errors draw a picture over several lines; people and logs get place and reason in one.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let reason = error.message().replace('\n', ", ");
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    line.map_or_else(|| reason.clone(), |line| format!("line {line}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Floor;

    fn check(text: &str, wanted: &str) {
        let found = Settings::parse(text).map(|_| "accepted".to_owned()).unwrap_or_else(|reason| reason);
        assert!(found.contains(wanted), "{text:?} gave {found:?}, wanted {wanted:?}");
    }

    #[test]
    fn an_empty_file_is_a_valid_configuration() {
        let settings = Settings::parse("").expect("defaults are valid");
        assert_eq!(settings.channels, ["stable"]);
        assert_eq!(settings.polling.min, Duration::from_secs(10));
        assert_eq!(settings.state_dir, Path::new("/var/lib/callboard"));
    }

    #[test]
    fn impossible_settings_name_the_key_and_the_allowed_values() {
        check("colour = 1", "line 1: unknown field `colour`");
        check("\n[polling]\nmins = 1", "line 3: unknown field `mins`");
        check("[polling]\nmin_s = 90000", "polling.min_s is 90000, allowed is 0 to 86400");
        check("[polling]\nmin_s = 5\nmax_s = 4", "polling.min_s is larger");
        check("[polling]\nwait_s = 56", "polling.wait_s is 56, allowed is 0 to 55");
        check("state_dir = 'x'", "state_dir is \"x\", wanted is an absolute path");
        check("state_dir = '/a/../b'", "without `..`");
        check("image_id_file = 'x'", "image_id_file is \"x\", wanted is an absolute path");
        check("image_id_file = ''", "accepted");
        check("[hooks]\nretry_s = 0", "hooks.retry_s is 0, allowed is 1 to 86400");
        check("[hooks]\ndirectory = 'x'", "hooks.directory is \"x\", wanted is an absolute path");
        check("quota_bytes = 5", "quota_bytes is 5; at least 1048576 is wanted");
        check("channels = []", "channels is empty");
        check("hw = ''", "hw must be 1 to 128 bytes");
        check("hw = 5", "line 1: invalid type");
        check("[products.'../x']\ndirectory = '/opt/x'", "is not a product name");
        check("[products.a]\n", "products.a.directory is missing");
        check("[products.a]\ninstaller='bin/rauc'", "products.a.installer is \"bin/rauc\", wanted is an absolute path");
        check("[products.a]\ninstaller='/i'\ndirectory='/o'", "products.a.directory and products.a.installer are both");
        check("[products.a]\ndirectory='/o'\ninstaller_timeout_s=5", "installer_timeout_s is there without");
        check("[products.a]\ninstaller='/i'\ninstaller_timeout_s=0", "installer_timeout_s is 0, allowed is 1 to 86400");
        check("[products.a]\ninstaller='/i'\nhealth=['bin/x']", "wanted is a program's absolute path");
        check("[products.a]\ninstaller='/i'\n[products.b]\ninstaller='/i'\nhealth=['/x']", "accepted");
        check("[products.a]\ndirectory='/o'\n[products.b]\ndirectory='/o'", "used by another product");
        check("[products.a]\ndirectory='/o'\nservice='a b'", "products.a.service");
        check("[products.a]\ndirectory='/o'\nhealth=[]", "products.a.health is empty");
        check("[products.a]\ndirectory='/o'\ntrial_tries=0", "products.a.trial_tries is 0, allowed is 1 to 10");
        check("[products.a]\ndirectory='/o'\ntrial_s=0", "accepted");
        check("[products.callboard-agent]\ndirectory='/o'\ntrial_s=0", "trial_s is 0, allowed is 1 to 86400");
        check("[products.callboard-agent]\ndirectory='/o'\nhealth=['x']", "leave the keys out");
        check("[products.a]\ndirectory='/o'\nfloor={ epoch = 1 }", "line 3: missing field `counter`");
    }

    /// The keys that a table may have, by the message about one that it may not have.
    fn keys(table: &str) -> BTreeSet<String> {
        let refused = Settings::parse(&format!("{table}\nno_such_key = 1")).expect_err("an unknown key");
        let (_, known) = refused.split_once("expected one of ").expect("a list of keys");
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_commented_file_has_every_key_and_shows_the_defaults() {
        let commented = include_str!("../../deploy/agent.toml");
        assert!(Settings::parse(commented).is_ok());
        let is_setting = |text: &str| {
            let key = text.split_once(" = ").map_or("", |(key, _)| key);
            text.starts_with('[') || (!key.is_empty() && key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'))
        };
        let lines = commented.lines().map(|line| match line.strip_prefix("# ") {
            Some(text) if is_setting(text) => text,
            _ => line,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let table: toml::Table = text.parse().expect("TOML");
        let found = |table: &toml::Value| table.as_table().expect("a table").keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), keys(""));
        assert_eq!(found(&table["polling"]), keys("[polling]"));
        assert_eq!(found(&table["network"]), keys("[network]"));
        assert_eq!(found(&table["hooks"]), keys("[hooks]"));
        let products =
            ["pos-app", "os"].iter().flat_map(|name| found(&table["products"][name])).collect::<BTreeSet<_>>();
        assert_eq!(products, keys("[products.a]"));
        let shown = Settings::parse(&text).expect("every line is a setting");
        let default = "[products.pos-app]\ndirectory = '/opt/pos-app'\n\
                       [products.callboard-agent]\ndirectory = '/opt/callboard-agent'";
        let default = Settings::parse(default).expect("valid");
        assert_eq!(
            (&shown.state_dir, &shown.hw, &shown.channels, &shown.image_id_file),
            (&default.state_dir, &default.hw, &default.channels, &default.image_id_file)
        );
        let network =
            |settings: &Settings| Network { way: Way::Straight, extra_ca_file: None, ..settings.network.clone() };
        assert_eq!(
            format!("{:?} {:?}", shown.polling, network(&shown)),
            format!("{:?} {:?}", default.polling, network(&default))
        );
        let examples = |product: &ProductSettings| ProductSettings {
            service: None,
            health: None,
            factory_version: None,
            floor: Floor::default(),
            ..product.clone()
        };
        let product = |settings: &Settings, name: &str| {
            let name = name.parse().expect("a name");
            settings.products.get(&name).map(examples)
        };
        assert_eq!(product(&shown, "pos-app"), product(&default, "pos-app"));
        let default = Settings::parse("[products.os]\ninstaller = '/usr/local/lib/callboard/rauc'").expect("valid");
        assert_eq!(product(&shown, "os"), product(&default, "os"));
    }
}
