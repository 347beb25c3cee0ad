//! Chance that comes out the same way each time.

/// How likely something is, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

/// All of it.
const WHOLE: u32 = 1_000_000;

impl Chance {
    /// Never.
    pub const NEVER: Self = Self(0);

    /// From so many in a million; more than that is always.
    pub const fn from_millionths(millionths: u32) -> Self {
        if millionths > WHOLE { Self(WHOLE) } else { Self(millionths) }
    }

    /// Whether this roll of the dice is a hit.
    pub(super) fn hits(self, roll: u64) -> bool {
        roll % u64::from(WHOLE) < u64::from(self.0)
    }

    /// Whether it can happen at all.
    pub(super) const fn is_possible(self) -> bool {
        self.0 > 0
    }
}

/// One roll of the dice: a number that `seed` and `what` decide.
pub(super) const fn roll(seed: u64, what: u64) -> u64 {
    // SplitMix64, whose output is evenly spread for inputs that differ in one bit.
    let mut mixed = seed ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
