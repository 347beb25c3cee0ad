//! The audit: every change that somebody makes, in a chain of hashes. Whoever changes or leaves out a link of it, in the
//! database or in an export, would have to make all later ones anew, and could not make those that were written down elsewhere.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, time::Timestamp};

/// First part of what is hashed: names the rule.
const RULE: &str = "callboard.audit.v1";

/// Links are kept for a day at least, however short the configured age is.
const LEAST_KEPT: Duration = Duration::from_secs(86_400);

/// A change: one link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// Its number, from 1, without gaps.
    pub link: u64,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// What sort of change, as in the event log.
    pub kind: String,
    /// Name of the person or the API token.
    pub who: String,
    /// The person who answers for it; empty if there is none.
    pub person: String,
    /// The address that asked; empty for whoever has the data directory.
    pub source: String,
    /// Id of the device that it is about, or empty.
    pub device: String,
    /// Id of the rollout that it is about, or empty.
    pub rollout: String,
    /// In words.
    pub text: String,
    /// JSON of what was changed as it was before, or empty.
    pub before: String,
    /// JSON of the same afterwards, or empty.
    pub after: String,
    /// SHA-256 of the link before and this one.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hash: Digest,
}

/// A place in the chain: everything up to it is what it was when this was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditPlace {
    /// Number of a link; 0 before the first one.
    pub link: u64,
    /// Its hash; zeros before the first one.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hash: Digest,
}

/// What is kept of the chain: later than `start`, up to `head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// The last link that was dropped because of its age, or the beginning.
    pub start: AuditPlace,
    /// The newest link.
    pub head: AuditPlace,
}

/// First line of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditStart {
    /// After this the entries of the next lines come.
    pub start: AuditPlace,
}

/// What a link of the kind [`AuditDropped::KIND`] says, in `after`: which links were dropped because of their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditDropped {
    /// Number of the first of them.
    pub from: u64,
    /// The last of them: the chain begins after it.
    pub to: AuditPlace,
    /// All of them are from before.
    pub older_than: Timestamp,
}

impl AuditDropped {
    /// Kind of such a link.
    pub const KIND: &str = "audit.dropped";
}

impl AuditPlace {
    /// Before the first link.
    pub const BEGINNING: Self = Self { link: 0, hash: Digest::from_bytes([0; 32]) };
}

impl AuditEntry {
    /// What its hash has to be after a link with this one: SHA-256 of the rule's name, the previous hash, and the fields
    /// in the order in which they stand, each as a netstring (`5:hello,`).
    pub fn hash_after(&self, previous: Digest) -> Digest {
        let (previous, link, at) = (previous.to_string(), self.link.to_string(), self.at.to_string());
        let fields = [
            RULE,
            &previous,
            &link,
            &at,
            &self.kind,
            &self.who,
            &self.person,
            &self.source,
            &self.device,
            &self.rollout,
            &self.text,
            &self.before,
            &self.after,
        ];
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend_from_slice(field.len().to_string().as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(field.as_bytes());
            bytes.push(b',');
        }
        Digest::of(&bytes)
    }

    /// Where it stands.
    pub const fn place(&self) -> AuditPlace {
        AuditPlace { link: self.link, hash: self.hash }
    }
}

/// Why a chain is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A link is missing, or stands elsewhere.
    #[error("link {wanted} should come next, but {found} does: something was left out or moved")]
    Gap {
        /// What should come.
        wanted: u64,
        /// What comes.
        found: u64,
    },
    /// A link is not what was hashed.
    #[error("link {0} does not follow from the one before: it, or one before it, was changed")]
    Changed(u64),
    /// A place that was written down is another one here.
    #[error("link {0} has another hash than the one that was written down: it, or one before it, was replaced")]
    Replaced(u64),
    /// A place that was written down is not here.
    #[error("link {0} was written down and is not here: the end was cut off")]
    CutOff(u64),
    /// A place that was written down is not after the beginning.
    #[error(
        "link {pin} was written down, and links 1 to {to} are missing: nothing shows that what is here follows from it; \
         compare with one that was written down later"
    )]
    Unfollowed {
        /// What was written down.
        pin: u64,
        /// The last link that is missing.
        to: u64,
    },
    /// Links are missing, and no link says why.
    #[error("links 1 to {0} are missing, and no link says that they were dropped because of their age")]
    Missing(u64),
    /// A link says of links that they were dropped, and others are.
    #[error("link {link} does not say which links were dropped after {after}, or says it of others")]
    DroppedOthers {
        /// The link that should say it.
        link: u64,
        /// The last that was dropped before.
        after: u64,
    },
    /// A link says that links were dropped that were not old.
    #[error("link {0} says that links were dropped that were not a day old")]
    DroppedYoung(u64),
}

/// A chain that was followed to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeChain {
    /// Its newest link.
    pub head: AuditPlace,
    /// How many links were followed.
    pub links: u64,
    /// The last link that was dropped, and the link that says so.
    pub dropped: Option<(u64, u64)>,
}

impl fmt::Display for WholeChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuditPlace { link, hash } = self.head;
        write!(f, "the chain is whole: {} changes, the newest is {link}:{hash}", self.links)?;
        match self.dropped {
            Some((to, said_by)) => {
                write!(f, "; links 1 to {to} were dropped because of their age, as link {said_by} says")
            }
            None => Ok(()),
        }
    }
}

/// Follows a chain link by link.
#[derive(Clone, Debug)]
pub struct ChainReader {
    start: AuditPlace,
    at: AuditPlace,
    pins: Vec<AuditPlace>,
    links: u64,
    /// The last link of which a link says that it was dropped.
    dropped: Option<u64>,
    /// The link that says that all up to the beginning were dropped.
    said_by: Option<u64>,
}

impl ChainReader {
    /// Begins after `start`; `pins` are places that were written down elsewhere.
    ///
    /// # Errors
    /// A place that was written down is missing, or is another one here.
    pub fn new(start: AuditPlace, mut pins: Vec<AuditPlace>) -> Result<Self, BrokenChain> {
        pins.sort_by_key(|pin| pin.link);
        if let Some(pin) = pins.first().filter(|pin| start.link > 0 && pin.link <= start.link) {
            return Err(BrokenChain::Unfollowed { pin: pin.link, to: start.link });
        }
        let mut reader = Self { start, at: start, pins, links: 0, dropped: None, said_by: None };
        reader.look()?;
        Ok(reader)
    }

    /// Goes on to the next link.
    ///
    /// # Errors
    /// It is not the next one, not what was hashed, or not what was written down.
    pub fn next(&mut self, entry: &AuditEntry) -> Result<(), BrokenChain> {
        let wanted = self.at.link + 1;
        if entry.link != wanted {
            return Err(BrokenChain::Gap { wanted, found: entry.link });
        }
        if entry.hash_after(self.at.hash) != entry.hash {
            return Err(BrokenChain::Changed(entry.link));
        }
        self.at = entry.place();
        self.links += 1;
        if entry.kind == AuditDropped::KIND {
            self.was_dropped(entry)?;
        }
        self.look()
    }

    /// Looks at what a link says of links that were dropped.
    fn was_dropped(&mut self, entry: &AuditEntry) -> Result<(), BrokenChain> {
        let link = entry.link;
        let others = BrokenChain::DroppedOthers { link, after: self.dropped.unwrap_or(0) };
        let Ok(said) = serde_json::from_str::<AuditDropped>(&entry.after) else {
            return Err(others);
        };
        let other_end = said.to.link == self.start.link && said.to.hash != self.start.hash;
        if other_end || self.dropped.is_some_and(|last| said.from != last + 1) {
            return Err(others);
        }
        if entry.at.since(said.older_than) < LEAST_KEPT {
            return Err(BrokenChain::DroppedYoung(link));
        }
        self.dropped = Some(said.to.link);
        self.said_by = self.said_by.or((said.to == self.start).then_some(link));
        Ok(())
    }

    /// Compares the present place with those that were written down.
    fn look(&mut self) -> Result<(), BrokenChain> {
        let (here, later): (Vec<AuditPlace>, Vec<AuditPlace>) =
            self.pins.iter().copied().partition(|pin| pin.link == self.at.link);
        self.pins = later;
        match here.iter().any(|pin| pin.hash != self.at.hash) {
            true => Err(BrokenChain::Replaced(self.at.link)),
            false => Ok(()),
        }
    }

    /// The chain, followed to its end.
    ///
    /// # Errors
    /// A place that was written down has not come, or nothing says why the beginning is missing.
    pub fn end(self) -> Result<WholeChain, BrokenChain> {
        if let Some(pin) = self.pins.first() {
            return Err(BrokenChain::CutOff(pin.link));
        }
        let to = self.start.link;
        let dropped = match (to, self.said_by) {
            (0, _) => None,
            (_, Some(said_by)) => Some((to, said_by)),
            (_, None) => return Err(BrokenChain::Missing(to)),
        };
        Ok(WholeChain { head: self.at, links: self.links, dropped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(links: u64) -> Vec<AuditEntry> {
        let mut last = AuditPlace::BEGINNING;
        let mut all = Vec::new();
        for link in 1..=links {
            let mut entry = AuditEntry {
                link,
                at: Timestamp::from_millis(1_700_000_000_000),
                kind: "device.held".to_owned(),
                who: "ada".to_owned(),
                person: "ada".to_owned(),
                source: "127.0.0.1".to_owned(),
                device: String::new(),
                rollout: String::new(),
                text: format!("grüße {link}"),
                before: String::new(),
                after: "{}".to_owned(),
                hash: Digest::from_bytes([0; 32]),
            };
            entry.hash = entry.hash_after(last.hash);
            last = entry.place();
            all.push(entry);
        }
        all
    }

    fn check(entries: &[AuditEntry], pins: &[AuditPlace]) -> Result<u64, BrokenChain> {
        let mut reader = ChainReader::new(AuditPlace::BEGINNING, pins.to_vec())?;
        for entry in entries {
            reader.next(entry)?;
        }
        reader.end().map(|whole| whole.links)
    }

    /// As in `admin-api.md`, computed there by other means.
    #[test]
    fn the_hash_is_that_of_the_page() {
        assert_eq!(chain(1)[0].hash.to_string(), "b620ce905672ccf5deb333ea2d46e51002a7cd21a270a8306a8fa7aa44f1e2bb");
    }

    #[test]
    fn whatever_is_done_to_a_chain_shows() {
        let all = chain(5);
        assert_eq!(check(&all, &[all[2].place(), all[4].place(), AuditPlace::BEGINNING]), Ok(5));
        let changed = |change: fn(&mut AuditEntry)| {
            let mut all = all.clone();
            change(&mut all[2]);
            check(&all, &[])
        };
        assert_eq!(changed(|entry| entry.who = "eve".to_owned()), Err(BrokenChain::Changed(3)));
        assert_eq!(changed(|entry| entry.at = Timestamp::from_millis(0)), Err(BrokenChain::Changed(3)));
        assert_eq!(changed(|entry| entry.before = "{}".to_owned()), Err(BrokenChain::Changed(3)));
        // A text cannot flow over into the next field.
        let moved = |entry: &mut AuditEntry| (entry.text, entry.before) = (String::new(), entry.text.clone());
        assert_eq!(changed(moved), Err(BrokenChain::Changed(3)));
        let mut gap = all.clone();
        gap.remove(2);
        assert_eq!(check(&gap, &[]), Err(BrokenChain::Gap { wanted: 3, found: 4 }));
        // Made anew from the third link on, or cut off: only who wrote something down can tell.
        let mut anew = all[..2].to_vec();
        anew.extend(chain(3).into_iter().skip(2).map(|mut entry| {
            entry.who = "eve".to_owned();
            entry.hash = entry.hash_after(all[1].hash);
            entry
        }));
        assert_eq!(check(&anew, &[]), Ok(3));
        assert_eq!(check(&anew, &[all[2].place()]), Err(BrokenChain::Replaced(3)));
        assert_eq!(check(&all[..3], &[all[4].place()]), Err(BrokenChain::CutOff(5)));
    }

    /// A chain of which a link says that links were dropped.
    fn dropped(mut all: Vec<AuditEntry>, from: u64, to: AuditPlace, age: Duration) -> Vec<AuditEntry> {
        let last = all.last().unwrap().clone();
        let older_than = Timestamp::from_millis(last.at.millis() - i64::try_from(age.as_millis()).unwrap());
        let after = serde_json::to_string(&AuditDropped { from, to, older_than }).unwrap();
        let mut entry = AuditEntry { link: last.link + 1, kind: AuditDropped::KIND.to_owned(), after, ..last.clone() };
        entry.hash = entry.hash_after(last.hash);
        all.push(entry);
        all
    }

    #[test]
    fn a_chain_that_lost_its_beginning_is_followed_from_there_if_a_link_says_so() {
        let follow = |start: AuditPlace, entries: &[AuditEntry], pins: &[AuditPlace]| {
            let mut reader = ChainReader::new(start, pins.to_vec())?;
            entries.iter().try_for_each(|entry| reader.next(entry))?;
            reader.end()
        };
        let five = chain(5);
        let [second, third, fourth] = [1, 2, 3].map(|n: usize| five[n].place());
        let day = Duration::from_secs(86_400);
        let all = dropped(five.clone(), 1, third, day);
        let whole = follow(third, &all[3..], &[fourth]).unwrap();
        assert_eq!((whole.head, whole.links, whole.dropped), (all[5].place(), 3, Some((3, 6))));
        assert!(whole.to_string().ends_with("; links 1 to 3 were dropped because of their age, as link 6 says"));
        // What was written down of the beginning is not here, also if it is just what the beginning says.
        for pin in [second, third] {
            assert_eq!(follow(third, &all[3..], &[pin, fourth]), Err(BrokenChain::Unfollowed { pin: pin.link, to: 3 }));
        }
        // Cut without a link that says so, or further than it says; or all of it.
        assert_eq!(follow(third, &five[3..], &[]), Err(BrokenChain::Missing(3)));
        assert_eq!(follow(fourth, &all[4..], &[]), Err(BrokenChain::Missing(4)));
        assert_eq!(follow(third, &[], &[]), Err(BrokenChain::Missing(3)));
        // What was dropped was old, and after what was dropped before.
        let young = dropped(five, 1, third, day - Duration::from_millis(1));
        assert_eq!(follow(third, &young[3..], &[]), Err(BrokenChain::DroppedYoung(6)));
        let twice = |from| dropped(all.clone(), from, fourth, day);
        assert_eq!(follow(fourth, &twice(4)[4..], &[]).unwrap().dropped, Some((4, 7)));
        assert_eq!(follow(fourth, &twice(5)[4..], &[]), Err(BrokenChain::DroppedOthers { link: 7, after: 3 }));
    }
}
