//! Which database: a URL that is never shown with its password in it.
//!
//! libpq repeats a URL that it cannot read. So what it would not read is refused here, in words of ours, and what it
//! says of a good one is searched for the password all the same.

use std::fmt;

use super::DbError;

/// Which database, by URL scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DbUrl {
    Sqlite(String),
    Postgres(PostgresUrl),
}

/// A URL that libpq understands. [`Debug`] and [`fmt::Display`] show it without its password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PostgresUrl {
    text: String,
    /// The password as it stands in the URL, and as the database gets it.
    secrets: Vec<String>,
}

/// What stands for a password.
const HIDDEN: &str = "***";
/// Parameters whose values are secret.
const SECRET_PARAMETERS: [&str; 2] = ["password", "sslpassword"];

impl DbUrl {
    /// Understands `sqlite:PATH` and `postgres://...`.
    pub(crate) fn parse(url: &str) -> Result<Self, DbError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Self::Sqlite(path.to_owned()));
        }
        PostgresUrl::parse(url).map(Self::Postgres).map_err(DbError::Url)
    }

    /// Whether it is a server that others may use as well.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Whether whoever reads it learns a password.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Postgres(url) if !url.secrets.is_empty())
    }
}

/// A setting that may not even be a URL, without what may be a password in it.
pub(crate) fn redacted(text: &str) -> String {
    if text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme.is_empty() && text.contains("password") {
        return HIDDEN.to_owned();
    }
    // Whatever stands before the last @ may belong to a password that nobody escaped.
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let (address, parameters) = host.split_once('?').map_or((host, None), |(address, more)| (address, Some(more)));
    let mut shown = text.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    match (
        user.map(|user| user.split_once(':').map_or((user, ""), |(name, _)| (name, ":***"))),
        address.split_once(':'),
    ) {
        (Some((name, password)), _) => shown.push_str(&format!("{name}{password}@{address}")),
        // Without a host it is not a port that follows the name.
        (None, Some((name, port))) if !address.starts_with('[') && !starts_with_port(port) => {
            shown.push_str(&format!("{name}:{HIDDEN}"));
        }
        (None, _) => shown.push_str(address),
    }
    for (n, parameter) in parameters.into_iter().flat_map(|all| all.split('&')).enumerate() {
        shown.push(if n == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((key, _)) if SECRET_PARAMETERS.contains(&key) => shown.push_str(&format!("{key}={HIDDEN}")),
            _ => shown.push_str(parameter),
        }
    }
    shown
}

fn starts_with_port(text: &str) -> bool {
    text.split('/').next().is_some_and(|port| port.split(',').next().is_some_and(|one| one.parse::<u16>().is_ok()))
}

impl PostgresUrl {
    fn parse(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("it must begin with sqlite: or postgres://")?;
        let (before, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before.split('/').next().unwrap_or(before);
        let (user, hosts) = authority.split_once('@').unwrap_or(("", authority));
        let mut secrets = Vec::new();
        if let Some((_, password)) = user.split_once(':') {
            secrets.extend([password.to_owned(), decoded(password)?]);
        }
        check_hosts(hosts)?;
        decoded(rest)?;
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or("a parameter after ? is not KEY=VALUE")?;
            if key == "sslmode" && ["require", "verify-ca", "verify-full"].contains(&value) {
                return Err(
                    "the built-in PostgreSQL client has no TLS; use a local socket or a tunnel, and no sslmode=require"
                        .to_owned(),
                );
            }
            if SECRET_PARAMETERS.contains(&key) {
                secrets.extend([value.to_owned(), decoded(value)?]);
            }
        }
        secrets.retain(|secret| !secret.is_empty());
        Ok(Self { text: url.to_owned(), secrets })
    }

    /// The URL with its password, for the database alone.
    pub(super) fn expose(&self) -> &str {
        &self.text
    }

    /// What the database says, without the password.
    pub(super) fn redact(&self, said: &str) -> String {
        self.secrets
            .iter()
            .fold(said.replace(&self.text, &self.to_string()), |text, secret| text.replace(secret, HIDDEN))
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.text))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// Hosts and ports as libpq takes them; what looks otherwise is mostly a password that was not escaped.
fn check_hosts(hosts: &str) -> Result<(), String> {
    let bad = "user and password must be followed by @HOST; in a password write %40 for @, %2F for /, %3A for :, %3F for ? and %25 for %";
    for host in hosts.split(',') {
        let (name, rest) = match host.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or(bad)?,
            None => host.split_once(':').map_or((host, ""), |(name, _)| (name, host.get(name.len()..).unwrap_or(""))),
        };
        let port = rest.strip_prefix(':');
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        let good_port = port.map_or(rest.is_empty(), |port| port.is_empty() || port.parse::<u16>().is_ok());
        if !name.chars().all(legal) || !good_port {
            return Err(bad.to_owned());
        }
    }
    Ok(())
}

/// With every `%41` as the byte that it stands for.
fn decoded(text: &str) -> Result<String, String> {
    let bad = "% must be followed by two hexadecimal digits; a % itself is written %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().ok_or(bad)?, rest.next().ok_or(bad)?];
            let digits = std::str::from_utf8(&digits).ok().filter(|two| two.bytes().all(|c| c.is_ascii_hexdigit()));
            bytes.push(u8::from_str_radix(digits.ok_or(bad)?, 16).ok().filter(|byte| *byte != 0).ok_or(bad)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).or(Err(bad.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_to_show_a_url_shows_its_password() {
        for url in [
            "postgres://callboard:s3cr3t@127.0.0.1/callboard",
            "postgresql://callboard:s3cr3t@[::1]:5432,db2:5433/callboard?connect_timeout=3",
            "postgres:///callboard?host=/var/run/postgresql&password=s3cr3t",
            "postgres://callboard:%733cr3t@db/callboard",
        ] {
            let parsed = DbUrl::parse(url).expect(url);
            let DbUrl::Postgres(own) = &parsed else { panic!("{url}") };
            let said = own.redact(&format!("cannot parse {url}: s3cr3t"));
            for shown in [format!("{parsed:?}"), own.to_string(), said] {
                assert!(!shown.contains("3cr3t") && shown.contains(HIDDEN), "{shown}");
            }
            assert_eq!(own.expose(), url);
            assert!(parsed.is_secret());
        }
        assert!(!DbUrl::parse("postgres:///callboard?host=/run").expect("a URL").is_secret());
    }

    #[test]
    fn what_libpq_would_repeat_is_refused_without_repeating_it() {
        for (url, said) in [
            ("mysql://s3cr3t", "sqlite: or postgres://"),
            ("postgres://callboard:s3c/r3t@db/callboard", "%2F for /"),
            ("postgres://callboard:s3c@r3t@db/callboard", "%40 for @"),
            ("postgres://callboard:s3c?r3t@db/callboard", "%3F for ?"),
            ("postgres://callboard:s3cr3t%@db/callboard", "%25"),
            ("postgres://callboard:s3cr3t%zz@db/callboard", "%25"),
            ("postgres://callboard:s3cr3t%00@db/callboard", "%25"),
            ("postgres://db:port/callboard", "@HOST"),
            ("postgres://db/callboard?s3cr3t", "KEY=VALUE"),
            ("postgres://db/callboard?sslmode=require", "no TLS"),
            ("postgres://db/callboard?sslmode=verify-full", "no TLS"),
        ] {
            let error = DbUrl::parse(url).expect_err(url).to_string();
            assert!(error.contains(said) && !error.contains("3c"), "{error}");
            let shown = redacted(url);
            assert!(!url.contains("callboard:") || !shown.contains("r3t"), "{shown}");
        }
        for text in ["postgres://callboard:s3cr3t", "callboard:s3cr3t@db/x", "host=db user=callboard password=s3cr3t"] {
            assert!(!redacted(text).contains("s3cr3t"), "{text}");
            assert!(!DbUrl::parse(text).expect_err(text).to_string().contains("s3cr3t"), "{text}");
        }
    }

    #[test]
    fn a_url_without_a_password_is_shown_as_it_is() {
        for url in ["sqlite:/a/b", "postgres://callboard@db:5432/callboard?sslmode=disable", "nonsense"] {
            assert_eq!(redacted(url), url);
        }
    }
}
