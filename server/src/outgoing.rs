//! Requests of the server to others, and whom this machine believes when it connects to them by `https`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where Linux distributions keep the certificates of public issuers.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whoever is slower is asked again, or a person is told.
const WITHIN: Duration = Duration::from_secs(10);

/// Who asks `url`: within ten seconds, without following anybody elsewhere. For `https` it trusts what stands in the file
/// that `trusted` names; the error says what is wrong with it.
pub(crate) fn agent(url: &str, trusted: impl FnOnce() -> Result<PathBuf, String>) -> Result<ureq::Agent, String> {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("callboard/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(WITHIN));
    if url.starts_with("https:") {
        let file = trusted()?;
        let pem = std::fs::read(&file).map_err(|source| format!("cannot read {}: {source}", file.display()))?;
        config = config.tls_config(trusting(&pem).map_err(|what| format!("{} {what}", file.display()))?);
    }
    Ok(config.build().new_agent())
}

/// Somebody else's words: at most `max` characters, and without commands to a terminal.
pub(crate) fn said(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// The system's list of public issuers, if it has one.
pub(crate) fn system() -> Option<PathBuf> {
    SYSTEM.iter().map(Path::new).find(|file| file.exists()).map(Path::to_owned)
}

/// Trusts the certificates in `pem`; the error says what it is instead.
pub(crate) fn trusting(pem: &[u8]) -> Result<TlsConfig, String> {
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| format!("is not PEM: {error}"))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("holds no certificate in PEM".to_owned());
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
