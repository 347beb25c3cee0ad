//! Whom an `https` server must be vouched for by.

use std::{fs, path::Path, sync::Arc};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::cli::exit::{BadInput, unusable};

/// Where Linux distributions keep the certificates of public issuers.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Trusts the certificates in `ca`, or the system's.
pub(super) fn config(ca: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let file = match ca {
        Some(file) => file,
        None => SYSTEM.iter().map(Path::new).find(|file| file.exists()).ok_or_else(|| {
            BadInput::new("this system has no list of public certificate issuers: name a file with --ca")
        })?,
    };
    let pem = fs::read(file).map_err(unusable("read the certificates in", file))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| BadInput(format!("{} is not PEM: {error}", file.display())))?
        {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(BadInput(format!("{} holds no certificate in PEM", file.display())).into());
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_bad_input() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ca.pem");
        fs::write(&file, "nothing").expect("written");
        let error = config(Some(&file)).expect_err("no certificate");
        assert!(error.to_string().contains("holds no certificate"), "{error}");
        assert!(error.is::<BadInput>());
        let error = config(Some(&dir.path().join("missing"))).expect_err("no file");
        assert!(error.to_string().contains("cannot read"), "{error}");
    }
}
