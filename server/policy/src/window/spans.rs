//! Several windows taken together: stretches of open time, where what overlaps or touches is one.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use super::{Window, Zone, start};

/// Openings on one day of all windows of a rollout at most: every five minutes. More are not meant, and every look at
/// the windows follows them one by one.
pub(crate) const MAX_OPENINGS: usize = 288;
/// Stretches that are tried for being long enough before giving up: all those of more than a week, or of years where
/// there is one a day.
const MAX_STEPS: usize = 8 * MAX_OPENINGS;
/// How far a stretch is followed. What lasts longer is told shorter.
const MAX_STRETCH: Duration = Duration::from_secs(8 * 86_400);

/// A stretch of open time, from `start` up to but without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First open instant.
    pub start: Timestamp,
    /// First closed instant.
    pub end: Timestamp,
}

type Windows<'a> = [(&'a Window, Zone)];

/// The stretch around `now`, as far as it is known, and the zone of the window that ends it.
pub(super) fn containing(now: Timestamp, windows: &Windows<'_>) -> Option<(Span, Zone)> {
    let (span, zone) = latest_ending(now, windows).filter(|(span, _)| now < span.end)?;
    Some(extend(span, zone, windows))
}

/// The whole stretch around `now`, from its beginning.
pub(super) fn around(now: Timestamp, windows: &Windows<'_>) -> Option<Span> {
    containing(now, windows).map(|(span, _)| begin(span, windows))
}

/// The next stretch after the one around `now` with `needed` in it.
pub(super) fn next_long_enough(now: Timestamp, windows: &Windows<'_>, needed: Duration) -> Option<(Span, Zone)> {
    let mut from = containing(now, windows).map_or(now, |(span, _)| span.end);
    let mut openings: Vec<Option<Timestamp>> = vec![Some(from); windows.len()];
    for _ in 0..MAX_STEPS {
        // Windows that open rarely are looked up once, not again and again while others open and close.
        for (opens, (window, zone)) in openings.iter_mut().zip(windows) {
            if opens.is_some_and(|at| at <= from) {
                *opens = start::after(&window.start, zone.tz, from);
            }
        }
        let opens = openings.iter().flatten().min()?;
        let (span, zone) = latest_ending(*opens, windows)?;
        let (span, zone) = extend(Span { start: *opens, end: span.end }, zone, windows);
        if span.start + needed <= span.end {
            return Some((span, zone));
        }
        from = span.end;
    }
    None
}

/// The last stretch that ended at or before `now`.
pub(super) fn last_closed(now: Timestamp, windows: &Windows<'_>) -> Option<(Span, Zone)> {
    let at = match containing(now, windows) {
        // Strictly before, since a window that opens at that instant belongs to the stretch around it.
        Some((span, _)) => begin(span, windows).start - Duration::from_millis(1),
        None => now,
    };
    let last = windows.iter().filter_map(|(window, zone)| {
        Some((start::last_open(&window.start, zone.tz, at, window.duration, None)?, *zone))
    });
    let (span, zone) = last.max_by_key(|(span, _)| span.end)?;
    Some((begin(span, windows), zone))
}

/// Of the open times that began at or before `at` and are not over, or are just over, the one that ends last.
fn latest_ending(at: Timestamp, windows: &Windows<'_>) -> Option<(Span, Zone)> {
    let last = windows.iter().filter_map(|(window, zone)| {
        let duration = window.duration;
        Some((start::last_open(&window.start, zone.tz, at, duration, Some(duration))?, *zone))
    });
    last.max_by_key(|(span, _)| span.end)
}

fn extend(mut span: Span, mut zone: Zone, windows: &Windows<'_>) -> (Span, Zone) {
    let far = span.start + MAX_STRETCH;
    while span.end < far {
        match latest_ending(span.end, windows) {
            Some((later, its_zone)) if later.end > span.end => (span.end, zone) = (later.end, its_zone),
            _ => break,
        }
    }
    (span, zone)
}

/// Moves the start of a stretch back over the windows that lead into it.
fn begin(mut span: Span, windows: &Windows<'_>) -> Span {
    let far = span.end - MAX_STRETCH;
    while span.start > far {
        let before = span.start - Duration::from_millis(1);
        match latest_ending(before, windows) {
            Some((earlier, _)) if earlier.end >= span.start => span.start = earlier.start,
            _ => break,
        }
    }
    span
}
