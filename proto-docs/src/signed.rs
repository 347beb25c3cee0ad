//! DSSE envelopes: signatures over exact bytes, verified before anything is parsed.
//!
//! [`verify`] is the only way from foreign bytes to a [`Verified`] document.

mod sealer;

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::{BASE64, BASE64URL};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
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
    /// The 64 bytes of an Ed25519 signature, in base64.
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

    /// The bytes that a signature covers: type and body, each with its length (DSSE's PAE).
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("DSSEv1 {} {} {} ", self.payload_type.len(), self.payload_type, self.payload.len()).into_bytes();
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Adds a signature by `key`, replacing an earlier one of the same key.
    pub fn sign(&mut self, key: &SigningKey) {
        let keyid = key_id(&key.verifying_key()).to_string();
        let sig = BASE64.encode(&key.sign(&self.signed_bytes()).to_bytes());
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
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
        let mut signers = BTreeSet::new();
        for signature in &self.signatures {
            let Some(bytes) = decode_base64(&signature.sig).and_then(|sig| <[u8; 64]>::try_from(sig).ok()) else {
                continue;
            };
            let sig = ed25519_dalek::Signature::from_bytes(&bytes);
            let hinted = signature.keyid.parse::<Digest>().ok().and_then(|id| keys.0.get_key_value(&id));
            let found = match hinted {
                Some((id, key)) if key.verify_strict(&message, &sig).is_ok() => Some(id),
                _ => keys.0.iter().find(|(_, key)| key.verify_strict(&message, &sig).is_ok()).map(|(id, _)| id),
            };
            signers.extend(found);
        }
        signers
    }
}

/// The keys of one role, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(BTreeMap<Digest, VerifyingKey>);

impl KeySet {
    /// Ids are computed here, so one key cannot have two.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self(keys.into_iter().map(|key| (key_id(&key), key)).collect())
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The id of a key: the SHA-256 of its SubjectPublicKeyInfo in DER.
pub fn key_id(key: &VerifyingKey) -> Digest {
    /// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING } around the 32 bytes of an Ed25519 key (RFC 8410).
    const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let mut der = SPKI_PREFIX.to_vec();
    der.extend_from_slice(key.as_bytes());
    Digest::of(&der)
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
    if depth(body) > MAX_DEPTH {
        return Err(Refused::Body(format!("nested deeper than {MAX_DEPTH}")));
    }
    Ok(())
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

fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for &c in json {
        match c {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
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
mod tests {
    use super::*;
    use crate::{
        instruction::{Action, ActivateOn, Instruction, Nonce, Reason},
        release::Release,
        time::Timestamp,
    };

    fn instruction() -> Instruction {
        Instruction {
            v: 1,
            issued_at: Timestamp::from_millis(0),
            crit: Vec::new(),
            device_id: crate::ids::DeviceId::from_slice(&[7; 16]).expect("16 bytes"),
            nonce: Nonce([1; 32]),
            request_sha256: Digest::of(b"request"),
            server_time: Timestamp::from_millis(0),
            action: Action::None,
            reason: Reason { code: "nothing_pending".to_owned(), text: "no rollout".to_owned() },
            release_sha256: None,
            assignment_id: None,
            attempt: None,
            not_before: None,
            not_after: None,
            offline_activation: false,
            activate_on: ActivateOn::Now,
            allow_downgrade: false,
            max_bytes_per_s: None,
            next_checkin_s: 300,
            root_version: 1,
            want: Vec::new(),
        }
    }

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn keys(numbers: &[u8]) -> KeySet {
        KeySet::new(numbers.iter().map(|n| key(*n).verifying_key()))
    }

    fn signed(by: &[u8]) -> Envelope {
        let mut envelope = Envelope::unsigned(&instruction()).expect("acceptable");
        by.iter().for_each(|n| envelope.sign(&key(*n)));
        envelope
    }

    fn check(envelope: &Envelope, trusted: &[u8], threshold: usize) -> Result<(), Refused> {
        let read = Envelope::parse::<Instruction>(&envelope.to_json())?;
        assert_eq!(read, *envelope, "what is written is what is read");
        verify::<Instruction>(&read, &keys(trusted), threshold).map(drop)
    }

    #[test]
    fn a_signed_document_is_accepted_and_an_unsigned_one_is_not() {
        assert_eq!(check(&signed(&[1]), &[1], 1), Ok(()));
        assert_eq!(check(&signed(&[]), &[1], 1), Err(Refused::Threshold { valid: 0, threshold: 1 }));
        assert_eq!(check(&signed(&[2]), &[1], 1), Err(Refused::Threshold { valid: 0, threshold: 1 }));
        assert_eq!(check(&signed(&[1]), &[1], 0), Err(Refused::Threshold { valid: 1, threshold: 0 }));
    }

    #[test]
    fn sealing_gives_the_same_bytes_as_signing() {
        assert_eq!(Sealer::new(key(1)).seal(&instruction()), Ok(signed(&[1]).to_json()));
        assert_eq!(Sealer::new(key(1)).key_id(), key_id(&key(1).verifying_key()));
        let unacceptable = Instruction { action: Action::Install, ..instruction() };
        assert!(matches!(Sealer::new(key(1)).seal(&unacceptable), Err(Refused::Body(_))));
    }

    #[test]
    fn every_flipped_bit_of_the_body_and_of_the_signature_is_refused() {
        let good = signed(&[1]);
        for bit in 0..good.payload.len() * 8 {
            let mut bad = good.clone();
            bad.payload[bit / 8] ^= 1 << (bit % 8);
            assert!(verify::<Instruction>(&bad, &keys(&[1]), 1).is_err(), "bit {bit} of the body");
        }
        let sig = BASE64.decode(good.signatures[0].sig.as_bytes()).expect("base64");
        for bit in 0..sig.len() * 8 {
            let mut flipped = sig.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut bad = good.clone();
            bad.signatures[0].sig = BASE64.encode(&flipped);
            assert!(verify::<Instruction>(&bad, &keys(&[1]), 1).is_err(), "bit {bit} of the signature");
        }
    }

    #[test]
    fn the_same_key_does_not_count_twice_under_any_hint_or_alphabet() {
        let mut twice = signed(&[1]);
        let mut again = twice.signatures[0].clone();
        again.keyid = String::new();
        again.sig = BASE64URL.encode(&BASE64.decode(again.sig.as_bytes()).expect("base64"));
        twice.signatures.push(again);
        assert_eq!(check(&twice, &[1, 2], 2), Err(Refused::Threshold { valid: 1, threshold: 2 }));
        assert_eq!(check(&signed(&[1, 2]), &[1, 2], 2), Ok(()));
    }

    #[test]
    fn bad_signatures_beside_good_ones_do_no_harm() {
        let mut envelope = signed(&[1]);
        for sig in ["", "AAAA", "not base64"] {
            envelope.signatures.insert(0, Signature { keyid: String::new(), sig: sig.to_owned() });
        }
        assert_eq!(check(&envelope, &[1], 1), Ok(()));
    }

    #[test]
    fn seventeen_signatures_are_refused() {
        let mut envelope = signed(&[1]);
        let one = envelope.signatures[0].clone();
        envelope.signatures = vec![one; MAX_SIGNATURES + 1];
        assert_eq!(check(&envelope, &[1], 1), Err(Refused::TooManySignatures));
    }

    #[test]
    fn another_type_is_refused_though_the_signature_is_right() {
        let mut envelope = signed(&[]);
        envelope.payload_type = Release::TYPE.to_owned();
        envelope.sign(&key(1));
        assert!(matches!(Envelope::parse::<Instruction>(&envelope.to_json()), Err(Refused::WrongType { .. })));
        assert!(verify::<Release>(&envelope, &keys(&[1]), 1).is_err());
    }

    #[test]
    fn a_signature_without_the_pre_authentication_encoding_is_refused() {
        let mut envelope = signed(&[]);
        let sig = BASE64.encode(&key(1).sign(&envelope.payload).to_bytes());
        envelope.signatures.push(Signature { keyid: String::new(), sig });
        assert_eq!(check(&envelope, &[1], 1), Err(Refused::Threshold { valid: 0, threshold: 1 }));
    }

    fn body(text: &str) -> Result<Instruction, Refused> {
        parse_body(text.as_bytes())
    }

    #[test]
    fn unknown_fields_are_ignored_unless_they_are_critical() {
        let good = serde_json::to_string(&instruction()).expect("json");
        let with = |extra: &str| good.replacen('{', &format!("{{{extra},"), 1);
        assert_eq!(body(&with("\"later\":[1]")), Ok(instruction()));
        assert_eq!(body(&with("\"later\":1,\"crit\":[\"later\"]")), Err(Refused::Critical("later".to_owned())));
        assert!(body(&with("\"crit\":[\"action\"]")).is_ok());
        assert!(matches!(body(&with("\"action\":\"none\"")), Err(Refused::Body(_))), "a field that stands twice");
        assert!(body(&format!("{good} ")).is_ok(), "white space at the end is not a second value");
        assert!(matches!(body(&format!("{good}{{}}")), Err(Refused::Body(_))), "something behind the value");
        assert_eq!(body(&good.replace("\"v\":1", "\"v\":2")), Err(Refused::Format(2)));
        let bomb = with(&format!("\"later\":{}{}", "[".repeat(100), "]".repeat(100)));
        assert!(matches!(body(&bomb), Err(Refused::Body(_))), "a depth bomb");
    }

    #[test]
    fn envelopes_over_the_cap_or_with_junk_are_refused() {
        let long = vec![b'x'; max_envelope(Instruction::MAX_BYTES) + 1];
        assert!(matches!(Envelope::parse::<Instruction>(&long), Err(Refused::TooLarge { .. })));
        let json = String::from_utf8(signed(&[1]).to_json()).expect("utf-8");
        for bad in [
            json.replacen('{', "{\"payload\":\"\",", 1),
            format!("{json}x"),
            json.replace("\"payload\":\"", "\"payload\":\" "),
            "[]".to_owned(),
            "{}".to_owned(),
        ] {
            assert!(Envelope::parse::<Instruction>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
