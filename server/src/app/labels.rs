//! What a label may be.

use std::collections::BTreeMap;

use callboard_proto::{admin::MAX_LABELS, check_in::MAX_TEXT};

use super::{Error, Result};

/// Longest key of a label.
const MAX_KEY: usize = 64;

/// Refuses labels that selectors could not name or pages could not show.
pub(crate) fn check(labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid(format!("{} labels; at most {MAX_LABELS} are allowed", labels.len())));
    }
    for (key, value) in labels {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let first = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        if !first || key.len() > MAX_KEY || !key.chars().all(legal) {
            return Err(Error::invalid(format!(
                "label key {key:?} is not allowed: 1 to {MAX_KEY} of A-Z a-z 0-9 _ - . beginning with a letter"
            )));
        }
        if value.len() > MAX_TEXT || value.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "the value of label {key} is not allowed: at most {MAX_TEXT} bytes without control characters"
            )));
        }
    }
    Ok(())
}
