//! Starts by cron expression: five fields, evaluated on the local clock's face. What clock changes do to them is
//! decided in `start`, the same way as for days and times.

use std::{fmt, str::FromStr};

use chrono::NaiveDateTime;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// A cron expression of five fields: minute, hour, day of month, month, day of week.
#[derive(Clone, Debug)]
pub struct CronStart {
    cron: Box<Cron>,
    text: String,
}

/// Text that is not such an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a cron expression of five fields (minute hour day month weekday, such as \"0 2 * * 1-5\")")]
pub struct NotCron {
    text: String,
}

impl FromStr for CronStart {
    type Err = NotCron;

    fn from_str(text: &str) -> Result<Self, NotCron> {
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        match parser.parse(&text) {
            Ok(cron) if text.split(' ').count() == 5 => Ok(Self { cron: Box::new(cron), text }),
            _ => Err(NotCron { text }),
        }
    }
}

impl fmt::Display for CronStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for CronStart {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl CronStart {
    pub(super) fn after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron.find_next_occurrence(&local, false).ok()
    }

    pub(super) fn at_or_before(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron.find_previous_occurrence(&local, true).ok()
    }
}
