//! `callboard release sign`: adds one signature. Needs the key and nothing else, no server and no root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use callboard_proto::{
    digest::Digest,
    release::Release,
    signed::{self, Envelope, KeySet, Verified, key_id},
};
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::build::{ENVELOPE, describe};
use crate::{
    cli::{
        exit::{BadInput, unusable},
        key, show,
    },
    durable::{self, Access},
};

/// What to sign with what.
#[derive(clap::Args)]
pub(crate) struct SignArgs {
    /// Private key to sign with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What `release build` made: the directory, or its release.json
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
}

#[derive(Serialize)]
struct Signed {
    sha256: Digest,
    key_id: Digest,
    signatures: usize,
    release: Release,
}

/// Runs the command.
pub(crate) fn run(args: &SignArgs, format: show::Format) -> anyhow::Result<()> {
    let file = envelope_of(&args.path);
    let key = key::read_private(&args.key)?;
    let (release, signatures) = sign(&file, &key)?;
    let sha256 = release.digest();
    let signed = Signed { sha256, key_id: key_id(&key.verifying_key()), signatures, release: release.into_inner() };
    show::value(format, &signed, |signed| {
        let count = signed.signatures.to_string();
        describe(&signed.release, signed.sha256, &[("signed by", signed.key_id.to_string()), ("signatures", count)])
    })
}

/// A directory stands for the envelope in it.
pub(super) fn envelope_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(ENVELOPE) } else { path.to_owned() }
}

/// Signs the release in `file`; says what was signed and how many signatures it has now. Signing twice adds nothing.
pub(crate) fn sign(file: &Path, key: &SigningKey) -> anyhow::Result<(Verified<Release>, usize)> {
    let bytes = fs::read(file)
        .map_err(|error| BadInput(format!("cannot read {}: {error}; `release build` makes it", file.display())))?;
    let bad = |error| BadInput(format!("{}: {error}", file.display()));
    let mut envelope = Envelope::parse::<Release>(&bytes).map_err(bad)?;
    let own = KeySet::new([key.verifying_key()]);
    let already = !envelope.signers(&own).is_empty();
    if !already {
        envelope.sign(key);
    }
    // Nobody should put a name under what the devices would refuse to read.
    let release = signed::verify::<Release>(&envelope, &own, 1).map_err(bad)?;
    if !already {
        durable::replace(file, &envelope.to_json(), Access::Everyone).map_err(unusable("write", file))?;
    }
    Ok((release, envelope.signatures.len()))
}
