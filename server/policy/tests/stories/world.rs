//! A fleet and a server in memory: it keeps what the real one keeps, and does what decisions propose.

use std::{collections::BTreeMap, time::Duration};

use callboard_policy::{
    assignment::{self, Event},
    audience::{self, Candidate},
    catalog::Catalog,
    decide::{self, Admission, Decision, Right, Step},
    device::{Absence, Assignment, Connectivity, Contact, DEFAULT_ABANDONED_AFTER, Device},
    freeze::Freeze,
    gate::{self, Advance, Deed, PhaseCounts, PhaseTimes, Word},
    guard::{Grant, Holders, InFlight, Load, Loads},
    release::Release,
    rollout::{Rollout, RolloutState},
    selector::Seen,
};
use callboard_proto::{
    digest::Digest,
    ids::{AssignmentId, Id, RolloutId, SiteId},
    report::{Event as Reported, FailureClass},
    state::AssignmentState,
    time::Timestamp,
};

pub(crate) const POLL: Duration = Duration::from_secs(300);

#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) sites: BTreeMap<String, (chrono_tz::Tz, BTreeMap<String, String>)>,
    pub(crate) units: BTreeMap<String, Unit>,
    pub(crate) releases: Vec<Release>,
    pub(crate) rollouts: Vec<Running>,
    pub(crate) freezes: Vec<Freeze>,
    /// When and where assignments were granted what they hold, or held last.
    pub(crate) granted: BTreeMap<AssignmentId, (Timestamp, Option<SiteId>)>,
    /// What happened by itself since the last command.
    pub(crate) news: Vec<String>,
}

pub(crate) struct Unit {
    pub(crate) device: Device,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) absence: Option<Absence>,
    pub(crate) booted: bool,
    /// What it was told last to download or install.
    pub(crate) works_on: Option<AssignmentId>,
    /// What it may do by itself.
    pub(crate) right: Option<Right>,
}

pub(crate) struct Running {
    pub(crate) rollout: Rollout,
    pub(crate) counts: Vec<PhaseCounts>,
    /// Of the open phase.
    pub(crate) times: PhaseTimes,
}

pub(crate) fn id<K>(text: &str) -> Id<K> {
    Id::from_slice(&Digest::of(text.as_bytes()).as_bytes()[..16]).unwrap()
}

impl World {
    pub(crate) fn catalog(&self) -> Catalog {
        let rollouts = self.rollouts.iter().map(|running| running.rollout.clone());
        let known = rollouts.filter(|rollout| !matches!(rollout.state, RolloutState::Draft | RolloutState::Completed));
        Catalog::new(1, known.collect(), self.releases.clone()).with_freezes(self.freezes.clone())
    }

    pub(crate) fn running(&mut self, name: &str) -> &mut Running {
        let found = self.rollouts.iter_mut().find(|running| running.rollout.plan.name.as_str() == name);
        found.unwrap_or_else(|| panic!("no rollout {name}"))
    }

    pub(crate) fn seen(&self, unit: &Unit) -> Seen {
        let status = Connectivity::of(
            self.now,
            unit.last_seen,
            POLL,
            DEFAULT_ABANDONED_AFTER,
            unit.device.site_rules.suspension,
        );
        Seen { last_seen: unit.last_seen, status, now: self.now }
    }

    pub(crate) fn contact(&self, name: &str) -> Contact {
        let unit = &self.units[name];
        let absence = Absence::at(self.now, unit.last_seen, POLL, unit.absence);
        Contact { last_seen: unit.last_seen, absence, boot_changed: unit.booted, poll_interval: POLL }
    }

    /// Who holds grants, counted anew. A device that moved keeps its place where it was granted it.
    pub(crate) fn loads(&self, name: &str) -> Loads {
        let site = self.units[name].device.site.as_ref();
        self.rollouts.iter().map(|running| (running.rollout.id, self.load(running.rollout.id, site))).collect()
    }

    fn load(&self, rollout: RolloutId, site: Option<&SiteId>) -> Load {
        let all = self.units.values().flat_map(|unit| &unit.device.assignments).filter(|one| one.rollout == rollout);
        let all: Vec<&Assignment> = all.collect();
        let holders = |grant: Grant, everywhere: bool| {
            let holding =
                all.iter().filter(|one| grant.states().contains(&one.state)).map(|one| &self.granted[&one.id]);
            let here = |held: &&(Timestamp, Option<SiteId>)| everywhere || (site.is_some() && held.1.as_ref() == site);
            let since: Vec<Timestamp> = holding.filter(here).map(|(since, _)| *since).collect();
            Holders { count: u64::try_from(since.len()).unwrap(), oldest: since.into_iter().min() }
        };
        let in_flight = |grant| InFlight { overall: holders(grant, true), at_site: holders(grant, false) };
        Load { downloads: in_flight(Grant::Download), activations: in_flight(Grant::Activation) }
    }

    /// Fixes the audience and opens the first phase.
    pub(crate) fn start(&mut self, name: &str) {
        let now = self.now;
        let plan = self.running(name).rollout.plan.clone();
        let release = self.releases.iter().find(|release| release.digest == plan.release).unwrap();
        let fleet = self.units.values().map(|unit| (&unit.device, self.seen(unit)));
        let matching = audience::matching(&plan, fleet);
        let candidates = matching.map(|(device, seen)| Candidate::of(&plan, release, device, &seen));
        let audience = audience::assign(id(name), &plan.phases, candidates);
        let running = self.running(name);
        running.counts = audience.phases.iter().map(|phase| size(phase, &audience.excluded)).collect();
        running.rollout.members = audience.phases;
        running.rollout.excluded = audience.excluded;
        running.rollout.state = RolloutState::Running;
        running.rollout.started_at = Some(now);
        running.times = PhaseTimes { opened_at: now, ..PhaseTimes::default() };
        self.settle();
    }

    pub(crate) fn set_state(&mut self, name: &str, state: RolloutState) {
        let running = self.running(name);
        assert!(running.rollout.state.allows(state), "{name} cannot become {}", state.as_str());
        running.rollout.state = state;
        running.rollout.state_reason = None;
        self.settle();
    }

    /// The gate looks past the failures so far.
    pub(crate) fn acknowledge_and_resume(&mut self, name: &str) {
        for counts in &mut self.running(name).counts {
            counts.acknowledged = counts.failed + counts.rolled_back;
        }
        self.set_state(name, RolloutState::Running);
    }

    pub(crate) fn check_in(&mut self, name: &str) -> Decision {
        let (contact, loads) = (self.contact(name), self.loads(name));
        let decision = decide::decide(self.now, &self.catalog(), &self.units[name].device, &contact, &loads);
        let explained = decide::explain(self.now, &self.catalog(), &self.units[name].device, &contact, &loads);
        assert_eq!(decision, Decision { considered: Vec::new(), ..explained }, "an explanation decides otherwise");
        self.apply(name, &decision.step);
        let now = self.now;
        let unit = self.units.get_mut(name).unwrap();
        unit.last_seen = Some(now);
        unit.absence = contact.absence;
        unit.right = decision.right;
        unit.booted = false;
        self.settle();
        decision
    }

    fn apply(&mut self, name: &str, step: &Step) {
        match *step {
            Step::GrantDownload { rollout, phase, admission } => {
                let rollout_name = self.name_of(rollout);
                self.admit(name, &rollout_name, phase, admission);
                match self.units[name].device.assignment(rollout).map(|one| one.id) {
                    Some(queued) => self.happen(name, queued, Event::DownloadGranted),
                    None => self.assign(name, &rollout_name, phase),
                }
            }
            Step::GrantActivation { assignment, .. } => self.happen(name, assignment, Event::ActivationGranted),
            Step::Cancel { assignment, why } => self.happen(name, assignment, why.event()),
            Step::CloseAsInstalled { assignment } => self.happen(name, assignment, Event::SeenInstalled),
            Step::Exclude { rollout, phase, .. } => {
                let number = self.units[name].device.number;
                let rollout = self.name_of(rollout);
                let running = self.running(&rollout);
                running.rollout.excluded.insert(number);
                running.counts[phase].size -= 1;
            }
            Step::Nothing | Step::Hold { .. } | Step::ContinueDownload { .. } | Step::ContinueActivation { .. } => {}
        }
        let unit = self.units.get_mut(name).unwrap();
        unit.works_on = match *step {
            Step::GrantDownload { rollout, .. } => unit.device.assignment(rollout).map(|one| one.id),
            Step::ContinueDownload { assignment }
            | Step::GrantActivation { assignment, .. }
            | Step::ContinueActivation { assignment, .. }
            | Step::Hold { assignment: Some(assignment) } => Some(assignment),
            _ => unit.works_on,
        };
    }

    fn admit(&mut self, name: &str, rollout: &str, phase: usize, admission: Admission) {
        let number = self.units[name].device.number;
        let running = self.running(rollout);
        match admission {
            Admission::Member => return,
            Admission::Joins => running.rollout.members[phase].insert(number),
            Admission::Returns => running.rollout.excluded.remove(number),
        };
        running.counts[phase].size += 1;
    }

    fn assign(&mut self, name: &str, rollout: &str, phase: usize) {
        let (now, running) = (self.now, self.running(rollout));
        running.counts[phase].move_one(None, AssignmentState::Downloading);
        let (rollout_id, release) = (running.rollout.id, running.rollout.plan.release);
        let unit = self.units.get_mut(name).unwrap();
        let assignment = id(&format!("{name} in {rollout}"));
        self.granted.insert(assignment, (now, unit.device.site.clone()));
        unit.device.assignments.push(Assignment {
            id: assignment,
            rollout: rollout_id,
            release,
            phase,
            state: AssignmentState::Downloading,
            attempt: 1,
            not_before: None,
            offered_at: now,
        });
    }

    pub(crate) fn happen(&mut self, name: &str, assignment: AssignmentId, event: Event) {
        let now = self.now;
        let unit = self.units.get_mut(name).unwrap();
        let one = unit.device.assignments.iter_mut().find(|one| one.id == assignment).unwrap();
        let old = one.state;
        one.state = match assignment::transition(old, event) {
            Ok(next) => next,
            Err(illegal) => return self.news.push(format!("refused: {illegal}")),
        };
        if matches!(event, Event::DownloadGranted | Event::ActivationGranted) {
            self.granted.insert(assignment, (now, unit.device.site.clone()));
        }
        if event.raises_attempt() && one.state == AssignmentState::Queued {
            one.attempt += 1;
            // Half of the longest back-off, always.
            one.not_before = (event == Event::FailedForNow).then(|| now + assignment::backoff(one.attempt, 1 << 63));
        }
        let (rollout, phase, new) = (one.rollout, one.phase, one.state);
        let rollout = self.name_of(rollout);
        self.running(&rollout).counts[phase].move_one(Some(old), new);
        self.settle();
    }

    /// What the device says of the assignment that it works on.
    pub(crate) fn report(&mut self, name: &str, reported: Reported, class: Option<FailureClass>) {
        let unit = &self.units[name];
        let assignment = unit.works_on.unwrap_or_else(|| panic!("{name} was told to do nothing"));
        let one = unit.device.assignments.iter().find(|one| one.id == assignment).unwrap();
        let (release, attempt) = (one.release, one.attempt);
        let rollout = self.name_of(one.rollout);
        let max_attempts = self.running(&rollout).rollout.plan.max_attempts;
        match reported {
            Reported::Succeeded => self.install(name, release),
            Reported::RolledBack => self.units.get_mut(name).unwrap().device.bad_releases.push(release),
            _ => {}
        }
        let state = self.units[name].device.assignments.iter().find(|one| one.id == assignment).unwrap().state;
        if self.running(&rollout).rollout.plan.offline_activation && assignment::activated_alone(state, reported) {
            self.happen(name, assignment, Event::ActivatedAlone);
        }
        self.happen(name, assignment, Event::from_report(reported, class, attempt, max_attempts));
    }

    /// The device runs it from now on.
    pub(crate) fn install(&mut self, name: &str, release: Digest) {
        let release = self.releases.iter().find(|one| one.digest == release).unwrap().clone();
        let installed = &mut self.units.get_mut(name).unwrap().device.installed;
        installed.retain(|one| one.product != release.product);
        installed.push(callboard_proto::check_in::Installed {
            product: release.product,
            version: release.version,
            release: Some(release.digest),
            epoch: release.epoch,
            counter: release.counter,
            floor: release.min_floor,
        });
    }

    /// An operator's word about the open phase.
    pub(crate) fn by_hand(&mut self, name: &str, word: Word) {
        let now = self.now;
        let running = self.running(name);
        let open = running.rollout.open_phase;
        match gate::by_hand(&running.rollout, &running.counts[open], running.times, now, word) {
            Ok(Deed::Nothing) => {}
            Ok(Deed::Note(times)) => running.times = times,
            Ok(Deed::Open { phase, stood }) => {
                running.rollout.open_phase = phase;
                running.times = PhaseTimes { opened_at: now, ..PhaseTimes::default() };
                let opened = running.rollout.plan.phases[phase].name.clone();
                self.news.push(format!("{name} opens phase {opened} by hand; otherwise: {stood}"));
            }
            Err(why) => self.news.push(format!("refused: {why}")),
        }
        self.settle();
    }

    /// Opens phases, pauses and completes, as the counters say.
    pub(crate) fn settle(&mut self) {
        let now = self.now;
        for Running { rollout, counts, times } in &mut self.rollouts {
            let name = rollout.plan.name.to_string();
            loop {
                let phase = &rollout.plan.phases[rollout.open_phase].name;
                match gate::advance(rollout, counts, *times, now) {
                    Advance::Stay(_) => break,
                    Advance::Meet(reason) => {
                        times.met_at = Some(now);
                        self.news.push(format!("{name}: the gate of phase {phase} is met: {}", reason.text));
                    }
                    Advance::Unmeet(reason) => {
                        *times = PhaseTimes { opened_at: times.opened_at, ..PhaseTimes::default() };
                        self.news.push(format!("{name}: the gate of phase {phase} is no longer met: {}", reason.text));
                    }
                    Advance::Open { phase, reason } => {
                        rollout.open_phase = phase;
                        *times = PhaseTimes { opened_at: now, ..PhaseTimes::default() };
                        let opened = &rollout.plan.phases[phase].name;
                        self.news.push(format!("{name} opens phase {opened} ({})", reason.text));
                    }
                    Advance::Pause(reason) => {
                        rollout.state = RolloutState::Paused;
                        self.news.push(format!("{name} pauses itself ({})", reason.text));
                        rollout.state_reason = Some(reason.text);
                    }
                    Advance::Complete(reason) => {
                        rollout.state = RolloutState::Completed;
                        self.news.push(format!("{name} is completed ({})", reason.text));
                    }
                }
            }
        }
    }

    pub(crate) fn name_of(&self, id: callboard_proto::ids::RolloutId) -> String {
        let found = self.rollouts.iter().find(|running| running.rollout.id == id).unwrap();
        found.rollout.plan.name.to_string()
    }
}

fn size(phase: &roaring::RoaringBitmap, excluded: &roaring::RoaringBitmap) -> PhaseCounts {
    PhaseCounts { size: (phase - excluded).len(), ..PhaseCounts::default() }
}
