//! The course of time: whatever comes next happens next.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::Duration,
};

use callboard_proto::{ids::RolloutId, report::Event as Reported, time::Timestamp};

use super::{
    Assumptions, SimulateError, Subject, Timeline, What,
    actor::{Actor, Next, Stage, Task},
    timeline::Recorder,
    waits::{PlaceKey, Wait, Waits},
};
use crate::{
    gate::{Advance, Deed, Word},
    guard::Grant,
    ledger::{Ledger, News, Standing, Unit},
    rollout::{Approval, Rollout, RolloutState},
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// A fleet on the move.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) id: RolloutId,
    pub(super) assume: Assumptions,
    pub(super) from: Timestamp,
    pub(super) now: Timestamp,
    pub(super) ledger: Ledger,
    pub(super) actors: Vec<Actor>,
    pub(super) waits: Waits,
    pub(super) record: Recorder,
    /// Nothing is skipped: what the test of skipping compares with.
    pub(super) every_check_in: bool,
    queue: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// When rollouts may make more offers, for which devices wait.
    pub(super) paces: BTreeSet<(Timestamp, RolloutId)>,
    /// Rollouts in which somebody has to approve.
    manual: Vec<RolloutId>,
}

impl Engine {
    pub(super) fn new(
        subject: Subject,
        mut ledger: Ledger,
        fleet: Vec<Unit>,
        assume: &Assumptions,
    ) -> Result<Self, SimulateError> {
        let Subject { now, id, plan, release } = subject;
        ledger.catalog.releases.insert(release.digest, release);
        // People approve at once, second persons too.
        ledger.add(Rollout { countersigned: true, ..Rollout::draft(id, plan) });
        fleet.iter().for_each(|unit| ledger.occupy(unit));
        ledger.start(now, id, &fleet).map_err(SimulateError::Start)?;
        let manual = |rollout: &&Rollout| rollout.plan.phases.iter().any(|phase| phase.approval == Approval::Manual);
        let manual = ledger.catalog.rollouts.iter().filter(manual).map(|rollout| rollout.id).collect();
        let actors = fleet.into_iter().map(|unit| Actor::new(unit, now, ledger.poll_interval, assume)).collect();
        let mut engine = Self {
            id,
            assume: *assume,
            from: now,
            now,
            ledger,
            actors,
            waits: Waits::default(),
            record: Recorder::new(id, now),
            every_check_in: false,
            queue: BinaryHeap::new(),
            paces: BTreeSet::new(),
            manual,
        };
        engine.settle();
        for device in 0..engine.actors.len() {
            let first = engine.actors.get(device).and_then(|actor| actor.check_in_from(now));
            engine.plan(device, first);
        }
        Ok(engine)
    }

    pub(super) fn run(mut self, given_up: &dyn Fn() -> bool) -> Result<Timeline, SimulateError> {
        let ends = self.from + self.assume.time;
        loop {
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let look = self.ledger.next_look(self.now);
            let pace = self.paces.first().map(|(at, _)| *at);
            let Some(at) = [next, look, pace].into_iter().flatten().min().filter(|at| *at < ends) else {
                break;
            };
            if self.record.played > self.assume.most_played {
                return Err(SimulateError::TooMuch { played: self.record.played, at });
            }
            if given_up() {
                return Err(SimulateError::GivenUp);
            }
            self.record.until(at, &self.ledger);
            self.now = self.now.max(at);
            if look.is_some_and(|look| look <= at) {
                self.ledger.look(self.now);
                self.settle();
            } else if pace.is_some_and(|pace| pace <= at) {
                self.offer_more();
            } else if let Some(Reverse((at, device))) = self.queue.pop() {
                self.happen(device, at)?;
            }
        }
        self.record.end(ends, &self.ledger, &self.actors, given_up)
    }

    /// Another minute has begun: as many devices come as it has offers for.
    fn offer_more(&mut self) {
        let Some((at, id)) = self.paces.pop_first() else { return };
        let pace = self.ledger.rollout(id).and_then(|rollout| rollout.plan.limits.pace);
        let succeeded = |standing: &Standing| standing.counts.iter().map(|counts| counts.succeeded).sum();
        let rate = pace.map_or(0, |pace| pace.rate(self.ledger.standing(id).map_or(0, succeeded)));
        let key = PlaceKey { rollout: id, grant: Grant::Download, site: None };
        let woken = (0..rate).take_while(|_| self.wake_one(&key)).count();
        if woken > 0 {
            self.paces.insert((at + MINUTE, id));
        }
    }

    fn happen(&mut self, device: usize, at: Timestamp) -> Result<(), SimulateError> {
        let due = self.actors.get_mut(device).and_then(|actor| actor.due.take_if(|(due, _)| *due == at));
        match due {
            None => Ok(()),
            Some((_, Next::CheckIn)) => self.visit(device),
            Some((_, Next::Done)) => self.done(device),
            Some((_, Next::Alone)) => self.alone(device),
            Some((_, Next::Ring)) => self.ring(device),
        }
    }

    /// A device is done with what it was at, says so, and asks what is next.
    fn done(&mut self, device: usize) -> Result<(), SimulateError> {
        let Some(actor) = self.actors.get_mut(device) else { return Ok(()) };
        let Some(task) = actor.task else { return Ok(()) };
        match task.stage {
            Stage::Download => {
                actor.task = Some(Task { stage: Stage::Staged, since: None, ..task });
                self.report(device, &task, Reported::Staged)?;
            }
            Stage::Staged => {}
            Stage::Install => {
                actor.task = None;
                let one = actor.assignment(task.assignment);
                let failed = one.is_some_and(|one| actor.fails(one, &self.assume));
                let release = one.and_then(|one| self.ledger.catalog.releases.get(&one.release));
                if let Some(release) = release.filter(|_| !failed) {
                    actor.install(release);
                }
                self.report(device, &task, if failed { Reported::RolledBack } else { Reported::Succeeded })?;
            }
        }
        self.visit(device)
    }

    /// A device has used its right to install when it went down or came up, and says so.
    fn alone(&mut self, device: usize) -> Result<(), SimulateError> {
        let Some(actor) = self.actors.get_mut(device) else { return Ok(()) };
        let Some(task) = actor.task.filter(|task| task.stage == Stage::Staged) else { return Ok(()) };
        let task = Task { stage: Stage::Install, takes: self.assume.install, since: Some(self.now), ..task };
        actor.task = Some(task);
        self.report(device, &task, Reported::Verifying)?;
        self.visit(device)
    }

    /// Its silence is noticed.
    fn ring(&mut self, device: usize) -> Result<(), SimulateError> {
        let (now, Some(actor)) = (self.now, self.actors.get_mut(device)) else { return Ok(()) };
        self.ledger.ring(now, &mut actor.unit)?;
        let back = actor.visit_from(now + MOMENT);
        self.settle();
        self.plan(device, back);
        Ok(())
    }

    pub(super) fn report(&mut self, device: usize, task: &Task, event: Reported) -> Result<(), SimulateError> {
        let (now, Some(actor)) = (self.now, self.actors.get_mut(device)) else { return Ok(()) };
        if let Some(report) = actor.says(task, event, now) {
            self.ledger.report(now, &mut actor.unit, &report)?;
        }
        self.settle();
        Ok(())
    }

    /// Decides what a device does next, if nothing wakes it: it checks in at `knock`, or is done with its task, or has to
    /// give a sign of life before its silence is noticed, or gives none.
    pub(super) fn plan(&mut self, device: usize, knock: Option<Timestamp>) {
        let (now, Some(actor)) = (self.now, self.actors.get(device)) else { return };
        let done = actor.done_at().map(|at| (at.max(now), Next::Done));
        let ring = self.ledger.next_ring(&actor.unit).map(|at| at.max(now + MOMENT)).map(|ring| {
            let heard = actor.task.filter(|_| !actor.gone).and_then(|_| {
                // As late as possible, but whoever is missed already is heard at once.
                let soon = actor.habits.next(now + MOMENT).filter(|next| *next < ring)?;
                let missed = actor.unit.device.assignments.iter().any(|one| one.silent);
                if missed { Some(soon) } else { actor.habits.last(ring, soon) }
            });
            heard.map_or((ring, Next::Ring), |at| (at, Next::CheckIn))
        });
        let beat = actor.visit_from(now + MOMENT).filter(|_| self.every_check_in);
        let knock = [knock, beat].into_iter().flatten().min().map(|at| (at, Next::CheckIn));
        let next = [done, ring, knock].into_iter().flatten().min_by_key(|(at, _)| *at);
        self.set(device, next);
    }

    /// Wakes a device no later than `at`.
    pub(super) fn wake(&mut self, device: usize, at: Timestamp) {
        let due = self.actors.get(device).and_then(|actor| actor.due);
        if due.is_none_or(|(due, _)| at < due) {
            self.set(device, Some((at, Next::CheckIn)));
        }
    }

    pub(super) fn set(&mut self, device: usize, next: Option<(Timestamp, Next)>) {
        if let Some(actor) = self.actors.get_mut(device) {
            actor.due = next;
            self.queue.extend(next.map(|(at, _)| Reverse((at, device))));
        }
    }

    /// Lets devices know of what happened to rollouts.
    pub(super) fn settle(&mut self) {
        loop {
            let news = std::mem::take(&mut self.ledger.news);
            if news.is_empty() && !self.approve() {
                return;
            }
            news.into_iter().for_each(|news| self.hear(news));
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Started(id) if id == self.id => {
                self.record.mark(self.now, What::Started, "it was started".to_owned());
            }
            News::Advanced(id, open, advance) => self.advanced(id, open, &advance),
            News::Left(rollout, grant, site) => {
                let at_site = site.map(|site| PlaceKey { rollout, grant, site: Some(site) });
                for key in [Some(PlaceKey { rollout, grant, site: None }), at_site].into_iter().flatten() {
                    self.wake_one(&key);
                }
            }
            News::Started(id) => self.started(id),
            News::Ended(..) | News::Alone(..) | News::Rang(..) => {}
        }
    }

    fn advanced(&mut self, id: RolloutId, open: usize, advance: &Advance) {
        let (what, reason) = match advance {
            Advance::Stay(_) => return,
            Advance::Meet(reason) => (What::GateMet(open), reason),
            Advance::Unmeet(reason) => (What::GateLost(open), reason),
            Advance::Open { phase, reason } => {
                self.wake_all(&Wait::Phase(id, *phase));
                (What::PhaseOpened(*phase), reason)
            }
            Advance::Pause(reason) => (What::Paused, reason),
            Advance::Cancel(reason) => (What::Cancelled, reason),
            Advance::RollBack { reason, .. } => (What::TakenBack, reason),
            Advance::Complete(reason) => (What::Completed, reason),
        };
        if matches!(what, What::Completed | What::Cancelled | What::TakenBack) {
            self.wake_all(&Wait::End(id));
        }
        if matches!(what, What::Paused | What::Cancelled | What::TakenBack) {
            self.interrupt(id);
        }
        if id == self.id {
            self.record.mark(self.now, what, reason.text.clone());
        }
    }

    /// Whoever has something of it that is not installed yet is told what became of it.
    fn interrupt(&mut self, id: RolloutId) {
        self.wake_those(|actor| actor.unit.device.assignment(id).is_some_and(|one| one.is_on_device()));
    }

    /// Its members have something to do.
    fn started(&mut self, id: RolloutId) {
        let Some(members) = self.ledger.rollout(id).map(|rollout| rollout.members.clone()) else { return };
        self.wake_those(|actor| members.phase_of(actor.unit.device.number).is_some());
    }

    fn wake_those(&mut self, which: impl Fn(&Actor) -> bool) {
        for device in 0..self.actors.len() {
            let actor = self.actors.get(device).filter(|actor| which(actor));
            if let Some(at) = actor.and_then(|actor| actor.visit_from(self.now + MOMENT)) {
                self.wake(device, at);
            }
        }
    }

    fn wake_all(&mut self, wait: &Wait) {
        for device in self.waits.all(wait, &self.actors) {
            if let Some(at) = self.actors.get(device).and_then(|actor| actor.visit_from(self.now + MOMENT)) {
                self.wake(device, at);
            }
        }
    }

    /// Wakes whoever comes first for a place, if anybody waits for it.
    pub(super) fn wake_one(&mut self, key: &PlaceKey) -> bool {
        let Some((device, at)) = self.waits.one(key, self.now + MOMENT, &self.actors) else { return false };
        if let Some(actor) = self.actors.get_mut(device) {
            actor.woken_by = Some(key.clone());
        }
        self.wake(device, at);
        true
    }

    /// Approves what waits for it; says whether anything did.
    fn approve(&mut self) -> bool {
        let mut approved = false;
        for id in self.manual.clone() {
            let ready = |rollout: &&Rollout| {
                let phase = rollout.plan.phases.get(rollout.open_phase);
                let times = self.ledger.standing(id).map(|standing| standing.times);
                rollout.state == RolloutState::Running
                    && phase.is_some_and(|phase| phase.approval == Approval::Manual)
                    && times.is_some_and(|times| times.met_at.is_some() && !times.approved)
            };
            let Some(open) = self.ledger.rollout(id).filter(ready).map(|rollout| rollout.open_phase) else {
                continue;
            };
            if let Ok(Deed::Note(_)) = self.ledger.by_hand(self.now, id, Word::Approve) {
                approved = true;
                if id == self.id {
                    let text = "it waits for approval; a person is assumed to approve at once".to_owned();
                    self.record.mark(self.now, What::Approved(open), text);
                }
            }
        }
        approved
    }
}
