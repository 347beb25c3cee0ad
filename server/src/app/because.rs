//! Who does something, and why: said the same way wherever it is written down.

use std::fmt;

use super::Actor;

/// Somebody, and that one's words, which may be none.
#[derive(Clone, Debug)]
pub(crate) struct Because {
    pub(crate) by: Actor,
    pub(crate) reason: String,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.trim() {
            "" => write!(f, "by {}", self.by.name),
            reason => write!(f, "by {}: {reason}", self.by.name),
        }
    }
}
