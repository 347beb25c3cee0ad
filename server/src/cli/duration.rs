//! Durations as people write them on a command line: `90s`, `15m`, `1h30m`, `7d`.

use std::time::Duration;

/// Reads a duration.
///
/// # Errors
/// Says what a duration looks like.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration: number and unit are wanted, such as 90s, 15m, 1h30m or 7d");
    let mut rest = text;
    let mut seconds = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (digits, tail) = rest.split_at(end);
        let number: u64 = digits.parse().ok().ok_or_else(bad)?;
        let mut letters = tail.chars();
        let unit = match letters.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(bad()),
        };
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(bad)?;
        rest = letters.as_str();
    }
    if seconds == 0 {
        return Err(bad());
    }
    Ok(Duration::from_secs(seconds))
}

/// Reads a duration of whole minutes.
///
/// # Errors
/// Says what such a duration looks like.
pub(crate) fn minutes(text: &str) -> Result<u32, String> {
    let seconds = parse(text)?.as_secs();
    if seconds % 60 != 0 {
        return Err(format!("{text:?} is not a whole number of minutes"));
    }
    u32::try_from(seconds / 60).ok().ok_or_else(|| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("1d1h1m1s", 90_061)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(minutes("2h"), Ok(120));
    }

    #[test]
    fn what_is_not_a_duration_is_explained() {
        for text in ["", "5", "m", "5x", "-5m", "1.5h", "0s", "99999999999999999999d", "1h 30m"] {
            let said = parse(text).expect_err(text);
            assert!(said.contains("such as 90s, 15m"), "{said}");
        }
        assert!(minutes("90s").expect_err("seconds").contains("whole number of minutes"));
        assert!(minutes("9999999999h").expect_err("long").contains("too long"));
    }
}
