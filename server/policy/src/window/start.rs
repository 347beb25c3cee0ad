//! Single openings: from a local clock's face to instants.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono::{
    DateTime, Datelike, Days, Duration as Delta, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone,
    Utc,
};
use chrono_tz::Tz;

use super::{Span, Start};

const DAY: Duration = Duration::from_secs(86_400);

/// The longest span of local time that a zone repeats when its clocks go back. (Since 1970: three hours.)
const LONGEST_FOLD: Delta = Delta::hours(3);

/// Days after which every day has come that comes at all: a leap day, over a year such as 2100.
const FAR_DAYS: u64 = 8 * 366 + 1;

/// The last opening at or before `now`, but not more than `back` before it (or a day or two more).
fn last_face(start: &Start, tz: Tz, now: Timestamp, back: Option<Duration>) -> Option<(Timestamp, NaiveDateTime)> {
    let offset = |at: DateTime<Utc>| i64::from(tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc());
    let utc = now.utc();
    // While clocks repeat an hour, later times of day than the present one have been already.
    let repeated = offset(utc.checked_sub_signed(LONGEST_FOLD)?) - offset(utc);
    let latest = local(tz, now)?.checked_add_signed(Delta::seconds(repeated.max(0)))?;
    let days = back.map_or(FAR_DAYS, |back| back.as_secs() / 86_400 + 2);
    let mut face = start.face_at_or_before(latest, days)?;
    loop {
        match instant(tz, face) {
            Some(at) if at <= now => return Some((at, face)),
            _ => face = start.face_at_or_before(face.checked_sub_signed(Delta::seconds(1))?, days)?,
        }
    }
}

/// The open time around the last opening at or before `now`, where each opening lasts `duration`: openings of one day
/// that lead into each other are one, unless the clocks change on that day. Openings longer than `back` ago are not
/// looked for.
pub(super) fn last_open(
    start: &Start,
    tz: Tz,
    now: Timestamp,
    duration: Duration,
    back: Option<Duration>,
) -> Option<Span> {
    let (at, face) = last_face(start, tz, now, back)?;
    let single = Span { start: at, end: at + duration };
    if start.times().len() == 1 || !is_plain(tz, face.date())? {
        return Some(single);
    }
    let times = start.times();
    let place = times.partition_point(|time| *time < face.time());
    let (before, after) = times.split_at_checked(place)?;
    let leads = |(earlier, later): (&NaiveTime, &NaiveTime)| {
        later.signed_duration_since(*earlier).to_std().is_ok_and(|gap| gap <= duration)
    };
    // The first time at which nothing leads into the next one ends the run, on either side.
    let following = after.iter().zip(after.iter().skip(1)).take_while(|pair| leads(*pair)).count();
    let leading = before.iter().rev().zip(times.iter().take(place + 1).rev()).take_while(|pair| leads(*pair)).count();
    let on = |index: usize| times.get(index).and_then(|time| instant(tz, face.date().and_time(*time)));
    Some(Span { start: on(place - leading)?, end: on(place + following)? + duration })
}

/// Whether every time of day comes once on this day.
fn is_plain(tz: Tz, date: NaiveDate) -> Option<bool> {
    let midnight = |date: NaiveDate| instant(tz, date.and_time(NaiveTime::MIN));
    let last = |date: NaiveDate| last_instant(tz, date.and_time(NaiveTime::MIN));
    let next = date.succ_opt()?;
    // A change at midnight itself belongs to one of its days; both are looked at closely.
    let whole = midnight(next)?.since(midnight(date)?) == DAY && last(next)?.since(last(date)?) == DAY;
    Some(whole)
}

/// The first opening after `now`.
pub(super) fn after(start: &Start, tz: Tz, now: Timestamp) -> Option<Timestamp> {
    let mut face = local(tz, now)?;
    loop {
        face = start.face_after(face)?;
        if let Some(at) = instant(tz, face).filter(|at| *at > now) {
            return Some(at);
        }
    }
}

/// What a local clock shows.
pub(crate) fn local(tz: Tz, at: Timestamp) -> Option<NaiveDateTime> {
    let utc = at.utc().naive_utc();
    utc.checked_add_offset(tz.offset_from_utc_datetime(&utc).fix())
}

/// The instant at which a local clock shows `face`: the first of two, or the end of the gap that swallows it.
pub(crate) fn instant(tz: Tz, face: NaiveDateTime) -> Option<Timestamp> {
    match tz.from_local_datetime(&face) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc().into()),
        LocalResult::None => after_gap(tz, face),
    }
}

/// The same, but the last of two.
pub(crate) fn last_instant(tz: Tz, face: NaiveDateTime) -> Option<Timestamp> {
    match tz.from_local_datetime(&face) {
        LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => Some(at.to_utc().into()),
        LocalResult::None => after_gap(tz, face),
    }
}

/// Bisects for the change of clocks: before it they show less than `face`, after it more.
fn after_gap(tz: Tz, face: NaiveDateTime) -> Option<Timestamp> {
    let around = face.and_utc();
    // Offsets are within a day, and so is the longest gap (a date line crossed).
    let mut before = around.checked_sub_signed(Delta::days(2))?.timestamp();
    let mut after = around.checked_add_signed(Delta::days(2))?.timestamp();
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if local(tz, DateTime::from_timestamp(middle, 0)?.into())? < face {
            before = middle;
        } else {
            after = middle;
        }
    }
    DateTime::from_timestamp(after, 0).map(Timestamp::from)
}

impl Start {
    /// Separate openings on one of its days, if each lasts `duration`.
    pub(crate) fn openings_a_day(&self, duration: Duration) -> usize {
        let apart = |(earlier, later): (&NaiveTime, &NaiveTime)| {
            later.signed_duration_since(*earlier).to_std().is_ok_and(|gap| gap > duration)
        };
        let times = self.times();
        1 + times.iter().zip(times.iter().skip(1)).filter(|pair| apart(*pair)).count()
    }

    /// Whether it ever opens.
    pub(crate) fn ever_opens(&self) -> bool {
        self.face_after(NaiveDateTime::default()).is_some()
    }

    /// Its times on one of its days, ascending.
    fn times(&self) -> &[NaiveTime] {
        match self {
            Self::Weekly { at, .. } => std::slice::from_ref(at),
            Self::Cron(cron) => cron.times(),
        }
    }

    fn takes(&self, date: NaiveDate) -> bool {
        match self {
            Self::Weekly { days, .. } => days.contains(&date.weekday()),
            Self::Cron(cron) => cron.takes(date),
        }
    }

    fn face_after(&self, face: NaiveDateTime) -> Option<NaiveDateTime> {
        let later = self.times().iter().find(|time| **time > face.time());
        if let Some(time) = later.filter(|_| self.takes(face.date())) {
            return Some(face.date().and_time(*time));
        }
        let first = self.times().first()?;
        let mut next = (1..=FAR_DAYS).filter_map(|days| face.date().checked_add_days(Days::new(days)));
        next.find(|date| self.takes(*date)).map(|date| date.and_time(*first))
    }

    fn face_at_or_before(&self, face: NaiveDateTime, days: u64) -> Option<NaiveDateTime> {
        let earlier = self.times().iter().rfind(|time| **time <= face.time());
        if let Some(time) = earlier.filter(|_| self.takes(face.date())) {
            return Some(face.date().and_time(*time));
        }
        let last = self.times().last()?;
        let mut before = (1..=days).filter_map(|days| face.date().checked_sub_days(Days::new(days)));
        before.find(|date| self.takes(*date)).map(|date| date.and_time(*last))
    }
}
