//! Windows: when a device may download or install, in its own time zone.
//!
//! * Days and times are local to the window's zone; the length is elapsed minutes, never changed by a clock change.
//! * A start that does not exist locally (clocks go forward) moves to the first instant after the gap; one that
//!   exists twice (clocks go back) is the first of the two.
//! * Windows may cross midnight and the end of the week. Windows that overlap or touch are one.

mod cron;
mod restricting;
pub(crate) mod spans;
pub(crate) mod start;
mod table;
pub(crate) mod week;
mod zone;

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono::{NaiveTime, Weekday};
use chrono_tz::Tz;
pub use cron::{CronStart, NotCron};
pub use restricting::Restricting;
pub use spans::Span;
use table::Table;
pub use table::Tables;
pub use zone::{Clock, Zone, ZoneSource, zone_of};

/// Longest window: a week is always open.
pub const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// One recurring window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Whose clock it follows.
    pub tz: WindowTz,
    /// When it opens.
    pub start: Start,
    /// How long it stays open.
    pub duration: Duration,
    /// What it restricts.
    pub gates: Gates,
    /// What becomes of devices that sleep through it.
    pub mode: Mode,
}

/// Whose clock a window follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowTz {
    /// The device's, as [`zone_of`] finds it.
    Site,
    /// This one.
    Zone(Tz),
}

/// When a window opens.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// On these days of the week at this time.
    Weekly {
        /// At least one.
        days: Vec<Weekday>,
        /// Local time.
        at: NaiveTime,
    },
    /// By a cron expression.
    Cron(CronStart),
}

/// What a window restricts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// Fetching.
    pub download: bool,
    /// Switching.
    pub install: bool,
}

/// What a window can restrict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Fetching.
    Download,
    /// Switching.
    Install,
}

impl Gates {
    /// Whether `gate` is among them.
    pub const fn restrict(self, gate: Gate) -> bool {
        match gate {
            Gate::Download => self.download,
            Gate::Install => self.install,
        }
    }
}

/// What becomes of devices that sleep through a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They wait for the next one.
    Hard,
    /// They are admitted when they come back.
    BestEffort,
}

/// Whether windows let something through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// They do.
    Open {
        /// Until then at least.
        until: Timestamp,
        /// Whose clock that is.
        zone: Zone,
    },
    /// They do not.
    Closed {
        /// When they do next; `None` if no time that is long enough is in sight.
        opens: Option<Span>,
        /// Whose clock that is.
        zone: Zone,
    },
}

/// Where several windows stand at `now`, taken together. `needed` is the time that must be left: with less, the
/// answer is the next time that is long enough.
///
/// `windows` pairs each window with its zone and must not be empty; with none there is nothing to wait for.
pub fn state_at(now: Timestamp, windows: &[(&Window, Zone)], needed: Duration) -> Option<WindowState> {
    let first = windows.first()?;
    if let Some((span, zone)) = spans::containing(now, windows)
        && now + needed <= span.end
    {
        return Some(WindowState::Open { until: span.end, zone });
    }
    let next = spans::next_long_enough(now, windows, needed);
    let zone = next.map_or(first.1, |(_, zone)| zone);
    Some(WindowState::Closed { opens: next.map(|(span, _)| span), zone })
}

/// The last time that ended at or before `now`, and whose clock it ended by.
pub fn last_closed(now: Timestamp, windows: &[(&Window, Zone)]) -> Option<(Span, Zone)> {
    spans::last_closed(now, windows)
}

#[cfg(test)]
mod tests;
