//! Buckets: a fixed, fair place for every unit in every rollout.
//!
//! Salted by the rollout, so that the same units are not always the first to try something new. Who comes first is drawn by
//! its name and its release ([`Draw`]), which are known before it exists: a preview and a simulation draw what the start
//! draws.

use std::time::Duration;

use callboard_proto::{
    digest::{Digest, Hasher},
    ids::{Id, RolloutId, RolloutName},
};

/// Where a unit stands in a rollout: units are ranked by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(Digest);

/// The bucket of `unit`: SHA-256 of the rollout's 16 bytes and the unit's key (a device's 16 bytes, a site's text).
pub fn bucket(rollout: RolloutId, unit: &[u8]) -> Bucket {
    let mut hasher = Hasher::default();
    hasher.update(rollout.as_bytes());
    hasher.update(unit);
    Bucket(hasher.finish())
}

/// By what the units of a rollout are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(Digest);

impl Draw {
    /// Of the rollout with this name, of this release.
    pub fn of(name: &RolloutName, release: Digest) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(name.as_str().as_bytes());
        hasher.update(release.as_bytes());
        Self(hasher.finish())
    }

    /// The bucket of `unit`: SHA-256 of the draw and the unit's key.
    pub fn bucket(self, unit: &[u8]) -> Bucket {
        let mut hasher = Hasher::default();
        hasher.update(self.0.as_bytes());
        hasher.update(unit);
        Bucket(hasher.finish())
    }
}

impl Bucket {
    /// An id that whoever needs none from outside gives to what this stands for.
    pub(crate) fn id<K>(self) -> Option<Id<K>> {
        Id::from_slice(self.0.as_bytes().get(..16)?)
    }

    /// This unit's share of `range`: from zero up to but without all of it, spread evenly over units.
    pub fn spread(self, range: Duration) -> Duration {
        let [a, b, c, d, ..] = *self.0.as_bytes();
        let millis = u64::try_from(range.as_millis()).unwrap_or(u64::MAX);
        let part = (u128::from(millis) * u128::from(u32::from_be_bytes([a, b, c, d]))) >> 32;
        Duration::from_millis(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_differ_between_rollouts_and_spread_evenly() {
        let rollout = |n: u8| RolloutId::from_slice(&[n; 16]).expect("16 bytes");
        assert_eq!(bucket(rollout(1), b"till"), bucket(rollout(1), b"till"));
        assert_ne!(bucket(rollout(1), b"till"), bucket(rollout(2), b"till"));
        let range = Duration::from_secs(100);
        let spreads = (0..1000u32).map(|n| bucket(rollout(1), &n.to_be_bytes()).spread(range)).collect::<Vec<_>>();
        assert!(spreads.iter().all(|spread| *spread < range));
        let early = spreads.iter().filter(|spread| **spread < range / 2).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }
}
