//! What becomes of devices themselves: they begin anew, or go for good.

use callboard_proto::{state::AssignmentState, time::Timestamp};

use super::{Ledger, News, Unit};
use crate::{
    assignment::{Event, IllegalTransition, is_failure},
    audience::Exclusion,
    device::{Assignment, Member},
};

impl Ledger {
    /// The device got a new certificate, or its system was installed anew: it begins anew, and what it had under way is
    /// nobody's any more.
    ///
    /// # Errors
    /// Never: what is under way may always be left.
    pub fn enrol(&mut self, now: Timestamp, unit: &mut Unit) -> Result<(), IllegalTransition> {
        self.go_back_anew(now, unit);
        self.leave(now, unit)?;
        unit.begin_anew(now);
        for standing in self.standings.values_mut() {
            standing.runs.remove(unit.device.number);
        }
        Ok(())
    }

    /// The device is taken out of service: no rollout waits for it any more.
    ///
    /// # Errors
    /// Never: what is under way may always be left.
    pub fn decommission(&mut self, now: Timestamp, unit: &mut Unit) -> Result<(), IllegalTransition> {
        unit.device.decommissioned = true;
        self.leave(now, unit)?;
        let device = &unit.device;
        let untouched = self.catalog.rollouts.iter().filter(|rollout| device.assignment(rollout.id).is_none());
        let counting = untouched.filter_map(|rollout| rollout.member(device)).filter(|one| one.excluded.is_none());
        for member in counting.collect::<Vec<Member>>() {
            self.exclude(unit, member.rollout, member.phase, Exclusion::OutOfService);
            self.advance(now, member.rollout);
        }
        Ok(())
    }

    /// What the device had under way of a rollout that takes a release back begins anew with it: it may still run what is
    /// to go.
    fn go_back_anew(&mut self, now: Timestamp, unit: &mut Unit) {
        let goes_back = |one: &&Assignment| {
            let linked = self.standings.values().any(|standing| standing.undone_by == Some(one.rollout));
            let active = self.catalog.rollout(one.rollout).is_some_and(|rollout| rollout.state.is_active());
            linked && active && is_unsettled(one)
        };
        let found: Vec<_> = unit.device.assignments.iter().filter(goes_back).map(|one| (one.id, one.rollout)).collect();
        for (id, rollout) in found {
            let Some((one, row)) = unit.remove(id) else { continue };
            if let Some(standing) = self.standings.get_mut(&rollout) {
                standing.streak.forget(id);
                if let Some(counts) = standing.counts.get_mut(one.phase) {
                    counts.recount(Some(&one), None);
                }
                let left = standing.places.leave(&one, &row);
                self.news.extend(left.map(|grant| News::Left(rollout, grant, row.granted_site)));
            }
            self.advance(now, rollout);
        }
    }

    fn leave(&mut self, now: Timestamp, unit: &mut Unit) -> Result<(), IllegalTransition> {
        let unsettled: Vec<_> = unit
            .device
            .assignments
            .iter()
            .filter(|one| is_unsettled(one))
            .map(|one| (one.id, one.rollout, one.state))
            .collect();
        for (id, rollout, state) in unsettled {
            // What became of a rollout that is over stays as it was.
            let over = self.rollout(rollout).is_none_or(|rollout| !rollout.state.is_active());
            match state {
                AssignmentState::Failed | AssignmentState::RolledBack if over => {
                    self.happen(now, unit, id, Event::Skipped)?;
                }
                _ => self.decided(now, unit, id, Event::Left)?,
            }
        }
        Ok(())
    }
}

fn is_unsettled(one: &Assignment) -> bool {
    !one.state.is_final() || is_failure(one.state)
}
