//! What simulated devices wait for, other than a time.

use std::collections::{BTreeSet, HashMap};

use callboard_proto::{
    ids::{RolloutId, SiteId},
    time::Timestamp,
};

use super::actor::Actor;
use crate::guard::Grant;

/// Something that happens to a rollout and lets devices go on that wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wait {
    /// A phase opens.
    Phase(RolloutId, usize),
    /// It completes.
    End(RolloutId),
    /// A place under a cap becomes free.
    Place(PlaceKey),
}

/// Places that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PlaceKey {
    pub(super) rollout: RolloutId,
    pub(super) grant: Grant,
    /// `None` for the cap over all sites.
    pub(super) site: Option<SiteId>,
}

/// Who waits for what. Entries are not taken back when a device goes on for another reason: the number of its check-in
/// tells that they are out of date.
#[derive(Debug, Default)]
pub(super) struct Waits {
    all: HashMap<Wait, Vec<Entry>>,
    places: HashMap<PlaceKey, Queue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    device: usize,
    stamp: u32,
}

/// Devices of one site among whom it is looked for the one that comes next; of more, anyone on its beat will do.
const NEIGHBOURS: usize = 500;

/// Who waits for a place. Whoever checks in first gets it: of those that are there, the next one on its beat.
#[derive(Debug, Default)]
struct Queue {
    /// By the beat of their check-ins.
    there: BTreeSet<(i64, Entry)>,
    /// By when they come next.
    away: BTreeSet<(Timestamp, Entry)>,
}

impl Waits {
    /// Lets a device wait.
    pub(super) fn add(&mut self, wait: Wait, device: usize, actor: &Actor) {
        let entry = Entry { device, stamp: actor.stamp };
        match wait {
            Wait::Place(key) => {
                self.places.entry(key).or_default().there.insert((actor.habits.offset_ms, entry));
            }
            wait => self.all.entry(wait).or_default().push(entry),
        }
    }

    /// Everybody who waits for it.
    pub(super) fn all(&mut self, wait: &Wait, actors: &[Actor]) -> Vec<usize> {
        let entries = self.all.remove(wait).unwrap_or_default();
        entries.into_iter().filter(|entry| entry.is_valid(actors)).map(|entry| entry.device).collect()
    }

    /// Who takes a place that becomes free at `now`, and when.
    pub(super) fn one(&mut self, key: &PlaceKey, now: Timestamp, actors: &[Actor]) -> Option<(usize, Timestamp)> {
        let queue = self.places.get_mut(key)?;
        if key.site.is_some() && queue.there.len() <= NEIGHBOURS {
            queue.soonest(now, actors)
        } else {
            queue.one(now, actors)
        }
    }
}

impl Entry {
    fn is_valid(self, actors: &[Actor]) -> bool {
        actors.get(self.device).is_some_and(|actor| actor.stamp == self.stamp)
    }
}

impl Queue {
    /// Of a few that wait for a place at their site, and were told to ask again and again, the first one to do so.
    fn soonest(&mut self, now: Timestamp, actors: &[Actor]) -> Option<(usize, Timestamp)> {
        self.there.retain(|(_, entry)| entry.is_valid(actors));
        let comes = |(offset, entry): &(i64, Entry)| {
            Some((actors.get(entry.device)?.visit_from(now)?, entry.device, (*offset, *entry)))
        };
        let (at, device, entry) = self.there.iter().filter_map(comes).min()?;
        self.there.remove(&entry);
        Some((device, at))
    }

    fn one(&mut self, now: Timestamp, actors: &[Actor]) -> Option<(usize, Timestamp)> {
        while let Some((at, entry)) = self.away.first().copied().filter(|(at, _)| *at <= now) {
            self.away.remove(&(at, entry));
            if let Some(actor) = actors.get(entry.device) {
                self.there.insert((actor.habits.offset_ms, entry));
            }
        }
        while let Some((offset, entry)) = self.next_on_beat(now, actors) {
            self.there.remove(&(offset, entry));
            let Some(actor) = actors.get(entry.device).filter(|_| entry.is_valid(actors)) else {
                continue;
            };
            match actor.check_in_from(now) {
                Some(at) if at.millis() - now.millis() < actor.habits.poll_ms => return Some((entry.device, at)),
                Some(at) => {
                    self.away.insert((at, entry));
                }
                None => {}
            }
        }
        while let Some((at, entry)) = self.away.pop_first() {
            if entry.is_valid(actors) {
                return Some((entry.device, at));
            }
        }
        None
    }

    fn next_on_beat(&self, now: Timestamp, actors: &[Actor]) -> Option<(i64, Entry)> {
        let poll_ms = actors.first()?.habits.poll_ms;
        let beat = now.millis().rem_euclid(poll_ms);
        let later = self.there.range((beat, Entry { device: 0, stamp: 0 })..).next();
        later.or_else(|| self.there.first()).copied()
    }
}
