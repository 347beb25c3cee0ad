//! Which server a command talks to: flags, then environment, then the profile.

use std::path::{Path, PathBuf};

use super::{
    exit::BadInput,
    profile::{self, Profile, ProfileError},
};

/// Flags that every command takes which talks to a server.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ConnectionArgs {
    /// URL of the server's admin listener, such as http://127.0.0.1:8080 [default: the profile's]
    #[arg(long, global = true, value_name = "URL", env = "CALLBOARD_SERVER")]
    pub(crate) server: Option<String>,
    /// API token of the operator; better given by environment or profile, where others cannot see it
    #[arg(long, global = true, value_name = "TOKEN", env = "CALLBOARD_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, global = true, value_name = "FILE", env = "CALLBOARD_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// Which profile names server and token otherwise: a name in ~/.config/callboard, or the path of a .toml file
    /// [default: profile]
    #[arg(long, global = true, value_name = "NAME|FILE", env = "CALLBOARD_PROFILE")]
    pub(crate) profile: Option<String>,
}

impl ConnectionArgs {
    /// Where the profile lies.
    pub(crate) fn profile_path(&self) -> Result<PathBuf, ProfileError> {
        profile::path(self.profile.as_deref(), std::env::var_os("HOME"))
    }
}

/// Where to send requests and as whom.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Without a slash at the end.
    pub(crate) server: String,
    /// The API token.
    pub(crate) token: String,
    /// Where the token came from, to be named when it is wrong.
    pub(crate) token_from: String,
    /// Certificates to trust instead of the system's.
    pub(crate) ca: Option<PathBuf>,
}

/// Reads the profile if it is needed and decides.
pub(crate) fn resolve(args: &ConnectionArgs) -> anyhow::Result<Connection> {
    if args.server.is_some() && args.token.is_some() {
        return Ok(choose(args, None, Path::new(""))?);
    }
    let bad = |error: ProfileError| BadInput(format!("{error:#}"));
    let path = args.profile_path().map_err(bad)?;
    let profile = profile::load(&path).map_err(bad)?;
    if profile.is_none() && args.profile.is_some() && args.server.is_none() {
        return Err(BadInput(format!("there is no profile {}", path.display())).into());
    }
    Ok(choose(args, profile, &path)?)
}

fn choose(args: &ConnectionArgs, profile: Option<Profile>, path: &Path) -> Result<Connection, BadInput> {
    let server = match (&args.server, &profile) {
        (Some(server), _) => server,
        (None, Some(profile)) => &profile.server,
        (None, None) => {
            let hint = "give --server and --token, set CALLBOARD_SERVER and CALLBOARD_TOKEN, or write";
            return Err(BadInput(format!("no server is known: {hint} the profile {}", path.display())));
        }
    };
    let server = clean_url(server)?;
    // A profile's token is for the profile's server and never sent to another one.
    let profile = profile.filter(|profile| clean_url(&profile.server).is_ok_and(|own| own == server));
    let (own_token, own_ca) = profile.map_or((None, None), |profile| (Some(profile.token), profile.ca));
    let token_from = match &args.token {
        // The flag and the variable are one to the parser.
        Some(given) if std::env::var("CALLBOARD_TOKEN").is_ok_and(|set| set == *given) => "CALLBOARD_TOKEN".to_owned(),
        Some(_) => "--token".to_owned(),
        None => format!("the profile {}", path.display()),
    };
    let token = args.token.clone().or(own_token).filter(|token| !token.is_empty()).ok_or_else(|| {
        BadInput(format!(
            "no token for {server}: give --token, set CALLBOARD_TOKEN, or make it the server of the profile {}",
            path.display()
        ))
    })?;
    if !token.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(BadInput(format!(
            "the token of {token_from} has characters that no token has: was it copied well?"
        )));
    }
    Ok(Connection { server, token, token_from, ca: args.ca.clone().or(own_ca) })
}

/// Scheme, host and port; plain HTTP only to this machine, because the token would be readable on the way.
fn clean_url(text: &str) -> Result<String, BadInput> {
    let bad = |why: &str| BadInput(format!("server {text:?} {why}; http://127.0.0.1:8080 would be right"));
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("is not a URL"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if authority.is_empty() || !authority.bytes().all(legal) {
        return Err(bad("must be a scheme, a host and perhaps a port, and nothing else"));
    }
    match scheme {
        "https" => {}
        "http" if is_loopback(authority) => {}
        "http" => return Err(bad("would carry the token in clear over the network: use https")),
        _ => return Err(bad("is neither http nor https")),
    }
    Ok(format!("{scheme}://{authority}"))
}

/// Whether `authority` (host and perhaps port) is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Connection {
    /// Whether the server is on this machine, where no proxy helps.
    pub(crate) fn is_local(&self) -> bool {
        self.server.split_once("://").is_some_and(|(_, authority)| is_loopback(authority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(server: Option<&str>, token: Option<&str>, profile: Option<(&str, &str)>) -> String {
        let (server, token) = (server.map(str::to_owned), token.map(str::to_owned));
        let args = ConnectionArgs { server, token, ca: None, profile: None };
        let profile = profile.map(|(server, token)| Profile {
            server: server.to_owned(),
            token: token.to_owned(),
            ca: Some("/ca.pem".into()),
        });
        match choose(&args, profile, Path::new("/p.toml")) {
            Ok(to) => format!("{} {} {}", to.server, to.token, to.ca.is_some()),
            Err(error) => error.to_string(),
        }
    }

    const PROFILE: Option<(&str, &str)> = Some(("https://u.example.com", "own"));

    #[test]
    fn flags_come_before_the_profile() {
        assert_eq!(check(None, None, PROFILE), "https://u.example.com own true");
        assert_eq!(check(None, Some("other"), PROFILE), "https://u.example.com other true");
        assert_eq!(check(Some("https://u.example.com/"), None, PROFILE), "https://u.example.com own true");
        assert_eq!(check(Some("http://[::1]:80"), Some("t"), None), "http://[::1]:80 t false");
    }

    #[test]
    fn the_profiles_token_never_goes_to_another_server() {
        let said = check(Some("https://evil.example.com"), None, PROFILE);
        assert!(said.starts_with("no token for https://evil.example.com"), "{said}");
        assert_eq!(check(Some("https://b.example.com"), Some("t"), PROFILE), "https://b.example.com t false");
    }

    #[test]
    fn tokens_do_not_travel_in_clear() {
        let said = check(Some("http://10.0.0.1:8080"), Some("t"), None);
        assert!(said.contains("in clear"), "{said}");
        assert_eq!(check(Some("http://localhost:1"), Some("t"), None), "http://localhost:1 t false");
    }

    #[test]
    fn bad_urls_and_tokens_are_explained() {
        for (url, why) in [
            ("127.0.0.1:8080", "is not a URL"),
            ("ftp://x", "neither http nor https"),
            ("https://", "nothing else"),
            ("https://u@h", "nothing else"),
            ("https://h/api", "nothing else"),
        ] {
            let said = check(Some(url), Some("t"), None);
            assert!(said.contains(why), "{url}: {said}");
        }
        assert!(check(Some("https://h"), Some("a b"), None).contains("of --token has characters"));
        assert!(check(None, None, None).contains("write the profile /p.toml"));
    }
}
