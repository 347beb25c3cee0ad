//! Freezes: dates on which nothing is offered or installed, for everybody or for some.
//!
//! Dates are days on the device's own clock, in the zone that windows call `site`: a freeze over the holidays begins
//! and ends at each shop's midnight.

use callboard_proto::ids::FreezeName;
use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;

use crate::{
    selector::Selector,
    window::{Span, start},
};

/// Freezes that are not over, at most: each is looked at whenever something could be granted.
pub const MAX_FREEZES: usize = 200;
/// Longest reason in bytes: it is told to every device.
const MAX_REASON: usize = 200;
/// A freeze of more days is a mistyped year.
const MAX_DAYS: i64 = 366;

/// One freeze.
#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    /// Unique.
    pub name: FreezeName,
    /// The operator's words.
    pub reason: String,
    /// First day.
    pub from: NaiveDate,
    /// Last day.
    pub to: NaiveDate,
    /// Whom it is for.
    pub selector: Selector,
}

/// A freeze as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeSpec {
    /// Unique.
    pub name: FreezeName,
    /// Why, for everybody who wonders.
    pub reason: String,
    /// First day, `YYYY-MM-DD`.
    pub from: String,
    /// Last day.
    pub to: String,
    /// In the selector language; none means every device.
    pub selector: Option<String>,
}

/// A freeze that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFreeze {
    /// The selector does not parse, or asks for what changes with every check-in.
    #[error("selector: {0}")]
    Selector(String),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl FreezeSpec {
    /// Checks what was typed.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub fn read(&self) -> Result<Freeze, BadFreeze> {
        let other = |what: String| Err(BadFreeze::Other(what));
        let reason = self.reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
            return other(format!("reason: 1 to {MAX_REASON} bytes of text are wanted, for everybody who wonders"));
        }
        let (from, to) = (date("from", &self.from)?, date("to", &self.to)?);
        if to < from {
            return other(format!("to: {to} is before {from}; it is the last day of the freeze"));
        }
        let days = (to - from).num_days() + 1;
        if days > MAX_DAYS {
            return other(format!("to: {days} days are more than {MAX_DAYS}; suspend the sites instead"));
        }
        let text = self.selector.as_deref().map(str::trim).filter(|text| !text.is_empty()).unwrap_or("all");
        let selector = Selector::parse(text).map_err(|error| BadFreeze::Selector(error.to_string()))?;
        if let Some(field) = selector.frozen_only() {
            return Err(BadFreeze::Selector(format!("{field} changes with every check-in, so it cannot be frozen by")));
        }
        Ok(Freeze { name: self.name.clone(), reason: reason.to_owned(), from, to, selector })
    }
}

fn date(field: &str, text: &str) -> Result<NaiveDate, BadFreeze> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|date| date.to_string() == text);
    date.ok_or_else(|| {
        BadFreeze::Other(format!("{field}: {text:?} is no date; YYYY-MM-DD such as 2026-11-26 is wanted"))
    })
}

impl Freeze {
    /// From the first day's first instant up to the end of the last day.
    pub fn span(&self, tz: Tz) -> Option<Span> {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN);
        let start = start::instant(tz, midnight(self.from))?;
        let end = start::last_instant(tz, midnight(self.to.succ_opt()?))?;
        Some(Span { start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(from: &str, to: &str) -> FreezeSpec {
        FreezeSpec {
            name: "holidays".parse().expect("a name"),
            reason: "holidays".to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            selector: None,
        }
    }

    fn days(from: &str, to: &str, tz: Tz) -> String {
        let span = spec(from, to).read().expect("a freeze").span(tz).expect("a span");
        format!("{} to {}", span.start, span.end)
    }

    #[test]
    fn days_are_days_on_the_shops_clock() {
        let thanksgiving = |tz| days("2026-11-26", "2026-11-27", tz);
        assert_eq!(thanksgiving(Tz::America__New_York), "2026-11-26T05:00:00Z to 2026-11-28T05:00:00Z");
        assert_eq!(thanksgiving(Tz::Asia__Tokyo), "2026-11-25T15:00:00Z to 2026-11-27T15:00:00Z");
        // 25 hours, and the last day ends when its midnight comes for the second time.
        assert_eq!(
            days("2026-11-01", "2026-11-01", Tz::America__New_York),
            "2026-11-01T04:00:00Z to 2026-11-02T05:00:00Z"
        );
        assert_eq!(
            days("2026-10-31", "2026-10-31", Tz::America__Havana),
            "2026-10-31T04:00:00Z to 2026-11-01T05:00:00Z"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = |spec: &FreezeSpec| spec.read().expect_err("refused").to_string();
        for (from, to, what) in [
            ("26.11.2026", "2026-11-27", "from: \"26.11.2026\" is no date; YYYY-MM-DD such as 2026-11-26 is wanted"),
            ("2026-11-26", "2026-11-31", "to: \"2026-11-31\" is no date; YYYY-MM-DD such as 2026-11-26 is wanted"),
            ("2026-1-2", "2026-11-27", "from: \"2026-1-2\" is no date; YYYY-MM-DD such as 2026-11-26 is wanted"),
            ("2026-11-26", "2026-11-25", "to: 2026-11-25 is before 2026-11-26; it is the last day of the freeze"),
            ("2026-11-26", "2062-11-26", "to: 13150 days are more than 366; suspend the sites instead"),
        ] {
            assert_eq!(refused(&spec(from, to)), what);
        }
        let one = spec("2026-11-26", "2026-11-27");
        let silent = FreezeSpec { reason: " ".to_owned(), ..one.clone() };
        assert!(refused(&silent).starts_with("reason: 1 to 200 bytes"), "{}", refused(&silent));
        let nonsense = FreezeSpec { selector: Some("region ==".to_owned()), ..one.clone() };
        assert!(refused(&nonsense).starts_with("selector: column 9"), "{}", refused(&nonsense));
        let changing = FreezeSpec { selector: Some("status = online".to_owned()), ..one };
        assert_eq!(refused(&changing), "selector: status changes with every check-in, so it cannot be frozen by");
    }
}
