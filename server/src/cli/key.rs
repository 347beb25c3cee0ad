//! `callboard key`: keys as files, PKCS#8 and SubjectPublicKeyInfo in PEM, which OpenSSL reads as well.
//!
//! Private keys belong on machines that are not the server; only the online key's lies there.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use callboard_proto::{
    digest::Digest,
    signed::{PublicKey, Sign, SignatureBytes},
};
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes},
};
use p256::ecdsa;
use serde::Serialize;

use super::{
    exit::{self, BadInput},
    show, table,
};
use crate::durable::{self, Access};

/// No document of ours is larger; a runaway pipe is not taken for one.
const MAX_MESSAGE: u64 = 1 << 20;

/// What to do with keys.
#[derive(clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key that signs roots, releases, heads or instructions
    #[command(
        after_help = "Examples:\n  callboard key new --out release.key\n  callboard key new --alg ecdsa-p256 --out release.key"
    )]
    New {
        /// Where to write the private key, readable by you alone; the public key goes to FILE.pub
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Its algorithm; the server's own key, which signs instructions, is ed25519
        #[arg(long, value_enum, default_value_t)]
        alg: Algorithm,
    },
    /// Sign what comes on standard input: 64 bytes on standard output
    ///
    /// This is what a command for --signer does. It takes the exact bytes that a signature covers, and does not look into
    /// them: `release sign`, `root sign` and `head sign` do, and say what they sign.
    #[command(after_help = "Examples:\n  callboard key sign --key release.key")]
    Sign {
        /// Private key to sign with
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Show the id and the algorithm of a key
    Show {
        /// Public key (PEM)
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// The algorithms of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Algorithm {
    /// Ed25519, RFC 8032
    #[default]
    Ed25519,
    /// ECDSA on P-256 with SHA-256, FIPS 186
    EcdsaP256,
}

/// A private key from a file.
pub(crate) enum PrivateKey {
    Ed25519(SigningKey),
    EcdsaP256(ecdsa::SigningKey),
}

impl Sign for PrivateKey {
    fn public(&self) -> PublicKey {
        match self {
            Self::Ed25519(key) => key.public(),
            Self::EcdsaP256(key) => key.public(),
        }
    }

    fn signature(&self, message: &[u8]) -> SignatureBytes {
        match self {
            Self::Ed25519(key) => key.signature(message),
            Self::EcdsaP256(key) => key.signature(message),
        }
    }
}

/// A key that was made.
#[derive(Debug, Serialize)]
struct Made {
    key_id: Digest,
    alg: &'static str,
    private: PathBuf,
    public: PathBuf,
}

#[derive(Debug, Serialize)]
struct Shown {
    key_id: Digest,
    alg: &'static str,
}

/// Runs a command.
pub(crate) fn run(command: KeyCommand, format: show::Format) -> anyhow::Result<()> {
    match command {
        KeyCommand::New { out, alg } => {
            let key = create_as(&out, alg)?;
            let made = Made { key_id: key.id(), alg: key.alg(), public: public_path(&out), private: out };
            show::value(format, &made, |made| {
                table::fields([
                    ("key id", made.key_id.to_string()),
                    ("algorithm", made.alg.to_owned()),
                    ("private key", made.private.display().to_string()),
                    ("public key", made.public.display().to_string()),
                ])
            })
        }
        KeyCommand::Sign { key } => sign_input(&read_private(&key)?),
        KeyCommand::Show { file } => {
            let key = read_public(&file)?;
            show::value(format, &Shown { key_id: key.id(), alg: key.alg() }, |shown| {
                table::fields([("key id", shown.key_id.to_string()), ("algorithm", shown.alg.to_owned())])
            })
        }
    }
}

fn sign_input(key: &PrivateKey) -> anyhow::Result<()> {
    let mut message = Vec::new();
    io::stdin().take(MAX_MESSAGE + 1).read_to_end(&mut message).context("cannot read standard input")?;
    if message.is_empty() || message.len() > usize::try_from(MAX_MESSAGE)? {
        return Err(BadInput(format!("standard input has no bytes to sign, or more than {MAX_MESSAGE}")).into());
    }
    let mut out = io::stdout().lock();
    out.write_all(&key.signature(&message)).and_then(|()| out.flush()).context("cannot write the signature")
}

/// Makes an Ed25519 key pair at `path` and `path.pub`; neither may exist.
pub(crate) fn create(path: &Path) -> anyhow::Result<VerifyingKey> {
    refuse_taken(path)?;
    let seed = random()?;
    // Version 1 of PKCS#8, without the public key: OpenSSL before 3.2 does not read version 2.
    let pem = KeypairBytes { secret_key: seed, public_key: None }.to_pkcs8_pem(Default::default());
    let key = SigningKey::from_bytes(&seed).verifying_key();
    let public = key.to_public_key_pem(Default::default()).context("cannot encode the public key")?;
    write_pair(path, pem.context("cannot encode the private key")?.as_bytes(), &public)?;
    Ok(key)
}

/// The same with a choice of algorithm.
fn create_as(path: &Path, alg: Algorithm) -> anyhow::Result<PublicKey> {
    if alg == Algorithm::Ed25519 {
        return create(path).map(PublicKey::Ed25519);
    }
    refuse_taken(path)?;
    let key = loop {
        // All but one of 2^32 numbers are below the order of the group.
        if let Ok(key) = ecdsa::SigningKey::from_bytes(&random()?.into()) {
            break key;
        }
    };
    let pem = key.to_pkcs8_pem(Default::default()).context("cannot encode the private key")?;
    let public = key.verifying_key().to_public_key_pem(Default::default()).context("cannot encode the public key")?;
    write_pair(path, pem.as_bytes(), &public)?;
    Ok(key.public())
}

fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers to be had: {error}"))?;
    Ok(bytes)
}

fn refuse_taken(path: &Path) -> Result<(), BadInput> {
    match [path, &public_path(path)].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(taken) => {
            let hint = "keys are never overwritten; give another --out";
            Err(BadInput(format!("{} exists already: {hint}", taken.display())))
        }
        None => Ok(()),
    }
}

fn write_pair(path: &Path, private_pem: &[u8], public_pem: &str) -> anyhow::Result<()> {
    write(path, private_pem, Access::Owner)?;
    write(&public_path(path), public_pem.as_bytes(), Access::Everyone)
}

/// Reads a private key of either algorithm.
pub(crate) fn read_private(path: &Path) -> anyhow::Result<PrivateKey> {
    let text = read(path)?;
    if is_public(&text) {
        return Err(BadInput(format!("{} is a public key; the private one is wanted", path.display())).into());
    }
    if let Ok(key) = ecdsa::SigningKey::from_pkcs8_pem(&text) {
        return Ok(PrivateKey::EcdsaP256(key));
    }
    let wanted = "an Ed25519 or P-256 private key in PKCS#8 PEM is wanted, as `callboard key new` makes it";
    let key = SigningKey::from_pkcs8_pem(&text);
    key.map(PrivateKey::Ed25519).map_err(|error| BadInput(format!("{}: {wanted} ({error})", path.display())).into())
}

/// Reads a public key of either algorithm. A private one is refused: where only the public key is needed, the private
/// one should not be.
pub(crate) fn read_public(path: &Path) -> anyhow::Result<PublicKey> {
    let text = read(path)?;
    if text.contains("PRIVATE KEY") {
        let hint = format!("give the public one, {}", public_path(path).display());
        return Err(BadInput(format!("{} is a private key: {hint}", path.display())).into());
    }
    if let Ok(key) = ecdsa::VerifyingKey::from_public_key_pem(&text) {
        return Ok(PublicKey::EcdsaP256(key));
    }
    let wanted =
        "an Ed25519 or P-256 public key in PEM is wanted, such as the .pub file that `callboard key new` makes";
    let key = VerifyingKey::from_public_key_pem(&text);
    key.map(PublicKey::Ed25519).map_err(|error| BadInput(format!("{}: {wanted} ({error})", path.display())).into())
}

/// Reads the public key of a server.
pub(crate) fn read_online(path: &Path) -> anyhow::Result<VerifyingKey> {
    match read_public(path)? {
        PublicKey::Ed25519(key) => Ok(key),
        other @ PublicKey::EcdsaP256(_) => {
            let (path, alg) = (path.display(), other.alg());
            Err(BadInput(format!("{path} is a key of {alg}; only Ed25519 keys sign instructions")).into())
        }
    }
}

/// Whether the PEM file at `path` holds a public key and no private one.
pub(crate) fn holds_public(path: &Path) -> anyhow::Result<bool> {
    Ok(is_public(&read(path)?))
}

fn is_public(pem: &str) -> bool {
    pem.contains("BEGIN PUBLIC KEY")
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
mod tests;
