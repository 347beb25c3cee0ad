//! Whom this machine believes when it connects to others by `https`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where Linux distributions keep the certificates of public issuers.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

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
