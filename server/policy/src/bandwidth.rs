//! Bandwidth: how many bytes a second the downloads of one site may take together, by the hours of its day.
//!
//! Limits stand in an order, and the first whose hours it is holds; one without hours always holds, and without any
//! there is no limit. Hours are read as trading hours are: where clock changes make an end ambiguous, the longer reading
//! holds.

use std::fmt;

use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use crate::trading::{HoursSpec, Trading, TradingHours};

/// Limits of one site at most: a few for each kind of day.
pub const MAX_LIMITS: usize = 16;
/// No download is told to be slower than this: slower ones count as dead on many a line, and never end.
pub const MIN_SHARE: u64 = 4096;
/// More than any line of a site: 1 TB a second.
pub const MAX_RATE: u64 = 1_000_000_000_000;

/// The limits of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth(Vec<Limit>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    /// `None`: always.
    hours: Option<TradingHours>,
    bytes_per_s: u64,
}

/// One limit as it was typed; both ends or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// `mon` to `sun`; none means every day.
    pub days: Vec<String>,
    /// `HH:MM`.
    pub from: Option<String>,
    /// `HH:MM`, on the next day if it is not after `from`; `24:00` is the end of the day.
    pub to: Option<String>,
    /// 0 lets nobody download.
    pub bytes_per_s: u64,
}

/// What is allowed at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// To all downloads together.
    pub bytes_per_s: u64,
    /// Until then; `None` if nothing changes within a week.
    pub until: Option<Timestamp>,
}

impl Bandwidth {
    /// Checks what was typed.
    ///
    /// # Errors
    /// Says which limit is wrong and what would be right.
    pub fn read(specs: &[LimitSpec]) -> Result<Self, String> {
        if specs.len() > MAX_LIMITS {
            return Err(format!("there are {} limits; at most {MAX_LIMITS} are allowed", specs.len()));
        }
        let limits = specs.iter().enumerate();
        let read = limits.map(|(n, spec)| Limit::read(spec).map_err(|error| format!("limit {}: {error}", n + 1)));
        let limits = read.collect::<Result<Vec<_>, _>>()?;
        match limits.iter().position(|limit| limit.hours.is_none()) {
            Some(always) if always + 1 < limits.len() => {
                Err(format!("limit {}: it always holds, so those after it never do; put it last", always + 1))
            }
            _ => Ok(Self(limits)),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is allowed at `now`, by the clock of `tz`; `None` if there is no limit then.
    pub fn at(&self, now: Timestamp, tz: Tz) -> Option<Allowed> {
        let mut until: Option<Timestamp> = None;
        for Limit { hours, bytes_per_s } in &self.0 {
            let (holds, changes) = match hours.as_ref().map(|hours| hours.at(now, tz)) {
                None => (true, None),
                Some(Trading::Open { until, .. }) => (true, until),
                Some(Trading::Closed { opens, .. }) => (false, opens),
            };
            until = [until, changes].into_iter().flatten().min();
            if holds {
                return Some(Allowed { bytes_per_s: *bytes_per_s, until });
            }
        }
        None
    }
}

impl Allowed {
    /// The part of one of so many downloads, which are at least one.
    pub fn share(self, downloads: u64) -> u64 {
        share(self.bytes_per_s, downloads)
    }
}

/// The part of one of so many downloads.
pub fn share(bytes_per_s: u64, downloads: u64) -> u64 {
    (bytes_per_s / downloads.max(1)).max(MIN_SHARE)
}

impl Limit {
    fn read(spec: &LimitSpec) -> Result<Self, String> {
        let LimitSpec { days, from, to, bytes_per_s } = spec;
        if (1..MIN_SHARE).contains(bytes_per_s) || *bytes_per_s > MAX_RATE {
            return Err(format!("{bytes_per_s} bytes a second; 0, or {MIN_SHARE} to {MAX_RATE} are allowed"));
        }
        let hours = match (from, to) {
            (Some(from), Some(to)) => {
                let spec = HoursSpec { days: days.clone(), opens: from.clone(), closes: to.clone() };
                Some(TradingHours::one(&spec)?)
            }
            (None, None) if days.is_empty() => None,
            (None, None) => {
                let (opens, closes) = ("00:00".to_owned(), "24:00".to_owned());
                Some(TradingHours::one(&HoursSpec { days: days.clone(), opens, closes })?)
            }
            _ => return Err("it has one of from and to; give both or none".to_owned()),
        };
        Ok(Self { hours, bytes_per_s: *bytes_per_s })
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Limit { hours, bytes_per_s }) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            f.write_str(separator)?;
            if let Some(hours) = hours {
                write!(f, "{hours} ")?;
            }
            f.write_str(&rate(*bytes_per_s))?;
        }
        Ok(())
    }
}

/// A rate as people write it: the largest unit that says it exactly.
pub fn rate(bytes_per_s: u64) -> String {
    let units = [(1_000_000_000, "GB/s"), (1_000_000, "MB/s"), (1000, "kB/s")];
    let exact = units.into_iter().find(|(size, _)| bytes_per_s > 0 && bytes_per_s.is_multiple_of(*size));
    exact.map_or_else(|| format!("{bytes_per_s} B/s"), |(size, unit)| format!("{} {unit}", bytes_per_s / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::at;

    fn limit(days: &[&str], hours: Option<(&str, &str)>, bytes_per_s: u64) -> LimitSpec {
        let days = days.iter().map(|day| (*day).to_owned()).collect();
        let (from, to) = hours.map(|(from, to)| (from.to_owned(), to.to_owned())).unzip();
        LimitSpec { days, from, to, bytes_per_s }
    }

    /// Slow while the shop is open, faster at night, and nothing on Sunday mornings.
    fn shop() -> Bandwidth {
        Bandwidth::read(&[
            limit(&["sun"], Some(("06:00", "12:00")), 0),
            limit(&["mon", "tue", "wed", "thu", "fri", "sat"], Some(("08:00", "20:00")), 250_000),
            limit(&[], None, 2_000_000),
        ])
        .expect("limits")
    }

    fn check(bandwidth: &Bandwidth, tz: &str, now: &str, wanted: Option<(u64, Option<&str>)>) {
        let found = bandwidth.at(at(now), tz.parse().expect("a zone"));
        let wanted = wanted.map(|(bytes_per_s, until)| Allowed { bytes_per_s, until: until.map(at) });
        assert_eq!(found, wanted, "at {now} in {tz}");
    }

    #[test]
    fn the_first_limit_whose_hours_it_is_holds() {
        let (shop, ny) = (shop(), "America/New_York");
        // Monday 2026-11-23; New York is 5 hours behind.
        check(&shop, ny, "2026-11-23T12:59:59Z", Some((2_000_000, Some("2026-11-23T13:00:00Z"))));
        check(&shop, ny, "2026-11-23T13:00:00Z", Some((250_000, Some("2026-11-24T01:00:00Z"))));
        check(&shop, ny, "2026-11-24T01:00:00Z", Some((2_000_000, Some("2026-11-24T13:00:00Z"))));
        check(&shop, ny, "2026-11-29T11:30:00Z", Some((0, Some("2026-11-29T17:00:00Z"))));
        // The same instant elsewhere is another hour of the day.
        check(&shop, "Asia/Tokyo", "2026-11-23T13:00:00Z", Some((2_000_000, Some("2026-11-23T23:00:00Z"))));
    }

    #[test]
    fn without_a_limit_for_the_hour_there_is_none() {
        let day = Bandwidth::read(&[limit(&[], Some(("08:00", "20:00")), 9000)]).expect("limits");
        check(&day, "UTC", "2026-11-23T07:59:00Z", None);
        check(&day, "UTC", "2026-11-23T08:00:00Z", Some((9000, Some("2026-11-23T20:00:00Z"))));
        check(&Bandwidth::default(), "UTC", "2026-11-23T08:00:00Z", None);
        let always = Bandwidth::read(&[limit(&[], None, 9000)]).expect("limits");
        check(&always, "UTC", "2026-11-23T08:00:00Z", Some((9000, None)));
        let sunday = Bandwidth::read(&[limit(&["sun"], None, 9000)]).expect("limits");
        check(&sunday, "UTC", "2026-11-22T08:00:00Z", Some((9000, Some("2026-11-23T00:00:00Z"))));
    }

    #[test]
    fn hours_follow_the_clock_of_the_site_over_its_changes() {
        let night = Bandwidth::read(&[limit(&[], Some(("01:30", "02:30")), 9000)]).expect("limits");
        let ny = "America/New_York";
        // 2026-03-08: from 02:00 to 03:00 there is no time; the limit ends at the first instant after the gap.
        check(&night, ny, "2026-03-08T06:30:00Z", Some((9000, Some("2026-03-08T07:00:00Z"))));
        check(&night, ny, "2026-03-08T07:00:00Z", None);
        // 2026-11-01: 01:30 comes twice; the limit holds from the first to 02:30, two hours later.
        check(&night, ny, "2026-11-01T05:29:59Z", None);
        check(&night, ny, "2026-11-01T05:30:00Z", Some((9000, Some("2026-11-01T07:30:00Z"))));
        check(&night, ny, "2026-11-01T06:30:00Z", Some((9000, Some("2026-11-01T07:30:00Z"))));
        // Across midnight, and across the change.
        let late = Bandwidth::read(&[limit(&["sat"], Some(("22:00", "06:00")), 9000)]).expect("limits");
        check(&late, ny, "2026-11-01T10:59:59Z", Some((9000, Some("2026-11-01T11:00:00Z"))));
        check(&late, ny, "2026-03-08T09:59:59Z", Some((9000, Some("2026-03-08T10:00:00Z"))));
    }

    #[test]
    fn a_budget_is_divided_and_nobody_is_told_to_stand_still() {
        let allowed = Allowed { bytes_per_s: 1_000_000, until: None };
        assert_eq!([0, 1, 3, 40, 1_000_000].map(|n| allowed.share(n)), [1_000_000, 1_000_000, 333_333, 25_000, 4096]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |specs: &[LimitSpec]| Bandwidth::read(specs).expect_err("refused");
        assert_eq!(
            said(&[limit(&[], None, 4095)]),
            "limit 1: 4095 bytes a second; 0, or 4096 to 1000000000000 are allowed"
        );
        assert_eq!(
            said(&[limit(&["mon"], Some(("8", "20:00")), 0)]),
            "limit 1: \"8\" is no time of day; HH:MM such as 02:00 is wanted"
        );
        let half = LimitSpec { to: None, ..limit(&[], Some(("08:00", "20:00")), 0) };
        assert_eq!(said(&[half]), "limit 1: it has one of from and to; give both or none");
        let dead = [limit(&[], None, 9000), limit(&["sun"], None, 0)];
        assert_eq!(said(&dead), "limit 1: it always holds, so those after it never do; put it last");
        assert_eq!(said(&vec![limit(&["sun"], None, 0); 17]), "there are 17 limits; at most 16 are allowed");
    }

    #[test]
    fn it_is_shown_as_it_is_written() {
        assert_eq!(shop().to_string(), "sun 06:00-12:00 0 B/s; mon-sat 08:00-20:00 250 kB/s; 2 MB/s");
    }
}
