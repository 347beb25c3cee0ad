//! Byte ranges, both ways: what a device asks for, and what it believes of the answer.
//!
//! The first eight bytes are the payload's length, the next eight where the device wants to go on.

use super::range::{self, Range};

/// A length, a position, and the text of a header.
pub(super) fn any(bytes: &[u8]) -> bool {
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let Some((first, header)) = rest.split_first_chunk::<8>() else { return false };
    let (len, first) = (u64::from_le_bytes(*len), u64::from_le_bytes(*first));
    let answered = callboard_agent::fuzz::content_range(header, len, first);
    if let Some(range) = &answered {
        assert!(range.start == first && range.start < range.end && range.end <= len, "{range:?} of {len}");
    }
    asked(header, len) || answered.is_some()
}

fn asked(header: &[u8], len: u64) -> bool {
    assert_eq!(range::parse(None, len), Range::Whole);
    let Range::Part { start, end } = range::parse(Some(header), len) else { return false };
    assert!(start <= end && end < len, "{start}-{end} of {len}");
    // The same in other words.
    let plain = format!("bytes={start}-{end}");
    assert_eq!(range::parse(Some(plain.as_bytes()), len), Range::Part { start, end });
    // A device that asked for it takes the answer.
    let answer = format!("bytes {start}-{end}/{len}");
    assert_eq!(callboard_agent::fuzz::content_range(answer.as_bytes(), len, start), Some(start..end + 1));
    true
}
