//! Hashing of keys that nobody can choose to collide: digests, which are as good as random, and names of a closed set.
//! Decisions look up a few of them for every rollout, and spend no time on guarding against attackers.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps with such keys.
pub type Mixed = BuildHasherDefault<Mixer>;

/// Multiplies by an odd number, so that every bit of a small key counts in the upper ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut word = [0; 8];
        // Of a digest the first eight bytes are enough.
        word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, hash::BuildHasher as _};

    use callboard_proto::digest::Digest;

    use super::*;

    #[test]
    fn digests_and_zones_are_told_apart() {
        let hash = Mixed::default();
        let digests: BTreeSet<u64> = (0..1000u32).map(|n| hash.hash_one(Digest::of(&n.to_be_bytes()))).collect();
        assert_eq!(digests.len(), 1000);
        let zones: BTreeSet<u64> = chrono_tz::TZ_VARIANTS.iter().map(|tz| hash.hash_one(tz)).collect();
        assert_eq!(zones.len(), chrono_tz::TZ_VARIANTS.len());
        // The upper seven bits choose within a group.
        let upper: BTreeSet<u64> = zones.iter().map(|hash| hash >> 57).collect();
        assert!(upper.len() > 100, "{}", upper.len());
    }
}
