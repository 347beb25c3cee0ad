//! Texts that somebody else wrote: how long they may be, and that nothing in them is a command to a terminal or an error
//! to a database.
//!
//! A message says by [`Check`] what serde cannot see. Whoever receives one checks it before anything else reads it.

mod journal;
mod shown;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer};

pub use journal::{Priority, is_stderr as is_stderr_the_journal};
pub use shown::{Lines, is_command, shown, shown_json};

/// Longest text of a device, label or name in bytes.
pub const MAX_TEXT: usize = 128;

/// A message whose texts and counts have limits.
pub trait Check {
    /// Checks them.
    ///
    /// # Errors
    /// Names the field, says what is wrong with it and what would be right.
    fn check(&self) -> Result<(), String>;
}

/// What is wrong with a text; fits after the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// It is too long.
    #[error("has {bytes} bytes; at most {max} are allowed")]
    Long {
        /// Its length.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Something in it is no character to read.
    #[error("has the control character U+{:04X}; none is allowed", u32::from(*.0))]
    Control(char),
}

/// Checks a text of one line.
///
/// # Errors
/// It has more than `max` bytes or a control character.
pub fn check(text: &str, max: usize) -> Result<(), BadText> {
    if text.len() > max {
        return Err(BadText::Long { bytes: text.len(), max });
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(BadText::Control(c)),
        None => Ok(()),
    }
}

/// Checks the text of a field.
pub(crate) fn field(name: impl fmt::Display, text: &str, max: usize) -> Result<(), String> {
    check(text, max).map_err(|bad| format!("{name} {bad}"))
}

/// Checks the length of a field that may have several lines.
pub(crate) fn long(name: impl fmt::Display, text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        return Err(format!("{name} {}", BadText::Long { bytes: text.len(), max }));
    }
    Ok(())
}

/// Checks the text of a field that may be absent.
pub(crate) fn some(name: impl fmt::Display, text: Option<&String>, max: usize) -> Result<(), String> {
    text.map_or(Ok(()), |text| field(name, text, max))
}

/// Checks every text of a list.
pub(crate) fn each(name: impl fmt::Display, texts: &[String], max: usize) -> Result<(), String> {
    texts.iter().enumerate().try_for_each(|(n, text)| field(format_args!("{name}[{n}]"), text, max))
}

/// Checks keys and values.
pub(crate) fn pairs(name: impl fmt::Display, pairs: &BTreeMap<String, String>, max: usize) -> Result<(), String> {
    pairs.iter().try_for_each(|(key, value)| {
        field(format_args!("a key of {name}"), key, max)?;
        field(format_args!("{name}.{key}"), value, max)
    })
}

/// Checks the length of a list.
pub(crate) fn count(name: &str, count: usize, max: usize) -> Result<(), String> {
    if count > max {
        return Err(format!("{name} has {count} entries; at most {max} are allowed"));
    }
    Ok(())
}

/// Checks that everything in `crit` is known.
pub(crate) fn critical(crit: &[String], known: &[&str]) -> Result<(), String> {
    match crit.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("field {name:?} is critical and not supported by this version")),
        None => Ok(()),
    }
}

/// Reads a text of several lines, such as a program's output. Nobody can make a program print only what is allowed, so
/// control characters other than the ends of lines and tabs become the replacement character.
pub(crate) fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    Ok(if text.contains(bad) { text.replace(bad, "\u{fffd}") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_refused_by_its_length_and_by_what_no_eye_can_see() {
        assert_eq!(check("Café 東京", 13), Ok(()));
        assert_eq!(check("Café", 4), Err(BadText::Long { bytes: 5, max: 4 }));
        for c in ['\0', '\n', '\u{1b}', '\u{7f}', '\u{9b}'] {
            assert_eq!(check(&format!("a{c}"), 10), Err(BadText::Control(c)));
        }
    }

    #[test]
    fn the_field_is_named_with_its_limit() {
        let pairs_of = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let said = |result: Result<(), String>| result.err().unwrap_or_default();
        assert_eq!(said(field("facts.hw", "abc", 2)), "facts.hw has 3 bytes; at most 2 are allowed");
        assert_eq!(
            said(each("channels", &["a".to_owned(), "\0".to_owned()], 9)),
            "channels[1] has the control character U+0000; none is allowed"
        );
        assert_eq!(
            said(pairs("attributes", &pairs_of("k", "long"), 3)),
            "attributes.k has 4 bytes; at most 3 are allowed"
        );
        assert_eq!(
            said(pairs("attributes", &pairs_of("long", ""), 3)),
            "a key of attributes has 4 bytes; at most 3 are allowed"
        );
    }

    #[test]
    fn output_of_a_program_is_read_without_what_a_terminal_would_obey() {
        let read = |text: &str| lines(serde_json::Value::from(text)).ok();
        assert_eq!(read("two\nlines\tand tabs").as_deref(), Some("two\nlines\tand tabs"));
        assert_eq!(read("\u{1b}[2J\0\r\u{85}x").as_deref(), Some("\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}x"));
    }
}
