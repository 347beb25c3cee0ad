//! Trading hours: when the shop is open. They are a prohibition: nothing is activated in them.
//!
//! Unlike a window, whose length is elapsed time, both ends are times on the shop's clock. Where clock changes make
//! one of them ambiguous, the longer reading holds: a shop that opens at 01:30 opens at the first 01:30, and one that
//! closes then closes at the second. A time that does not exist is the first instant after the gap.

use std::fmt;

use callboard_proto::time::Timestamp;
use chrono::{Datelike, Days, NaiveDate, NaiveTime, Weekday};
use chrono_tz::Tz;

use crate::window::{Span, start, week};

/// Spans of one site at most: three a day and some to spare.
pub const MAX_HOURS: usize = 32;
/// Spans are looked for from so many days back: the last one of a week, and a day more since it may end on the next.
const DAYS_BACK: u64 = 8;
/// And so many days ahead: a week, and a day on either side for the zone and for crossing midnight. What is open for
/// longer never closes.
const DAYS_AHEAD: u64 = 9;
/// How `closes` says the end of the day.
const MIDNIGHT: &str = "24:00";

/// The weekly trading hours of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TradingHours(Vec<Hours>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hours {
    days: Vec<Weekday>,
    opens: NaiveTime,
    closes: Closes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closes {
    SameDay(NaiveTime),
    Midnight,
    NextDay(NaiveTime),
}

/// Trading hours as they were typed: on these days (none means every day) from one local time to another. An end that
/// is not after the start is on the next day; `24:00` is the end of the day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoursSpec {
    /// `mon` to `sun`.
    pub days: Vec<String>,
    /// `HH:MM`.
    pub opens: String,
    /// `HH:MM`, or `24:00`.
    pub closes: String,
}

/// Where a site stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trading {
    /// It trades.
    Open {
        /// Since then, as far as it is followed back.
        since: Timestamp,
        /// Until then; `None` if it never closes.
        until: Option<Timestamp>,
    },
    /// It does not.
    Closed {
        /// Since then; `None` if it did not trade for a week.
        since: Option<Timestamp>,
        /// When it does next; `None` if never.
        opens: Option<Timestamp>,
    },
}

impl TradingHours {
    /// Checks what was typed.
    ///
    /// # Errors
    /// Says which span is wrong and what would be right.
    pub fn read(specs: &[HoursSpec]) -> Result<Self, String> {
        if specs.len() > MAX_HOURS {
            return Err(format!("there are {} spans; at most {MAX_HOURS} are allowed", specs.len()));
        }
        let spans = specs.iter().enumerate();
        let read = spans.map(|(n, spec)| Hours::read(spec).map_err(|error| format!("span {}: {error}", n + 1)));
        read.collect::<Result<_, _>>().map(Self)
    }

    /// The same for a single span, whose error needs no number.
    pub(crate) fn one(spec: &HoursSpec) -> Result<Self, String> {
        Hours::read(spec).map(|hours| Self(vec![hours]))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the site stands at `now`, by the clock of `tz`.
    pub fn at(&self, now: Timestamp, tz: Tz) -> Trading {
        let Some(today) = start::local(tz, now).map(|face| face.date()) else {
            return Trading::Closed { since: None, opens: None };
        };
        let last = today.checked_add_days(Days::new(DAYS_AHEAD)).unwrap_or(today);
        let mut spans = Vec::new();
        for date in today.checked_sub_days(Days::new(DAYS_BACK)).unwrap_or(today).iter_days().take_while(|d| *d <= last)
        {
            spans.extend(self.0.iter().filter_map(|hours| hours.on(date, tz)));
        }
        let spans = joined(spans);
        match spans.iter().find(|span| now < span.end) {
            Some(span) if span.start <= now => {
                let horizon = start::instant(tz, last.and_time(NaiveTime::MIN));
                Trading::Open { since: span.start, until: Some(span.end).filter(|end| Some(*end) < horizon) }
            }
            next => {
                let since = spans.iter().rfind(|span| span.end <= now).map(|span| span.end);
                Trading::Closed { since, opens: next.map(|span| span.start) }
            }
        }
    }
}

impl Hours {
    fn read(spec: &HoursSpec) -> Result<Self, String> {
        let mut days = Vec::new();
        for name in &spec.days {
            let day = week::day(name)?;
            if !days.contains(&day) {
                days.push(day);
            }
        }
        if days.is_empty() {
            days = week::every_day();
        }
        let opens = week::time(&spec.opens)?;
        let closes = match spec.closes.as_str() {
            MIDNIGHT => Closes::Midnight,
            text => match week::time(text)? {
                at if at > opens => Closes::SameDay(at),
                at if at < opens => Closes::NextDay(at),
                _ => return Err(format!("it ends when it begins; a whole day is 00:00 to {MIDNIGHT}")),
            },
        };
        Ok(Self { days, opens, closes })
    }

    fn on(&self, date: NaiveDate, tz: Tz) -> Option<Span> {
        if !self.days.contains(&date.weekday()) {
            return None;
        }
        let closes = match self.closes {
            Closes::SameDay(at) => date.and_time(at),
            Closes::Midnight => date.succ_opt()?.and_time(NaiveTime::MIN),
            Closes::NextDay(at) => date.succ_opt()?.and_time(at),
        };
        let span =
            Span { start: start::instant(tz, date.and_time(self.opens))?, end: start::last_instant(tz, closes)? };
        // A gap can swallow a span whole.
        (span.start < span.end).then_some(span)
    }
}

/// Spans that overlap or touch are one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.start);
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => joined.push(span),
        }
    }
    joined
}

impl fmt::Display for TradingHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, hours) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            let (days, opens) = (week::in_short(&hours.days), hours.opens.format("%H:%M"));
            write!(f, "{separator}{days} {opens}-")?;
            match hours.closes {
                Closes::SameDay(at) | Closes::NextDay(at) => write!(f, "{}", at.format("%H:%M"))?,
                Closes::Midnight => f.write_str(MIDNIGHT)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
