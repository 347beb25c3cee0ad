//! When a rollout will be done, as far as that can be told from how it went so far: a range with its basis, or that
//! there is not enough to go by. Nothing is invented.
//!
//! What is measured is the rate of devices that were done with it, per hour in which it could work: an hour counts by
//! the share of devices for which nothing was in the way then (windows, trading hours, freezes). The same share of the
//! hours ahead says how long the rest takes at that rate. Besides, nobody is done before there was a chance for it:
//! that is when a device is usually there and nothing is in the way. And nobody of a later phase is done before the
//! phases that are still to prove themselves have soaked, and somebody has approved them who is to.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use crate::{
    counted,
    gate::PhaseTimes,
    rhythm::Rhythm,
    rollout::{Approval, Phase},
    window::Span,
};

/// Fewer devices say nothing about the next ones.
pub const MIN_DONE: u32 = 5;
/// How far back the rate is measured.
pub const LOOK_BACK: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far ahead anything is said.
pub const LOOK_AHEAD: Duration = Duration::from_secs(28 * 24 * 3600);

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;

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
    /// When nothing is in the way, from [`LOOK_BACK`] ago to [`LOOK_AHEAD`] from now, in order and without overlaps.
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
    /// What some of them wait for, whatever the rate is.
    pub gates: Gates<'a>,
}

/// What the devices of phases that are not open wait for beside successes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates<'a> {
    /// So long phases are still to soak, at least.
    pub soak: Duration,
    /// The first phase that somebody has to approve.
    pub approval: Option<&'a str>,
}

impl<'a> Gates<'a> {
    /// Of a rollout whose phase `open` is the last open one and stands at `times`; `left` are the devices that are left
    /// in each phase.
    pub fn ahead(phases: &'a [Phase], open: usize, times: PhaseTimes, left: &[u32], now: Timestamp) -> Self {
        let Some(last) = left.iter().rposition(|left| *left > 0).filter(|last| *last > open) else {
            return Self::default();
        };
        let mut gates = Self::default();
        for (n, phase) in phases.iter().enumerate().take(last).skip(open) {
            let (soaked, approved) = match n == open {
                true if times.soak_skipped => (phase.soak, times.approved),
                true => (times.met_at.map_or(Duration::ZERO, |met| now.since(met)), times.approved),
                false => (Duration::ZERO, false),
            };
            gates.soak += phase.soak.saturating_sub(soaked);
            let manual = phase.approval == Approval::Manual && !approved;
            gates.approval = gates.approval.or(manual.then_some(phase.name.as_str()));
        }
        gates
    }
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
    /// The parts of `from` to `to` in which nothing is in the way.
    fn open_in(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Span> {
        let first = self.open.partition_point(|span| span.end <= from);
        let spans = self.open.iter().skip(first).take_while(move |span| span.start < to);
        spans.map(move |span| Span { start: span.start.max(from), end: span.end.min(to) })
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
        let were = if done == 1 { "was" } else { "were" };
        let devices = counted(done.into(), "device");
        let text = format!("{devices} {were} done with it in the last 7 days; {MIN_DONE} are needed to go by");
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
    let soaked = basis.now + basis.gates.soak;
    let quick = ahead(basis, basis.now, left / (rate * (1.0 + doubt)));
    // At worst all that is left waits for the soaks.
    let slow = ahead(basis, soaked, left / (rate * (1.0 - doubt)));
    let text = said(basis, done, worked, rate, &chances);
    let Some(from) = quick.map(|at| chances.half.map_or(at, |half| at.max(half)).max(soaked)) else {
        return Forecast::NotEnough(format!("no time is in sight in which all that is left could be done; {text}"));
    };
    let foreseen = chances.none == 0 && basis.gates.approval.is_none();
    let to = slow.zip(chances.last).map(|(slow, last)| slow.max(last).max(from)).filter(|_| foreseen);
    Forecast::Between { from, to, basis: text }
}

/// Hours since `begins` in which it could work, each by the share of devices for which nothing was in the way.
fn worked(basis: &Basis<'_>, begins: Timestamp) -> Option<f64> {
    let mut worked = 0.0;
    let mut at = begins;
    while at < basis.now {
        let ends = (at + HOUR).min(basis.now);
        worked += open_hours(basis, at, ends);
        at = ends;
    }
    (worked > 0.0).then_some(worked)
}

/// When so many hours in which it can work have passed from `from` on.
fn ahead(basis: &Basis<'_>, from: Timestamp, mut needed: f64) -> Option<Timestamp> {
    let mut at = from;
    while at < basis.now + LOOK_AHEAD {
        let works = open_hours(basis, at, at + HOUR);
        if works >= needed {
            return Some(when(basis, at, needed));
        }
        needed -= works;
        at = at + HOUR;
    }
    None
}

/// The first millisecond of the hour from `at` on by which so much of the time in which it can work has passed.
fn when(basis: &Basis<'_>, at: Timestamp, needed: f64) -> Timestamp {
    // Less than what sums of fractions are off by.
    const NOTHING: f64 = 1e-9;
    let (mut least, mut most) = (0, HOUR_MS);
    let after = |ms: i64| Timestamp::from_millis(at.millis().saturating_add(ms));
    while most - least > 1 {
        let middle = (least + most) / 2;
        if open_hours(basis, at, after(middle)) + NOTHING < needed {
            least = middle;
        } else {
            most = middle;
        }
    }
    after(most)
}

/// For how many of the hours from `from` to `to` nothing is in the way, on average over the devices.
fn open_hours(basis: &Basis<'_>, from: Timestamp, to: Timestamp) -> f64 {
    let open = |one: &Left| one.open_in(from, to).map(|span| hours(span.end.since(span.start))).sum::<f64>();
    basis.sample.iter().map(open).sum::<f64>() / number(basis.sample.len()).max(1.0)
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
    let ends = basis.now + LOOK_BACK;
    let mut at = basis.now;
    while at < ends {
        // The rhythm knows hours of the clock.
        let next = Timestamp::from_millis((at.millis().div_euclid(HOUR_MS) + 1) * HOUR_MS);
        let open = one.open_in(at, next.min(ends)).next().filter(|_| one.rhythm.is_there(at));
        if let Some(span) = open {
            return Some(span.start);
        }
        at = next;
    }
    None
}

fn said(basis: &Basis<'_>, done: u32, worked: f64, rate: f64, chances: &Chances) -> String {
    let (left, looked) = (basis.left, basis.sample.len());
    let are = if left == 1 { "is" } else { "are" };
    let mut text = format!(
        "{done} devices were done in {worked:.1} h in which it could work, {rate:.1} an hour; {left} {are} left, {looked} of \
         which were looked at"
    );
    if chances.none > 0 {
        text += &format!(": {} of them are not expected within a week", chances.none);
    } else if let Some(last) = chances.last.filter(|last| *last > basis.now) {
        text += &format!(": the last of them is there, with nothing in the way, at {last}");
    }
    let Gates { soak, approval } = basis.gates;
    if !soak.is_zero() {
        text += &format!("; phases are still to soak for {:.1} h", hours(soak));
    }
    if let Some(phase) = approval {
        text += &format!("; somebody has to approve phase {phase}");
    }
    text
}

fn hours(time: Duration) -> f64 {
    time.as_secs_f64() / HOUR.as_secs_f64()
}

fn number(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, spec};

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
        say_gated(now, since, done, (left, Gates::default()), sample)
    }

    fn say_gated(
        now: &str,
        since: &str,
        done: &[(&str, u32)],
        (left, gates): (u32, Gates<'_>),
        sample: &[Left],
    ) -> String {
        let hours: Vec<Hour> = done.iter().map(|(start, done)| Hour { start: at(start), done: *done }).collect();
        let basis = Basis { now: at(now), since: at(since), hours: &hours, left, sample, gates };
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
        insta::assert_snapshot!(say(NOON, "2026-11-23T10:00:00Z", &done, 100, &[always()]), @"2026-11-23T13:49:05.455Z to 2026-11-23T14:13:20Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 100 are left, 1 of which were looked at");
        // What happened more than a week ago says nothing about today.
        let old = [("2026-11-01T10:00:00Z", 500), ("2026-11-23T11:00:00Z", 3)];
        assert!(say(NOON, "2026-11-01T10:00:00Z", &old, 100, &[always()]).starts_with("not enough data: 3 devices"));
    }

    #[test]
    fn hours_in_which_it_cannot_work_count_neither_before_nor_ahead() {
        let nights = || Left { open: daily(2..4), ..always() };
        let done = [("2026-11-23T02:00:00Z", 50), ("2026-11-23T03:00:00Z", 50)];
        insta::assert_snapshot!(say(NOON, "2026-11-22T12:00:00Z", &done, 100, &[nights(), nights()]), @"2026-11-24T03:49:05.455Z to 2026-11-25T02:13:20Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 100 are left, 2 of which were looked at: the last of them is there, with nothing in the way, at 2026-11-24T02:00:00Z");
    }

    #[test]
    fn windows_shorter_than_an_hour_count_for_as_long_as_they_are_open() {
        let half = |minute: u64| {
            let open = daily(2..3).into_iter().map(|span| {
                let start = span.start + Duration::from_secs(minute * 60);
                Span { start, end: start + HOUR / 2 }
            });
            Left { open: open.collect(), ..always() }
        };
        let done = [("2026-11-23T02:00:00Z", 50)];
        // 100 an hour: the rest takes half an hour, whenever it is asked.
        for now in ["2026-11-23T12:00:00Z", "2026-11-23T12:29:00Z", "2026-11-23T12:45:00Z"] {
            let said = say(now, "2026-11-22T12:00:00Z", &done, 50, &[half(10)]);
            assert!(said.contains("50 devices were done in 0.5 h in which it could work, 100.0 an hour"), "{said}");
            assert!(said.starts_with("2026-11-24T02:36:"), "{said}");
        }
    }

    #[test]
    fn soaks_and_approvals_that_are_ahead_are_waited_for() {
        let done = [("2026-11-23T10:00:00Z", 50), ("2026-11-23T11:00:00Z", 50)];
        let soak = Gates { soak: HOUR * 24, approval: None };
        insta::assert_snapshot!(say_gated(NOON, "2026-11-23T10:00:00Z", &done, (100, soak), &[always()]), @"2026-11-24T12:00:00Z to 2026-11-24T14:13:20Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 100 are left, 1 of which were looked at; phases are still to soak for 24.0 h");
        let approval = Gates { soak: Duration::ZERO, approval: Some("canary") };
        insta::assert_snapshot!(say_gated(NOON, "2026-11-23T10:00:00Z", &done, (100, approval), &[always()]), @"not before 2026-11-23T13:49:05.455Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 100 are left, 1 of which were looked at; somebody has to approve phase canary");
    }

    #[test]
    fn only_what_stands_before_devices_that_are_left_is_waited_for() {
        let base = spec().plan().expect("a plan").phases[0].clone();
        let phase = |name: &str, hours: u32, approval| {
            let soak = HOUR * hours;
            Phase { soak, approval, name: name.to_owned(), ..base.clone() }
        };
        let phases = [
            phase("canary", 24, Approval::Auto),
            phase("half", 2, Approval::Manual),
            phase("all", 100, Approval::Manual),
        ];
        let (opened_at, now) = (at("2026-11-23T00:00:00Z"), at(NOON));
        let fresh = PhaseTimes { opened_at, met_at: None, soak_skipped: false, approved: false };
        let ahead = |open, times, left: &[u32]| {
            let gates = Gates::ahead(&phases, open, times, left, now);
            (gates.soak.as_secs() / 3600, gates.approval)
        };
        assert_eq!(ahead(0, fresh, &[1, 5, 9]), (26, Some("half")));
        assert_eq!(ahead(0, fresh, &[1, 5, 0]), (24, None), "nobody is left in the last one");
        assert_eq!(ahead(0, fresh, &[1, 0, 0]), (0, None));
        let soaking = PhaseTimes { met_at: Some(at("2026-11-23T02:00:00Z")), ..fresh };
        assert_eq!(ahead(0, soaking, &[0, 5, 0]), (14, None));
        let skipped = PhaseTimes { soak_skipped: true, ..soaking };
        assert_eq!(ahead(0, skipped, &[0, 5, 0]), (0, None));
        let approved = PhaseTimes { approved: true, ..soaking };
        assert_eq!(ahead(1, approved, &[0, 0, 9]), (0, None));
        assert_eq!(ahead(2, fresh, &[0, 0, 9]), (0, None), "it is open");
    }

    #[test]
    fn devices_that_are_there_at_other_hours_make_it_longer_and_those_that_never_are_make_it_open() {
        let done = [("2026-11-23T10:00:00Z", 50), ("2026-11-23T11:00:00Z", 50)];
        let evening = Left { rhythm: there(20..22), ..always() };
        insta::assert_snapshot!(say(NOON, "2026-11-23T10:00:00Z", &done, 10, &[always(), evening]), @"2026-11-23T12:10:54.546Z to 2026-11-23T20:00:00Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 10 are left, 2 of which were looked at: the last of them is there, with nothing in the way, at 2026-11-23T20:00:00Z");
        let gone = Left { rhythm: Rhythm::from_slice(&[0; crate::rhythm::BYTES]).expect("a rhythm"), ..always() };
        insta::assert_snapshot!(say(NOON, "2026-11-23T10:00:00Z", &done, 10, &[always(), gone]), @"not before 2026-11-23T12:10:54.546Z: 100 devices were done in 2.0 h in which it could work, 50.0 an hour; 10 are left, 2 of which were looked at: 1 of them are not expected within a week");
    }
}
