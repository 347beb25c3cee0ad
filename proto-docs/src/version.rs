//! Version strings and their one total order.
//!
//! SemVer where it applies: parts are split at dots, numeric parts compare as numbers, a pre-release comes
//! before its release, build metadata (`+...`) does not count. Everything else compares as text. Trailing
//! zero parts do not count (`2.1` equals `2.1.0`). The order is that of [`Version::sort_key`], byte by byte,
//! so a database that compares bytes agrees with this program.

use std::{cmp::Ordering, fmt, hash, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::parsed::parsed;

/// Longest version string.
pub const MAX_VERSION_LEN: usize = 64;

/// What people call a release: 1 to 64 printable ASCII characters without spaces.
#[derive(Clone)]
pub struct Version(String);

impl Version {
    /// The text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Text whose byte order is the order of versions.
    pub fn sort_key(&self) -> String {
        let text = self.0.split_once('+').map_or(self.0.as_str(), |(front, _)| front);
        let (main, pre) = match text.split_once('-') {
            Some((main, pre)) => (main, Some(pre)),
            None => (text, None),
        };
        let mut key = String::with_capacity(text.len() + 16);
        let parts: Vec<&str> = main.split('.').collect();
        let kept = parts.iter().rposition(|part| !is_zero(part)).map_or(0, |last| last + 1);
        for part in parts.iter().take(kept) {
            push_part(&mut key, part);
        }
        // End marks sort below part marks, so that a shorter version is the smaller one.
        key.push(if pre.is_some() { PRE_RELEASE } else { RELEASE });
        if let Some(pre) = pre {
            for part in pre.split('.') {
                push_part(&mut key, part);
            }
            key.push(PRE_RELEASE);
        }
        key
    }
}

const PRE_RELEASE: char = '0';
const RELEASE: char = '1';
const NUMBER: char = '2';
const TEXT: char = '3';
/// Below every character that a version may contain.
const END_OF_TEXT: char = ' ';

fn is_zero(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|c| c == b'0')
}

fn push_part(key: &mut String, part: &str) {
    if !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()) {
        let digits = part.trim_start_matches('0');
        key.push(NUMBER);
        // At most 64 digits, so two digits of length make the text order the numeric one.
        key.push_str(&format!("{:02}{digits}", digits.len()));
    } else {
        key.push(TEXT);
        key.push_str(part);
        key.push(END_OF_TEXT);
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        // The same text needs no sort keys: a device says what it said before.
        self.0 == other.0 || self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl hash::Hash for Version {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.sort_key().hash(state);
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Text that is not a [`Version`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a version: 1 to 64 printable ASCII characters without spaces are wanted")]
pub struct BadVersion;

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let legal = (1..=MAX_VERSION_LEN).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
        if legal { Ok(Self(text.to_owned())) } else { Err(BadVersion) }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_ascend() {
        let ascending = [
            "0",
            "0.0.1",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1-rc",
            "1.0.1",
            "1.2",
            "1.9",
            "1.10",
            "1.10.1",
            "2.0.5",
            "2.1.0",
            "2.2.8",
            "2.3.1",
            "10",
            "99999999999999999999",
            "r5",
            "r5.1",
        ];
        let parsed: Vec<Version> = ascending.iter().filter_map(|text| text.parse().ok()).collect();
        assert_eq!(parsed.len(), ascending.len());
        for pair in parsed.windows(2) {
            assert!(pair[0] < pair[1], "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn trailing_zeros_and_build_metadata_do_not_count() {
        for (a, b) in [("2.1", "2.1.0"), ("1.0.0+5", "1.0.0"), ("01.2", "1.2"), ("0", "0.0")] {
            assert_eq!(a.parse::<Version>(), b.parse::<Version>());
        }
    }

    proptest! {
        #[test]
        fn semver_numbers_order_as_numbers(a in any::<[u32; 3]>(), b in any::<[u32; 3]>()) {
            let version = |v: [u32; 3]| format!("{}.{}.{}", v[0], v[1], v[2]).parse::<Version>();
            prop_assert_eq!(version(a)?.cmp(&version(b)?), a.cmp(&b));
        }
    }
}
