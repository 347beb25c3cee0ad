//! What somebody has looked at before changing it: so that two people who edit the same thing do not undo each other's
//! work without knowing.

use callboard_proto::{digest::Digest, problem::Code};
use serde_json::Value;

use super::{Error, Result};

/// Which state a thing is in, as far as people edit it. What devices tell changes nothing about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edition(String);

/// Which editions a change is meant for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expected {
    #[default]
    Any,
    OneOf(Vec<String>),
}

impl Edition {
    /// Of what the audit says of the thing.
    pub(crate) fn of(facts: &Value) -> Self {
        Self(Digest::of(facts.to_string().as_bytes()).to_string().chars().take(32).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Expected {
    /// Refuses a change of what was changed since; `facts` are what the audit says of it now.
    pub(crate) fn check(&self, facts: impl FnOnce() -> Value) -> Result<()> {
        let Self::OneOf(editions) = self else { return Ok(()) };
        let now = Edition::of(&facts());
        if editions.contains(&now.0) {
            return Ok(());
        }
        let detail = "it was changed since the edition that If-Match names; get it again, and see whether the change is still \
                      meant";
        Err(Error::refused(Code::PreconditionFailed, detail))
    }
}
