//! Several windows taken together: stretches of open time, where what overlaps or touches is one.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use super::{Window, Zone, start};

/// Stretches that are joined, or tried for being long enough, before giving up. Windows that open every minute
/// would otherwise be followed for ever; a stretch that is longer than this many windows is told shorter.
const MAX_STEPS: usize = 64;

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

/// The next stretch that begins after `now`.
pub(super) fn next(now: Timestamp, windows: &Windows<'_>) -> Option<(Span, Zone)> {
    let openings = windows.iter().filter_map(|(window, zone)| Some((start::after(&window.start, zone.tz, now)?, zone)));
    let (opens, _) = openings.min_by_key(|(at, _)| *at)?;
    let (span, zone) = latest_ending(opens, windows)?;
    Some(extend(Span { start: opens, end: span.end }, zone, windows))
}

/// The next stretch after the one around `now` with `needed` in it.
pub(super) fn next_long_enough(now: Timestamp, windows: &Windows<'_>, needed: Duration) -> Option<(Span, Zone)> {
    let mut from = containing(now, windows).map_or(now, |(span, _)| span.end);
    for _ in 0..MAX_STEPS {
        let (span, zone) = next(from, windows)?;
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
    let (span, zone) = latest_ending(at, windows)?;
    Some((begin(span, windows), zone))
}

/// Of the windows that opened last at or before `at`, the one that ends last.
fn latest_ending(at: Timestamp, windows: &Windows<'_>) -> Option<(Span, Zone)> {
    let last = windows.iter().filter_map(|(window, zone)| {
        let start = start::at_or_before(&window.start, zone.tz, at)?;
        Some((Span { start, end: start + window.duration }, *zone))
    });
    last.max_by_key(|(span, _)| span.end)
}

fn extend(mut span: Span, mut zone: Zone, windows: &Windows<'_>) -> (Span, Zone) {
    for _ in 0..MAX_STEPS {
        match latest_ending(span.end, windows) {
            Some((later, its_zone)) if later.end > span.end => (span.end, zone) = (later.end, its_zone),
            _ => break,
        }
    }
    (span, zone)
}

/// Moves the start of a stretch back over the windows that lead into it.
fn begin(mut span: Span, windows: &Windows<'_>) -> Span {
    for _ in 0..MAX_STEPS {
        let before = span.start - Duration::from_millis(1);
        match latest_ending(before, windows) {
            Some((earlier, _)) if earlier.end >= span.start => span.start = earlier.start,
            _ => break,
        }
    }
    span
}
