//! Starts by cron expression: five fields, evaluated on the local clock's face. Which days they take is a question of one
//! date, and the times are the same on each of them. What clock changes do to them is decided in `start`, the same way
//! as for days and times.

use std::{fmt, str::FromStr};

use chrono::{Datelike, NaiveDate, NaiveTime, Weekday};
use croner::{
    Cron, CronPattern, Weekday as CronDay,
    parser::{CronParser, Seconds, Year},
};

/// A cron expression of five fields: minute, hour, day of month, month, day of week.
#[derive(Clone, Debug)]
pub struct CronStart {
    cron: Box<Cron>,
    /// Of a day that it takes, ascending.
    times: Vec<NaiveTime>,
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
            Ok(cron) if text.split(' ').count() == 5 => {
                Ok(Self { times: times(&cron.pattern), cron: Box::new(cron), text })
            }
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
    pub(super) fn times(&self) -> &[NaiveTime] {
        &self.times
    }

    pub(super) fn takes(&self, date: NaiveDate) -> bool {
        let pattern = &self.cron.pattern;
        let weekday = match date.weekday() {
            Weekday::Mon => CronDay::Monday,
            Weekday::Tue => CronDay::Tuesday,
            Weekday::Wed => CronDay::Wednesday,
            Weekday::Thu => CronDay::Thursday,
            Weekday::Fri => CronDay::Friday,
            Weekday::Sat => CronDay::Saturday,
            Weekday::Sun => CronDay::Sunday,
        };
        let day = pattern.day_match(date.year(), date.month(), date.day(), weekday);
        pattern.month_match(date.month()).unwrap_or(false) && day.unwrap_or(false)
    }
}

fn times(pattern: &CronPattern) -> Vec<NaiveTime> {
    let hours = (0..24).filter(|hour| pattern.hour_match(*hour).unwrap_or(false));
    let minutes: Vec<u32> = (0..60).filter(|minute| pattern.minute_match(*minute).unwrap_or(false)).collect();
    let at = |hour: u32| minutes.iter().filter_map(move |minute| NaiveTime::from_hms_opt(hour, *minute, 0));
    hours.flat_map(at).collect()
}
