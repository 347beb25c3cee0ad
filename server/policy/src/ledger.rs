//! The server's part in memory: rollouts with their counters and places, and what becomes of devices that check in.
//!
//! Whoever plays fleets (scripted stories, simulations) plays them on a ledger. It keeps what the database keeps and
//! moves it by the same functions, so what is seen here is what the server does. It reads no clock and knows nothing of
//! keys, payloads and other servers.

mod halts;
mod lives;
mod places;
mod rollouts;

use std::{collections::HashMap, time::Duration};

use callboard_proto::{
    ids::{AssignmentId, DeviceId, RolloutId, SiteId},
    report::Report,
    state::AssignmentState,
    time::Timestamp,
};
use places::Places;
use roaring::RoaringBitmap;

use crate::{
    assignment::{self, Event, IllegalTransition, Terms, Unheard},
    audience::Exclusion,
    bucket::bucket,
    catalog::Catalog,
    decide::{self, Admission, Decision, Step},
    device::{self, Absence, Assignment, Connection, Connectivity, Contact, DEFAULT_ABANDONED_AFTER, Device, Member},
    gate::{Advance, PhaseCounts, PhaseTimes},
    guard::{Grant, Load, Loads, Offers, Streak},
    rhythm::Rhythm,
    rollout::Rollout,
    selector::Seen,
    timer::{self, Due},
};

/// Rollouts and how they stand.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// What devices have to do with.
    pub catalog: Catalog,
    /// How often devices are to check in.
    pub poll_interval: Duration,
    /// Silence after which a device counts as abandoned.
    pub abandoned_after: Duration,
    /// What happened since somebody emptied it, oldest first.
    pub news: Vec<News>,
    /// Drafts and completed rollouts.
    resting: Vec<Rollout>,
    standings: HashMap<RolloutId, Standing>,
}

/// How a rollout stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// One entry a phase.
    pub counts: Vec<PhaseCounts>,
    /// Of the open phase.
    pub times: PhaseTimes,
    /// The failures since the last success.
    pub streak: Streak,
    places: Places,
    offers: Offers,
    /// Numbers of the devices on which it has succeeded.
    runs: RoaringBitmap,
    /// The rollout that takes its release back.
    undone_by: Option<RolloutId>,
    /// Gates look past what had failed by then.
    acknowledged_at: Option<Timestamp>,
}

/// What happened to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It was started.
    Started(RolloutId),
    /// Its gate moved it while this phase was the last one open.
    Advanced(RolloutId, usize, Advance),
    /// A device left a place under its caps, that it was granted at this site.
    Left(RolloutId, Grant, Option<SiteId>),
    /// An assignment of a device came to its end, or is taken up again after it.
    Ended(RolloutId, DeviceId, AssignmentState),
    /// A device activated without having asked.
    Alone(RolloutId, DeviceId),
    /// Silence of a device led to this.
    Rang(RolloutId, DeviceId, Due),
}

/// A device and what is kept of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// As decisions see it.
    pub device: Device,
    /// Its last check-in.
    pub last_seen: Option<Timestamp>,
    /// The last time in which it was away.
    pub absence: Option<Absence>,
    /// When it is usually there.
    pub rhythm: Rhythm,
    /// The connection that is still owed an offer.
    pub owed: Option<Connection>,
    /// Bytes that it has free for releases, if that is known.
    pub free_bytes: Option<u64>,
    /// One for each of the device's assignments, in their order.
    rows: Vec<Row>,
    /// Assignments of its life before it enrolled anew.
    former: Vec<Assignment>,
}

/// What is kept of an assignment beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Number of the last report of this attempt.
    pub seq: u32,
    /// Where the device stood when it was granted what it holds, or held last.
    pub granted_site: Option<SiteId>,
}

impl Unit {
    /// A device without assignments, that is there at any time as far as is known.
    pub fn new(device: Device, last_seen: Option<Timestamp>) -> Self {
        let (absence, rhythm, owed, free_bytes) = (None, Rhythm::ALWAYS, None, None);
        Self { device, last_seen, absence, rhythm, owed, free_bytes, rows: Vec::new(), former: Vec::new() }
    }

    /// Takes over an assignment with what is kept of it.
    pub fn put(&mut self, assignment: Assignment, row: Row) {
        self.device.assignments.push(assignment);
        self.rows.push(row);
    }

    /// Its assignments in this life and the ones before, with where it stood when it was granted what it holds.
    pub fn lives(&self) -> impl Iterator<Item = (&Assignment, Option<&SiteId>)> {
        let sites = self.rows.iter().map(|row| row.granted_site.as_ref());
        self.device.assignments.iter().zip(sites).chain(self.former.iter().map(|one| (one, None)))
    }

    /// Number of the last report about an assignment.
    pub fn last_report(&self, id: AssignmentId) -> u32 {
        let rows = self.device.assignments.iter().zip(&self.rows);
        rows.filter(|(one, _)| one.id == id).map(|(_, row)| row.seq).next().unwrap_or_default()
    }

    /// What selectors may ask of its presence.
    pub fn seen(&self, now: Timestamp, poll_interval: Duration, abandoned_after: Duration) -> Seen {
        let (seen, suspension) = (self.last_seen, self.device.site_rules.suspension);
        let status = Connectivity::of(now, seen, poll_interval, abandoned_after, suspension);
        Seen { last_seen: seen, status, now }
    }

    /// A new life, in which nothing counts of what was before.
    fn begin_anew(&mut self, now: Timestamp) {
        self.device.enrolled_at = Some(now);
        self.device.bad_releases.clear();
        self.rows.clear();
        self.former.append(&mut self.device.assignments);
    }

    fn remove(&mut self, id: AssignmentId) -> Option<(Assignment, Row)> {
        let place = self.device.assignments.iter().position(|one| one.id == id)?;
        Some((self.device.assignments.remove(place), self.rows.remove(place)))
    }

    fn assignment_mut(&mut self, id: AssignmentId) -> Option<(&mut Assignment, &mut Row)> {
        self.device.assignments.iter_mut().zip(&mut self.rows).find(|(one, _)| one.id == id)
    }
}

impl Ledger {
    /// Takes over rollouts that are under way.
    pub fn new(catalog: Catalog, poll_interval: Duration) -> Self {
        let (news, resting, standings) = (Vec::new(), Vec::new(), HashMap::new());
        Self { catalog, poll_interval, abandoned_after: DEFAULT_ABANDONED_AFTER, news, resting, standings }
    }

    /// How a rollout stands; `None` before it is started.
    pub fn standing(&self, id: RolloutId) -> Option<&Standing> {
        self.standings.get(&id)
    }

    /// Says how a rollout stands that is taken over.
    pub fn set_standing(&mut self, id: RolloutId, counts: Vec<PhaseCounts>, times: PhaseTimes) {
        self.standings.insert(id, Standing { counts, times, ..Standing::default() });
    }

    /// Takes over the places that a device holds.
    pub fn occupy(&mut self, unit: &Unit) {
        for (one, row) in unit.device.assignments.iter().zip(&unit.rows) {
            if let Some(standing) = self.standings.get_mut(&one.rollout) {
                standing.places.enter(one, row);
            }
        }
    }

    /// What a check-in now says about the connection, and what the agent says that it is at.
    pub fn contact(&self, now: Timestamp, unit: &Unit, boot_changed: bool, works_on: Option<AssignmentId>) -> Contact {
        let (last_seen, poll_interval) = (unit.last_seen, self.poll_interval);
        let absence = Absence::at(now, last_seen, poll_interval, unit.absence);
        let Unit { owed, free_bytes, .. } = *unit;
        Contact { last_seen, absence, boot_changed, owed, poll_interval, works_on, free_bytes }
    }

    /// Who holds places of rollouts with caps, as it concerns a device.
    pub fn loads(&self, device: &Device) -> Loads {
        let limited = self.catalog.rollouts.iter().filter(|rollout| rollout.plan.limits.are_set());
        let load = |rollout: &Rollout| {
            let standing = self.standings.get(&rollout.id)?;
            let load = standing.places.load(&rollout.plan.limits.caps, device.site.as_ref());
            let succeeded = standing.counts.iter().map(|counts| counts.succeeded).sum();
            Some((rollout.id, Load { offers: standing.offers, succeeded, ..load }))
        };
        limited.filter_map(load).collect()
    }

    /// A check-in: decides, and does what is decided, until there is an answer.
    ///
    /// # Errors
    /// A decision proposed what its assignment does not allow.
    pub fn check_in(
        &mut self,
        now: Timestamp,
        unit: &mut Unit,
        boot_changed: bool,
        works_on: Option<AssignmentId>,
    ) -> Result<Decision, IllegalTransition> {
        let contact = self.contact(now, unit, boot_changed, works_on);
        let decision = loop {
            let loads = self.loads(&unit.device);
            let decision = decide::decide(now, &self.catalog, &unit.device, &contact, &loads);
            self.take(now, unit, decision.step)?;
            if decision.step.is_answer() {
                break decision;
            }
        };
        unit.rhythm = unit.rhythm.seen(unit.last_seen, now, device::online_for(self.poll_interval));
        unit.last_seen = Some(now);
        unit.absence = contact.absence;
        unit.owed = decision.owes_offer.then(|| contact.owed_after(now));
        if let Some(id) = works_on {
            self.change(unit, id, |one| one.heard(now));
        }
        Ok(decision)
    }

    /// When silence of a device leads to something, if nothing more is heard of it.
    pub fn next_ring(&self, unit: &Unit) -> Option<Timestamp> {
        let due = unit.device.assignments.iter().filter_map(|one| timer::next(one, one.heard_at, &unit.rhythm));
        due.map(|(at, _)| at).min()
    }

    /// Lets the timers of a device go off that have run down.
    ///
    /// # Errors
    /// Never: timers run only where they may go off.
    pub fn ring(&mut self, now: Timestamp, unit: &mut Unit) -> Result<(), IllegalTransition> {
        loop {
            let due = unit.device.assignments.iter().filter_map(|one| {
                let (at, due) = timer::next(one, one.heard_at, &unit.rhythm)?;
                (at <= now).then_some((at, one.id, one.rollout, due))
            });
            let Some((_, id, rollout, due)) = due.min_by_key(|(at, ..)| *at) else {
                return Ok(());
            };
            self.news.push(News::Rang(rollout, unit.device.id, due));
            match due.event() {
                Some(event) => self.decided(now, unit, id, event)?,
                None => {
                    self.change(unit, id, |one| one.silent = true);
                    self.advance(now, rollout);
                }
            }
        }
    }

    /// Takes a report; `false` if it was heard before.
    ///
    /// # Errors
    /// Says why it will never be taken.
    pub fn report(&mut self, now: Timestamp, unit: &mut Unit, report: &Report) -> Result<bool, Unheard> {
        let Some((one, row)) = unit.assignment_mut(report.assignment_id) else {
            return Err(Unheard::OtherRelease(report.release_sha256));
        };
        let rollout = one.rollout;
        let terms = self
            .rollout(rollout)
            .map_or(Terms { max_attempts: 1, offline_activation: false }, |rollout| rollout.plan.terms());
        let Some(heard) = assignment::hear(one, row.seq, report, terms)? else {
            return Ok(false);
        };
        row.seq = report.seq;
        if heard.alone {
            self.happen(now, unit, report.assignment_id, Event::ActivatedAlone)?;
            self.news.push(News::Alone(rollout, unit.device.id));
        }
        self.happen(now, unit, report.assignment_id, heard.event)?;
        if heard.deferral.is_some() {
            self.change(unit, report.assignment_id, |one| one.deferred = heard.deferral);
        }
        self.advance(now, rollout);
        Ok(true)
    }

    fn take(&mut self, now: Timestamp, unit: &mut Unit, step: Step) -> Result<(), IllegalTransition> {
        match step {
            Step::Nothing
            | Step::Hold { .. }
            | Step::ContinueDownload { .. }
            | Step::ContinueActivation { .. }
            | Step::Recall { .. } => Ok(()),
            Step::GrantDownload { rollout, phase, admission } => {
                self.admit(unit, rollout, phase, admission);
                self.grant_download(now, unit, rollout, phase)
            }
            Step::GrantActivation { assignment, .. } => self.decided(now, unit, assignment, Event::ActivationGranted),
            Step::Cancel { assignment, why } => self.decided(now, unit, assignment, why.event()),
            Step::CloseAsInstalled { assignment } => self.decided(now, unit, assignment, Event::SeenInstalled),
            Step::Regress { assignment } => self.decided(now, unit, assignment, Event::Regressed),
            Step::TryAgain { assignment } => self.decided(now, unit, assignment, Event::FailedForNow),
            Step::Hear { assignment } => {
                self.change(unit, assignment, |one| one.heard(now));
                Ok(())
            }
            Step::Defer { assignment, why } => {
                self.change(unit, assignment, |one| one.deferred = why);
                Ok(())
            }
            Step::Exclude { rollout, phase, why } => {
                self.forget_former(unit, rollout);
                self.exclude(unit, rollout, phase, why);
                self.advance(now, rollout);
                Ok(())
            }
        }
    }

    fn admit(&mut self, unit: &mut Unit, rollout: RolloutId, phase: usize, admission: Admission) {
        if admission == Admission::Member {
            return;
        }
        if let (Admission::Joins, Some((rollout, _))) = (admission, self.both(rollout))
            && let Some(site) = rollout.moving(&unit.device)
        {
            rollout.sites.entry(site).or_insert(phase);
        }
        unit.device.set_member(Member { rollout, phase, excluded: None });
        if let Some(counts) = self.standings.get_mut(&rollout).and_then(|standing| standing.counts.get_mut(phase)) {
            counts.size += 1;
        }
    }

    fn exclude(&mut self, unit: &mut Unit, rollout: RolloutId, phase: usize, why: Exclusion) {
        unit.device.set_member(Member { rollout, phase, excluded: Some(why) });
        if let Some(counts) = self.standings.get_mut(&rollout).and_then(|standing| standing.counts.get_mut(phase)) {
            counts.size = counts.size.saturating_sub(1);
        }
    }

    fn grant_download(
        &mut self,
        now: Timestamp,
        unit: &mut Unit,
        id: RolloutId,
        phase: usize,
    ) -> Result<(), IllegalTransition> {
        if let Some(standing) = self.standings.get_mut(&id) {
            standing.offers = standing.offers.one_more(now);
        }
        if let Some(queued) = unit.device.assignment(id).map(|one| one.id) {
            return self.happen(now, unit, queued, Event::DownloadGranted);
        }
        self.forget_former(unit, id);
        let id_of_new = bucket(id, unit.device.id.as_bytes()).id();
        let release = self.rollout(id).and_then(|rollout| self.catalog.releases.get(&rollout.plan.release)).cloned();
        unit.former.iter_mut().for_each(|one| self.take_note(one));
        let (Some((_, standing)), Some(new_id), Some(release)) = (self.both(id), id_of_new, release) else {
            return Ok(());
        };
        let new = Assignment::granted(new_id, id, &release, phase, now);
        let row = Row { seq: 0, granted_site: unit.device.site.clone() };
        if let Some(counts) = standing.counts.get_mut(phase) {
            counts.recount(None, Some(&new));
        }
        standing.places.enter(&new, &row);
        unit.device.assignments.push(new);
        unit.rows.push(row);
        Ok(())
    }

    /// What a rollout did on a device in its former life counts no longer.
    fn forget_former(&mut self, unit: &mut Unit, id: RolloutId) {
        let Some(place) = unit.former.iter().position(|one| one.rollout == id) else {
            return;
        };
        let old = unit.former.remove(place);
        let Some(standing) = self.standings.get_mut(&id) else { return };
        standing.streak.forget(old.id);
        if let Some(counts) = standing.counts.get_mut(old.phase) {
            counts.recount(Some(&old), None);
        }
    }

    /// Lets something happen that the device did not report.
    fn decided(
        &mut self,
        now: Timestamp,
        unit: &mut Unit,
        id: AssignmentId,
        event: Event,
    ) -> Result<(), IllegalTransition> {
        self.happen(now, unit, id, event)?;
        if let Some(rollout) = unit.assignment_mut(id).map(|(one, _)| one.rollout) {
            self.advance(now, rollout);
        }
        Ok(())
    }

    /// Lets something happen to an assignment, and counts it.
    fn happen(
        &mut self,
        now: Timestamp,
        unit: &mut Unit,
        id: AssignmentId,
        event: Event,
    ) -> Result<(), IllegalTransition> {
        let (device, number, site) = (unit.device.id, unit.device.number, unit.device.site.clone());
        let Some((one, row)) = unit.assignment_mut(id) else {
            return Ok(());
        };
        self.take_note(one);
        let (old, old_row) = (one.clone(), row.clone());
        let before = assignment::happen(one, device, event, now)?;
        if one.attempt != old.attempt {
            // The reports of an attempt are numbered from 1.
            row.seq = 0;
        }
        if matches!(event, Event::DownloadGranted | Event::ActivationGranted | Event::ActivatedAlone) {
            row.granted_site = site;
        }
        let (rollout, release, after) = (one.rollout, one.release, one.state);
        if let Some(standing) = self.standings.get_mut(&rollout) {
            if let Some(counts) = standing.counts.get_mut(one.phase) {
                counts.recount(Some(&old), Some(one));
            }
            standing.note(before, one, number);
            let left = standing.places.leave(&old, &old_row);
            let held = standing.places.enter(one, row);
            if let Some(grant) = left.filter(|_| left != held) {
                self.news.push(News::Left(rollout, grant, old_row.granted_site));
            }
        }
        if before != after && (before.is_final() || after.is_final()) {
            self.news.push(News::Ended(rollout, device, after));
        }
        if before != after && after == AssignmentState::Succeeded {
            self.undo_too(rollout, &mut unit.device);
        }
        if after == AssignmentState::RolledBack && !unit.device.bad_releases.contains(&release) {
            unit.device.bad_releases.push(release);
        }
        Ok(())
    }

    /// Changes an assignment without letting anything happen to it, and counts it.
    fn change(&mut self, unit: &mut Unit, id: AssignmentId, change: impl FnOnce(&mut Assignment)) {
        let Some((one, _)) = unit.assignment_mut(id) else {
            return;
        };
        let old = one.clone();
        change(one);
        let standing = self.standings.get_mut(&one.rollout);
        if let Some(counts) = standing.and_then(|standing| standing.counts.get_mut(one.phase)) {
            counts.recount(Some(&old), Some(one));
        }
    }

    /// What operators acknowledged is counted at once, and written to the assignment when it is next touched.
    fn take_note(&self, one: &mut Assignment) {
        let acknowledged_at = self.standings.get(&one.rollout).and_then(|standing| standing.acknowledged_at);
        let noticed = one.attention_since.is_some_and(|since| acknowledged_at.is_some_and(|at| since <= at));
        if noticed && one.state != AssignmentState::TimedOut {
            one.attention_since = None;
        }
    }
}
