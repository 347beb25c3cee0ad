//! How often something may be done that the server asks for: some times in a row, then once in a while.
//!
//! Whoever has the online key signs what he likes, and each of his answers may ask for something new. What costs
//! requests or writes is therefore counted here. Pure: the time since boot is an argument.

use std::time::Duration;

/// Check-ins ahead of the interval. An update needs three, and a machine with several products takes them in a row.
pub(crate) const CHECK_INS: Budget = Budget::new(8, Duration::from_secs(60));
/// Orders begun. Each may write a whole release, so this is what keeps the flash alive: at one each half hour a release
/// of 100 MB is 5 GB a day. More than one for every product that a device can have, for the day of the great update.
pub(crate) const ORDERS: Budget = Budget::new(40, Duration::from_secs(1800));

/// What is left. One use comes back at a time.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    most: u32,
    every: Duration,
    left: u32,
    /// Up to when uses have come back, in time since boot.
    until: Duration,
}

impl Budget {
    /// `most` uses in a row, and one more for `every` that passes.
    pub(crate) const fn new(most: u32, every: Duration) -> Self {
        Self { most, every, left: most, until: Duration::ZERO }
    }

    /// Takes one use, if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.until).as_nanos() / self.every.as_nanos().max(1);
        let back = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(back).min(self.most);
        // Full means that there is nothing to wait for.
        self.until = if self.left == self.most { now } else { self.until.saturating_add(self.every * back) };
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `tries` at second `at` succeed.
    fn taken(budget: &mut Budget, at: u64, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(budget.take(Duration::from_secs(at)))).sum()
    }

    #[test]
    fn some_uses_in_a_row_and_then_one_at_a_time() {
        let mut budget = Budget::new(3, Duration::from_secs(60));
        assert_eq!(taken(&mut budget, 1_000_000, 10), 3);
        assert_eq!(taken(&mut budget, 1_000_059, 10), 0);
        assert_eq!(taken(&mut budget, 1_000_060, 10), 1);
        assert_eq!(taken(&mut budget, 1_000_179, 10), 1, "the second began at the 60th");
        assert_eq!(taken(&mut budget, 1_000_180, 10), 1);
    }

    #[test]
    fn a_pause_gives_back_no_more_than_there_was() {
        let mut budget = Budget::new(3, Duration::from_secs(60));
        assert_eq!(taken(&mut budget, 5, 10), 3);
        assert_eq!(taken(&mut budget, 86_400, 10), 3);
        assert_eq!(taken(&mut budget, u64::MAX, 10), 3);
    }

    #[test]
    fn over_a_day_no_more_than_told_is_ever_taken() {
        let mut budget = ORDERS;
        let day: u32 = (0..86_400).step_by(10).map(|second| taken(&mut budget, second, 1)).sum();
        assert_eq!(day, 40 + 47);
    }
}
