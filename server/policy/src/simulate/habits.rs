//! When a simulated device is there and checks in: a function of time, so that nothing has to happen in between.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use super::dice::{Chance, roll};
use crate::rhythm::Rhythm;

/// A device that is away beside its habits is so for this long.
pub const STRETCH: Duration = Duration::from_secs(STRETCH_HOURS.unsigned_abs() * 3600);
const STRETCH_HOURS: i64 = 4;

const HOUR_MS: i64 = 3_600_000;
/// Hours that are looked at for a device that is not there: five weeks.
const MAX_HOURS: i64 = 35 * 24;

/// When a device is there.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) rhythm: Rhythm,
    pub(super) away: Chance,
    /// Its own luck.
    pub(super) key: u64,
    /// It checks in at so many milliseconds of every interval.
    pub(super) offset_ms: i64,
    /// Time between two check-ins.
    pub(super) poll_ms: i64,
}

impl Habits {
    /// Whether it is there.
    pub(super) fn is_there(&self, at: Timestamp) -> bool {
        self.there(hour(at))
    }

    fn there(&self, hour: i64) -> bool {
        self.rhythm.is_there(Timestamp::from_millis(hour * HOUR_MS)) && !self.away(hour)
    }

    fn away(&self, hour: i64) -> bool {
        if !self.away.is_possible() {
            return false;
        }
        // Stretches of different devices do not begin together.
        let shift = i64::try_from(self.key % STRETCH_HOURS.unsigned_abs()).unwrap_or_default();
        let stretch = (hour + shift).div_euclid(STRETCH_HOURS);
        self.away.hits(roll(self.key, stretch.unsigned_abs()))
    }

    /// The first check-in from `from` on.
    pub(super) fn next(&self, from: Timestamp) -> Option<Timestamp> {
        let mut at = self.on_beat(from.millis());
        let last = hour(from) + MAX_HOURS;
        while at / HOUR_MS <= last {
            if self.there(at.div_euclid(HOUR_MS)) {
                return Some(Timestamp::from_millis(at));
            }
            let comes = (at.div_euclid(HOUR_MS) + 1..=last).find(|hour| self.there(*hour))?;
            at = self.on_beat(comes * HOUR_MS);
        }
        None
    }

    /// The last check-in before `until`, if it is not before `first`.
    pub(super) fn last(&self, until: Timestamp, first: Timestamp) -> Option<Timestamp> {
        let mut at = self.on_beat(until.millis() - self.poll_ms);
        while at >= first.millis() {
            if self.there(at.div_euclid(HOUR_MS)) {
                return Some(Timestamp::from_millis(at));
            }
            let gone = at.div_euclid(HOUR_MS);
            let was = (hour(first)..gone).rev().find(|hour| self.there(*hour))?;
            at = self.on_beat((was + 1) * HOUR_MS - self.poll_ms);
        }
        None
    }

    /// The hour from which on it has been there without a break until `at`, not looking further back than `first`.
    pub(super) fn came(&self, at: Timestamp, first: Timestamp) -> Timestamp {
        let gone = (hour(first)..=hour(at)).rev().find(|hour| !self.there(*hour));
        gone.map_or(first, |gone| Timestamp::from_millis((gone + 1) * HOUR_MS))
    }

    /// Whether it is there without a break from `from`, when it is, to `to`.
    pub(super) fn stays(&self, from: Timestamp, to: Timestamp) -> bool {
        (hour(from)..=hour(to)).all(|hour| self.there(hour))
    }

    /// When it goes, at `from` or later; `None` if it stays.
    pub(super) fn goes(&self, from: Timestamp) -> Option<Timestamp> {
        let first = hour(from);
        let gone = (first..first + MAX_HOURS).find(|hour| !self.there(*hour))?;
        Some(from.max(Timestamp::from_millis(gone * HOUR_MS)))
    }

    /// Its first check-in after it has been away next.
    pub(super) fn comes_back(&self, from: Timestamp) -> Option<Timestamp> {
        self.next(self.goes(from)?)
    }

    /// When it will have been there for `time` since `from`.
    pub(super) fn after(&self, from: Timestamp, time: Duration) -> Option<Timestamp> {
        let mut left = time;
        let mut at = from;
        for _ in 0..MAX_HOURS {
            let ends = Timestamp::from_millis((hour(at) + 1) * HOUR_MS);
            if self.is_there(at) {
                let part = ends.since(at);
                if part > left {
                    return Some(at + left);
                }
                left -= part;
            }
            at = ends;
        }
        None
    }

    /// For how long it is there between two times.
    pub(super) fn time(&self, from: Timestamp, to: Timestamp) -> Duration {
        let mut time = Duration::ZERO;
        let mut at = from;
        while at < to {
            let ends = Timestamp::from_millis((hour(at) + 1) * HOUR_MS).min(to);
            if self.is_there(at) {
                time += ends.since(at);
            }
            at = ends;
        }
        time
    }

    /// The first beat of its check-ins from then on.
    fn on_beat(&self, ms: i64) -> i64 {
        ms + (self.offset_ms - ms).rem_euclid(self.poll_ms)
    }
}

/// Hours since the beginning of time.
const fn hour(at: Timestamp) -> i64 {
    at.millis().div_euclid(HOUR_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::at;

    fn habits(rhythm: Rhythm, away: u32) -> Habits {
        Habits { rhythm, away: Chance::from_millionths(away), key: 7, offset_ms: 30_000, poll_ms: 300_000 }
    }

    /// There from 8 to 20 o'clock.
    fn day() -> Rhythm {
        let mut bytes = [0; crate::rhythm::BYTES];
        for hour in (0..168).filter(|hour| (8..20).contains(&(hour % 24))) {
            bytes[hour / 8] |= 1 << (hour % 8);
        }
        Rhythm::from_slice(&bytes).expect("a rhythm")
    }

    #[test]
    fn it_checks_in_on_its_beat_while_it_is_there() {
        let till = habits(day(), 0);
        let next = |from| till.next(at(from)).expect("a check-in").to_string();
        assert_eq!(next("2026-11-23T12:00:00Z"), "2026-11-23T12:00:30Z");
        assert_eq!(next("2026-11-23T12:00:30Z"), "2026-11-23T12:00:30Z");
        assert_eq!(next("2026-11-23T12:00:31Z"), "2026-11-23T12:05:30Z");
        assert_eq!(next("2026-11-23T19:56:00Z"), "2026-11-24T08:00:30Z");
        let last = |until| till.last(at(until), at("2026-11-22T00:00:00Z")).expect("a check-in").to_string();
        assert_eq!(last("2026-11-23T12:00:30Z"), "2026-11-23T11:55:30Z");
        assert_eq!(last("2026-11-23T12:00:31Z"), "2026-11-23T12:00:30Z");
        assert_eq!(last("2026-11-23T08:00:30Z"), "2026-11-22T19:55:30Z");
        assert_eq!(till.last(at("2026-11-23T08:00:30Z"), at("2026-11-23T06:00:00Z")), None);
    }

    #[test]
    fn it_comes_and_goes() {
        let till = habits(day(), 0);
        let noon = at("2026-11-23T12:00:00Z");
        assert_eq!(till.goes(noon), Some(at("2026-11-23T20:00:00Z")));
        assert_eq!(till.goes(at("2026-11-23T22:00:00Z")), Some(at("2026-11-23T22:00:00Z")));
        assert_eq!(till.comes_back(noon), Some(at("2026-11-24T08:00:30Z")));
        assert_eq!(till.came(noon, at("2026-11-20T00:00:00Z")), at("2026-11-23T08:00:00Z"));
        assert_eq!(habits(Rhythm::ALWAYS, 0).comes_back(noon), None);
        let time = Duration::from_secs(9 * 3600);
        assert_eq!(till.after(noon, time), Some(at("2026-11-24T09:00:00Z")));
        assert_eq!(till.time(noon, at("2026-11-24T09:00:00Z")), time);
        let never = habits(Rhythm::from_slice(&[0; crate::rhythm::BYTES]).expect("a rhythm"), 0);
        assert_eq!((never.next(noon), never.after(noon, time)), (None, None));
    }

    #[test]
    fn it_is_away_for_the_share_of_time_that_is_assumed() {
        let mut there = 0;
        for key in 0..200 {
            let vehicle = Habits { key: roll(1, key), ..habits(Rhythm::ALWAYS, 400_000) };
            there += (0..336).filter(|hour| vehicle.there(*hour)).count();
        }
        let percent = there * 100 / (200 * 336);
        assert!((58..=62).contains(&percent), "{percent} %");
    }
}
