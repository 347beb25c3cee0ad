//! Trading hours as people write them: `mon-sat 08:00-20:00; sun 10:00-18:00`, or `none`.

pub(crate) mod days;

use callboard_proto::admin::TradingHours;

use crate::db::sites;

/// How they are written, for `--help` and for errors.
pub(crate) const SYNTAX: &str =
    "[DAYS] HH:MM-HH:MM, several with ; between, such as \"mon-sat 08:00-20:00; sun 10:00-18:00\", or none";

/// The hours of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hours(pub(crate) Vec<TradingHours>);

impl std::str::FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hours = several(text, one)?;
        sites::hours(&hours).map(|_| Self(hours))
    }
}

/// What stands with `;` between, each read by `one`; `none` is nothing.
pub(crate) fn several<T>(text: &str, one: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    if text.trim() == "none" {
        return Ok(Vec::new());
    }
    text.split(';').map(|part| one(part.trim())).collect()
}

fn one(span: &str) -> Result<TradingHours, String> {
    let (names, times) = span.rsplit_once(' ').unwrap_or(("", span));
    let (opens, closes) = times
        .split_once('-')
        .filter(|(opens, closes)| opens.contains(':') && closes.contains(':'))
        .ok_or_else(|| format!("{times:?} is not a span such as 08:00-20:00: {SYNTAX}"))?;
    let days = if names.trim().is_empty() { Vec::new() } else { days::parse(names.trim())? };
    Ok(TradingHours { days, opens: opens.to_owned(), closes: closes.to_owned() })
}

/// The same as text; empty without any.
pub(crate) fn show(hours: &[TradingHours]) -> String {
    sites::hours(hours).map_or_else(|_| format!("{hours:?}"), |hours| hours.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_shown_as_they_are_written() {
        for text in
            ["mon-sat 08:00-20:00; sun 10:00-18:00", "daily 00:00-24:00", "fri-sat 18:00-02:00", "mon,wed 09:00-12:00"]
        {
            let hours: Hours = text.parse().expect(text);
            assert_eq!(show(&hours.0), text);
        }
        assert_eq!("08:00-20:00".parse().map(|hours: Hours| show(&hours.0)), Ok("daily 08:00-20:00".to_owned()));
        assert_eq!("none".parse(), Ok(Hours(Vec::new())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("", "\"\" is not a span such as 08:00-20:00"),
            ("mon-sat", "\"mon-sat\" is not a span such as 08:00-20:00"),
            ("monday 08:00-20:00", "\"monday\" is not a day"),
            ("mon 08:00-20:00; tue 8-20", "\"8-20\" is not a span"),
            ("08:00-25:00", "span 1: \"25:00\" is no time of day"),
            ("08:00-08:00", "span 1: it ends when it begins"),
        ] {
            let said = text.parse::<Hours>().expect_err(text);
            assert!(said.starts_with(what), "{text:?}: {said}");
        }
    }
}
