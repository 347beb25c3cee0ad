//! The root document: which keys may sign what.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    head::Head,
    ids::Product,
    release::Release,
    signed::{self, Document, Envelope, KeySet, PublicKey, Refused, Verified},
    time::Timestamp,
};

/// Which keys are trusted for what; signed offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Format version, 1.
    pub v: u32,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default)]
    pub crit: Vec<String>,
    /// 1, 2, 3, ... without gaps.
    pub version: u64,
    /// No new installs under this root from then on.
    pub expires: Timestamp,
    /// All keys, by id.
    pub keys: BTreeMap<Digest, Key>,
    /// Which key may do what.
    pub roles: Roles,
    /// Where to check in. Those of a root that comes after the bundle's can move devices.
    pub servers: Vec<Server>,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `ed25519` or `ecdsa-p256`; a key with any other value is kept and never counted.
    pub alg: String,
    /// In base64: the 32 bytes of an Ed25519 key, or the 65 of an uncompressed point of P-256.
    pub public: String,
}

/// The roles of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Who signs the next root.
    pub root: Role,
    /// Who signs releases, each entry for some products and channels.
    pub release: Vec<ReleaseRole>,
    /// Who signs heads. Without it devices ask for none, and install without knowing how fresh is fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadRole>,
    /// The server's key for instructions; its threshold is 1.
    pub online: Role,
}

/// Keys and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Ids of keys.
    pub keyids: Vec<Digest>,
    /// Distinct valid signatures needed.
    pub threshold: u32,
}

/// A release role: [`Role`] with a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRole {
    /// For people.
    pub name: String,
    /// Ids of keys.
    pub keyids: Vec<Digest>,
    /// Distinct valid signatures needed.
    pub threshold: u32,
    /// A release signed under this role must carry this epoch.
    pub epoch: u32,
    /// Products it may sign for; empty means every product.
    pub products: Vec<Product>,
    /// Channels it may sign for; empty means every channel.
    pub channels: Vec<String>,
}

/// The head role: [`Role`] with an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRole {
    /// Ids of keys.
    pub keyids: Vec<Digest>,
    /// Distinct valid signatures needed.
    pub threshold: u32,
    /// A head must carry this epoch. Raised by the root after serials were used up by a thief.
    pub epoch: u32,
}

/// A server that devices may check in at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Such as `https://updates.example.com:8443`.
    pub url: String,
    /// Certificates (DER, base64) of which one must have issued the server's.
    pub ca_der: Vec<String>,
}

impl Document for Root {
    const TYPE: &'static str = "application/vnd.callboard.root.v1+json";
    const MAX_BYTES: usize = 64 * 1024;
    const FIELDS: &'static [&'static str] = &["v", "issued_at", "version", "expires", "keys", "roles", "servers"];

    fn format(&self) -> u32 {
        self.v
    }

    fn crit(&self) -> &[String] {
        &self.crit
    }

    fn check(&self) -> Result<(), String> {
        if self.version == 0 {
            return Err("version is 0; the first root is 1".to_owned());
        }
        for (id, key) in &self.keys {
            match key.read() {
                Some(Ok(public)) if public.id() != *id => {
                    return Err(format!("key {id} has another id than its own"));
                }
                Some(Err(reason)) => return Err(format!("key {id}: {reason}")),
                _ => {}
            }
        }
        self.check_role("root", &self.roles.root.keyids, self.roles.root.threshold)?;
        self.check_role("online", &self.roles.online.keyids, self.roles.online.threshold)?;
        if self.roles.online.threshold != 1 {
            return Err("the online role's threshold is not 1".to_owned());
        }
        if let Some(role) = &self.roles.head {
            self.check_role("head", &role.keyids, role.threshold)?;
        }
        for role in &self.roles.release {
            self.check_role(&format!("release {:?}", role.name), &role.keyids, role.threshold)?;
        }
        Ok(())
    }
}

impl Key {
    /// A key as it stands in a root.
    pub fn new(key: &PublicKey) -> Self {
        Self { alg: key.alg().to_owned(), public: BASE64.encode(&key.raw()) }
    }

    /// An Ed25519 key as it stands in a root.
    pub fn from_ed25519(key: &VerifyingKey) -> Self {
        Self::new(&PublicKey::Ed25519(*key))
    }

    /// The key itself; `None` for an algorithm that this program does not know.
    pub fn read(&self) -> Option<Result<PublicKey, &'static str>> {
        let raw = BASE64.decode(self.public.as_bytes());
        PublicKey::from_raw(&self.alg, raw.as_deref().unwrap_or_default())
    }
}

impl Root {
    /// Reads a root that is trusted by the way it came (enrolment bundle, package): its own root keys must have signed it.
    ///
    /// # Errors
    /// [`Refused`] when the envelope or the body is unacceptable or its own threshold is not met.
    pub fn open_initial(bytes: &[u8]) -> Result<Verified<Self>, Refused> {
        let envelope = Envelope::parse::<Self>(bytes)?;
        let claimed: Self = signed::parse_body(&envelope.payload)?;
        let (keys, threshold) = claimed.own();
        signed::verify(&envelope, &keys, threshold)
    }

    /// Reads the root that comes after this one: the keys of this root must have signed it, and its own, each to their
    /// threshold. Whether either has expired does not matter: a device that slept through several roots walks them all.
    ///
    /// # Errors
    /// [`Refused`], with [`Refused::NotNext`] when the version in the body is not this one's plus one.
    pub fn open_next(&self, bytes: &[u8]) -> Result<Verified<Self>, Refused> {
        let envelope = Envelope::parse::<Self>(bytes)?;
        let (keys, threshold) = self.own();
        let next: Verified<Self> = signed::verify(&envelope, &keys, threshold)?;
        let wanted = self.version.saturating_add(1);
        if next.version != wanted {
            return Err(Refused::NotNext { wanted, found: next.version });
        }
        let (keys, threshold) = next.own();
        signed::verify(&envelope, &keys, threshold)
    }

    /// Keys and threshold of the root role.
    pub fn own(&self) -> (KeySet, usize) {
        (self.key_set(&self.roles.root.keyids), to_usize(self.roles.root.threshold))
    }

    /// Keys and threshold of a release role.
    pub fn release(&self, role: &ReleaseRole) -> (KeySet, usize) {
        (self.key_set(&role.keyids), to_usize(role.threshold))
    }

    /// Keys and threshold of the head role, if there is one.
    pub fn head(&self) -> Option<(KeySet, usize)> {
        self.roles.head.as_ref().map(|role| (self.key_set(&role.keyids), to_usize(role.threshold)))
    }

    /// Reads a head that the head role signed. Whether it has expired or is older than another one is not looked at.
    ///
    /// # Errors
    /// [`Refused`], with [`Refused::Body`] when there is no head role or the epoch is another one than the role's.
    pub fn open_head(&self, bytes: &[u8]) -> Result<Verified<Head>, Refused> {
        let envelope = Envelope::parse::<Head>(bytes)?;
        let Some((role, (keys, threshold))) = self.roles.head.as_ref().zip(self.head()) else {
            return Err(Refused::Body(format!("root {} names nobody who may sign a head", self.version)));
        };
        let head = signed::verify::<Head>(&envelope, &keys, threshold)?;
        if head.epoch != role.epoch {
            return Err(Refused::Body(format!("the head is of epoch {}, the root's is {}", head.epoch, role.epoch)));
        }
        Ok(head)
    }

    /// Keys and threshold of the online role. Only Ed25519 keys count in it.
    pub fn online(&self) -> (KeySet, usize) {
        let keys = self.keys_of(&self.roles.online.keyids).filter(|key| matches!(key, PublicKey::Ed25519(_)));
        (KeySet::new(keys), to_usize(self.roles.online.threshold))
    }

    /// The keys of every release role together: to say who signed, not whether that is enough.
    pub fn release_keys(&self) -> KeySet {
        let ids: Vec<Digest> = self.roles.release.iter().flat_map(|role| role.keyids.iter().copied()).collect();
        self.key_set(&ids)
    }

    /// Accepts a release that a role with the right scope and epoch has signed.
    ///
    /// # Errors
    /// [`Refused`]; with [`Refused::Threshold`] of the role that came closest when no role accepts it.
    pub fn verify_release(&self, envelope: &Envelope) -> Result<Verified<Release>, Refused> {
        let mut closest = Refused::Threshold { valid: 0, threshold: 1 };
        for role in &self.roles.release {
            let (keys, threshold) = self.release(role);
            match signed::verify::<Release>(envelope, &keys, threshold) {
                Ok(release) if role.covers(&release) => return Ok(release),
                Ok(release) => {
                    closest = Refused::Body(format!(
                        "role {:?} (epoch {}) may not sign {} of epoch {} for channels {:?}",
                        role.name, role.epoch, release.product, release.epoch, release.channels
                    ));
                }
                Err(refused @ Refused::Threshold { valid: 0, .. })
                    if matches!(closest, Refused::Threshold { valid: 0, .. }) =>
                {
                    closest = refused;
                }
                Err(Refused::Threshold { valid: 0, .. }) => {}
                Err(refused) => closest = refused,
            }
        }
        Err(closest)
    }

    fn key_set(&self, keyids: &[Digest]) -> KeySet {
        KeySet::new(self.keys_of(keyids))
    }

    /// Those of the keys that this program can verify signatures of.
    fn keys_of(&self, keyids: &[Digest]) -> impl Iterator<Item = PublicKey> {
        keyids.iter().filter_map(|id| self.keys.get(id)?.read()?.ok())
    }

    fn check_role(&self, name: &str, keyids: &[Digest], threshold: u32) -> Result<(), String> {
        if let Some(id) = keyids.iter().find(|id| !self.keys.contains_key(id)) {
            return Err(format!("role {name} names key {id}, which is not among the keys"));
        }
        let distinct = keyids.iter().collect::<std::collections::BTreeSet<_>>().len();
        if distinct != keyids.len() {
            return Err(format!("role {name} names a key twice"));
        }
        if threshold == 0 || to_usize(threshold) > distinct {
            return Err(format!("role {name} asks for {threshold} signatures of {distinct} keys"));
        }
        Ok(())
    }
}

impl ReleaseRole {
    /// Whether the role may sign this release.
    pub fn covers(&self, release: &Release) -> bool {
        let product = self.products.is_empty() || self.products.contains(&release.product);
        let channels =
            self.channels.is_empty() || release.channels.iter().all(|channel| self.channels.contains(channel));
        product && channels && self.epoch == release.epoch
    }
}

fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
