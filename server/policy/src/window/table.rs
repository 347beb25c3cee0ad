//! Stretches of open time worked out beforehand: what [`super::spans`] would find, looked up instead of followed.
//!
//! A table holds for some time and for one zone, and never changes: whoever keeps a catalog makes the tables of its
//! rollouts with it. Where a table does not reach, or cannot be made (windows by several clocks, or that are open for
//! days on end), the windows themselves are asked, and the answer is the same.

use std::{collections::HashMap, sync::Arc, time::Duration};

use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use super::{Gate, Span, Window, WindowTz, Zone, ZoneSource, spans};
use crate::mixed::Mixed;

/// For so long tables look ahead. They are to be made anew when half of it is over.
pub(crate) const FORESEEN: Duration = Duration::from_secs(2 * 86_400);
/// A clock that is set back a little finds them still.
const FORESEEN_BACK: Duration = Duration::from_secs(3600);
/// Stretches of one table at most; with more in sight it reaches less far.
const MAX_STRETCHES: usize = 256;
/// Stretches that last longer are told differently, depending on when one asks.
const MAX_STRETCH: Duration = Duration::from_secs(7 * 86_400);

/// The stretches of some windows by one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// When it may be asked about.
    covers: Span,
    /// The last one that ended before, all that touch it, and the first one after it.
    stretches: Vec<Span>,
}

/// Where a table says that windows stand: in a stretch, or between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing<'a> {
    /// The last stretch that had ended by then.
    pub(crate) last: Span,
    /// The stretch that is open.
    pub(crate) open: Option<Span>,
    /// The stretches after that, as far as they are known. There is one at least.
    pub(crate) coming: &'a [Span],
}

impl Table {
    /// Works out the stretches of `windows` around `covers`, by the clock of `tz`.
    fn of(windows: &[&Window], tz: Tz, covers: Span) -> Option<Self> {
        let zone = Zone { tz, source: ZoneSource::Window, mismatch: None };
        let windows: Vec<(&Window, Zone)> = windows.iter().map(|window| (*window, zone)).collect();
        let mut stretches = vec![spans::last_closed(covers.start, &windows)?.0];
        stretches.extend(spans::around(covers.start, &windows));
        let mut covers = covers;
        while let Some(last) = stretches.last().copied().filter(|last| last.start < covers.end) {
            if stretches.len() >= MAX_STRETCHES {
                covers.end = last.start;
                break;
            }
            let from = last.end.max(covers.start);
            stretches.push(spans::next_long_enough(from, &windows, Duration::ZERO)?.0);
        }
        let told_alike = stretches.iter().all(|span| span.end.since(span.start) <= MAX_STRETCH);
        (told_alike && covers.start < covers.end).then_some(Self { covers, stretches })
    }

    /// Where the windows stand at `now`; `None` if the table does not reach there.
    pub(crate) fn at(&self, now: Timestamp) -> Option<Standing<'_>> {
        if now < self.covers.start || now >= self.covers.end {
            return None;
        }
        let begun = self.stretches.partition_point(|span| span.start <= now);
        let (before, coming) = self.stretches.split_at_checked(begun)?;
        if coming.is_empty() {
            return None;
        }
        match before {
            [.., last, open] if now < open.end => Some(Standing { last: *last, open: Some(*open), coming }),
            [.., last] if last.end <= now => Some(Standing { last: *last, open: None, coming }),
            _ => None,
        }
    }
}

/// The tables of one rollout's windows, by what they restrict and by zone.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// For which time and which zones they were made.
    made: Option<(Span, Vec<Tz>)>,
    download: HashMap<Tz, Table, Mixed>,
    install: HashMap<Tz, Table, Mixed>,
}

impl Tables {
    /// The tables of `windows` for `zones` and for some time from `now` on. What `before`, which is of the same windows,
    /// has of them is not worked out again.
    pub(crate) fn of(windows: &[Window], zones: &[Tz], now: Timestamp, before: Option<&Arc<Self>>) -> Arc<Self> {
        let good = |covers: &Span| covers.start <= now && now + FORESEEN / 2 <= covers.end;
        let before = before.filter(|tables| tables.made.as_ref().is_some_and(|(covers, _)| good(covers)));
        let mut tables = before.cloned().unwrap_or_default();
        let made = tables.made.clone();
        let (covers, mut known) =
            made.unwrap_or_else(|| (Span { start: now - FORESEEN_BACK, end: now + FORESEEN }, Vec::new()));
        let new: Vec<Tz> = zones.iter().copied().filter(|tz| !known.contains(tz)).collect();
        if new.is_empty() && tables.made.is_some() {
            return tables;
        }
        known.extend(&new);
        let own = Arc::make_mut(&mut tables);
        own.download.extend(make(windows, Gate::Download, &new, covers));
        own.install.extend(make(windows, Gate::Install, &new, covers));
        own.made = Some((covers, known));
        tables
    }

    /// The table of the windows that restrict `gate`, by the clock of `tz`.
    pub(crate) fn get(&self, gate: Gate, tz: Tz) -> Option<&Table> {
        match gate {
            Gate::Download => self.download.get(&tz),
            Gate::Install => self.install.get(&tz),
        }
    }
}

/// One for each zone, where there can be one.
fn make(windows: &[Window], gate: Gate, zones: &[Tz], covers: Span) -> impl Iterator<Item = (Tz, Table)> {
    let restricting: Vec<&Window> = windows.iter().filter(|window| window.gates.restrict(gate)).collect();
    let zones = match restricting.first().filter(|_| are_alike(&restricting)).map(|first| first.tz) {
        Some(WindowTz::Site) => zones.to_vec(),
        Some(WindowTz::Zone(tz)) => vec![tz],
        None => Vec::new(),
    };
    zones.into_iter().filter_map(move |tz| Some((tz, Table::of(&restricting, tz, covers)?)))
}

/// All by one clock and of one mode.
fn are_alike(windows: &[&Window]) -> bool {
    windows.iter().zip(windows.iter().skip(1)).all(|(one, next)| (one.tz, one.mode) == (next.tz, next.mode))
}

#[cfg(test)]
mod tests;
