//! Single openings: from a local clock's face to instants.

use callboard_proto::time::Timestamp;
use chrono::{DateTime, Days, Duration as Delta, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

use super::Start;

/// The longest span of local time that a zone repeats when its clocks go back. (Since 1970: three hours.)
const LONGEST_FOLD: Delta = Delta::hours(3);

/// The last opening at or before `now`.
pub(super) fn at_or_before(start: &Start, tz: Tz, now: Timestamp) -> Option<Timestamp> {
    let offset = |at: DateTime<Utc>| i64::from(tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc());
    let utc = now.utc();
    // While clocks repeat an hour, later times of day than the present one have been already.
    let repeated = offset(utc.checked_sub_signed(LONGEST_FOLD)?) - offset(utc);
    let latest = local(tz, now)?.checked_add_signed(Delta::seconds(repeated.max(0)))?;
    let mut face = start.face_at_or_before(latest)?;
    loop {
        match instant(tz, face) {
            Some(at) if at <= now => return Some(at),
            _ => face = start.face_at_or_before(face.checked_sub_signed(Delta::seconds(1))?)?,
        }
    }
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
    fn face_after(&self, face: NaiveDateTime) -> Option<NaiveDateTime> {
        match self {
            Self::Cron(cron) => cron.after(face),
            Self::Weekly { .. } => (0..=7).find_map(|days| {
                let date = face.date().checked_add_days(Days::new(days))?;
                self.face_on(date).filter(|found| *found > face)
            }),
        }
    }

    fn face_at_or_before(&self, face: NaiveDateTime) -> Option<NaiveDateTime> {
        match self {
            Self::Cron(cron) => cron.at_or_before(face),
            Self::Weekly { .. } => (0..=7).find_map(|days| {
                let date = face.date().checked_sub_days(Days::new(days))?;
                self.face_on(date).filter(|found| *found <= face)
            }),
        }
    }

    fn face_on(&self, date: chrono::NaiveDate) -> Option<NaiveDateTime> {
        use chrono::Datelike;
        match self {
            Self::Weekly { days, at } if days.contains(&date.weekday()) => Some(date.and_time(*at)),
            _ => None,
        }
    }

    /// Whether it ever opens, looking on from a date that every expression that opens at all has after it soon.
    pub(crate) fn ever_opens(&self) -> bool {
        self.face_after(NaiveDateTime::default()).is_some()
    }
}
