//! Who does something, and why: said the same way wherever it is written down.

use std::fmt;

/// An operator and the operator's words, which may be none.
#[derive(Clone, Debug)]
pub(crate) struct Because {
    pub(crate) operator: String,
    pub(crate) reason: String,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.trim() {
            "" => write!(f, "by {}", self.operator),
            reason => write!(f, "by {}: {reason}", self.operator),
        }
    }
}
