//! Keys of the two algorithms: what verifies, and what signs.
//!
//! Both have signatures of 64 bytes, so one envelope and one kind of external signer serve both.

use std::collections::BTreeMap;

use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::Verifier as _;

use crate::digest::Digest;

/// Bytes of every signature: those of Ed25519, or `r` and `s` of ECDSA P-256 in 32 bytes each, big-endian.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes of a signature.
pub type SignatureBytes = [u8; SIGNATURE_BYTES];

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING } around the 32 bytes of an Ed25519 key (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The same with OID 1.2.840.10045.2.1 (EC key) and 1.2.840.10045.3.1.7 (P-256) around an uncompressed point (RFC 5480).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A public key that signatures can be checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// `ed25519`: RFC 8032, verified strictly.
    Ed25519(ed25519_dalek::VerifyingKey),
    /// `ecdsa-p256`: ECDSA on P-256 with SHA-256 (FIPS 186).
    EcdsaP256(p256::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// The algorithms, as they stand in a root.
    pub const ALGORITHMS: [&'static str; 2] = ["ed25519", "ecdsa-p256"];

    /// Reads the raw bytes of a key of `alg`: 32 of Ed25519, the 65 of an uncompressed point of P-256. `None` for an
    /// algorithm that this program does not know.
    ///
    /// # Errors
    /// Says why no signature could ever be trusted under the key.
    pub fn from_raw(alg: &str, raw: &[u8]) -> Option<Result<Self, &'static str>> {
        match alg {
            "ed25519" => Some(ed25519(raw).map(Self::Ed25519)),
            "ecdsa-p256" => Some(p256(raw).map(Self::EcdsaP256)),
            _ => None,
        }
    }

    /// Reads the SubjectPublicKeyInfo of a key on P-256.
    pub fn from_p256_spki(spki: &[u8]) -> Option<Self> {
        p256(spki.strip_prefix(&P256_SPKI)?).ok().map(Self::EcdsaP256)
    }

    /// Its algorithm, as it stands in a root.
    pub const fn alg(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::EcdsaP256(_) => "ecdsa-p256",
        }
    }

    /// Its bytes, as [`Self::from_raw`] reads them.
    pub fn raw(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.as_bytes().to_vec(),
            Self::EcdsaP256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
        }
    }

    /// Its SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> Vec<u8> {
        let prefix: &[u8] = match self {
            Self::Ed25519(_) => &ED25519_SPKI,
            Self::EcdsaP256(_) => &P256_SPKI,
        };
        [prefix, &self.raw()].concat()
    }

    /// The id of the key: the SHA-256 of its SubjectPublicKeyInfo in DER.
    pub fn id(&self) -> Digest {
        Digest::of(&self.spki())
    }

    /// Whether `signature` is one of `message` by this key.
    pub fn verifies(&self, message: &[u8], signature: &SignatureBytes) -> bool {
        match self {
            Self::Ed25519(key) => key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok(),
            Self::EcdsaP256(key) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|sig| key.verify(message, &sig).is_ok())
            }
        }
    }
}

impl From<ed25519_dalek::VerifyingKey> for PublicKey {
    fn from(key: ed25519_dalek::VerifyingKey) -> Self {
        Self::Ed25519(key)
    }
}

impl From<p256::ecdsa::VerifyingKey> for PublicKey {
    fn from(key: p256::ecdsa::VerifyingKey) -> Self {
        Self::EcdsaP256(key)
    }
}

/// One key has one encoding, hence one id.
fn ed25519(raw: &[u8]) -> Result<ed25519_dalek::VerifyingKey, &'static str> {
    let malformed = "public is not the base64 of an Ed25519 key";
    let bytes: [u8; 32] = raw.try_into().map_err(|_wrong_length| malformed)?;
    match ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
        Ok(key) if key.is_weak() => Err("is a weak key"),
        Ok(key) if key.to_edwards().compress().as_bytes() != &bytes => Err("is not the key's canonical encoding"),
        Ok(key) => Ok(key),
        Err(_not_on_the_curve) => Err(malformed),
    }
}

fn p256(raw: &[u8]) -> Result<p256::ecdsa::VerifyingKey, &'static str> {
    let malformed = "public is not the base64 of the 65 bytes of an uncompressed point of P-256";
    if raw.len() != 65 {
        return Err(malformed);
    }
    p256::ecdsa::VerifyingKey::from_sec1_bytes(raw).map_err(|_not_on_the_curve| malformed)
}

/// What can sign. A key file, or something outside that has the key.
pub trait Sign {
    /// The public half.
    fn public(&self) -> PublicKey;
    /// A signature of `message`.
    fn signature(&self, message: &[u8]) -> SignatureBytes;
}

impl Sign for ed25519_dalek::SigningKey {
    fn public(&self) -> PublicKey {
        self.verifying_key().into()
    }

    fn signature(&self, message: &[u8]) -> SignatureBytes {
        self.sign(message).to_bytes()
    }
}

impl Sign for p256::ecdsa::SigningKey {
    fn public(&self) -> PublicKey {
        PublicKey::EcdsaP256(*self.verifying_key())
    }

    /// Deterministic (RFC 6979): no bad randomness can betray the key.
    fn signature(&self, message: &[u8]) -> SignatureBytes {
        let signature: p256::ecdsa::Signature = self.sign(message);
        signature.to_bytes().into()
    }
}

/// The keys of one role, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(BTreeMap<Digest, PublicKey>);

impl KeySet {
    /// Ids are computed here, so one key cannot have two.
    pub fn new<K: Into<PublicKey>>(keys: impl IntoIterator<Item = K>) -> Self {
        Self(keys.into_iter().map(Into::into).map(|key| (key.id(), key)).collect())
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key with this id is among them.
    pub fn contains(&self, id: Digest) -> bool {
        self.0.contains_key(&id)
    }

    /// Which key made the signature; `hint` is looked at first.
    pub(super) fn signer(&self, hint: &str, message: &[u8], signature: &SignatureBytes) -> Option<Digest> {
        let hinted = hint.parse::<Digest>().ok().and_then(|id| self.0.get_key_value(&id));
        let right = |key: &PublicKey| key.verifies(message, signature);
        match hinted {
            Some((id, key)) if right(key) => Some(*id),
            _ => self.0.iter().find(|(_, key)| right(key)).map(|(id, _)| *id),
        }
    }
}

/// The id of an Ed25519 key, see [`PublicKey::id`].
pub fn key_id(key: &ed25519_dalek::VerifyingKey) -> Digest {
    PublicKey::Ed25519(*key).id()
}
