//! What devices believe, as far as it decides what may be offered to them: a root and a head that have not expired, and
//! releases that neither of them has taken back.
//!
//! Devices check all of this themselves. The server does as well, so that it sends no orders which every device refuses.

use callboard_proto::time::Timestamp;

/// Until when devices install anything new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The newest root's end; `None` where there is no root, and nothing to offer.
    pub root_expires: Option<Timestamp>,
    /// What is known of the head.
    pub head: HeadTerms,
}

/// Whether devices insist on a head, and until when it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadTerms {
    /// The root names nobody who signs heads.
    #[default]
    NotNeeded,
    /// It does, and none is published.
    Missing,
    /// The newest one ends then.
    Until(Timestamp),
}

/// Why no device would install anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The root has expired.
    RootExpired(Timestamp),
    /// A head is needed, and none is published.
    HeadMissing,
    /// The head has expired.
    HeadExpired(Timestamp),
}

impl Terms {
    /// What stops every device at `now`.
    pub fn stop(&self, now: Timestamp) -> Option<Stop> {
        match (self.root_expires, self.head) {
            (Some(end), _) if now > end => Some(Stop::RootExpired(end)),
            (_, HeadTerms::Missing) => Some(Stop::HeadMissing),
            (_, HeadTerms::Until(end)) if now > end => Some(Stop::HeadExpired(end)),
            _ => None,
        }
    }
}

impl Stop {
    /// Every code.
    pub const CODES: [&'static str; 3] = ["root_expired", "head_missing", "head_expired"];

    /// A stable word for programs.
    pub const fn code(self) -> &'static str {
        let [root_expired, head_missing, head_expired] = Self::CODES;
        match self {
            Self::RootExpired(_) => root_expired,
            Self::HeadMissing => head_missing,
            Self::HeadExpired(_) => head_expired,
        }
    }

    /// The same in words.
    pub fn text(self) -> String {
        match self {
            Self::RootExpired(at) => {
                format!("the root expired at {at}; devices install nothing new until the next one")
            }
            Self::HeadMissing => "no head is published; devices install nothing new without one".to_owned(),
            Self::HeadExpired(at) => {
                format!("the head expired at {at}; devices install nothing new until the next one")
            }
        }
    }
}

/// Why a published release may not be installed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// The head takes it back.
    Revoked,
    /// The root does not accept its signatures any more.
    Untrusted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_stops_and_what_ends_later_does_not() {
        let at = Timestamp::from_millis;
        let stop = |root, head| Terms { root_expires: Some(at(root)), head }.stop(at(10));
        assert_eq!(stop(10, HeadTerms::NotNeeded), None);
        assert_eq!(stop(9, HeadTerms::NotNeeded), Some(Stop::RootExpired(at(9))));
        assert_eq!(stop(10, HeadTerms::Missing), Some(Stop::HeadMissing));
        assert_eq!(stop(10, HeadTerms::Until(at(10))), None);
        assert_eq!(stop(10, HeadTerms::Until(at(9))), Some(Stop::HeadExpired(at(9))));
        assert_eq!(Terms::default().stop(at(10)), None);
    }
}
