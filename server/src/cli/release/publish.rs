//! `callboard release publish`: payloads first, the release last, so that nothing published is ever incomplete.

use std::{fs, path::Path as File};

use callboard_proto::{admin::Release, release::Release as Document, signed::Envelope};

use super::{build::ENVELOPE, upload};
use crate::cli::{
    api::{Api, Path},
    exit::BadInput,
};

/// Publishes what lies in `dir`. May be repeated.
pub(super) fn run(api: &Api, dir: &File) -> anyhow::Result<Release> {
    let file = dir.join(ENVELOPE);
    let bytes = fs::read(&file)
        .map_err(|error| BadInput(format!("cannot read {}: {error}; `release build` makes it", file.display())))?;
    let document = read(&bytes).map_err(|what| BadInput(format!("{}: {what}", file.display())))?;
    for payload in &document.payloads {
        upload::payload(api, &dir.join(payload.sha256.to_string()), payload)?;
    }
    let published = api.post_envelope(&Path::new(["releases"]), &bytes)?;
    Ok(serde_json::from_slice(&published)?)
}

/// Only to know the payloads; it is the server that verifies.
fn read(bytes: &[u8]) -> Result<Document, String> {
    let envelope = Envelope::parse::<Document>(bytes).map_err(|error| error.to_string())?;
    if envelope.signatures.is_empty() {
        return Err("nobody has signed it yet: `callboard release sign` does".to_owned());
    }
    envelope.claim().map_err(|error| error.to_string())
}
