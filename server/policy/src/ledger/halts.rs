//! Rollouts that take a release back: made by a halt, for the devices that got it.

use std::sync::Arc;

use callboard_proto::{
    ids::RolloutId,
    state::AssignmentState::{self, Succeeded},
    time::Timestamp,
};

use super::{Ledger, News, Standing};
use crate::{
    audience::Audience,
    bucket::bucket,
    device::{Assignment, Device, Member},
    gate::{PhaseCounts, PhaseTimes},
    release::Release,
    rollout::{Rollout, RolloutState, undo_name},
};

impl Standing {
    /// Takes note of what became of an assignment beyond its state.
    pub(super) fn note(&mut self, before: AssignmentState, one: &Assignment, number: u32) {
        self.streak.note(Some(before), one);
        if one.state == Succeeded {
            self.runs.insert(number);
        } else {
            self.runs.remove(number);
        }
    }
}

impl Ledger {
    /// Cancels a rollout, and brings an older release to the devices that got its.
    pub(super) fn roll_back(&mut self, now: Timestamp, id: RolloutId, to: &str, why: &str) {
        let Some(target) =
            self.catalog.releases.values().find(|release| is_called(release, to)).map(|release| release.digest)
        else {
            return;
        };
        let linked: Option<RolloutId> = bucket(id, b"rollback").id();
        let Some((linked, (rollout, standing))) = linked.zip(self.both(id)) else {
            return;
        };
        let Some(name) = undo_name(&rollout.plan.name, 1) else {
            return;
        };
        let plan = rollout.plan.undone_by(name, target);
        rollout.state = RolloutState::Cancelled;
        rollout.state_reason = Some(format!("{why}; rollout {} brings {to} to the devices that got it", plan.name));
        standing.undone_by = Some(linked);
        let members = Audience::of(vec![standing.runs.clone()]);
        let counts = vec![PhaseCounts { size: standing.runs.len(), ..PhaseCounts::default() }];
        let times = PhaseTimes::opened(now);
        self.standings.insert(linked, Standing { counts, times, ..Standing::default() });
        let state = RolloutState::Running;
        self.catalog.add(Rollout {
            state,
            started_at: Some(now),
            members: Arc::new(members),
            ..Rollout::draft(linked, plan)
        });
        self.news.push(News::Started(linked));
        self.advance(now, linked);
    }

    /// A device got the release of a rollout that is being taken back: it goes back too.
    pub(super) fn undo_too(&mut self, id: RolloutId, device: &mut Device) {
        let Some(linked) = self.standings.get(&id).and_then(|standing| standing.undone_by) else {
            return;
        };
        if let Some(place) = self.resting.iter().position(|one| one.id == linked) {
            // It had completed without this device.
            let mut rollout = self.resting.remove(place);
            rollout.state = RolloutState::Running;
            self.catalog.add(rollout);
        }
        let Some((rollout, standing)) = self.both(linked) else {
            return;
        };
        if rollout.member(device).is_none() {
            device.set_member(Member { rollout: linked, phase: 0, excluded: None });
            if let Some(counts) = standing.counts.first_mut() {
                counts.size += 1;
            }
        }
    }
}

fn is_called(release: &Release, name: &str) -> bool {
    name == release.digest.to_string() || name == format!("{}@{}", release.product, release.version)
}
