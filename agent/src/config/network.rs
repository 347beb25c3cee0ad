//! `[network]`: the way to the server, and when to give up on it.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{absolute, seconds};

/// The way to the server, and when to give up on it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) connect: Duration,
    pub(crate) answer: Duration,
    pub(crate) stall: Duration,
    pub(crate) way: Way,
    /// Certificates that may issue the server's beside the one of the bundle, PEM.
    pub(crate) extra_ca_file: Option<PathBuf>,
    pub(crate) shows: Shows,
}

/// By what this device is known to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shows {
    /// Its certificate, in the TLS handshake.
    #[default]
    Certificate,
    /// Its signature, on each request: for lines on which TLS is opened on the way.
    Signature,
}

/// Where a connection goes to. Whatever answers there must prove that it is the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the host of the server's URL.
    Straight,
    /// To this address; names are not looked up.
    At(String),
    /// Through a proxy that is asked to `CONNECT`.
    Proxy(Proxy),
}

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Host and port.
    pub(crate) authority: String,
    /// One line, `USER:PASSWORD`. Read for each connection, so that a new password needs no restart.
    pub(crate) auth_file: Option<PathBuf>,
    /// What it is to connect to, if that is not the host of the server's URL.
    pub(crate) target: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragment {
    connect_timeout_s: Option<u64>,
    answer_timeout_s: Option<u64>,
    stall_timeout_s: Option<u64>,
    connect_to: Option<String>,
    proxy: Option<String>,
    proxy_auth_file: Option<PathBuf>,
    extra_ca_file: Option<PathBuf>,
    #[serde(default)]
    identity: Shows,
}

impl Fragment {
    pub(super) fn validate(self) -> Result<Network, String> {
        let auth_file = self.proxy_auth_file.map(|path| absolute("network.proxy_auth_file", path)).transpose()?;
        Ok(Network {
            connect: seconds("network.connect_timeout_s", self.connect_timeout_s.unwrap_or(20), 1, 600)?,
            answer: seconds("network.answer_timeout_s", self.answer_timeout_s.unwrap_or(60), 1, 600)?,
            stall: seconds("network.stall_timeout_s", self.stall_timeout_s.unwrap_or(60), 1, 600)?,
            way: way(self.connect_to, self.proxy, auth_file)?,
            extra_ca_file: self.extra_ca_file.map(|path| absolute("network.extra_ca_file", path)).transpose()?,
            shows: self.identity,
        })
    }
}

fn way(connect_to: Option<String>, proxy: Option<String>, auth_file: Option<PathBuf>) -> Result<Way, String> {
    let connect_to = connect_to.map(address).transpose()?;
    match (proxy, connect_to) {
        (Some(url), target) => Ok(Way::Proxy(Proxy { authority: proxy_authority(&url)?, auth_file, target })),
        (None, _) if auth_file.is_some() => Err("network.proxy_auth_file is given without network.proxy".to_owned()),
        (None, Some(address)) => Ok(Way::At(address)),
        (None, None) => Ok(Way::Straight),
    }
}

fn address(to: String) -> Result<String, String> {
    let parsed: Option<hyper::http::uri::Authority> = to.parse().ok();
    let is_whole = |to: hyper::http::uri::Authority| {
        to.port_u16().is_some() && !to.host().is_empty() && !to.as_str().contains('@')
    };
    if parsed.is_some_and(is_whole) {
        return Ok(to);
    }
    Err(format!("network.connect_to is {to:?}, wanted is ADDRESS:PORT, such as 10.0.0.5:8443"))
}

fn proxy_authority(url: &str) -> Result<String, String> {
    let wanted = || {
        format!(
            "network.proxy is {url:?}, wanted is such as http://proxy.example.com:3128; user and password go into \
             network.proxy_auth_file"
        )
    };
    let uri: hyper::Uri = url.parse().map_err(|_invalid| wanted())?;
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none() && uri.scheme_str() == Some("http");
    let authority = uri.authority().filter(|authority| plain && !authority.as_str().contains('@'));
    let authority = authority.ok_or_else(wanted)?;
    Ok(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Network, String> {
        toml::from_str::<Fragment>(text).expect("TOML").validate()
    }

    #[test]
    fn ways_that_lead_nowhere_are_refused_with_the_right_one() {
        for (text, said) in [
            ("connect_to = 'updates'", "wanted is ADDRESS:PORT, such as 10.0.0.5:8443"),
            ("connect_to = 'a@b:1'", "wanted is ADDRESS:PORT"),
            ("proxy = 'proxy.example.com:3128'", "wanted is such as http://proxy.example.com:3128"),
            ("proxy = 'https://proxy.example.com'", "wanted is such as http://proxy.example.com:3128"),
            ("proxy = 'http://user:secret@proxy.example.com'", "go into network.proxy_auth_file"),
            ("proxy_auth_file = '/etc/callboard/proxy'", "without network.proxy"),
            ("connect_to = 'b:1'\nproxy_auth_file = '/etc/callboard/proxy'", "without network.proxy"),
            ("extra_ca_file = 'ca.pem'", "wanted is an absolute path"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn ways_are_read() {
        assert_eq!(read("").expect("valid").way, Way::Straight);
        assert_eq!(read("connect_to = '[::1]:8443'").expect("valid").way, Way::At("[::1]:8443".to_owned()));
        let proxy =
            |authority: &str| Way::Proxy(Proxy { authority: authority.to_owned(), auth_file: None, target: None });
        assert_eq!(read("proxy = 'http://p:3128'").expect("valid").way, proxy("p:3128"));
        assert_eq!(read("proxy = 'http://p/'").expect("valid").way, proxy("p:80"));
        let both = read("proxy = 'http://p'\nconnect_to = '10.0.0.5:8443'").expect("valid").way;
        let Way::Proxy(proxy) = both else { panic!("{both:?}") };
        assert_eq!(proxy.target.as_deref(), Some("10.0.0.5:8443"));
    }
}
