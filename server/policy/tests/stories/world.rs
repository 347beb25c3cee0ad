//! A fleet and a server in memory, by the names of the scripts.

use std::{collections::BTreeMap, time::Duration};

use callboard_policy::{
    assignment::{Event, Unheard},
    catalog::Catalog,
    decide::{self, Decision, Right, Step},
    device::Contact,
    gate::{Advance, Deed, Word},
    guard::Loads,
    ledger::{Ledger, News, Unit},
    release::Release,
    rollout::{Rollout, RolloutState},
    timer::Due,
};
use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::{AssignmentId, DeviceId, Id, RolloutId},
    report::{Event as Reported, Failure, FailureClass, Report},
    time::Timestamp,
};

pub(crate) const POLL: Duration = Duration::from_secs(300);

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) sites: BTreeMap<String, (chrono_tz::Tz, BTreeMap<String, String>)>,
    pub(crate) actors: BTreeMap<String, Actor>,
    pub(crate) ledger: Ledger,
    /// What happened by itself since the last command.
    pub(crate) news: Vec<String>,
}

/// A device, and what only it knows.
pub(crate) struct Actor {
    pub(crate) unit: Unit,
    pub(crate) booted: bool,
    /// What it was told last to download or install, in which attempt.
    pub(crate) works_on: Option<(AssignmentId, u32)>,
    /// How often it reported of each attempt.
    pub(crate) said: BTreeMap<(AssignmentId, u32), u32>,
    /// Its agent is not at it: it has finished, or has lost what it knew.
    pub(crate) idle: bool,
    /// What it may do by itself.
    pub(crate) right: Option<Right>,
}

impl Actor {
    /// What its agent says that it is at.
    pub(crate) fn at(&self) -> Option<AssignmentId> {
        self.works_on.map(|(id, _)| id).filter(|_| !self.idle)
    }
}

impl Default for World {
    fn default() -> Self {
        let (now, ledger) = (Timestamp::default(), Ledger::new(Catalog::default(), POLL));
        Self { now, sites: BTreeMap::new(), actors: BTreeMap::new(), ledger, news: vec![] }
    }
}

pub(crate) fn id<K>(text: &str) -> Id<K> {
    Id::from_slice(&Digest::of(text.as_bytes()).as_bytes()[..16]).unwrap()
}

impl World {
    pub(crate) fn rollout(&self, name: &str) -> &Rollout {
        // One that a halt has made has an id of its own.
        let mut all = self.ledger.rollouts();
        all.find(|rollout| rollout.plan.name.as_str() == name).unwrap_or_else(|| panic!("no rollout {name}"))
    }

    pub(crate) fn actor(&mut self, name: &str) -> &mut Actor {
        self.actors.get_mut(name).unwrap_or_else(|| panic!("no device {name}"))
    }

    /// The newest one that a script names by product and version.
    pub(crate) fn release(&self, digest: Digest) -> &Release {
        &self.ledger.catalog.releases[&digest]
    }

    pub(crate) fn contact(&self, name: &str) -> Contact {
        let actor = &self.actors[name];
        self.ledger.contact(self.now, &actor.unit, actor.booted, actor.at())
    }

    pub(crate) fn loads(&self, name: &str) -> Loads {
        self.ledger.loads(&self.actors[name].unit.device)
    }

    pub(crate) fn explain(&self, name: &str) -> Decision {
        let (contact, loads) = (self.contact(name), self.loads(name));
        decide::explain(self.now, &self.ledger.catalog, &self.actors[name].unit.device, &contact, &loads)
    }

    pub(crate) fn start(&mut self, name: &str) {
        let units = self.actors.values().map(|actor| &actor.unit);
        let started = self.ledger.start(self.now, id(name), units);
        self.refused(started);
    }

    pub(crate) fn set_state(&mut self, name: &str, state: RolloutState, acknowledge: bool) {
        let done = self.ledger.change_state(self.now, id(name), state, acknowledge);
        self.refused(done);
    }

    fn refused(&mut self, done: Result<(), String>) {
        self.news.extend(done.err().map(|why| format!("refused: {why}")));
        self.settle();
    }

    pub(crate) fn check_in(&mut self, name: &str) -> Decision {
        let (contact, loads) = (self.contact(name), self.loads(name));
        let decided = decide::decide(self.now, &self.ledger.catalog, &self.actors[name].unit.device, &contact, &loads);
        let explained = Decision { considered: vec![], ..self.explain(name) };
        assert_eq!(decided, explained, "an explanation decides otherwise");
        let actor = self.actors.get_mut(name).unwrap();
        let works_on = actor.at();
        let decision = self.ledger.check_in(self.now, &mut actor.unit, actor.booted, works_on).unwrap();
        actor.booted = false;
        actor.right = decision.right;
        let told = match decision.step {
            Step::GrantDownload { rollout, .. } => actor.unit.device.assignment(rollout).map(|one| one.id),
            Step::ContinueDownload { assignment }
            | Step::GrantActivation { assignment, .. }
            | Step::ContinueActivation { assignment, .. }
            | Step::Hold { assignment: Some(assignment) } => Some(assignment),
            _ => None,
        };
        if let Step::Cancel { assignment, .. } | Step::Recall { assignment } = decision.step {
            actor.idle |= works_on == Some(assignment);
        }
        if let Some(one) = actor.unit.device.assignments.iter().find(|one| Some(one.id) == told) {
            actor.works_on = Some((one.id, one.attempt));
            actor.idle &= matches!(decision.step, Step::Hold { .. });
        }
        self.settle();
        decision
    }

    /// What the device says of the assignment that it works on.
    pub(crate) fn report(&mut self, name: &str, event: Reported, class: Option<FailureClass>) {
        let works_on = self.actor(name).works_on.unwrap_or_else(|| panic!("{name} was told to do nothing"));
        let (assignment_id, attempt) = works_on;
        let one = self.actors[name].unit.device.assignments.iter().find(|one| one.id == assignment_id).unwrap();
        let release_sha256 = one.release;
        self.actor(name).idle =
            matches!(event, Reported::Succeeded | Reported::RolledBack | Reported::Failed | Reported::Cancelled);
        if event == Reported::Succeeded {
            self.install(name, release_sha256);
        }
        let said = self.actor(name).said.entry(works_on).or_default();
        *said += 1;
        let seq = *said;
        let failure = class.map(|class| Failure { class, code: "chance".to_owned(), text: String::new() });
        let report = Report { assignment_id, attempt, seq, event, at: self.now, release_sha256, failure };
        let unit = &mut self.actors.get_mut(name).unwrap().unit;
        match self.ledger.report(self.now, unit, &report) {
            Ok(heard) => assert!(heard, "{name}: a new report was taken for an old one"),
            Err(why @ Unheard::OtherRelease(_)) => panic!("{name}: {why}"),
            Err(why) => self.news.push(format!("refused: {why}")),
        }
        self.settle();
    }

    /// The device runs it from now on.
    pub(crate) fn install(&mut self, name: &str, release: Digest) {
        let release = self.release(release).clone();
        let installed = &mut self.actor(name).unit.device.installed;
        installed.retain(|one| one.product != release.product);
        installed.push(Installed {
            product: release.product,
            version: release.version,
            release: Some(release.digest),
            epoch: release.epoch,
            counter: release.counter,
            floor: release.min_floor,
        });
    }

    /// An operator's word about one device of a rollout.
    pub(crate) fn deal(&mut self, rollout: &str, name: &str, event: Event) {
        let unit = &mut self.actors.get_mut(name).unwrap().unit;
        match self.ledger.deal(self.now, id(rollout), unit, event) {
            Ok(true) => self.news.push(format!("{rollout} runs again")),
            Ok(false) => {}
            Err(why) => self.news.push(format!("refused: {why}")),
        }
        self.settle();
    }

    /// An operator's word about the open phase.
    pub(crate) fn by_hand(&mut self, name: &str, word: Word) {
        match self.ledger.by_hand(self.now, id(name), word) {
            Ok(Deed::Open { phase, stood }) => {
                let opened = &self.rollout(name).plan.phases[phase].name;
                let news = format!("{name} opens phase {opened} by hand; otherwise: {stood}");
                self.news.push(news);
            }
            Ok(_) => {}
            Err(why) => self.news.push(format!("refused: {why}")),
        }
        self.settle();
    }

    /// Lets time have its effect, and puts into words what happened.
    pub(crate) fn settle(&mut self) {
        for actor in self.actors.values_mut() {
            self.ledger.ring(self.now, &mut actor.unit).unwrap();
        }
        self.ledger.look(self.now);
        for news in std::mem::take(&mut self.ledger.news) {
            let text = match news {
                News::Advanced(id, open, advance) => self.in_words(id, open, advance),
                News::Rang(rollout, device, due) => self.rang(rollout, device, due),
                _ => continue,
            };
            self.news.push(text);
        }
    }

    fn rang(&self, rollout: RolloutId, device: DeviceId, due: Due) -> String {
        let device = self.actors.values().map(|actor| &actor.unit.device).find(|one| one.id == device).unwrap();
        let (name, state) = (&device.name, device.assignment(rollout).unwrap().state.as_str());
        match due {
            Due::Silence => format!("{name} is silent"),
            Due::Lapse | Due::TimeOut => format!("{name} was not heard of for too long and is {state}"),
        }
    }

    fn in_words(&self, id: RolloutId, open: usize, advance: Advance) -> String {
        let rollout = self.ledger.rollout(id).unwrap();
        let (name, phase) = (&rollout.plan.name, |n: usize| rollout.plan.phases[n].name.as_str());
        match advance {
            Advance::Stay(_) => unreachable!("it is no news"),
            Advance::Meet(reason) => format!("{name}: the gate of phase {} is met: {}", phase(open), reason.text),
            Advance::Unmeet(reason) => {
                format!("{name}: the gate of phase {} is no longer met: {}", phase(open), reason.text)
            }
            Advance::Open { phase: opened, reason } => {
                format!("{name} opens phase {} ({})", phase(opened), reason.text)
            }
            Advance::Pause(reason) => format!("{name} pauses itself ({})", reason.text),
            Advance::Cancel(reason) => format!("{name} is cancelled ({})", reason.text),
            Advance::RollBack { .. } => {
                format!("{name} is cancelled ({})", rollout.state_reason.as_deref().unwrap_or_default())
            }
            Advance::Complete(reason) => format!("{name} is completed ({})", reason.text),
        }
    }

    pub(crate) fn name_of(&self, id: RolloutId) -> String {
        self.ledger.rollout(id).unwrap().plan.name.to_string()
    }
}
