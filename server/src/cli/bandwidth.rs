//! Limits of bandwidth as people write them: `mon-sat 08:00-20:00 250kB/s; 2MB/s`, or `none`.

use callboard_proto::admin::BandwidthLimit;

use crate::{
    db::sites,
    hours::{days, several},
};

/// How they are written, for `--help` and for errors.
pub(crate) const SYNTAX: &str = "[DAYS] [HH:MM-HH:MM] RATE, several with ; between, such as \"mon-sat 08:00-20:00 250kB/s; \
     2MB/s\", or none; a rate of 0 lets nobody download";

/// The limits of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits(pub(crate) Vec<BandwidthLimit>);

impl std::str::FromStr for Limits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limits = several(text, one)?;
        sites::limits(&limits).map(|_| Self(limits))
    }
}

fn one(text: &str) -> Result<BandwidthLimit, String> {
    // Between number and unit a blank is allowed.
    let (before, rate) = match text.rsplit_once(' ') {
        Some((before, unit)) if unit.chars().all(|c| !c.is_ascii_digit()) => match before.rsplit_once(' ') {
            Some((before, number)) => (before, format!("{number}{unit}")),
            None => ("", format!("{before}{unit}")),
        },
        Some((before, rate)) => (before, rate.to_owned()),
        None => ("", text.to_owned()),
    };
    let bytes_per_s = bytes(&rate)?;
    let (names, times) = match before.trim().rsplit_once(' ') {
        Some((names, times)) => (names, times),
        None if before.contains(':') => ("", before.trim()),
        None => (before.trim(), ""),
    };
    let days = if names.is_empty() { Vec::new() } else { days::parse(names)? };
    let span = match times {
        "" => None,
        _ => Some(
            times.split_once('-').ok_or_else(|| format!("{times:?} is not a span such as 08:00-20:00: {SYNTAX}"))?,
        ),
    };
    let (from, to) = span.map(|(from, to)| (from.to_owned(), to.to_owned())).unzip();
    Ok(BandwidthLimit { days, from, to, bytes_per_s })
}

/// A number, and what it counts.
fn bytes(rate: &str) -> Result<u64, String> {
    let end = rate.find(|c: char| !c.is_ascii_digit()).unwrap_or(rate.len());
    let (number, unit) = rate.split_at(end);
    let factor = match unit.strip_suffix("/s").unwrap_or(unit).to_ascii_lowercase().as_str() {
        "" if number == "0" => Some(1),
        "b" => Some(1),
        "kb" => Some(1000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| format!("{rate:?} is not a rate such as 250kB/s or 2MB/s (bytes, not bits): {SYNTAX}"))
}

/// The same as text; empty without any.
pub(crate) fn show(limits: &[BandwidthLimit]) -> String {
    sites::limits(limits).map_or_else(|_| format!("{limits:?}"), |limits| limits.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_shown_as_they_are_written() {
        for (typed, shown) in [
            ("mon-sat 08:00-20:00 250kB/s; 2MB/s", "mon-sat 08:00-20:00 250 kB/s; 2 MB/s"),
            ("mon-sat 08:00-20:00 250 kB/s; 2 MB/s", "mon-sat 08:00-20:00 250 kB/s; 2 MB/s"),
            ("22:00-06:00 1gb; 0", "daily 22:00-06:00 1 GB/s; 0 B/s"),
            ("sun 0; 4097 B/s", "sun 00:00-24:00 0 B/s; 4097 B/s"),
            ("none", ""),
        ] {
            let limits: Limits = typed.parse().expect(typed);
            assert_eq!(show(&limits.0), shown, "{typed}");
            if !shown.is_empty() {
                assert_eq!(shown.parse(), Ok(limits.clone()).map(|_: Limits| shown.parse::<Limits>().expect(shown)));
                assert_eq!(show(&shown.parse::<Limits>().expect(shown).0), shown);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("", "\"\" is not a rate such as 250kB/s"),
            ("2Mbit", "\"2Mbit\" is not a rate"),
            ("250", "\"250\" is not a rate"),
            ("noday 08:00-20:00 2MB/s", "\"noday\" is not a day"),
            ("08:00 2MB/s", "\"08:00\" is not a span such as 08:00-20:00"),
            ("08:00-25:00 2MB/s", "limit 1: \"25:00\" is no time of day"),
            ("1kB/s", "limit 1: 1000 bytes a second; 0, or 4096 to"),
            ("2MB/s; sun 0", "limit 1: it always holds, so those after it never do"),
        ] {
            let said = text.parse::<Limits>().expect_err(text);
            assert!(said.starts_with(what), "{text:?}: {said}");
        }
    }
}
