//! DSSE envelopes: signatures over exact bytes, verified before anything is parsed.
//!
//! [`verify`] is the only way from foreign bytes to a [`Verified`] document.

mod key;
mod sealer;
mod strict;

use std::collections::BTreeSet;

use data_encoding::{BASE64, BASE64URL};
pub use key::{KeySet, PublicKey, SIGNATURE_BYTES, Sign, SignatureBytes, key_id};
pub use sealer::Sealer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::digest::Digest;

/// More signatures than any role has keys only cost time.
pub const MAX_SIGNATURES: usize = 16;
/// Deepest nesting of a signed body.
pub const MAX_DEPTH: usize = 8;

/// A kind of signed document.
pub trait Document: DeserializeOwned + Serialize {
    /// The DSSE payload type; signed together with the body, so one kind can never pass as another.
    const TYPE: &'static str;
    /// Largest body in bytes.
    const MAX_BYTES: usize;
    /// The fields that this implementation understands when they are named in `crit`.
    const FIELDS: &'static [&'static str];

    /// The document's format version; only 1 exists.
    fn format(&self) -> u32;
    /// Fields that a reader must understand or refuse the document.
    fn crit(&self) -> &[String];
    /// What serde cannot see: ranges and relations between fields.
    ///
    /// # Errors
    /// Says in one sentence what is wrong.
    fn check(&self) -> Result<(), String>;
}

/// Largest envelope around a body of `body` bytes: base64, sixteen signatures and the names of fields.
pub const fn max_envelope(body: usize) -> usize {
    body.div_ceil(3) * 4 + MAX_SIGNATURES * 200 + 256
}

/// One signature in an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A hint at the key, the SHA-256 of its SubjectPublicKeyInfo; never trusted.
    #[serde(default)]
    pub keyid: String,
    /// The 64 bytes of a signature, in base64.
    pub sig: String,
}

/// A DSSE envelope as read: not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the body claims to be.
    pub payload_type: String,
    /// The exact bytes that were signed.
    pub payload: Vec<u8>,
    /// Who claims to have signed them.
    pub signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

impl Envelope {
    /// Reads an envelope of a `T`. Nothing in it is believed by that.
    ///
    /// # Errors
    /// [`Refused`] when it is too large, malformed, of another type or with too many signatures.
    pub fn parse<T: Document>(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() > max_envelope(T::MAX_BYTES) {
            return Err(Refused::TooLarge { limit: max_envelope(T::MAX_BYTES) });
        }
        strict::check(bytes, MAX_DEPTH).map_err(Refused::Envelope)?;
        let wire: Wire = serde_json::from_slice(bytes).map_err(|source| Refused::Envelope(source.to_string()))?;
        if wire.payload_type != T::TYPE {
            return Err(Refused::WrongType { wanted: T::TYPE, found: wire.payload_type });
        }
        if wire.signatures.len() > MAX_SIGNATURES {
            return Err(Refused::TooManySignatures);
        }
        let payload = decode_base64(&wire.payload).ok_or(Refused::Base64)?;
        if payload.len() > T::MAX_BYTES {
            return Err(Refused::TooLarge { limit: T::MAX_BYTES });
        }
        Ok(Self { payload_type: wire.payload_type, payload, signatures: wire.signatures })
    }

    /// Wraps a document that nobody has signed yet.
    ///
    /// # Errors
    /// [`Refused`] when the document could not be accepted by anybody.
    pub fn unsigned<T: Document>(document: &T) -> Result<Self, Refused> {
        let payload = serde_json::to_vec(document).map_err(|source| Refused::Body(source.to_string()))?;
        check_size::<T>(&payload)?;
        check_document(document)?;
        Ok(Self { payload_type: T::TYPE.to_owned(), payload, signatures: Vec::new() })
    }

    /// What the body says, signed or not: for people who are about to sign it, and for nobody else.
    ///
    /// # Errors
    /// [`Refused`] when nobody could accept it.
    pub fn claim<T: Document>(&self) -> Result<T, Refused> {
        if self.payload_type != T::TYPE {
            return Err(Refused::WrongType { wanted: T::TYPE, found: self.payload_type.clone() });
        }
        parse_body(&self.payload)
    }

    /// The bytes that a signature covers: type and body, each with its length (DSSE's PAE).
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("DSSEv1 {} {} {} ", self.payload_type.len(), self.payload_type, self.payload.len()).into_bytes();
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Adds a signature by `key`, replacing an earlier one of the same key.
    pub fn sign(&mut self, key: &impl Sign) {
        let signature = key.signature(&self.signed_bytes());
        self.attach(key.public().id(), &signature);
    }

    /// Adds a signature that was made elsewhere by the key `id`, replacing an earlier one of the same key.
    pub fn attach(&mut self, id: Digest, signature: &SignatureBytes) {
        let keyid = id.to_string();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig: BASE64.encode(signature) });
    }

    /// The digest of the signed bytes: a release's identity, whoever signs it later.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The envelope as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            payload_type: self.payload_type.clone(),
            payload: BASE64.encode(&self.payload),
            signatures: self.signatures.clone(),
        };
        // A struct of strings always serialises.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// Which of `keys` made a valid signature here.
    pub fn signers(&self, keys: &KeySet) -> BTreeSet<Digest> {
        let message = self.signed_bytes();
        let signer = |signature: &Signature| {
            let bytes = decode_base64(&signature.sig).and_then(|sig| SignatureBytes::try_from(sig).ok())?;
            keys.signer(&signature.keyid, &message, &bytes)
        };
        self.signatures.iter().filter_map(signer).collect()
    }
}

/// A document whose signatures were verified; only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    document: T,
    digest: Digest,
}

impl<T> Verified<T> {
    /// The digest of the signed bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The document itself, no longer marked as verified.
    pub fn into_inner(self) -> T {
        self.document
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.document
    }
}

/// Accepts an envelope that at least `threshold` distinct keys signed, then parses its body.
///
/// # Errors
/// [`Refused`] when signatures are missing or the body is not an acceptable `T`.
pub fn verify<T: Document>(envelope: &Envelope, keys: &KeySet, threshold: usize) -> Result<Verified<T>, Refused> {
    if envelope.payload_type != T::TYPE {
        return Err(Refused::WrongType { wanted: T::TYPE, found: envelope.payload_type.clone() });
    }
    let valid = envelope.signers(keys).len();
    if threshold == 0 || valid < threshold {
        return Err(Refused::Threshold { valid, threshold });
    }
    Ok(Verified { document: parse_body(&envelope.payload)?, digest: envelope.digest() })
}

/// Parses and checks a body. Private to the crate: callers go through [`verify`].
pub(crate) fn parse_body<T: Document>(body: &[u8]) -> Result<T, Refused> {
    check_bytes::<T>(body)?;
    let document: T = serde_json::from_slice(body).map_err(|source| Refused::Body(source.to_string()))?;
    check_document(&document)?;
    Ok(document)
}

fn check_size<T: Document>(body: &[u8]) -> Result<(), Refused> {
    if body.len() > T::MAX_BYTES {
        return Err(Refused::TooLarge { limit: T::MAX_BYTES });
    }
    Ok(())
}

fn check_bytes<T: Document>(body: &[u8]) -> Result<(), Refused> {
    check_size::<T>(body)?;
    strict::check(body, MAX_DEPTH).map_err(Refused::Body)
}

fn check_document<T: Document>(document: &T) -> Result<(), Refused> {
    if document.format() != 1 {
        return Err(Refused::Format(document.format()));
    }
    if let Some(field) = document.crit().iter().find(|field| !T::FIELDS.contains(&field.as_str())) {
        return Err(Refused::Critical(field.clone()));
    }
    document.check().map_err(Refused::Body)
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let alphabet = if text.contains(['-', '_']) { BASE64URL } else { BASE64 };
    alphabet.decode(text.as_bytes()).ok()
}

/// Why a document was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Larger than its kind may be.
    #[error("the document is larger than {limit} bytes")]
    TooLarge {
        /// Most bytes allowed.
        limit: usize,
    },
    /// Not JSON with the fields of a DSSE envelope.
    #[error("not a DSSE envelope: {0}")]
    Envelope(String),
    /// The body is not base64. A signature that is not is ignored.
    #[error("the envelope's payload is not base64")]
    Base64,
    /// Another kind of document.
    #[error("the document is of type {found:?}, wanted is {wanted:?}")]
    WrongType {
        /// The type that was asked for.
        wanted: &'static str,
        /// The type in the envelope.
        found: String,
    },
    /// Seventeen or more signatures.
    #[error("more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// Too few valid signatures of distinct trusted keys.
    #[error("{valid} valid signatures of trusted keys, {threshold} are needed")]
    Threshold {
        /// Distinct trusted keys with a valid signature.
        valid: usize,
        /// How many the role asks for.
        threshold: usize,
    },
    /// A root that is not the one after the trusted one.
    #[error("the root has version {found}, wanted is {wanted}")]
    NotNext {
        /// The trusted root's version plus one.
        wanted: u64,
        /// The version in the body.
        found: u64,
    },
    /// A format version that this program does not know.
    #[error("format version {0} is not supported, only 1 is")]
    Format(u32),
    /// A critical field that this program does not know.
    #[error("field {0:?} is critical and not supported by this version")]
    Critical(String),
    /// The signed body is not what its type promises.
    #[error("the signed body is malformed: {0}")]
    Body(String),
}

#[cfg(test)]
mod tests;
