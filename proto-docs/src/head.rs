//! The head document: how fresh is fresh, and what is taken back. Signed offline, often, and short-lived.
//!
//! It belongs to no device: all of them share one file. A root that names a `head` role makes devices insist on it.

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, ids::Product, release::Release, signed::Document, time::Timestamp};

/// Products in one head at most.
pub const MAX_PRODUCTS: usize = 256;

/// What holds until `expires`: the newest release of each product, the oldest that may still be installed, and those
/// that may not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Format version, 1.
    pub v: u32,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default)]
    pub crit: Vec<String>,
    /// Rises with every head of an epoch, from 1.
    pub serial: u64,
    /// That of the root's head role.
    pub epoch: u32,
    /// Nothing new is installed under this head from then on.
    pub expires: Timestamp,
    /// What there is to say of each product.
    pub products: Vec<HeadProduct>,
}

/// One product in a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeadProduct {
    /// Which product.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub product: Product,
    /// Epoch of its releases; the two counters are of this epoch.
    pub epoch: u32,
    /// Counter of its newest release.
    pub latest_counter: u64,
    /// Nothing below this counter is installed any more.
    #[serde(default)]
    pub min_counter: u64,
    /// Digests of releases that are not installed any more, whatever their counters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub revoked: Vec<Digest>,
}

/// What a head has against a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakenBack {
    /// It is named.
    #[error("head {serial} revokes it")]
    Revoked {
        /// The head's serial.
        serial: u64,
    },
    /// It is older than the oldest one that may be installed.
    #[error("head {serial} allows nothing of {product} below {epoch}.{min_counter}")]
    BelowMinimum {
        /// The head's serial.
        serial: u64,
        /// The release's product.
        product: Product,
        /// Epoch of the minimum.
        epoch: u32,
        /// The minimum.
        min_counter: u64,
    },
}

impl Head {
    /// What it says of a product.
    pub fn product(&self, product: &Product) -> Option<&HeadProduct> {
        self.products.iter().find(|one| one.product == *product)
    }

    /// Whether a release may still be installed under this head.
    ///
    /// # Errors
    /// [`TakenBack`] when it may not.
    pub fn allows(&self, release: &Release, digest: Digest) -> Result<(), TakenBack> {
        let serial = self.serial;
        if self.products.iter().any(|one| one.revoked.contains(&digest)) {
            return Err(TakenBack::Revoked { serial });
        }
        match self.product(&release.product) {
            Some(one) if (release.epoch, release.counter) < (one.epoch, one.min_counter) => {
                let (product, epoch, min_counter) = (one.product.clone(), one.epoch, one.min_counter);
                Err(TakenBack::BelowMinimum { serial, product, epoch, min_counter })
            }
            _ => Ok(()),
        }
    }

    /// Whether it takes the place of `other`: a higher epoch, or a higher serial in the same one.
    pub fn replaces(&self, other: &Self) -> bool {
        (self.epoch, self.serial) > (other.epoch, other.serial)
    }

    /// When half of its life is over.
    pub fn half_life(&self) -> Timestamp {
        self.issued_at + self.expires.since(self.issued_at) / 2
    }
}

impl Document for Head {
    const TYPE: &'static str = "application/vnd.callboard.head.v1+json";
    const MAX_BYTES: usize = 64 * 1024;
    const FIELDS: &'static [&'static str] = &["v", "issued_at", "serial", "epoch", "expires", "products"];

    fn format(&self) -> u32 {
        self.v
    }

    fn crit(&self) -> &[String] {
        &self.crit
    }

    fn check(&self) -> Result<(), String> {
        let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
        if self.serial == 0 || self.serial > most {
            return Err("serial must be 1 to 2^63-1".to_owned());
        }
        if self.expires <= self.issued_at {
            return Err(format!("it expires at {}, which is not after {}", self.expires, self.issued_at));
        }
        if self.products.len() > MAX_PRODUCTS {
            return Err(format!("{} products; at most {MAX_PRODUCTS} are allowed", self.products.len()));
        }
        for (n, one) in self.products.iter().enumerate() {
            let product = &one.product;
            if self.products.iter().take(n).any(|other| other.product == *product) {
                return Err(format!("product {product} stands twice"));
            }
            if one.latest_counter > most || one.min_counter > one.latest_counter {
                return Err(format!("min_counter of {product} is above latest_counter, or that above 2^63-1"));
            }
        }
        Ok(())
    }
}
