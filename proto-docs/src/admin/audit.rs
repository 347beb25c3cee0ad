//! The audit: every change that somebody makes, in a chain of hashes. Whoever changes or leaves out a link of it, in the
//! database or in an export, would have to make all later ones anew, and could not make those that were written down elsewhere.

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, time::Timestamp};

/// First part of what is hashed: names the rule.
const RULE: &str = "callboard.audit.v1";

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
}

/// Follows a chain link by link.
#[derive(Clone, Debug)]
pub struct ChainReader {
    at: AuditPlace,
    pins: Vec<AuditPlace>,
    links: u64,
    too_old: Vec<u64>,
}

impl ChainReader {
    /// Begins after `start`; `pins` are places that were written down elsewhere.
    ///
    /// # Errors
    /// The beginning itself was written down otherwise.
    pub fn new(start: AuditPlace, mut pins: Vec<AuditPlace>) -> Result<Self, BrokenChain> {
        pins.sort_by_key(|pin| pin.link);
        let too_old = pins.iter().map(|pin| pin.link).filter(|link| *link < start.link).collect();
        pins.retain(|pin| pin.link >= start.link);
        let mut reader = Self { at: start, pins, links: 0, too_old };
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
        self.look()
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

    /// Where the chain ends, how many links were followed, and which places that were written down lie before them.
    ///
    /// # Errors
    /// A place that was written down has not come.
    pub fn end(self) -> Result<(AuditPlace, u64, Vec<u64>), BrokenChain> {
        match self.pins.first() {
            Some(pin) => Err(BrokenChain::CutOff(pin.link)),
            None => Ok((self.at, self.links, self.too_old)),
        }
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
        reader.end().map(|(_, links, _)| links)
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

    #[test]
    fn a_chain_that_lost_its_beginning_is_followed_from_there() {
        let all = chain(5);
        let mut reader = ChainReader::new(all[2].place(), vec![all[1].place(), all[3].place()]).unwrap();
        all[3..].iter().for_each(|entry| reader.next(entry).unwrap());
        assert_eq!(reader.end(), Ok((all[4].place(), 2, vec![2])));
        let wrong = AuditPlace { link: 3, ..all[1].place() };
        assert_eq!(ChainReader::new(all[2].place(), vec![wrong]).unwrap_err(), BrokenChain::Replaced(3));
    }
}
