//! How far a document is from being accepted: who signed it, and how many are still missing.

use callboard_proto::{
    digest::Digest,
    signed::{Envelope, KeySet},
};
use serde::Serialize;

/// The signatures of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    /// Whose they are, in words.
    pub(crate) role: String,
    /// Keys of the role that signed.
    pub(crate) signed: Vec<Digest>,
    /// How many must.
    pub(crate) threshold: usize,
    /// How many signatures are missing.
    pub(crate) missing: usize,
    /// Keys of the role that did not sign.
    pub(crate) could_sign: Vec<Digest>,
}

impl Standing {
    /// Counts the signatures of a role on an envelope.
    pub(crate) fn of(role: String, envelope: &Envelope, keyids: &[Digest], (keys, threshold): (KeySet, usize)) -> Self {
        let signed = envelope.signers(&keys);
        let could_sign = keyids.iter().filter(|id| keys.contains(**id) && !signed.contains(*id)).copied().collect();
        let missing = threshold.saturating_sub(signed.len());
        Self { role, signed: signed.into_iter().collect(), threshold, missing, could_sign }
    }

    /// One sentence for people.
    pub(crate) fn sentence(&self) -> String {
        let Self { role, signed, threshold, missing, could_sign } = self;
        let ids = |ids: &[Digest]| ids.iter().map(Digest::short).collect::<Vec<_>>().join(", ");
        let have = format!("{role}: {} of {threshold} signatures", signed.len());
        match *missing {
            0 => format!("{have}, none is missing"),
            missing => format!("{have}, {missing} still missing, of {}", ids(could_sign)),
        }
    }
}

/// The sentences of several roles, one a line.
pub(crate) fn sentences(standings: &[Standing]) -> String {
    standings.iter().map(Standing::sentence).collect::<Vec<_>>().join("\n")
}
