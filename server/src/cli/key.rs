//! `callboard key`: Ed25519 keys as files, PKCS#8 and SubjectPublicKeyInfo in PEM, which OpenSSL reads as well.
//!
//! Private keys belong on machines that are not the server; only the online key's lies there.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use callboard_proto::{digest::Digest, signed::key_id};
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes},
};
use serde::Serialize;

use super::{
    exit::{self, BadInput},
    show, table,
};
use crate::durable::{self, Access};

/// What to do with keys.
#[derive(clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an Ed25519 key that signs roots, releases or instructions
    New {
        /// Where to write the private key, readable by you alone; the public key goes to FILE.pub
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// A key that was made.
#[derive(Debug, Serialize)]
struct Made {
    key_id: Digest,
    private: PathBuf,
    public: PathBuf,
}

/// Runs a command.
pub(crate) fn run(command: KeyCommand, format: show::Format) -> anyhow::Result<()> {
    let KeyCommand::New { out } = command;
    let key = create(&out)?;
    let made = Made { key_id: key_id(&key), public: public_path(&out), private: out };
    show::value(format, &made, |made| {
        table::fields([
            ("key id", made.key_id.to_string()),
            ("private key", made.private.display().to_string()),
            ("public key", made.public.display().to_string()),
        ])
    })
}

/// Makes a key pair at `path` and `path.pub`; neither may exist.
pub(crate) fn create(path: &Path) -> anyhow::Result<VerifyingKey> {
    let public = public_path(path);
    if let Some(taken) = [path, &public].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        let hint = "keys are never overwritten; give another --out";
        return Err(BadInput(format!("{} exists already: {hint}", taken.display())).into());
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no random numbers to be had: {error}"))?;
    let key = SigningKey::from_bytes(&seed);
    // Version 1 of PKCS#8, without the public key: OpenSSL before 3.2 does not read version 2.
    let pem = KeypairBytes { secret_key: seed, public_key: None }
        .to_pkcs8_pem(Default::default())
        .context("cannot encode the private key")?;
    let verifying = key.verifying_key();
    let public_pem = verifying.to_public_key_pem(Default::default()).context("cannot encode the public key")?;
    write(path, pem.as_bytes(), Access::Owner)?;
    write(&public, public_pem.as_bytes(), Access::Everyone)?;
    Ok(verifying)
}

/// Reads a private key.
pub(crate) fn read_private(path: &Path) -> anyhow::Result<SigningKey> {
    let text = read(path)?;
    if text.contains("BEGIN PUBLIC KEY") {
        return Err(BadInput(format!("{} is a public key; the private one is wanted", path.display())).into());
    }
    let wanted = "an Ed25519 private key in PKCS#8 PEM is wanted, as `callboard key new` makes it";
    SigningKey::from_pkcs8_pem(&text)
        .map_err(|error| BadInput(format!("{}: {wanted} ({error})", path.display())).into())
}

/// Reads a public key. A private one is refused: where only the public key is needed, the private one should not be.
pub(crate) fn read_public(path: &Path) -> anyhow::Result<VerifyingKey> {
    let text = read(path)?;
    if text.contains("PRIVATE KEY") {
        let hint = format!("give the public one, {}", public_path(path).display());
        return Err(BadInput(format!("{} is a private key: {hint}", path.display())).into());
    }
    let wanted = "an Ed25519 public key in PEM is wanted, such as the .pub file that `callboard key new` makes";
    VerifyingKey::from_public_key_pem(&text)
        .map_err(|error| BadInput(format!("{}: {wanted} ({error})", path.display())).into())
}

/// `release.key` -> `release.key.pub`.
pub(crate) fn public_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".pub");
    name.into()
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| BadInput(format!("cannot read the key {}: {error}", path.display())).into())
}

fn write(path: &Path, bytes: &[u8], access: Access) -> anyhow::Result<()> {
    durable::write_new(path, bytes, access).map_err(exit::unusable("write", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_key_is_private_and_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("release.key");
        let made = create(&path).unwrap();
        assert_eq!(read_private(&path).unwrap().verifying_key(), made);
        assert_eq!(read_public(&public_path(&path)).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        fs::write(public_path(&path), "precious").unwrap();
        let refused = create(&path).unwrap_err();
        assert_eq!(exit::code_of(&refused), exit::BAD_INPUT);
        assert!(!path.exists());
        assert_eq!(fs::read(public_path(&path)).unwrap(), b"precious");
    }

    #[test]
    fn the_wrong_half_of_a_key_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        create(&path).unwrap();
        for error in [read_public(&path).unwrap_err(), read_private(&public_path(&path)).unwrap_err()] {
            assert_eq!(exit::code_of(&error), exit::BAD_INPUT, "{error}");
        }
        fs::write(&path, "nonsense").unwrap();
        assert!(read_private(&path).is_err() && read_public(&path).is_err());
        assert!(read_private(&dir.path().join("missing")).is_err());
    }

    /// Made by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    #[test]
    fn keys_of_openssl_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("k"), dir.path().join("k.pub"));
        fs::write(
            &private,
            "-----BEGIN PRIVATE KEY-----\n\
             MC4CAQAwBQYDK2VwBCIEIAW+sfD3sZK551pVCXYaOo1osNmc92r8KyDAEcphkk7V\n\
             -----END PRIVATE KEY-----\n",
        )
        .unwrap();
        fs::write(
            &public,
            "-----BEGIN PUBLIC KEY-----\n\
             MCowBQYDK2VwAyEA/4qwThVJg5tmNyIgB4wXLJAMEQMoxz0vxuRSFLgq4Dw=\n\
             -----END PUBLIC KEY-----\n",
        )
        .unwrap();
        assert_eq!(read_private(&private).unwrap().verifying_key(), read_public(&public).unwrap());
    }
}
