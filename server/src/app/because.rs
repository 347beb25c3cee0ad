//! Who does something, and why: said the same way wherever it is written down.

use std::fmt;

use super::{Actor, Error, Result};

/// Somebody, and that one's words, which may be none.
#[derive(Clone, Debug)]
pub(crate) struct Because {
    pub(crate) by: Actor,
    pub(crate) reason: String,
}

impl Because {
    /// Refuses to do it without a reason.
    pub(crate) fn required(&self) -> Result<()> {
        match self.reason.trim() {
            "" => Err(Error::invalid("reason is empty; say why")),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.trim() {
            "" => write!(f, "by {}", self.by.name),
            reason => write!(f, "by {}: {reason}", self.by.name),
        }
    }
}
