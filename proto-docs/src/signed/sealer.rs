//! One key that signs one document after another: the server's, for every check-in.
//!
//! The same envelope as [`Envelope::sign`](super::Envelope::sign) and [`Envelope::to_json`](super::Envelope::to_json)
//! make, written in one go. Base64, hexadecimal digits and payload types need no escapes in JSON.

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey};

use super::{Document, Envelope, Refused, key_id, max_envelope};
use crate::digest::Digest;

/// A key whose id is worked out once.
pub struct Sealer {
    key: SigningKey,
    id: Digest,
    hint: String,
}

impl Sealer {
    /// Takes a key.
    pub fn new(key: SigningKey) -> Self {
        let id = key_id(&key.verifying_key());
        Self { key, id, hint: id.to_string() }
    }

    /// The id under which `root` must list the key.
    pub const fn key_id(&self) -> Digest {
        self.id
    }

    /// The signed envelope of a document, as JSON.
    ///
    /// # Errors
    /// [`Refused`] when the document could not be accepted by anybody.
    pub fn seal<T: Document>(&self, document: &T) -> Result<Vec<u8>, Refused> {
        let envelope = Envelope::unsigned(document)?;
        let sig = self.key.sign(&envelope.signed_bytes()).to_bytes();
        let mut json = String::with_capacity(max_envelope(envelope.payload.len()));
        json.push_str("{\"payloadType\":\"");
        json.push_str(T::TYPE);
        json.push_str("\",\"payload\":\"");
        BASE64.encode_append(&envelope.payload, &mut json);
        json.push_str("\",\"signatures\":[{\"keyid\":\"");
        json.push_str(&self.hint);
        json.push_str("\",\"sig\":\"");
        BASE64.encode_append(&sig, &mut json);
        json.push_str("\"}]}");
        Ok(json.into_bytes())
    }
}
