//! Whom an `https` server must be vouched for by.

use std::{fs, path::Path};

use ureq::tls::TlsConfig;

use crate::{
    cli::exit::{BadInput, unusable},
    outgoing,
};

/// Trusts the certificates in `ca`, or the system's.
pub(super) fn config(ca: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let file = match ca {
        Some(file) => file.to_owned(),
        None => outgoing::system().ok_or_else(|| {
            BadInput::new("this system has no list of public certificate issuers: name a file with --ca")
        })?,
    };
    let pem = fs::read(&file).map_err(unusable("read the certificates in", &file))?;
    Ok(outgoing::trusting(&pem).map_err(|what| BadInput(format!("{} {what}", file.display())))?)
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
