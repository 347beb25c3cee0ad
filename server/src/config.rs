//! Settings: fragments (file, environment, flags) are merged, then validated once.
//!
//! A later source wins: `server.toml` in the data directory, `CALLBOARD_*` in the environment, flags. A message
//! about a setting names its key, where it came from and what is allowed.

pub(crate) mod oidc;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::db::{DbUrl, url::redacted};

/// Name of the settings file in the data directory.
pub(crate) const FILE: &str = "server.toml";

/// Validated settings of `callboard serve`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Where devices reach the server; the device listener's address by default.
    pub(crate) public_url: Option<PublicUrl>,
    pub(crate) device_listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    /// Certificate chain and key of the admin listener; needed where it is not loopback.
    pub(crate) admin_tls: Option<(PathBuf, PathBuf)>,
    pub(crate) database: DbUrl,
    /// How often a device with nothing to do checks in.
    pub(crate) poll_interval: Duration,
    /// Silence after which nobody waits for a device.
    pub(crate) abandoned_after: Duration,
    /// Payload transfers at the same time.
    pub(crate) max_transfers: usize,
    /// Payload bytes a second to all devices together.
    pub(crate) max_bytes_per_s: Option<NonZeroU64>,
    /// Check-ins that wait for something new at the same time.
    pub(crate) max_waiting: usize,
    /// How long a request of a device may take to arrive.
    pub(crate) request_timeout: Duration,
    /// How long a device may take no byte of an answer.
    pub(crate) stall_timeout: Duration,
    /// Check-ins and reports of one device.
    pub(crate) device_requests_per_minute: NonZeroU32,
    /// Whether devices may sign their requests instead of showing a certificate.
    pub(crate) signed_requests: bool,
    /// Largest payload that can be uploaded.
    pub(crate) max_payload_bytes: u64,
    /// How long events are kept.
    pub(crate) event_retention: Duration,
    /// Rollouts for more devices than this need a second person's approval.
    pub(crate) second_person_above: Option<u64>,
    /// The identity provider by which people may log in.
    pub(crate) oidc: Option<oidc::Oidc>,
}

/// Where devices reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicUrl {
    /// Without a slash at the end.
    pub(crate) text: String,
    /// Name or address, as it must stand in the TLS certificate.
    pub(crate) host: String,
}

/// One source of settings: values by key, as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fragment {
    source: String,
    values: BTreeMap<String, String>,
}

/// No fleet is larger.
const MAX_AUDIENCE: u64 = 1_000_000_000;

/// Every key, what it is for, and what is allowed.
pub(crate) const KEYS: [(&str, &str); 19] = [
    ("public_url", "https://HOST[:PORT], a name or address that stands in the server's certificate"),
    ("device_listen", "ADDRESS:PORT, such as 0.0.0.0:8443; port 0 takes any free one"),
    ("admin_listen", "ADDRESS:PORT, such as 127.0.0.1:8080; port 0 takes any free one"),
    ("admin_tls_cert", "path of a PEM file; together with admin_tls_key"),
    ("admin_tls_key", "path of a PEM file; together with admin_tls_cert"),
    (
        "database_url",
        "sqlite:PATH or postgres://USER@HOST/DATABASE; the built-in PostgreSQL client has no TLS, so no sslmode=require",
    ),
    ("poll_interval_s", "1 to 86400 seconds"),
    ("abandoned_after_days", "1 to 3650"),
    ("max_transfers", "1 to 10000"),
    ("max_bytes_per_s", "65536 to 1000000000000 bytes, or 0 for no limit"),
    ("max_waiting", "0 to 40000; 0 lets nobody wait"),
    ("request_timeout_s", "1 to 600 seconds"),
    ("stall_timeout_s", "1 to 600 seconds"),
    ("device_requests_per_minute", "1 to 1000000"),
    ("signed_requests", "true or false"),
    ("max_payload_bytes", "1 to 1099511627776 (1 TiB)"),
    ("event_retention_days", "1 to 36500"),
    ("second_person_above", "never, or 0 to 1000000000 devices"),
    ("oidc", "a section with issuer, client_id, admin_url and grants"),
];

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {text}")]
    Syntax { path: PathBuf, text: String },
    #[error("{key} = {value:?} ({source_name}) is not allowed: {allowed}")]
    Value { key: &'static str, value: String, source_name: String, allowed: &'static str },
    #[error("{source_name}: there is no setting {key:?}; the settings are {}", keys())]
    Unknown { key: String, source_name: String },
    #[error("[oidc] ({source_name}) is not allowed: {text}")]
    Oidc { source_name: String, text: String },
    #[error("{0}")]
    Together(&'static str),
}

fn keys() -> String {
    KEYS.map(|(key, _)| key).join(", ")
}

impl Fragment {
    /// Reads `server.toml`; no file is an empty fragment.
    pub(crate) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let table: toml::Table = text.parse().map_err(|source: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            text: one_line(&text, &source),
        })?;
        let shown = |value: toml::Value| match value {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        Self::named(path.display().to_string(), table.into_iter().map(|(key, value)| (key, shown(value))))
    }

    /// Takes the variables that begin with `CALLBOARD_` and name a setting.
    pub(crate) fn from_env(vars: impl Iterator<Item = (String, String)>) -> Self {
        let values = vars.filter_map(|(name, value)| {
            let key = name.strip_prefix("CALLBOARD_")?.to_lowercase();
            // CALLBOARD_TOKEN and others belong to the operator's commands.
            KEYS.iter().any(|(known, _)| *known == key).then_some((key, value))
        });
        Self { source: "environment".to_owned(), values: values.collect() }
    }

    /// The text of one setting.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Takes flags that were given.
    pub(crate) fn from_flags(flags: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Self {
        let values = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Self { source: "flag".to_owned(), values: values.collect() }
    }

    fn named(source: String, values: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let values: BTreeMap<String, String> = values.collect();
        match values.keys().find(|key| !KEYS.iter().any(|(known, _)| known == key)) {
            Some(key) => Err(ConfigError::Unknown { key: key.clone(), source_name: source }),
            None => Ok(Self { source, values }),
        }
    }
}

/// Never the line itself: it may hold a password.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message().replace('\n', ", "))
}

impl Settings {
    /// Merges `fragments`, the last winning, and validates the result.
    pub(crate) fn merge(dir: &Path, fragments: &[Fragment]) -> Result<Self, ConfigError> {
        let merged = Merged(fragments);
        let admin_listen: SocketAddr = merged.parse("admin_listen", "127.0.0.1:8080", |text| text.parse().ok())?;
        let path = |text: &str| (!text.is_empty()).then(|| dir.join(text));
        let cert = merged.optional("admin_tls_cert", path)?;
        let key = merged.optional("admin_tls_key", path)?;
        let admin_tls = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(ConfigError::Together("admin_tls_cert and admin_tls_key are only of use together")),
        };
        if admin_tls.is_none() && !admin_listen.ip().is_loopback() {
            return Err(ConfigError::Together(
                "admin_listen is not a loopback address: admin_tls_cert and admin_tls_key are needed, \
                 or listen on 127.0.0.1 behind a proxy with TLS",
            ));
        }
        let sqlite = format!("sqlite:{}", dir.join("callboard.db").display());
        let number = |text: &str, max: u64| text.parse().ok().filter(|n| (1..=max).contains(n));
        let seconds = |text: &str, max: u64| number(text, max).map(Duration::from_secs);
        Ok(Self {
            dir: dir.to_owned(),
            public_url: merged.optional("public_url", PublicUrl::parse)?,
            device_listen: merged.parse("device_listen", "0.0.0.0:8443", |text| text.parse().ok())?,
            admin_listen,
            admin_tls,
            database: merged.parse("database_url", &sqlite, |text| DbUrl::parse(text).ok())?,
            poll_interval: merged.parse("poll_interval_s", "300", |text| seconds(text, 86_400))?,
            abandoned_after: merged.parse("abandoned_after_days", "30", |text| {
                number(text, 3650).map(|days| Duration::from_secs(days * 86_400))
            })?,
            max_transfers: merged.parse("max_transfers", "256", |text| usize::try_from(number(text, 10_000)?).ok())?,
            max_bytes_per_s: merged.parse("max_bytes_per_s", "0", |text| {
                let rate: u64 = text.parse().ok()?;
                (rate == 0 || (65_536..=1_000_000_000_000).contains(&rate)).then(|| NonZeroU64::new(rate))
            })?,
            max_waiting: merged
                .parse("max_waiting", "4000", |text| text.parse().ok().filter(|n| (0..=40_000).contains(n)))?,
            request_timeout: merged.parse("request_timeout_s", "60", |text| seconds(text, 600))?,
            stall_timeout: merged.parse("stall_timeout_s", "60", |text| seconds(text, 600))?,
            device_requests_per_minute: merged.parse("device_requests_per_minute", "120", |text| {
                u32::try_from(number(text, 1_000_000)?).ok()?.try_into().ok()
            })?,
            signed_requests: merged.parse("signed_requests", "false", |text| text.parse().ok())?,
            max_payload_bytes: merged.parse("max_payload_bytes", "17179869184", |text| number(text, 1 << 40))?,
            event_retention: merged.parse("event_retention_days", "400", |text| {
                number(text, 36_500).map(|days| Duration::from_secs(days * 86_400))
            })?,
            second_person_above: merged.parse("second_person_above", "never", |text| match text {
                "never" => Some(None),
                number => number.parse().ok().filter(|n| *n <= MAX_AUDIENCE).map(Some),
            })?,
            oidc: merged
                .found("oidc")
                .map(|(fragment, value)| oidc::parse(dir, &fragment.source, value))
                .transpose()?,
        })
    }
}

struct Merged<'a>(&'a [Fragment]);

impl Merged<'_> {
    fn found(&self, key: &str) -> Option<(&Fragment, &String)> {
        self.0.iter().rev().find_map(|fragment| Some((fragment, fragment.values.get(key)?)))
    }

    fn optional<T>(&self, key: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let Some((fragment, value)) = self.found(key) else {
            return Ok(None);
        };
        match parse(value) {
            Some(parsed) => Ok(Some(parsed)),
            None => {
                let value = if key == "database_url" { redacted(value) } else { value.clone() };
                let allowed = KEYS.iter().find(|(known, _)| *known == key).map_or("", |(_, allowed)| allowed);
                Err(ConfigError::Value { key, value, source_name: fragment.source.clone(), allowed })
            }
        }
    }

    fn parse<T>(&self, key: &'static str, default: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ConfigError> {
        let value = self.optional(key, &parse)?.or_else(|| parse(default));
        value.ok_or(ConfigError::Together("a built-in default is not valid"))
    }
}

impl PublicUrl {
    /// Understands `https://HOST[:PORT]`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let authority = text.strip_prefix("https://")?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        (!host.is_empty() && host.chars().all(legal) && good_port)
            .then(|| Self { text: text.to_owned(), host: host.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(values: &[(&str, &str)]) -> Result<Settings, String> {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Fragment::named("server.toml".to_owned(), values)
            .and_then(|fragment| Settings::merge(Path::new("/d"), &[fragment]))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_valid() {
        let settings = merge(&[]).expect("defaults");
        assert_eq!(settings.device_listen.to_string(), "0.0.0.0:8443");
        assert_eq!(settings.database, DbUrl::Sqlite("/d/callboard.db".to_owned()));
    }

    #[test]
    fn messages_name_the_key_and_what_is_allowed() {
        for (key, value, allowed) in [
            ("poll_interval_s", "0", "1 to 86400 seconds"),
            ("device_listen", "8443", "ADDRESS:PORT"),
            ("public_url", "http://x", "https://HOST"),
            ("database_url", "mysql://x", "sqlite:PATH"),
            ("database_url", "postgres://x/y?sslmode=require", "sqlite:PATH"),
            ("max_transfers", "many", "1 to 10000"),
            ("second_person_above", "-1", "never, or 0 to 1000000000 devices"),
        ] {
            let message = merge(&[(key, value)]).expect_err("refused");
            assert!(message.contains(key) && message.contains(value) && message.contains(allowed), "{message}");
        }
        assert!(merge(&[("pol_interval", "1")]).expect_err("unknown").contains("poll_interval_s"));
        assert!(merge(&[("admin_listen", "0.0.0.0:80")]).expect_err("no TLS").contains("admin_tls_cert"));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = Fragment { source: "f".into(), values: [("poll_interval_s".into(), "10".into())].into() };
        let env = Fragment::from_env([("CALLBOARD_POLL_INTERVAL_S".to_owned(), "20".to_owned())].into_iter());
        let flags = Fragment::from_flags([("poll_interval_s", Some("30".to_owned()))]);
        let seconds =
            |fragments: &[Fragment]| Settings::merge(Path::new("/d"), fragments).map(|s| s.poll_interval.as_secs());
        assert_eq!(seconds(&[file.clone(), env.clone()]).ok(), Some(20));
        assert_eq!(seconds(&[file, env, flags]).ok(), Some(30));
    }

    #[test]
    fn every_line_of_the_commented_file_is_a_setting_and_no_setting_is_missing() {
        let commented = include_str!("../../deploy/server.toml");
        let lines = commented.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(FILE);
        std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("written");
        let fragment = Fragment::from_file(&file).expect("every line is a setting");
        let keys: Vec<&str> = fragment.values.keys().map(String::as_str).collect();
        let mut known = KEYS.map(|(key, _)| key);
        known.sort_unstable();
        assert_eq!(keys, known);
        let (shown, default) =
            (Settings::merge(dir.path(), &[fragment]).expect("valid values"), merge(&[]).expect("defaults"));
        assert_eq!(shown.device_listen, default.device_listen);
        assert_eq!(shown.admin_listen, default.admin_listen);
        assert_eq!(shown.poll_interval, default.poll_interval);
        assert_eq!(shown.abandoned_after, default.abandoned_after);
        assert_eq!(shown.max_transfers, default.max_transfers);
        assert_eq!(shown.max_waiting, default.max_waiting);
        assert_eq!(shown.max_bytes_per_s, default.max_bytes_per_s);
        assert_eq!(shown.request_timeout, default.request_timeout);
        assert_eq!(shown.stall_timeout, default.stall_timeout);
        assert_eq!(shown.device_requests_per_minute, default.device_requests_per_minute);
        assert_eq!(shown.signed_requests, default.signed_requests);
        assert_eq!(shown.max_payload_bytes, default.max_payload_bytes);
        assert_eq!(shown.event_retention, default.event_retention);
        assert_eq!(shown.second_person_above, default.second_person_above);
        std::fs::write(&file, commented).expect("written");
        assert!(Fragment::from_file(&file).expect("comments").values.is_empty());
    }
}
