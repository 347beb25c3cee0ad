//! When a device is usually there: one bit for each hour of the week, as it was the last time that hour came.
//!
//! A till that goes off at closing time is not silent because of what it installs. So silence after a switch counts
//! only in hours in which the device is expected; and a forecast asks when those come.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use crate::{
    device::Device,
    trading::{Trading, TradingHours},
};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;
/// Hours of a week.
const HOURS: i64 = 168;
/// Bytes that it is stored in.
pub const BYTES: usize = 21;

/// Hours of the week, in UTC, in which a device is usually there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rhythm([u8; BYTES]);

impl Default for Rhythm {
    fn default() -> Self {
        Self::ALWAYS
    }
}

impl std::fmt::Debug for Rhythm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let there = (0..HOURS).filter(|hour| self.has(*hour)).count();
        write!(f, "Rhythm({there} of {HOURS} hours)")
    }
}

impl Rhythm {
    /// There at any time: what is taken for true until something else is known.
    pub const ALWAYS: Self = Self([0xff; BYTES]);

    /// As it is stored.
    pub const fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// From what was stored; `None` if it is not that long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A guess for a device that was never seen: its site's trading hours.
    pub fn guess(device: &Device, now: Timestamp) -> Self {
        device.site_tz.map(|tz| Self::of_site(&device.site_rules.trading, tz, now)).unwrap_or_default()
    }

    /// A guess for a device of which nothing is known but when its site trades.
    pub fn of_site(trading: &TradingHours, tz: Tz, now: Timestamp) -> Self {
        if trading.is_empty() {
            return Self::ALWAYS;
        }
        let mut guess = Self([0; BYTES]);
        for n in 0..HOURS {
            let at = Timestamp::from_millis((hour(now) + n) * HOUR_MS);
            let trades = |at: Timestamp| matches!(trading.at(at, tz), Trading::Open { .. });
            if trades(at) || trades(at + HOUR / 2) {
                guess.set(hour(at), true);
            }
        }
        guess
    }

    /// After a check-in at `now`, of a device that was seen before at `last_seen` and counts as online for
    /// `online_for` after a check-in.
    pub fn seen(mut self, last_seen: Option<Timestamp>, now: Timestamp, online_for: Duration) -> Self {
        if let Some(last) = last_seen.filter(|last| *last < now) {
            let there = now.since(last) <= online_for;
            let first = (hour(last) + 1).max(hour(now) - HOURS);
            (first..hour(now)).for_each(|between| self.set(between, there));
        }
        self.set(hour(now), true);
        self
    }

    /// Whether it is usually there at `at`.
    pub fn is_there(&self, at: Timestamp) -> bool {
        self.has(hour(at))
    }

    /// Whether it would be odd to hear nothing of it in the hour of `at`: it goes and comes some time in the first and
    /// the last hour of the day.
    fn is_expected(&self, at: i64) -> bool {
        self.has(at - 1) && self.has(at) && self.has(at + 1)
    }

    /// When `time` of the hours in which it is expected have passed since `from`; `None` if that takes more than two
    /// weeks.
    pub fn after(&self, from: Timestamp, time: Duration) -> Option<Timestamp> {
        if *self == Self::ALWAYS {
            return Some(from + time);
        }
        let mut left = time;
        let mut at = from;
        for _ in 0..=2 * HOURS {
            let ends = Timestamp::from_millis((hour(at) + 1) * HOUR_MS);
            if self.is_expected(hour(at)) {
                let part = ends.since(at);
                if part >= left {
                    return Some(at + left);
                }
                left -= part;
            }
            at = ends;
        }
        None
    }

    /// The first time from `from` on at which it is usually there; `None` if it never is.
    pub fn next(&self, from: Timestamp) -> Option<Timestamp> {
        let first = hour(from);
        let found = (first..first + HOURS).find(|at| self.has(*at))?;
        Some(from.max(Timestamp::from_millis(found * HOUR_MS)))
    }

    /// When a device is expected that was to ask again at `due`: in the past if it is overdue; `None` if it is never there.
    pub fn expects(&self, due: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if now <= due {
            return Some(due);
        }
        if !self.is_there(now) {
            return self.next(now);
        }
        let this = hour(now);
        let begins = (this - HOURS..=this).rev().take_while(|at| self.has(*at)).last()?;
        Some(due.max(Timestamp::from_millis(begins * HOUR_MS)))
    }

    fn has(&self, hour: i64) -> bool {
        let (byte, bit) = place(hour);
        self.0.get(byte).is_some_and(|byte| byte & bit != 0)
    }

    fn set(&mut self, hour: i64, there: bool) {
        let (byte, bit) = place(hour);
        if let Some(byte) = self.0.get_mut(byte) {
            *byte = if there { *byte | bit } else { *byte & !bit };
        }
    }
}

/// Hours since the beginning of time.
const fn hour(at: Timestamp) -> i64 {
    at.millis().div_euclid(HOUR_MS)
}

fn place(hour: i64) -> (usize, u8) {
    let of_week = usize::try_from(hour.rem_euclid(HOURS)).unwrap_or_default();
    (of_week / 8, 1 << (of_week % 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::at, trading::HoursSpec};

    const ONLINE: Duration = Duration::from_secs(600);

    /// A till that is on from 8:10 to 20:20 on every day of two weeks, and asks every five minutes.
    fn till() -> Rhythm {
        let mut rhythm = Rhythm::ALWAYS;
        let mut last = None;
        for day in 0..14 {
            let morning = at("2026-11-02T08:10:00Z") + HOUR * 24 * day;
            for n in 0..146 {
                let now = morning + Duration::from_secs(300) * n;
                rhythm = rhythm.seen(last, now, ONLINE);
                last = Some(now);
            }
        }
        rhythm
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn what_is_not_known_counts_as_there() {
        let now = at("2026-11-23T12:00:00Z");
        assert_eq!(Rhythm::ALWAYS.after(now, minutes(60)), Some(now + minutes(60)));
        let fresh = Rhythm::ALWAYS.seen(None, now, ONLINE);
        assert_eq!(fresh, Rhythm::ALWAYS);
        assert_eq!(Rhythm::from_slice(fresh.as_bytes()), Some(fresh));
        assert_eq!(Rhythm::from_slice(&[1, 2]), None);
    }

    #[test]
    fn silence_at_night_does_not_count_for_a_till_that_is_off_then() {
        let till = till();
        assert!(till.is_there(at("2026-11-23T20:10:00Z")) && !till.is_there(at("2026-11-23T21:00:00Z")));
        let after = |from| till.after(at(from), minutes(60)).expect("a time").to_string();
        assert_eq!(after("2026-11-23T12:00:00Z"), "2026-11-23T13:00:00Z", "in the middle of the day");
        // The hours in which it comes and goes do not count.
        assert_eq!(after("2026-11-23T20:15:00Z"), "2026-11-24T10:00:00Z");
        assert_eq!(after("2026-11-23T19:30:00Z"), "2026-11-24T09:30:00Z", "half an hour before closing");
        assert_eq!(after("2026-11-24T03:00:00Z"), "2026-11-24T10:00:00Z");
        assert_eq!(till.next(at("2026-11-23T22:00:00Z")), Some(at("2026-11-24T08:00:00Z")));
        assert_eq!(till.next(at("2026-11-23T12:34:00Z")), Some(at("2026-11-23T12:34:00Z")));
    }

    #[test]
    fn a_till_is_expected_when_it_is_usually_there_and_overdue_since_then() {
        let till = till();
        let expects = |due, now| till.expects(at(due), at(now)).expect("a time").to_string();
        assert_eq!(expects("2026-11-23T12:05:00Z", "2026-11-23T12:02:00Z"), "2026-11-23T12:05:00Z");
        assert_eq!(expects("2026-11-23T20:25:00Z", "2026-11-24T03:00:00Z"), "2026-11-24T08:00:00Z", "in the morning");
        assert_eq!(expects("2026-11-23T20:25:00Z", "2026-11-24T09:30:00Z"), "2026-11-24T08:00:00Z", "it did not come");
        assert_eq!(expects("2026-11-23T12:05:00Z", "2026-11-23T14:00:00Z"), "2026-11-23T12:05:00Z", "it went away");
        let (due, now) = (at("2026-11-02T12:05:00Z"), at("2026-11-23T14:00:00Z"));
        assert_eq!(Rhythm::ALWAYS.expects(due, now).map(|at| now.since(at)), Some(HOUR * 168), "a week tells enough");
        assert_eq!(Rhythm([0; BYTES]).expects(due, now), None);
    }

    #[test]
    fn it_follows_what_changes_within_a_week() {
        // It is left on from now on.
        let mut rhythm = till();
        let mut last = at("2026-11-15T20:15:00Z");
        for n in 0..(7 * 288) {
            let now = at("2026-11-16T08:10:00Z") + Duration::from_secs(300) * n;
            rhythm = rhythm.seen(Some(last), now, ONLINE);
            last = now;
        }
        let now = at("2026-11-24T03:00:00Z");
        assert_eq!(rhythm.after(now, minutes(60)), Some(now + minutes(60)));
        // And then it is away for a month.
        let back = now + HOUR * 24 * 30;
        let rhythm = rhythm.seen(Some(last), back, ONLINE);
        assert_eq!(rhythm.after(back, minutes(60)), None, "one hour is not enough to expect it");
        assert_eq!(rhythm.next(back + HOUR), Some(Timestamp::from_millis((hour(back) + HOURS) * HOUR_MS)));
    }

    #[test]
    fn trading_hours_are_the_first_guess() {
        let spec = HoursSpec { days: Vec::new(), opens: "08:00".to_owned(), closes: "20:00".to_owned() };
        let hours = TradingHours::read(&[spec]).expect("hours");
        let guess = Rhythm::of_site(&hours, Tz::UTC, at("2026-11-23T12:00:00Z"));
        assert_eq!(guess.after(at("2026-11-23T20:15:00Z"), minutes(60)), Some(at("2026-11-24T10:00:00Z")));
        assert_eq!(Rhythm::of_site(&TradingHours::default(), Tz::UTC, at("2026-11-23T12:00:00Z")), Rhythm::ALWAYS);
    }
}
