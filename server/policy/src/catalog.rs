//! What all devices share when decisions are made: the active rollouts and their releases.

use std::{cmp::Reverse, collections::HashMap};

use callboard_proto::{digest::Digest, ids::RolloutId, time::Timestamp};
use chrono_tz::Tz;

use crate::{freeze::Freeze, mixed::Mixed, release::Release, rollout::Rollout, window::Tables};

/// A snapshot of everything that is not about a single device.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Rises whenever anything in here changes.
    pub generation: u64,
    /// Running and paused rollouts, and cancelled ones of which assignments are left, in the order in which devices
    /// are to consider them.
    pub rollouts: Vec<Rollout>,
    /// The releases of these rollouts.
    pub releases: HashMap<Digest, Release, Mixed>,
    /// Freezes that are not over.
    pub freezes: Vec<Freeze>,
}

impl Catalog {
    /// Puts rollouts into the order in which devices consider them.
    pub fn new(generation: u64, mut rollouts: Vec<Rollout>, releases: impl IntoIterator<Item = Release>) -> Self {
        rollouts.sort_by_key(rank);
        let releases = releases.into_iter().map(|release| (release.digest, release)).collect();
        Self { generation, rollouts, releases, freezes: Vec::new() }
    }

    /// The same with these freezes.
    pub fn with_freezes(self, freezes: Vec<Freeze>) -> Self {
        Self { freezes, ..self }
    }

    /// Works out when windows are open, for devices in these zones and for some time from `now` on, so that decisions can
    /// look it up. For other zones and other times they find out by themselves. What `before` has of the same rollouts is
    /// not worked out again.
    pub fn foresee(&mut self, zones: &[Tz], now: Timestamp, before: &Self) {
        for rollout in self.rollouts.iter_mut().filter(|rollout| !rollout.plan.windows.is_empty()) {
            let plan = &rollout.plan;
            let known = before.rollout(rollout.id).filter(|known| known.plan.windows == plan.windows);
            let zones: Vec<Tz> = zones.iter().copied().chain([plan.default_tz]).collect();
            rollout.tables = Tables::of(&plan.windows, &zones, now, known.map(|known| &known.tables));
        }
    }

    /// Adds a rollout where it belongs.
    pub fn add(&mut self, rollout: Rollout) {
        let place = self.rollouts.partition_point(|one| rank(one) <= rank(&rollout));
        self.rollouts.insert(place, rollout);
    }

    /// The rollout with this id.
    pub fn rollout(&self, id: RolloutId) -> Option<&Rollout> {
        self.rollouts.iter().find(|rollout| rollout.id == id)
    }
}

/// Highest priority first, then the one that begins to offer last, then the newest id.
fn rank(rollout: &Rollout) -> (Reverse<u32>, Reverse<Option<Timestamp>>, Reverse<RolloutId>) {
    (Reverse(rollout.plan.priority), Reverse(rollout.begins_at()), Reverse(rollout.id))
}
