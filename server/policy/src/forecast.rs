//! When a rollout will be done, as far as that can be told from how it went so far: a range with its basis, or that
//! there is not enough to go by. Nothing is invented.
//!
//! What is measured is the rate of devices that were done with it, per hour in which it could work: an hour counts by
//! the share of devices for which nothing was in the way then (windows, trading hours, freezes). The same share of the
//! hours ahead says how long the rest takes at that rate. Besides, nobody is done before there was a chance for it:
//! that is when a device is usually there and nothing is in the way.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use crate::{rhythm::Rhythm, window::Span};

/// Fewer devices say nothing about the next ones.
pub const MIN_DONE: u32 = 5;
/// How far back the rate is measured.
pub const LOOK_BACK: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far ahead anything is said.
pub const LOOK_AHEAD: Duration = Duration::from_secs(28 * 24 * 3600);

const HOUR: Duration = Duration::from_secs(3600);

/// One hour in which devices were done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// When it began.
    pub start: Timestamp,
    /// How many devices were done in it.
    pub done: u32,
}

/// One of the devices that are left, for a sample of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// When nothing is in the way, from [`LOOK_BACK`] ago to [`LOOK_AHEAD`] from now.
    pub open: Vec<Span>,
    /// When it is usually there.
    pub rhythm: Rhythm,
}

/// What a forecast is made of.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    /// What time it is.
    pub now: Timestamp,
    /// Since when the rollout works.
    pub since: Timestamp,
    /// Hours in which devices were done, oldest first; those without may be missing.
    pub hours: &'a [Hour],
    /// Devices from which something is still expected, those that were not reached yet among them.
    pub left: u32,
    /// Some of them.
    pub sample: &'a [Left],
}

/// When a rollout will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forecast {
    /// Some time in this range.
    Between {
        /// Not before.
        from: Timestamp,
        /// `None` if it may take longer than anything can be said about.
        to: Option<Timestamp>,
        /// What this is made of.
        basis: String,
    },
    /// Nothing can be said, and why.
    NotEnough(String),
    /// Nothing is left.
    Done,
}

impl Left {
    fn is_open(&self, at: Timestamp) -> bool {
        self.open.iter().any(|span| span.start <= at && at < span.end)
    }
}

/// Forecasts.
pub fn forecast(basis: &Basis<'_>) -> Forecast {
    if basis.left == 0 {
        return Forecast::Done;
    }
    let begins = basis.since.max(basis.now - LOOK_BACK);
    let done: u32 = basis.hours.iter().filter(|hour| hour.start + HOUR > begins).map(|hour| hour.done).sum();
    if done < MIN_DONE {
        let text = format!("{done} devices were done with it in the last 7 days; {MIN_DONE} are needed to go by");
        return Forecast::NotEnough(text);
    }
    if basis.sample.is_empty() {
        return Forecast::NotEnough("none of the devices that are left could be looked at".to_owned());
    }
    let Some(worked) = worked(basis, begins).filter(|worked| *worked > 0.0) else {
        return Forecast::NotEnough("devices were done only in hours in which it could not work".to_owned());
    };
    let rate = f64::from(done) / worked;
    // What chance alone does to a count: its square root, on both sides.
    let doubt = 1.0 / f64::from(done).sqrt();
    let left = f64::from(basis.left);
    let chances = chances(basis);
    let quick = ahead(basis, left / (rate * (1.0 + doubt)));
    let slow = ahead(basis, left / (rate * (1.0 - doubt)));
    let text = said(basis, done, worked, rate, &chances);
    let Some(from) = quick.map(|at| chances.half.map_or(at, |half| at.max(half))) else {
        return Forecast::NotEnough(format!("no time is in sight in which all that is left could be done; {text}"));
    };
    let to = slow.zip(chances.last).map(|(slow, last)| slow.max(last).max(from)).filter(|_| chances.none == 0);
    Forecast::Between { from, to, basis: text }
}

/// Hours since `begins` in which it could work, each by the share of devices for which nothing was in the way.
fn worked(basis: &Basis<'_>, begins: Timestamp) -> Option<f64> {
    let mut worked = 0.0;
    let mut at = begins;
    while at < basis.now {
        let ends = (at + HOUR).min(basis.now);
        worked += share(basis, at) * hours(ends.since(at));
        at = ends;
    }
    (worked > 0.0).then_some(worked)
}

/// When so many hours in which it can work have passed from now on.
fn ahead(basis: &Basis<'_>, mut needed: f64) -> Option<Timestamp> {
    let mut at = basis.now;
    while at < basis.now + LOOK_AHEAD {
        let works = share(basis, at);
        if works >= needed {
            return Some(at + HOUR.mul_f64(needed / works.max(f64::MIN_POSITIVE)));
        }
        needed -= works;
        at = at + HOUR;
    }
    None
}

/// The share of devices for which nothing is in the way.
fn share(basis: &Basis<'_>, at: Timestamp) -> f64 {
    let open = basis.sample.iter().filter(|one| one.is_open(at)).count();
    ratio(open, basis.sample.len())
}

/// When the devices of the sample get their chance: they are there, and nothing is in the way.
struct Chances {
    /// Half of those that get one have had it by then.
    half: Option<Timestamp>,
    /// All of them.
    last: Option<Timestamp>,
    /// How many get none that could be seen.
    none: usize,
}

fn chances(basis: &Basis<'_>) -> Chances {
    let mut found: Vec<Timestamp> = basis.sample.iter().filter_map(|one| chance(basis, one)).collect();
    found.sort_unstable();
    let none = basis.sample.len() - found.len();
    Chances { half: found.get(found.len().saturating_sub(1) / 2).copied(), last: found.last().copied(), none }
}

/// The first hour in which a device is there and nothing is in the way. What comes later than in a week comes by the
/// calendar, and nobody knows whether the device is there then.
fn chance(basis: &Basis<'_>, one: &Left) -> Option<Timestamp> {
    let mut at = basis.now;
    while at < basis.now + LOOK_BACK {
        if one.is_open(at) && one.rhythm.is_there(at) {
            return Some(at);
        }
        at = at + HOUR;
    }
    None
}

fn said(basis: &Basis<'_>, done: u32, worked: f64, rate: f64, chances: &Chances) -> String {
    let (left, looked) = (basis.left, basis.sample.len());
    let mut text = format!(
        "{done} devices were done in {worked:.1} h in which it could work, {rate:.1} an hour; {left} are left, {looked} of \
         which were looked at"
    );
    if chances.none > 0 {
        text += &format!(": {} of them are not expected within a week", chances.none);
    } else if let Some(last) = chances.last.filter(|last| *last > basis.now) {
        text += &format!(": the last of them is there, with nothing in the way, at {last}");
    }
    text
}

fn hours(time: Duration) -> f64 {
    time.as_secs_f64() / HOUR.as_secs_f64()
}

fn ratio(part: usize, whole: usize) -> f64 {
    let narrow = |n: usize| u32::try_from(n).map_or(f64::from(u32::MAX), f64::from);
    if whole == 0 { 0.0 } else { narrow(part) / narrow(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::at;

    /// Hours of the day as stretches of the weeks around noon, the day of the tests.
    fn daily(hours: std::ops::Range<u64>) -> Vec<Span> {
        let first = at("2026-11-16T00:00:00Z");
        let day = |n: u64| first + HOUR * 24 * u32::try_from(n).expect("days");
        let span = |n| Span {
            start: day(n) + Duration::from_secs(hours.start * 3600),
            end: day(n) + Duration::from_secs(hours.end * 3600),
        };
        (0..36).map(span).collect()
    }

    fn there(hours: std::ops::Range<u64>) -> Rhythm {
        let mut rhythm = Rhythm::ALWAYS;
        let mut last = None;
        for span in daily(hours) {
            let mut now = span.start;
            while now < span.end {
                rhythm = rhythm.seen(last, now, HOUR);
                last = Some(now);
                now = now + HOUR;
            }
        }
        rhythm
    }

    fn always() -> Left {
        Left { open: daily(0..24), rhythm: Rhythm::ALWAYS }
    }

    fn say(now: &str, since: &str, done: &[(&str, u32)], left: u32, sample: &[Left]) -> String {
        let hours: Vec<Hour> = done.iter().map(|(start, done)| Hour { start: at(start), done: *done }).collect();
        let basis = Basis { now: at(now), since: at(since), hours: &hours, left, sample };
        match forecast(&basis) {
            Forecast::Between { from, to: Some(to), basis } => format!("{from} to {to}: {basis}"),
            Forecast::Between { from, to: None, basis } => format!("not before {from}: {basis}"),
            Forecast::NotEnough(why) => format!("not enough data: {why}"),
            Forecast::Done => "done".to_owned(),
        }
    }

    const NOON: &str = "2026-11-23T12:00:00Z";

    #[test]
    fn without_enough_to_go_by_nothing_is_said() {
        insta::assert_snapshot!(say(NOON, "2026-11-23T11:00:00Z", &[("2026-11-23T11:00:00Z", 4)], 9, &[always()]), @"not enough data: 4 devices were done with it in the last 7 days; 5 are needed to go by");
        insta::assert_snapshot!(say(NOON, "2026-11-23T11:00:00Z", &[("2026-11-23T11:00:00Z", 40)], 9, &[]), @"not enough data: none of the devices that are left could be looked at");
        assert_eq!(say(NOON, NOON, &[], 0, &[]), "done");
        let never = Left { open: Vec::new(), ..always() };
        insta::assert_snapshot!(say(NOON, "2026-11-23T11:00:00Z", &[("2026-11-23T11:00:00Z", 40)], 9, &[never]), @"not enough data: devices were done only in hours in which it could not work");
    }

    #[test]
    fn at_a_steady_rate_the_rest_takes_its_time_give_or_take_what_chance_does() {
        let done = [("2026-11-23T10:00:00Z", 50), ("2026-11-23T11:00:00Z", 50)];
        insta::assert_snapshot!(say(NOON, "2026-11-23T10:00:00Z", &done, 100, &[always()]), @"2026-11-23T13:49:05.454Z to 2026-11-23T14:13:20Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 100 are left, 1 of which were looked at");
        // What happened more than a week ago says nothing about today.
        let old = [("2026-11-01T10:00:00Z", 500), ("2026-11-23T11:00:00Z", 3)];
        assert!(say(NOON, "2026-11-01T10:00:00Z", &old, 100, &[always()]).starts_with("not enough data: 3 devices"));
    }

    #[test]
    fn hours_in_which_it_cannot_work_count_neither_before_nor_ahead() {
        let nights = || Left { open: daily(2..4), ..always() };
        let done = [("2026-11-23T02:00:00Z", 50), ("2026-11-23T03:00:00Z", 50)];
        insta::assert_snapshot!(say(NOON, "2026-11-22T12:00:00Z", &done, 100, &[nights(), nights()]), @"2026-11-24T03:49:05.454Z to 2026-11-25T02:13:20Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 100 are left, 2 of which were looked at: the last of them is there, with nothing in the way, at 2026-11-24T02:00:00Z");
    }

    #[test]
    fn devices_that_are_there_at_other_hours_make_it_longer_and_those_that_never_are_make_it_open() {
        let done = [("2026-11-23T10:00:00Z", 50), ("2026-11-23T11:00:00Z", 50)];
        let evening = Left { rhythm: there(20..22), ..always() };
        insta::assert_snapshot!(say(NOON, "2026-11-23T10:00:00Z", &done, 10, &[always(), evening]), @"2026-11-23T12:10:54.545Z to 2026-11-23T20:00:00Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 10 are left, 2 of which were looked at: the last of them is there, with nothing in the way, at 2026-11-23T20:00:00Z");
        let gone = Left { rhythm: Rhythm::from_slice(&[0; crate::rhythm::BYTES]).expect("a rhythm"), ..always() };
        insta::assert_snapshot!(say(NOON, "2026-11-23T10:00:00Z", &done, 10, &[always(), gone]), @"not before 2026-11-23T12:10:54.545Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 10 are left, 2 of which were looked at: 1 of them are not expected within a week");
    }
}
