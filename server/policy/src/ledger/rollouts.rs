//! What happens to rollouts themselves: started, told something by an operator, moved on by their gates.

use std::sync::Arc;

use callboard_proto::{ids::RolloutId, time::Timestamp};

use super::{Ledger, News, Standing, Unit};
use crate::{
    assignment::Event,
    audience::{self, Candidate},
    gate::{self, Advance, Deed, PhaseCounts, PhaseTimes, Word},
    guard::Streak,
    rollout::{Membership, Rollout, RolloutState},
};

impl Ledger {
    /// Adds a draft.
    pub fn add(&mut self, draft: Rollout) {
        self.resting.push(draft);
    }

    /// A rollout, whatever its state.
    pub fn rollout(&self, id: RolloutId) -> Option<&Rollout> {
        self.catalog.rollout(id).or_else(|| self.resting.iter().find(|rollout| rollout.id == id))
    }

    /// All rollouts: those that devices have to do with, in the order of the catalog, then the others.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.catalog.rollouts.iter().chain(&self.resting)
    }

    /// Fixes the audience of a draft and opens its first phase. Its release has to be in the catalog.
    ///
    /// # Errors
    /// Says why it cannot be started.
    pub fn start<'a>(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        fleet: impl IntoIterator<Item = &'a Unit>,
    ) -> Result<(), String> {
        let place = self.resting.iter().position(|one| one.id == id && one.state == RolloutState::Draft);
        let place = place.ok_or("only a draft can be started")?;
        let mut rollout = self.resting.remove(place);
        let Some(release) = self.catalog.releases.get(&rollout.plan.release) else {
            self.resting.push(rollout);
            return Err("its release is not known".to_owned());
        };
        let (poll_interval, abandoned_after) = (self.poll_interval, self.abandoned_after);
        let seen = fleet.into_iter().map(|unit| (&unit.device, unit.seen(now, poll_interval, abandoned_after)));
        let matching = audience::matching(&rollout.plan, seen);
        let candidates: Vec<Candidate> =
            matching.map(|(device, seen)| Candidate::of(&rollout.plan, release, device, &seen)).collect();
        if let Err(why) = audience::check_somebody(&rollout.plan, &candidates) {
            self.resting.push(rollout);
            return Err(why);
        }
        let audience = audience::assign(rollout.plan.draw(), &rollout.plan.phases, candidates);
        let uncounted = audience.uncounted();
        let size = |members: &roaring::RoaringBitmap| members.len() - members.intersection_len(&uncounted);
        let counts =
            audience.phases.iter().map(|members| PhaseCounts { size: size(members), ..PhaseCounts::default() });
        let times = PhaseTimes::opened(now);
        self.standings.insert(id, Standing { counts: counts.collect(), times, ..Standing::default() });
        rollout.sites.clone_from(&audience.sites);
        rollout.members = Arc::new(audience);
        (rollout.state, rollout.started_at) = (RolloutState::Running, Some(now));
        self.catalog.add(rollout);
        self.news.push(News::Started(id));
        self.advance(now, id);
        Ok(())
    }

    /// Pauses, resumes or cancels a rollout. When it is resumed, gates may be made to look past the failures so far.
    ///
    /// # Errors
    /// Says why it cannot be done.
    pub fn change_state(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        to: RolloutState,
        acknowledge_failures: bool,
    ) -> Result<(), String> {
        let Some((rollout, standing)) = self.both(id) else {
            return Err("it is not under way".to_owned());
        };
        if rollout.state == to {
            return Ok(());
        }
        if !rollout.state.allows(to) {
            return Err(format!("it is {}, so it cannot become {}", rollout.state.as_str(), to.as_str()));
        }
        let before = (rollout.state, rollout.state_reason.take(), standing.clone());
        rollout.state = to;
        if to != RolloutState::Running {
            return Ok(());
        }
        if acknowledge_failures {
            standing.counts.iter_mut().for_each(PhaseCounts::acknowledge);
            standing.acknowledged_at = Some(now);
            standing.streak = Streak::default();
        }
        let news = self.news.len();
        self.advance(now, id);
        let Some((rollout, standing)) = self.both(id).filter(|(rollout, _)| rollout.state == RolloutState::Paused)
        else {
            return Ok(());
        };
        // It would pause again at the next report.
        let why = rollout.state_reason.take().unwrap_or_default();
        (rollout.state, rollout.state_reason, *standing) = before;
        self.news.truncate(news);
        Err(why)
    }

    /// A second person approves a rollout.
    pub fn countersign(&mut self, id: RolloutId) {
        let all = self.catalog.rollouts.iter_mut().chain(&mut self.resting);
        all.filter(|rollout| rollout.id == id).for_each(|rollout| rollout.countersigned = true);
    }

    /// An operator's word about a device in a rollout: [`Event::Retried`], [`Event::Skipped`] or [`Event::Cancelled`].
    /// Says whether the rollout had completed and runs again.
    ///
    /// # Errors
    /// Says why it cannot be done.
    pub fn deal(&mut self, now: Timestamp, id: RolloutId, unit: &mut Unit, event: Event) -> Result<bool, String> {
        let rollout = self.rollout(id).ok_or("there is no such rollout")?;
        let release = rollout.plan.release;
        let over = rollout.state == RolloutState::Completed && rollout.plan.audience == Membership::Frozen;
        if event == Event::Retried {
            unit.device.bad_releases.retain(|bad| *bad != release);
        }
        let Some(one) = unit.device.assignment(id).map(|one| one.id) else {
            return Ok(false);
        };
        self.happen(now, unit, one, event).map_err(|illegal| illegal.to_string())?;
        let reopened = event == Event::Retried && over;
        if let Some(place) = self.resting.iter().position(|one| one.id == id).filter(|_| reopened) {
            let rollout = self.resting.remove(place);
            self.catalog.add(rollout);
        }
        if let Some((rollout, _)) = self.both(id).filter(|_| reopened) {
            rollout.state = RolloutState::Running;
        }
        self.advance(now, id);
        Ok(reopened)
    }

    /// An operator's word about the open phase.
    ///
    /// # Errors
    /// Says why not, and what would be possible.
    pub fn by_hand(&mut self, now: Timestamp, id: RolloutId, word: Word) -> Result<Deed, String> {
        let Some((rollout, standing)) = self.both(id) else {
            let rollout = self.rollout(id).ok_or("there is no such rollout")?;
            return gate::by_hand(rollout, &[], PhaseTimes::default(), now, word);
        };
        let deed = gate::by_hand(rollout, &standing.counts, standing.times, now, word)?;
        match deed {
            Deed::Nothing => return Ok(deed),
            Deed::Note(times) => standing.times = times,
            Deed::Open { phase, .. } => {
                (rollout.open_phase, standing.times) = (phase, PhaseTimes::opened(now));
            }
        }
        self.advance(now, id);
        Ok(deed)
    }

    /// Looks at the gates that time alone can move.
    pub fn look(&mut self, now: Timestamp) {
        let timed = self.catalog.rollouts.iter().filter(|rollout| gate::moves_with_time(rollout, now));
        let ids: Vec<RolloutId> = timed.map(|rollout| rollout.id).collect();
        ids.into_iter().for_each(|id| self.advance(now, id));
    }

    /// When [`Ledger::look`] may find something to do, if nothing else happens.
    pub fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        let standing = |rollout: &Rollout| gate::next_look(rollout, self.standings.get(&rollout.id)?.times, now);
        self.catalog.rollouts.iter().filter_map(standing).min()
    }

    /// A rollout that is under way, with how it stands.
    pub(super) fn both(&mut self, id: RolloutId) -> Option<(&mut Rollout, &mut Standing)> {
        let rollout = self.catalog.rollouts.iter_mut().find(|rollout| rollout.id == id)?;
        Some((rollout, self.standings.get_mut(&id)?))
    }

    /// Does what the gates of a rollout say.
    pub(super) fn advance(&mut self, now: Timestamp, id: RolloutId) {
        while let Some((rollout, standing)) = self.both(id) {
            let (open, times) = (rollout.open_phase, standing.times);
            let advance = gate::advance(rollout, &standing.counts, &standing.streak, times, now);
            match &advance {
                Advance::Stay(_) => break,
                Advance::Meet(_) => standing.times = times.met(now),
                Advance::Unmeet(_) => standing.times = times.unmet(),
                Advance::Open { phase, .. } => {
                    (rollout.open_phase, standing.times) = (*phase, PhaseTimes::opened(now));
                }
                Advance::Pause(reason) => {
                    (rollout.state, rollout.state_reason) = (RolloutState::Paused, Some(reason.text.clone()));
                }
                Advance::Cancel(reason) => {
                    (rollout.state, rollout.state_reason) = (RolloutState::Cancelled, Some(reason.text.clone()));
                }
                Advance::RollBack { to, reason } => self.roll_back(now, id, to, &reason.text),
                Advance::Complete(reason) => {
                    (rollout.state, rollout.state_reason) = (RolloutState::Completed, Some(reason.text.clone()));
                }
            }
            self.news.push(News::Advanced(id, open, advance));
        }
        self.rest(id);
    }

    /// Takes a rollout that completed out of the catalog, when no device is left that must be told.
    fn rest(&mut self, id: RolloutId) {
        let completed = |rollout: &Rollout| rollout.id == id && rollout.state == RolloutState::Completed;
        let at_work = self.standings.get(&id).is_some_and(|standing| standing.counts.iter().any(PhaseCounts::at_work));
        if !at_work {
            self.resting.extend(self.catalog.rollouts.extract_if(.., |rollout| completed(rollout)));
        }
    }
}
