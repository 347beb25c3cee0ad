//! Log lines that somebody else can cause: so many that an attack is seen, and not so many that it fills the disk.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Lines of one kind a minute, and at once: a person reads no more.
const LINES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6).unwrap();

/// Lines of one kind.
pub(super) struct Throttle {
    limiter: DefaultDirectRateLimiter,
    held_back: AtomicU64,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { limiter: RateLimiter::direct(Quota::per_minute(LINES_PER_MINUTE)), held_back: AtomicU64::new(0) }
    }

    /// Whether a line may be written now; if so, how many were held back since the last one.
    pub(super) fn admit(&self) -> Option<u64> {
        if self.limiter.check().is_ok() {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines_and_the_number_of_the_others() {
        let throttle = Throttle::new();
        let admitted: Vec<u64> = (0..1000).filter_map(|_| throttle.admit()).collect();
        let held_back = throttle.held_back.load(Ordering::Relaxed);
        assert!(admitted.len() >= 6 && admitted.len() < 500, "{}", admitted.len());
        assert_eq!(u64::try_from(admitted.len()).unwrap() + admitted.iter().sum::<u64>() + held_back, 1000);
    }
}
