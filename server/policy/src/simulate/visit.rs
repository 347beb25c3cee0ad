//! One check-in of a simulated device, and what it waits for afterwards.

use std::time::Duration;

use callboard_proto::{
    ids::{AssignmentId, RolloutId},
    report::Event as Reported,
    time::Timestamp,
};

use super::{
    SimulateError,
    actor::{Actor, Next, Stage, Task, Told},
    engine::{Engine, HOUR, MOMENT},
    waits::{PlaceKey, Wait},
};
use crate::{
    catalog::Catalog,
    decide::{self, Considered, Decision, SITE_RETRY, Step, Verdict},
    device::{Contact, Device},
    guard::{Full, Grant},
    rollout::Rollout,
    window::{Gate, Mode},
};

/// What a device waits for.
#[derive(Default)]
struct Waiting {
    /// No later than then.
    until: Option<Timestamp>,
    waits: Vec<Wait>,
    /// When rollouts may make more offers.
    paces: Vec<(Timestamp, RolloutId)>,
}

impl Waiting {
    fn until(&mut self, at: Option<Timestamp>) {
        self.until = [self.until, at].into_iter().flatten().min();
    }
}

impl Engine {
    /// A device checks in and does as it is told.
    pub(super) fn visit(&mut self, device: usize) -> Result<(), SimulateError> {
        let (now, Some(actor)) = (self.now, self.actors.get_mut(device)) else { return Ok(()) };
        actor.stamp = actor.stamp.wrapping_add(1);
        let woken_by = actor.woken_by.take();
        actor.catch_up(now, self.from, self.ledger.poll_interval);
        actor.told = None;
        let works_on = actor.task.map(|task| task.assignment);
        let contact = self.ledger.contact(now, &actor.unit, false, works_on);
        let decision = self.ledger.check_in(now, &mut actor.unit, false, works_on)?;
        self.record.played();
        let waiting = self.obey(device, &contact, &decision)?;
        self.settle();
        let mut knock = None;
        if let (Some(waiting), Some(actor)) = (waiting, self.actors.get(device)) {
            let again = woken_by.as_ref().is_some_and(|key| waiting.waits.contains(&Wait::Place(key.clone())));
            self.paces.extend(waiting.paces);
            for wait in waiting.waits {
                self.waits.add(wait, device, actor);
            }
            knock = actor.knock(now, waiting.until);
            // It did not take the place for which it came, nor is it still taken: the next one may.
            if let Some(key) = woken_by.filter(|_| !again) {
                self.wake_one(&key);
            }
        }
        self.plan_alone(device, &decision, knock);
        Ok(())
    }

    /// Does as it is told; what it waits for, if it was told to do nothing.
    fn obey(
        &mut self,
        device: usize,
        contact: &Contact,
        decision: &Decision,
    ) -> Result<Option<Waiting>, SimulateError> {
        let (now, Some(actor)) = (self.now, self.actors.get_mut(device)) else { return Ok(None) };
        match decision.step {
            Step::GrantDownload { rollout, .. } => {
                let granted = actor.unit.device.assignment(rollout).map(|one| one.id);
                if rollout == self.id {
                    self.record.offered(now, &self.ledger);
                }
                return Ok(self.download(device, granted));
            }
            Step::ContinueDownload { assignment } => return Ok(self.download(device, Some(assignment))),
            Step::GrantActivation { assignment, .. } => {
                if actor.assignment(assignment).is_some_and(|one| one.rollout == self.id) {
                    self.record.granted();
                }
                self.install(device, assignment)?;
            }
            Step::ContinueActivation { assignment, .. } => self.install(device, assignment)?,
            Step::Cancel { .. } | Step::Recall { .. } => {
                actor.task = None;
                actor.told = Some(Told { since: now, after: decision.next_check_in, again: false });
                return Ok(Some(Waiting { until: Some(now + decision.next_check_in), ..Waiting::default() }));
            }
            _ => {
                if actor.task.is_some_and(|task| task.stage == Stage::Download) {
                    actor.pause(now);
                }
                let loads = self.ledger.loads(&actor.unit.device);
                let catalog = &self.ledger.catalog;
                let explained = decide::explain(now, catalog, &actor.unit.device, contact, &loads);
                actor.told = told(now, decision, catalog, &explained.considered, self.ledger.poll_interval);
                return Ok(Some(waiting(catalog, actor, &explained.considered, now)));
            }
        }
        Ok(None)
    }

    /// It begins to download, or goes on. It asks in between where something could be in the way meanwhile.
    fn download(&mut self, device: usize, assignment: Option<AssignmentId>) -> Option<Waiting> {
        let (now, actor) = (self.now, self.actors.get_mut(device)?);
        let one = actor.assignment(assignment?)?.clone();
        let at_it = |task: &Task| (task.assignment, task.attempt, task.stage) == (one.id, one.attempt, Stage::Download);
        match actor.task.as_mut().filter(|task| at_it(task)) {
            Some(task) => task.since = task.since.or(Some(now)),
            None => {
                let takes = actor.download_time(&one, &self.assume);
                let (assignment, attempt, stage) = (one.id, one.attempt, Stage::Download);
                actor.task = Some(Task { assignment, attempt, stage, takes, since: Some(now) });
            }
        }
        let catalog = &self.ledger.catalog;
        let plan = &catalog.rollout(one.rollout)?.plan;
        let begins = catalog.rollouts.iter().any(|other| other.begins_at().is_some_and(|at| at > now));
        let closes = plan.ends_at.is_some()
            || plan.windows.iter().any(|window| window.gates.restrict(Gate::Download))
            || !actor.unit.device.site_rules.bandwidth.is_empty();
        let asks = begins || closes || !catalog.freezes.is_empty();
        asks.then(|| Waiting { until: Some(now + MOMENT), ..Waiting::default() })
    }

    /// It begins to install, or goes on.
    fn install(&mut self, device: usize, assignment: AssignmentId) -> Result<(), SimulateError> {
        let (now, Some(actor)) = (self.now, self.actors.get_mut(device)) else { return Ok(()) };
        let at_it = |task: &Task| task.assignment == assignment && task.stage == Stage::Install;
        if let Some(task) = actor.task.as_mut().filter(|task| at_it(task)) {
            task.since = task.since.or(Some(now));
            return Ok(());
        }
        let Some(one) = actor.assignment(assignment) else { return Ok(()) };
        let (attempt, stage, takes) = (one.attempt, Stage::Install, self.assume.install);
        let task = Task { assignment, attempt, stage, takes, since: Some(now) };
        actor.task = Some(task);
        self.report(device, &task, Reported::Verifying)
    }

    /// What comes next, with what the device may do by itself: it tells of that when it is there again.
    fn plan_alone(&mut self, device: usize, decision: &Decision, knock: Option<Timestamp>) {
        let alone = decision.right.and_then(|right| {
            use callboard_proto::instruction::ActivateOn;
            let actor = self.actors.get(device).filter(|actor| !actor.gone)?;
            actor.task.filter(|task| task.stage == Stage::Staged)?;
            let goes = actor.habits.goes(self.now.max(right.not_before))?;
            let back = actor.habits.next(goes)?;
            let uses = match right.on {
                ActivateOn::Now => return None,
                ActivateOn::Shutdown => goes,
                ActivateOn::Boot => back,
            };
            ((right.not_before..=right.not_after).contains(&uses)).then_some(back)
        });
        match alone.filter(|at| knock.is_none_or(|knock| *at <= knock)) {
            Some(at) => self.set(device, Some((at, Next::Alone))),
            None => self.plan(device, knock),
        }
    }
}

/// When a device was told to come back that has nothing to do now, if that is before its beat.
fn told(
    now: Timestamp,
    decision: &Decision,
    catalog: &Catalog,
    considered: &[Considered],
    poll_interval: Duration,
) -> Option<Told> {
    let at_site = |one: &Considered| matches!(one.verdict, Verdict::Full(full) if full.at_site);
    // Others could take the place as well, and of them there are many.
    let among_many = |one: &Considered| match one.verdict {
        Verdict::Paced(_) => true,
        Verdict::Full(Full { grant, at_site: true, .. }) => {
            catalog.rollout(one.rollout).is_some_and(|one| one.plan.limits.caps.of(grant).max_in_flight.is_some())
        }
        _ => false,
    };
    let after = decision.next_check_in;
    let again = after == SITE_RETRY && considered.iter().any(at_site);
    let early = after < poll_interval;
    (early && !considered.iter().any(among_many)).then_some(Told { since: now, after, again })
}

/// What a device waits for that has nothing to do now.
fn waiting(catalog: &Catalog, actor: &Actor, considered: &[Considered], now: Timestamp) -> Waiting {
    let mut found = Waiting::default();
    for one in considered {
        if let Some(rollout) = catalog.rollout(one.rollout) {
            wait_for(&mut found, catalog, actor, rollout, &one.verdict, now);
        }
    }
    found
}

fn wait_for(
    found: &mut Waiting,
    catalog: &Catalog,
    actor: &Actor,
    rollout: &Rollout,
    verdict: &Verdict,
    now: Timestamp,
) {
    let (plan, device) = (&rollout.plan, &actor.unit.device);
    match verdict {
        Verdict::PhaseNotOpen { phase } => found.waits.push(Wait::Phase(rollout.id, *phase)),
        Verdict::Superseded { by } | Verdict::Behind { by } => {
            found.waits.push(Wait::End(*by));
            found.until(catalog.rollout(*by).and_then(|by| by.plan.ends_at).filter(|end| *end > now));
        }
        Verdict::Full(full) => {
            let site = device.site.clone().filter(|_| full.at_site);
            found.waits.push(Wait::Place(PlaceKey { rollout: rollout.id, grant: full.grant, site }));
        }
        // Whoever waits for a place may have the next offer too.
        Verdict::Paced(paced) => {
            let key = PlaceKey { rollout: rollout.id, grant: Grant::Download, site: None };
            found.waits.push(Wait::Place(key));
            found.paces.push((paced.until, rollout.id));
        }
        Verdict::InSession | Verdict::Waits { .. } => found.until(actor.habits.comes_back(now)),
        Verdict::Withheld(_) => found.until(hold_ends(device, now)),
        Verdict::WindowClosed { .. }
        | Verdict::Frozen { .. }
        | Verdict::Trading { .. }
        | Verdict::NoBandwidth { .. } => {
            // What is not in sight is looked for again tomorrow.
            found.until(Some(verdict.changes_at().map_or(now + 24 * HOUR, |span| span.start)));
            found.until(plan.deadline.filter(|deadline| *deadline > now));
            if plan.windows.iter().any(|window| window.mode == Mode::BestEffort) {
                found.until(actor.habits.comes_back(now));
            }
        }
        Verdict::NotBegun { .. } | Verdict::RetryLater { .. } => {
            found.until(verdict.changes_at().map(|span| span.start));
        }
        _ => {}
    }
    // What it has is dropped then.
    if device.assignment(rollout.id).is_some_and(|one| !one.state.is_final()) {
        found.until(plan.ends_at.filter(|end| *end > now));
    }
}

fn hold_ends(device: &Device, now: Timestamp) -> Option<Timestamp> {
    let holds = [&device.held, &device.site_rules.held];
    holds.into_iter().flatten().filter_map(|hold| hold.until).filter(|until| *until > now).min()
}
