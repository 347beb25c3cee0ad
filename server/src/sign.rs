//! The online key: signs instructions and nothing else. It cannot sign a release.
//!
//! During a rotation there are two: the one in use, and the next one. Devices are answered by the newest that the root
//! they trust lists.

use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use callboard_proto::{
    digest::Digest,
    instruction::Instruction,
    signed::{Refused, Sealer},
};
use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey};

/// Name of the online key in the data directory.
pub(crate) const ONLINE_KEY: &str = "online.key";
/// Name of the one that takes its place.
pub(crate) const NEXT_ONLINE_KEY: &str = "online-next.key";

/// Signs instructions.
pub(crate) struct OnlineKeys {
    dir: PathBuf,
    /// The newest last.
    keys: ArcSwap<Vec<Sealer>>,
}

impl OnlineKeys {
    /// Reads the keys of a data directory, PKCS#8 in PEM.
    pub(crate) fn load(dir: &Path) -> Result<Self, SignError> {
        Ok(Self { dir: dir.to_owned(), keys: ArcSwap::from_pointee(read(dir)?) })
    }

    /// Reads them anew: another one may be there, and one may be gone.
    pub(crate) fn reload(&self) -> Result<(), SignError> {
        self.keys.store(read(&self.dir)?.into());
        Ok(())
    }

    /// The ids under which `root` must list them, the newest last.
    pub(crate) fn ids(&self) -> Vec<Digest> {
        self.keys.load().iter().map(Sealer::key_id).collect()
    }

    /// Whether any of them is among `listed`.
    pub(crate) fn any_of(&self, listed: &[Digest]) -> bool {
        self.keys.load().iter().any(|key| listed.contains(&key.key_id()))
    }

    /// The signed envelope of an instruction, as JSON, for a device that accepts the keys `known`. What `listed`, the newest
    /// root, does not list is never used: the device would refuse it as soon as it has that root. One that knows none of the
    /// keys looks for that root.
    pub(crate) fn sign(
        &self,
        instruction: &Instruction,
        known: &[Digest],
        listed: &[Digest],
    ) -> Result<Vec<u8>, SignFailure> {
        let keys = self.keys.load();
        let in_use = || keys.iter().rev().filter(|key| listed.contains(&key.key_id()));
        let key = in_use().find(|key| known.contains(&key.key_id())).or_else(|| in_use().next());
        let key = key.or_else(|| keys.last()).ok_or(SignFailure::NoKey)?;
        key.seal(instruction).map_err(SignFailure::Document)
    }
}

fn read(dir: &Path) -> Result<Vec<Sealer>, SignError> {
    let mut keys = vec![one(&dir.join(ONLINE_KEY))?];
    let next = dir.join(NEXT_ONLINE_KEY);
    if next.try_exists().map_err(|source| SignError::Read { path: next.clone(), source })? {
        keys.push(one(&next)?);
    }
    Ok(keys)
}

fn one(path: &Path) -> Result<Sealer, SignError> {
    let text = std::fs::read_to_string(path).map_err(|source| SignError::Read { path: path.to_owned(), source })?;
    let key = SigningKey::from_pkcs8_pem(&text);
    key.map(Sealer::new).map_err(|source| SignError::Key { path: path.to_owned(), source })
}

/// Why the online key is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("read the online key {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("read the online key {path}: not an Ed25519 key in PKCS#8 PEM: {source}")]
    Key { path: PathBuf, source: ed25519_dalek::pkcs8::Error },
}

/// Why an instruction could not be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignFailure {
    #[error("sign: there is no key")]
    NoKey,
    #[error("sign: {0}")]
    Document(Refused),
}
