//! Adding one signature to a document in a file: by a key file, or by a command that has the key elsewhere.
//!
//! Several people sign one after the other, each in the file that the one before left. Nobody's signature is lost, and
//! nobody counts twice.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::signed::{self, Document, Envelope, KeySet, PublicKey, Sign as _, SignatureBytes, Verified};

use super::{
    duration,
    exit::{BadInput, unusable},
    key::{self, PrivateKey},
};
use crate::durable::{self, Access};
pub(crate) use standing::{Standing, sentences};

mod command;
mod standing;

/// Whose signature is added.
#[derive(clap::Args)]
pub(crate) struct SignerArgs {
    /// Private key to sign with
    #[arg(long, value_name = "FILE", required_unless_present = "signer")]
    key: Option<PathBuf>,
    /// Command that signs instead, run by sh: gets the bytes on standard input and writes the 64 bytes of the signature to
    /// standard output
    #[arg(long, value_name = "COMMAND", requires = "public_key", conflicts_with = "key")]
    signer: Option<String>,
    /// Public key (PEM) of what --signer signs with
    #[arg(long, value_name = "FILE", requires = "signer")]
    public_key: Option<PathBuf>,
    /// How long --signer may take, such as 30s; somebody may have to touch a token
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration::parse)]
    signer_timeout: Duration,
}

/// What signs.
pub(crate) enum Signer {
    Key(PrivateKey),
    Command { command: String, public: PublicKey, timeout: Duration },
}

impl SignerArgs {
    /// Reads the key files.
    pub(crate) fn signer(&self) -> anyhow::Result<Signer> {
        match (&self.key, &self.signer, &self.public_key) {
            (_, Some(command), Some(public)) => {
                let (public, timeout) = (key::read_public(public)?, self.signer_timeout);
                Ok(Signer::Command { command: command.clone(), public, timeout })
            }
            (Some(key), ..) => Ok(Signer::Key(key::read_private(key)?)),
            (None, ..) => Err(BadInput::new("--key FILE is wanted, or --signer COMMAND with --public-key FILE").into()),
        }
    }
}

impl Signer {
    /// Whose signature it is.
    pub(crate) fn public(&self) -> PublicKey {
        match self {
            Self::Key(key) => key.public(),
            Self::Command { public, .. } => public.clone(),
        }
    }

    fn signature(&self, message: &[u8]) -> anyhow::Result<SignatureBytes> {
        match self {
            Self::Key(key) => Ok(key.signature(message)),
            Self::Command { command, public, timeout } => command::signature(command, public, message, *timeout),
        }
    }

    /// Adds a signature to an envelope that does not have it yet; says whether it did.
    ///
    /// # Errors
    /// When what is signed is no acceptable `T`: nobody should put a name under what devices would refuse to read. And when
    /// the command does not sign.
    pub(crate) fn sign<T: Document>(&self, envelope: &mut Envelope) -> anyhow::Result<(Verified<T>, bool)> {
        let public = self.public();
        let own = KeySet::new([public.clone()]);
        let known = !envelope.signers(&own).is_empty();
        if !known {
            envelope.claim::<T>().map_err(|error| BadInput(error.to_string()))?;
            let signature = self.signature(&envelope.signed_bytes())?;
            envelope.attach(public.id(), &signature);
        }
        Ok((signed::verify::<T>(envelope, &own, 1).map_err(|error| BadInput(error.to_string()))?, !known))
    }
}

/// Reads the envelope of a `T` from a file.
pub(crate) fn read<T: Document>(file: &Path, hint: &str) -> anyhow::Result<Envelope> {
    let bytes = fs::read(file).map_err(|error| BadInput(format!("cannot read {}: {error}{hint}", file.display())))?;
    Ok(Envelope::parse::<T>(&bytes).map_err(|error| BadInput(format!("{}: {error}", file.display())))?)
}

/// Signs the document in `file`, which is written anew if the signature was not there.
pub(crate) fn sign_file<T: Document>(file: &Path, hint: &str, by: &Signer) -> anyhow::Result<(Verified<T>, Envelope)> {
    let mut envelope = read::<T>(file, hint)?;
    let (document, added) = by.sign::<T>(&mut envelope).map_err(|error| error.context(file.display().to_string()))?;
    if added {
        durable::replace(file, &envelope.to_json(), Access::Everyone).map_err(unusable("write", file))?;
    }
    Ok((document, envelope))
}
