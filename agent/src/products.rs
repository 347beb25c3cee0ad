//! What is installed of each product, how low it may go, and what failed here.

use callboard_proto::{check_in, digest::Digest, head::Head, ids::Product, version::Version};
use serde::{Deserialize, Serialize};

use crate::{
    config::ProductSettings,
    journal::Attempt,
    machine::Order,
    slots::{self, Body, Slots},
    verify::{Floor, Standing},
};

/// A product's record on disk. It is always written to both slots: no single damage may bring an older floor back.
pub(crate) type ProductSlots = Slots<ProductRecord>;

/// Bad releases remembered; older ones are long superseded.
const MAX_BAD: usize = 32;
/// Rollbacks of one release after which it is never begun again.
const MAX_ROLLBACKS: u32 = 3;

/// One product on this device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProductRecord {
    /// `None` while factory software runs.
    #[serde(default)]
    pub(crate) installed: Option<InstalledRelease>,
    /// Raised after a commit, never lowered.
    #[serde(default)]
    pub(crate) floor: Floor,
    /// Releases that were rolled back.
    #[serde(default)]
    pub(crate) bad: Vec<BadRelease>,
    /// What is installed runs because a newer release has failed.
    #[serde(default)]
    pub(crate) fell_back: bool,
}

impl Body for ProductRecord {
    fn encode(&self, _schema: u32) -> Vec<u8> {
        slots::json(self)
    }

    fn decode(_schema: u32, bytes: &[u8]) -> Option<Self> {
        slots::from_json(bytes)
    }
}

/// The committed release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstalledRelease {
    pub(crate) release: Digest,
    pub(crate) version: Version,
    pub(crate) epoch: u32,
    pub(crate) counter: u64,
    /// Name of its tree below `versions/`.
    pub(crate) dir: String,
    /// Digest of its tree; `None` if the record had to be rebuilt.
    pub(crate) tree: Option<Digest>,
}

/// A release that was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BadRelease {
    pub(crate) release: Digest,
    pub(crate) times: u32,
    /// The attempt that failed last; only another one may try again.
    pub(crate) last: Attempt,
}

impl ProductRecord {
    /// The same with a floor that is not below that of the package.
    pub(crate) fn at_least(self, floor: Floor) -> Self {
        Self { floor: self.floor.max(floor), ..self }
    }

    /// The record after `order` was committed with `tree`.
    pub(crate) fn committed(&self, order: &Order, tree: Digest) -> Self {
        Self {
            installed: Some(InstalledRelease {
                release: order.release,
                version: order.version.clone(),
                epoch: order.epoch,
                counter: order.counter,
                dir: order.dir.clone(),
                tree: Some(tree),
            }),
            floor: self.floor.max(Floor { epoch: order.epoch, counter: order.min_floor }),
            bad: self.bad.iter().filter(|bad| bad.release != order.release).cloned().collect(),
            fell_back: false,
        }
    }

    /// The record after `order` was rolled back. The same attempt counts once.
    pub(crate) fn rolled_back(&self, order: &Order) -> Self {
        let mut record = Self { fell_back: true, ..self.clone() };
        let last = order.attempt;
        match record.bad.iter_mut().find(|bad| bad.release == order.release) {
            Some(bad) if bad.last == last => {}
            Some(bad) => (bad.times, bad.last) = (bad.times + 1, last),
            None => record.bad.push(BadRelease { release: order.release, times: 1, last }),
        }
        let surplus = record.bad.len().saturating_sub(MAX_BAD);
        record.bad.drain(..surplus);
        record
    }

    /// Whether the device has fallen back to what `head` does not allow to be installed any more.
    pub(crate) fn is_degraded(&self, product: &Product, head: &Head) -> bool {
        let Some(own) = self.installed.as_ref().filter(|_| self.fell_back) else { return false };
        let least = head.product(product).map(|one| (one.epoch, one.min_counter));
        let revoked = head.products.iter().any(|one| one.revoked.contains(&own.release));
        revoked || least.is_some_and(|least| (own.epoch, own.counter) < least)
    }

    /// What an order for `release` under `attempt` is measured against.
    pub(crate) fn standing(&self, release: Digest, attempt: Attempt) -> Standing {
        let known_bad = self.bad.iter().find(|bad| bad.release == release);
        Standing {
            installed: self
                .installed
                .as_ref()
                .map(|own| (Floor { epoch: own.epoch, counter: own.counter }, own.release)),
            floor: self.floor,
            known_bad: known_bad.filter(|bad| bad.times >= MAX_ROLLBACKS || bad.last == attempt).map(|bad| bad.times),
        }
    }

    /// What a check-in says of it; `None` if nothing is known to be there.
    pub(crate) fn wire(&self, product: &Product, settings: &ProductSettings) -> Option<check_in::Installed> {
        let floor = self.floor;
        if let Some(own) = &self.installed {
            return Some(check_in::Installed {
                product: product.clone(),
                version: own.version.clone(),
                release: Some(own.release),
                epoch: own.epoch,
                counter: own.counter,
                floor: if floor.epoch == own.epoch { floor.counter } else { 0 },
            });
        }
        let version = settings.factory_version.clone()?;
        let (product, floor) = (product.clone(), floor.counter);
        Some(check_in::Installed { product, version, release: None, epoch: 0, counter: 0, floor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_release_is_begun_again_only_under_another_attempt_and_three_times_at_most() {
        let mut record = ProductRecord::default();
        for attempt in 1..=3 {
            let order = testing::order(5, attempt);
            assert_eq!(record.standing(order.release, order.attempt).known_bad, None, "attempt {attempt}");
            record = record.rolled_back(&order);
            assert_eq!(record.rolled_back(&order), record, "repeating it after a crash counts once");
            assert_eq!(record.standing(order.release, order.attempt).known_bad, Some(attempt));
        }
        let fourth = testing::order(5, 4);
        assert_eq!(record.standing(fourth.release, fourth.attempt).known_bad, Some(3));
        let other = testing::order(6, 4);
        assert_eq!(record.standing(other.release, other.attempt).known_bad, None);
    }

    #[test]
    fn falling_back_below_the_heads_minimum_is_told_and_only_that() {
        let head = |min_counter| Head {
            v: 1,
            issued_at: testing::NOW,
            crit: Vec::new(),
            serial: 1,
            epoch: 0,
            expires: testing::NOW,
            products: vec![callboard_proto::head::HeadProduct {
                product: "pos-app".parse().expect("a name"),
                epoch: 1,
                latest_counter: 9,
                min_counter,
                revoked: Vec::new(),
            }],
        };
        let product = "pos-app".parse().expect("a name");
        let old = ProductRecord::default().committed(&testing::order(4, 1), Digest::of(b"tree"));
        assert!(!old.is_degraded(&product, &head(5)), "it was never asked to be newer");
        let fallen = old.rolled_back(&testing::order(6, 2));
        assert_eq!([4, 5].map(|least| fallen.is_degraded(&product, &head(least))), [false, true]);
        assert!(!fallen.committed(&testing::order(7, 3), Digest::of(b"tree")).is_degraded(&product, &head(5)));
    }

    #[test]
    fn the_floor_rises_with_a_commit_and_never_falls() {
        let raise = |record: &ProductRecord, min_floor| {
            let order = Order { min_floor, ..testing::order(9, 1) };
            record.committed(&order, Digest::of(b"tree"))
        };
        let record = raise(&ProductRecord::default(), 4);
        assert_eq!(record.floor, Floor { epoch: 1, counter: 4 });
        assert_eq!(raise(&record, 2).floor, Floor { epoch: 1, counter: 4 });
        assert_eq!(raise(&record, 8), raise(&raise(&record, 8), 8), "a re-run is harmless");
    }
}
