//! Pace: to how many devices a rollout offers its release in a minute.
//!
//! Minutes are those of the clock, so that two numbers in the rollout's row are enough to count by, however large the
//! fleet is. The pace may grow, but only on successes: after every so many of them it doubles. A release that fails
//! never spreads faster than it began.

use callboard_proto::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
/// More doublings than this are no limit any more.
const MAX_DOUBLINGS: u64 = 32;

/// Offers in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// With no success yet.
    pub max_offers_per_minute: u32,
    /// Successes after which it doubles, again and again; never without a number.
    pub doubles_every: Option<u32>,
}

/// What a rollout has offered, as far as its pace asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// The minute of the last offer, counted from 1970.
    pub minute: i64,
    /// Offers in it.
    pub made: u64,
}

/// The offers of this minute are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    /// Offers that may be made in a minute now.
    pub rate: u64,
    /// When the next minute begins.
    pub until: Timestamp,
    /// Successes that double the rate.
    pub doubles_after: Option<u64>,
}

impl Offers {
    /// With one more, made at `now`.
    pub fn one_more(self, now: Timestamp) -> Self {
        Self { minute: minute(now), made: self.made_at(now).saturating_add(1) }
    }

    /// Offers made in the minute of `now`.
    fn made_at(self, now: Timestamp) -> u64 {
        if self.minute == minute(now) { self.made } else { 0 }
    }
}

impl Pace {
    /// Offers that may be made in a minute after so many successes.
    pub fn rate(self, succeeded: u64) -> u64 {
        let every = self.doubles_every.map(u64::from).filter(|every| *every > 0);
        let doublings = every.map_or(0, |every| succeeded / every).min(MAX_DOUBLINGS);
        u64::from(self.max_offers_per_minute) << doublings
    }

    /// Whether one more offer may be made at `now`.
    ///
    /// # Errors
    /// Says when the next one may be.
    pub fn admits(self, offers: Offers, succeeded: u64, now: Timestamp) -> Result<(), Paced> {
        let rate = self.rate(succeeded);
        if offers.made_at(now) < rate {
            return Ok(());
        }
        let until = Timestamp::from_millis((minute(now) + 1) * MINUTE_MS);
        let every = self.doubles_every.map(u64::from).filter(|every| *every > 0);
        Err(Paced { rate, until, doubles_after: every.map(|every| every - succeeded % every) })
    }
}

fn minute(at: Timestamp) -> i64 {
    at.millis().div_euclid(MINUTE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::at;

    #[test]
    fn a_minute_has_so_many_offers_and_the_next_one_as_many_again() {
        let pace = Pace { max_offers_per_minute: 2, doubles_every: None };
        let mut offers = Offers::default();
        for _ in 0..2 {
            assert_eq!(pace.admits(offers, 0, at("2026-11-23T12:00:59Z")), Ok(()));
            offers = offers.one_more(at("2026-11-23T12:00:59Z"));
        }
        let full = pace.admits(offers, 900, at("2026-11-23T12:00:59Z")).expect_err("full");
        assert_eq!((full.rate, full.until, full.doubles_after), (2, at("2026-11-23T12:01:00Z"), None));
        assert_eq!(pace.admits(offers, 0, at("2026-11-23T12:01:00Z")), Ok(()));
        assert_eq!(offers.one_more(at("2026-11-23T12:01:00Z")).made, 1);
    }

    #[test]
    fn the_pace_doubles_with_successes_and_only_with_them() {
        let pace = Pace { max_offers_per_minute: 10, doubles_every: Some(50) };
        assert_eq!([0, 49, 50, 99, 100, 250].map(|n| pace.rate(n)), [10, 10, 20, 20, 40, 320]);
        let huge = Pace { max_offers_per_minute: u32::MAX, doubles_every: Some(1) };
        assert_eq!(huge.rate(u64::MAX), u64::from(u32::MAX) << 32, "it ends somewhere");
        let now = at("2026-11-23T12:00:00Z");
        let offers = (0..20).fold(Offers::default(), |offers, _| offers.one_more(now));
        let full = pace.admits(offers, 61, now).expect_err("full");
        assert_eq!((full.rate, full.doubles_after), (20, Some(39)));
    }
}
