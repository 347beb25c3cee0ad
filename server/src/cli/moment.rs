//! Points in time as people write them on a command line: `2026-11-23T02:00:00Z`, `2026-11-22T21:00:00-05:00`, and,
//! where that makes sense, a duration from now such as `2h`.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono::DateTime;

use super::duration;

/// A point in time, or so long from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    In(Duration),
}

impl Moment {
    /// The point in time that is meant at `now`.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::In(duration) => now + duration,
        }
    }
}

/// Reads a point in time, or a duration from now.
///
/// # Errors
/// Says what both look like.
pub(crate) fn parse(text: &str) -> Result<Moment, String> {
    if let Ok(duration) = duration::parse(text) {
        return Ok(Moment::In(duration));
    }
    instant(text).map(Moment::At).map_err(|what| format!("{what}, or a duration from now such as 2h or 3d"))
}

/// Reads a point in time with any offset. One without an offset could mean two things, so it is refused.
///
/// # Errors
/// Says what a time looks like.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc().into()).map_err(|error| {
        format!(
            "{text:?} is not a time ({error}): wanted is one in UTC such as 2026-11-23T02:00:00Z, or with an offset \
             such as 2026-11-22T21:00:00-05:00"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Timestamp = "2026-11-23T02:00:00Z".parse().expect("a time");
        parse(text).map(|moment| moment.at(now).to_string())
    }

    #[test]
    fn times_have_any_offset_and_durations_count_from_now() {
        for (text, wanted) in [
            ("2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z"),
            ("2026-11-23T21:30:00-05:00", "2026-11-24T02:30:00Z"),
            ("2026-11-24T05:45:00+05:45", "2026-11-24T00:00:00Z"),
            ("2h", "2026-11-23T04:00:00Z"),
            ("3d", "2026-11-26T02:00:00Z"),
            ("1h30m", "2026-11-23T03:30:00Z"),
            ("99999999999d", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_explained() {
        for text in ["tomorrow", "", "2", "0h", "-2h", "2026-11-24", "2026-11-24T00:00:00", "2026-13-24T00:00:00Z"] {
            let said = at(text).expect_err(text);
            assert!(said.starts_with(&format!("{text:?} is not a time")), "{said}");
            assert!(said.contains("2026-11-22T21:00:00-05:00") && said.ends_with("such as 2h or 3d"), "{said}");
            assert!(!instant(text).expect_err(text).contains("duration"));
        }
        assert!(instant("2h").is_err());
    }
}
