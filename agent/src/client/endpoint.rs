//! The server's address.

use rustls_pki_types::ServerName;

/// Host and port of an `https` URL.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    authority: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Endpoint {
    /// Reads a URL such as `https://updates.example.com:8443`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wanted =
            || format!("{url:?} is not a server's address; wanted is such as https://updates.example.com:8443");
        let uri: hyper::Uri = url.parse().map_err(|_invalid| wanted())?;
        let authority = uri.authority().ok_or_else(wanted)?;
        let plain = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("https") || !plain {
            return Err(wanted());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_invalid| wanted())?;
        Ok(Self { authority: authority.as_str().to_owned(), host, port: authority.port_u16().unwrap_or(443), name })
    }

    /// For the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Host and port, as a proxy is told.
    pub(crate) fn target(&self) -> String {
        let port = self.port;
        if self.host.contains(':') { format!("[{}]:{port}", self.host) } else { format!("{}:{port}", self.host) }
    }

    /// What the certificate must say.
    pub(super) const fn name(&self) -> &ServerName<'static> {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_an_https_server_is_accepted() {
        for (url, wanted) in [
            ("https://updates.example.com:8443", Some(("updates.example.com", 8443))),
            ("https://updates.example.com/", Some(("updates.example.com", 443))),
            ("https://127.0.0.1:1", Some(("127.0.0.1", 1))),
            ("https://[::1]:8443", Some(("::1", 8443))),
            ("http://updates.example.com", None),
            ("https://a/b", None),
            ("https://a/?q", None),
            ("https://user@a", None),
            ("updates.example.com", None),
            ("https://a b", None),
            ("", None),
        ] {
            let parsed = Endpoint::parse(url);
            assert_eq!(parsed.as_ref().ok().map(Endpoint::address), wanted, "{url}");
        }
    }
}
