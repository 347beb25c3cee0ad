//! The root document: which keys may sign what.

use std::{collections::BTreeMap, fmt};

use data_encoding::BASE64;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    digest::Digest,
    ids::Product,
    release::Release,
    signed::{self, Document, Envelope, KeySet, Refused, Verified, key_id},
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
    #[serde(deserialize_with = "no_duplicates")]
    pub keys: BTreeMap<Digest, Key>,
    /// Which key may do what.
    pub roles: Roles,
    /// Where to check in. Agents use the address of their bundle as long as roots are not rotated.
    pub servers: Vec<Server>,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `ed25519`; a key with any other value is kept and never counted.
    pub alg: String,
    /// The raw 32 bytes of an Ed25519 public key, in base64.
    pub public: String,
}

/// The roles of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Who signs the next root.
    pub root: Role,
    /// Who signs releases, each entry for some products and channels.
    pub release: Vec<ReleaseRole>,
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
            match key.ed25519() {
                Some(Ok(public)) if key_id(&public) != *id => {
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
        for role in &self.roles.release {
            self.check_role(&format!("release {:?}", role.name), &role.keyids, role.threshold)?;
        }
        Ok(())
    }
}

impl Key {
    /// An Ed25519 key as it stands in a root.
    pub fn from_ed25519(key: &VerifyingKey) -> Self {
        Self { alg: "ed25519".to_owned(), public: BASE64.encode(key.as_bytes()) }
    }

    /// The key itself; `None` for another algorithm.
    fn ed25519(&self) -> Option<Result<VerifyingKey, &'static str>> {
        if self.alg != "ed25519" {
            return None;
        }
        let bytes = BASE64.decode(self.public.as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        Some(match bytes.map(|bytes| VerifyingKey::from_bytes(&bytes)) {
            Some(Ok(key)) if key.is_weak() => Err("is a weak key"),
            Some(Ok(key)) => Ok(key),
            _ => Err("public is not the base64 of an Ed25519 key"),
        })
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
        let role = &claimed.roles.root;
        signed::verify(&envelope, &claimed.key_set(&role.keyids), to_usize(role.threshold))
    }

    /// Keys and threshold of the online role.
    pub fn online(&self) -> (KeySet, usize) {
        (self.key_set(&self.roles.online.keyids), to_usize(self.roles.online.threshold))
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
            let keys = self.key_set(&role.keyids);
            match signed::verify::<Release>(envelope, &keys, to_usize(role.threshold)) {
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
        KeySet::new(keyids.iter().filter_map(|id| self.keys.get(id)?.ed25519()?.ok()))
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
    fn covers(&self, release: &Release) -> bool {
        let product = self.products.is_empty() || self.products.contains(&release.product);
        let channels =
            self.channels.is_empty() || release.channels.iter().all(|channel| self.channels.contains(channel));
        product && channels && self.epoch == release.epoch
    }
}

fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// serde's maps keep the last of two equal keys; a signed document with such a pair has no single meaning.
fn no_duplicates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Digest, Key>, D::Error> {
    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = BTreeMap<Digest, Key>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of keys by id")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((id, key)) = access.next_entry()? {
                if map.insert(id, key).is_some() {
                    return Err(de::Error::custom(format!("key {id} stands twice")));
                }
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Visitor)
}
