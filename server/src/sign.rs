//! The online key: signs instructions and nothing else. It cannot sign a release.

use std::path::Path;

use callboard_proto::{
    digest::Digest,
    instruction::Instruction,
    signed::{Refused, Sealer},
};
use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey};

/// Signs instructions.
pub(crate) struct OnlineSigner(Sealer);

impl OnlineSigner {
    /// Reads the key from a PKCS#8 PEM file.
    pub(crate) fn load(path: &Path) -> Result<Self, SignError> {
        let text = std::fs::read_to_string(path).map_err(SignError::Read)?;
        SigningKey::from_pkcs8_pem(&text).map(|key| Self(Sealer::new(key))).map_err(SignError::Key)
    }

    /// The id under which `root` must list the key.
    pub(crate) fn key_id(&self) -> Digest {
        self.0.key_id()
    }

    /// The signed envelope of an instruction, as JSON.
    pub(crate) fn sign(&self, instruction: &Instruction) -> Result<Vec<u8>, Refused> {
        self.0.seal(instruction)
    }
}

/// Why the online key is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("read the online key: {0}")]
    Read(std::io::Error),
    #[error("read the online key: not an Ed25519 key in PKCS#8 PEM: {0}")]
    Key(ed25519_dalek::pkcs8::Error),
}
