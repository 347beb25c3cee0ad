//! What becomes of devices themselves: they begin anew, or go for good.

use callboard_proto::{state::AssignmentState, time::Timestamp};

use super::{Ledger, Unit};
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

    fn leave(&mut self, now: Timestamp, unit: &mut Unit) -> Result<(), IllegalTransition> {
        let unsettled = |one: &&Assignment| !one.state.is_final() || is_failure(one.state);
        let unsettled: Vec<_> =
            unit.device.assignments.iter().filter(unsettled).map(|one| (one.id, one.rollout, one.state)).collect();
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
