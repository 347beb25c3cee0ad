//! The `Range` header as a pure function (RFC 9110, section 14).
//!
//! One byte range or none. Several ranges, other units and malformed text are ignored, which the standard allows and
//! which costs the least: the answer is then the whole payload.

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// There is no such header.
    Whole,
    /// The bytes from `start` to `end`, both included; `start <= end < len`.
    Part { start: u64, end: u64 },
    /// A byte range that lies outside.
    Unsatisfiable,
    /// Malformed, of another unit, or several ranges: to be treated like no header.
    Ignored,
}

/// Reads a `Range` header for a payload of `len` bytes.
pub(crate) fn parse(header: Option<&[u8]>, len: u64) -> Range {
    let Some(header) = header else {
        return Range::Whole;
    };
    one_range(header, len).unwrap_or(Range::Ignored)
}

fn one_range(header: &[u8], len: u64) -> Option<Range> {
    let text = std::str::from_utf8(header).ok()?;
    let (unit, spec) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim_matches([' ', '\t']).split_once('-')?;
    let Some(end) = len.checked_sub(1) else {
        return (position(first).is_some() || position(last).is_some()).then_some(Range::Unsatisfiable);
    };
    match (first, last) {
        ("", last) => Some(match position(last)? {
            0 => Range::Unsatisfiable,
            count => Range::Part { start: len.saturating_sub(count), end },
        }),
        (first, "") => Some(part(position(first)?, end, end)),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then(|| part(first, last, end))
        }
    }
}

fn part(first: u64, last: u64, end: u64) -> Range {
    if first > end { Range::Unsatisfiable } else { Range::Part { start: first, end: last.min(end) } }
}

/// Digits only. A number beyond `u64` is beyond every payload as well, so it counts as the largest one.
fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: u64 = 1000;
    const OVERFLOW: &str = "18446744073709551616";

    fn check(header: &str, wanted: Range) {
        assert_eq!(parse(Some(header.as_bytes()), LEN), wanted, "{header:?}");
    }

    fn check_part(header: &str, start: u64, end: u64) {
        check(header, Range::Part { start, end });
    }

    #[test]
    fn no_header_means_the_whole() {
        assert_eq!(parse(None, LEN), Range::Whole);
        assert_eq!(parse(None, 0), Range::Whole);
    }

    #[test]
    fn one_range_is_served() {
        check_part("bytes=0-0", 0, 0);
        check_part("bytes=0-999", 0, 999);
        check_part("bytes=10-19", 10, 19);
        check_part("bytes=10-", 10, 999);
        check_part("bytes=-1", 999, 999);
        check_part("bytes=-1000", 0, 999);
        check_part("BYTES=0-5", 0, 5);
        check_part("bytes= 0-5 ", 0, 5);
    }

    #[test]
    fn an_end_beyond_the_payload_is_cut() {
        check_part("bytes=990-2000", 990, 999);
        check_part("bytes=-2000", 0, 999);
        check_part(&format!("bytes=5-{OVERFLOW}"), 5, 999);
        check_part(&format!("bytes=-{OVERFLOW}"), 0, 999);
    }

    #[test]
    fn a_range_outside_is_unsatisfiable() {
        check("bytes=-0", Range::Unsatisfiable);
        check("bytes=1000-", Range::Unsatisfiable);
        check("bytes=1000-1001", Range::Unsatisfiable);
        check(&format!("bytes={OVERFLOW}-"), Range::Unsatisfiable);
        check(&format!("bytes={OVERFLOW}-{OVERFLOW}"), Range::Unsatisfiable);
    }

    #[test]
    fn reversed_malformed_and_foreign_ranges_are_ignored() {
        let bad = ["", "bytes", "bytes=", "bytes=-", "bytes=5", "bytes=9-5", "bytes=a-b", "bytes=0x1-2", "bytes=+1-2"];
        let worse = ["bytes=1 -2", "bytes 0-5", "items=0-5", "=0-5", "bytes==0-5", "bytes=0--5", "bytes=\u{661}-2"];
        for header in bad.iter().chain(&worse) {
            check(header, Range::Ignored);
        }
        check(&format!("bytes={OVERFLOW}-5"), Range::Ignored);
        assert_eq!(parse(Some(b"bytes=\xff-5"), LEN), Range::Ignored);
    }

    #[test]
    fn several_ranges_are_ignored_however_many() {
        check("bytes=0-1,5-6", Range::Ignored);
        check("bytes=0-1,", Range::Ignored);
        check(&format!("bytes={}", vec!["0-0"; 1000].join(",")), Range::Ignored);
    }

    #[test]
    fn nothing_of_an_empty_payload_can_be_had() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
            assert_eq!(parse(Some(header.as_bytes()), 0), Range::Unsatisfiable, "{header}");
        }
        assert_eq!(parse(Some(b"bytes=-"), 0), Range::Ignored);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_range_inside_or_none(header in any::<Vec<u8>>(), len in any::<u64>()) {
            if let Range::Part { start, end } = parse(Some(&header), len) {
                prop_assert!(start <= end && end < len);
            }
        }

        #[test]
        fn text_that_looks_like_a_range_gives_one_inside_or_none(
            header in "bytes=[0-9]{0,22}-?[0-9]{0,22}[,-]?[0-9]{0,3}", len in any::<u64>()
        ) {
            if let Range::Part { start, end } = parse(Some(header.as_bytes()), len) {
                prop_assert!(start <= end && end < len);
            }
        }

        #[test]
        fn a_range_inside_is_served_exactly(a in any::<u64>(), b in any::<u64>(), more in any::<u64>()) {
            let (start, end) = (a.min(b), a.max(b));
            let len = end.saturating_add(more.max(1));
            prop_assume!(end < len);
            prop_assert_eq!(parse(Some(format!("bytes={start}-{end}").as_bytes()), len), Range::Part { start, end });
            let suffix = format!("bytes=-{}", len - start);
            prop_assert_eq!(parse(Some(suffix.as_bytes()), len), Range::Part { start, end: len - 1 });
            prop_assert_eq!(parse(Some(format!("bytes={start}-").as_bytes()), len), Range::Part { start, end: len - 1 });
        }
    }
}
