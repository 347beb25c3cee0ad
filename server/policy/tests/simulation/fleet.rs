//! Devices that come and go, fail, fall silent, lose what they had and say things twice.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use callboard_policy::rollout::RolloutState;
use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::AssignmentId,
    instruction::Action,
    report::{Event as Reported, Failure, FailureClass, Report},
    state::AssignmentState,
    time::Timestamp,
};
use chrono::{Datelike, Timelike};

use super::{
    oracle::Oracle,
    server::{POLL_S, Says, Server, Told, Word},
    setup::{Dice, Kind, Setup, mixed},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A fleet, its server, and somebody who watches.
pub(crate) struct World<S> {
    pub(crate) setup: Setup,
    pub(crate) server: S,
    pub(crate) now: Timestamp,
    dice: Dice,
    actors: Vec<Actor>,
    queue: BinaryHeap<Reverse<(Timestamp, usize)>>,
    oracle: Oracle,
    /// From now on everybody does well, and operators too.
    calm: bool,
    pub(crate) steps: u64,
}

/// Version, counter and digest of what runs.
type Runs = (String, u64, Option<Digest>);

struct Actor {
    boot: u32,
    seen: Option<Timestamp>,
    installed: BTreeMap<&'static str, Runs>,
    /// What it ran before, in case that it goes back.
    before: Option<(&'static str, Runs)>,
    task: Option<Task>,
    outbox: Vec<Report>,
    said: BTreeMap<(AssignmentId, u32), u32>,
    /// Nothing is heard of it until then.
    silent: Option<Timestamp>,
    held: bool,
}

#[derive(Clone, Copy)]
struct Task {
    id: AssignmentId,
    attempt: u32,
    release: Digest,
    stage: AssignmentState,
    done_at: Timestamp,
}

impl Actor {
    fn new() -> Self {
        Self {
            boot: 0,
            seen: None,
            installed: base(),
            before: None,
            task: None,
            outbox: Vec::new(),
            said: BTreeMap::new(),
            silent: None,
            held: false,
        }
    }
}

/// What an image brings.
fn base() -> BTreeMap<&'static str, Runs> {
    BTreeMap::from([("os", ("1".to_owned(), 1, None)), ("pos-app", ("1.0".to_owned(), 10, None))])
}

impl<S: Server> World<S> {
    pub(crate) fn new(setup: Setup, server: S) -> Self {
        let dice = Dice::new(setup.seed ^ 0x00ff_00ff);
        let oracle = Oracle::new(&setup);
        let actors = setup.devices.iter().map(|_| Actor::new()).collect();
        let now = setup.start;
        Self { setup, server, now, dice, actors, queue: BinaryHeap::new(), oracle, calm: false, steps: 0 }
    }

    /// Lives through so much time, with rollouts that start on the way.
    pub(crate) fn live(&mut self, time: Duration) {
        let ends = self.now + time;
        for device in 0..self.actors.len() {
            let first = self.now + Duration::from_secs(self.dice.roll(6 * 3600));
            self.queue.push(Reverse((first, device)));
        }
        let mut starts: Vec<(Timestamp, usize)> = (0..self.setup.rollouts.len())
            .map(|n| (self.now + Duration::from_secs(3600 + self.dice.roll(time.as_secs() / 3)), n))
            .collect();
        starts.sort_by_key(|start| Reverse(*start));
        while let Some(Reverse((at, device))) = self.queue.pop() {
            if at >= ends {
                self.queue.push(Reverse((at, device)));
                break;
            }
            while let Some((start, rollout)) = starts.pop_if(|(start, _)| *start <= at) {
                self.now = self.now.max(start);
                self.server.pass(self.now);
                self.oracle.passed(self.now, &mut self.server);
                self.server.tell(self.now, rollout, Word::Start);
                self.oracle.told(self.now, rollout, Word::Start, &mut self.server);
            }
            self.step(at, device);
        }
        self.now = ends;
    }

    /// Everything goes well from now on; whatever began comes to an end.
    pub(crate) fn calm_down(&mut self, days: u32) {
        self.calm = true;
        for device in 0..self.actors.len() {
            self.hold(device, false);
            self.actors[device].silent = None;
        }
        for _ in 0..days * 4 {
            for rollout in 0..self.setup.rollouts.len() {
                self.help(rollout);
            }
            let ends = self.now + 6 * HOUR;
            while let Some(Reverse((at, device))) = self.queue.pop() {
                if at >= ends {
                    self.queue.push(Reverse((at, device)));
                    break;
                }
                self.step(at, device);
            }
            self.now = ends;
        }
        self.oracle.over(&self.setup, &mut self.server);
    }

    /// An operator looks past failures, and calls off what cannot go on.
    fn help(&mut self, rollout: usize) {
        let state = |world: &mut Self| world.server.stands()[rollout].state;
        if state(self) == RolloutState::Draft {
            self.tell(rollout, Word::Start);
        }
        if state(self) == RolloutState::Paused && !self.tell(rollout, Word::Acknowledge) {
            self.tell(rollout, Word::Cancel);
        }
    }

    fn tell(&mut self, rollout: usize, word: Word) -> bool {
        let done = self.server.tell(self.now, rollout, word);
        self.oracle.told(self.now, rollout, word, &mut self.server);
        done
    }

    fn hold(&mut self, device: usize, held: bool) {
        if self.actors[device].held != held {
            self.actors[device].held = held;
            self.server.hold(self.now, device, held);
            self.oracle.held(device, held);
        }
    }

    fn step(&mut self, at: Timestamp, device: usize) {
        self.now = self.now.max(at);
        self.steps += 1;
        // Jobs may be late.
        if self.calm || self.dice.percent(60) {
            self.server.pass(self.now);
            self.oracle.passed(self.now, &mut self.server);
        }
        if !self.calm && !self.setup.healthy && self.dice.percent(3) {
            self.operate();
        }
        if self.dice.percent(2) {
            self.server.restart(self.now);
        }
        let next = if self.is_there(device, self.now) { self.visit(device) } else { HOUR };
        // Devices do not march in step.
        let next = self.now + next + Duration::from_millis(self.dice.roll(60_000));
        self.queue.push(Reverse((next, device)));
    }

    fn operate(&mut self) {
        let rollout = self.dice.roll(self.setup.rollouts.len() as u64) as usize;
        let device = self.dice.roll(self.actors.len() as u64) as usize;
        match self.dice.roll(12) {
            0 | 1 => drop(self.tell(rollout, Word::Pause)),
            2 | 3 => drop(self.tell(rollout, Word::Resume)),
            4..=6 => drop(self.tell(rollout, Word::Acknowledge)),
            7 if self.dice.percent(20) => drop(self.tell(rollout, Word::Cancel)),
            _ => self.hold(device, !self.actors[device].held),
        }
    }

    /// Whether the device is on and has a line.
    fn is_there(&self, device: usize, at: Timestamp) -> bool {
        if self.calm {
            return true;
        }
        let (shop, kind) = (self.setup.shop(device), self.setup.devices[device].kind);
        if self.actors[device].silent.is_some_and(|until| at < until) {
            return false;
        }
        let hour = at.millis() / 3_600_000;
        let stretch = |hours: i64| mixed(self.setup.seed ^ ((device as u64) << 32) ^ (hour / hours) as u64) % 100;
        match kind {
            Kind::Vehicle => stretch(3) < 60,
            Kind::Sensor => stretch(1) < 30,
            Kind::Signage => stretch(1) < 95,
            Kind::Till => {
                let face = at.utc().with_timezone(&shop.tz);
                let (opens, closes) = shop.trades.unwrap_or((8, 20));
                let on = (opens.saturating_sub(1)..=closes).contains(&face.hour());
                on && face.weekday() != chrono::Weekday::Sun && stretch(1) < 90
            }
        }
    }

    /// A device that is there gets on with its task, says what there is to say, and asks.
    fn visit(&mut self, device: usize) -> Duration {
        if self.dice.percent(1) && !self.calm {
            // Imaged anew, or swapped: it gets another certificate, and knows nothing.
            let boot = self.actors[device].boot + 1;
            let held = self.actors[device].held;
            self.actors[device] = Actor { boot, held, seen: self.actors[device].seen, ..Actor::new() };
            self.server.enrol(self.now, device);
            self.oracle.enrolled(self.now, device, &mut self.server);
        }
        let (now, actor) = (self.now, &mut self.actors[device]);
        let away = actor.seen.is_none_or(|seen| now.since(seen) > 2 * HOUR);
        let boots = match (away, self.setup.devices[device].kind) {
            (true, Kind::Till) => 100,
            // Some policies wait for a device to come up.
            _ if self.calm => 15,
            (true, _) => 20,
            (false, _) => 0,
        };
        if self.dice.percent(boots) {
            actor.boot += 1;
        }
        self.get_on(device);
        self.deliver(device);
        let actor = &self.actors[device];
        let works_on = actor.task.map(|task| (task.id, task.attempt, task.stage));
        let installed = actor.installed.iter().map(|(product, (version, counter, release))| Installed {
            product: product.parse().unwrap(),
            version: version.parse().unwrap(),
            release: *release,
            epoch: 0,
            counter: *counter,
            floor: 0,
        });
        let says = Says { boot: actor.boot, works_on, installed: installed.collect() };
        self.oracle.comes(self.now, device, &says.installed, &mut self.server);
        let told = self.server.check_in(self.now, device, &says);
        self.oracle.answered(self.now, device, &told, &self.setup, &mut self.server);
        self.actors[device].seen = Some(self.now);
        self.obey(device, &told);
        self.deliver(device);
        let task = self.actors[device].task.filter(|task| task.done_at > self.now);
        match task {
            Some(task) if self.dice.percent(80) => task.done_at.since(self.now).max(MINUTE),
            _ if self.calm => Duration::from_secs(1800 + self.dice.roll(1800)),
            _ if self.dice.percent(30) => Duration::from_secs(told.next_s.min(POLL_S)),
            _ => Duration::from_secs(1200 + self.dice.roll(4 * 3600)),
        }
    }

    fn obey(&mut self, device: usize, told: &Told) {
        let (now, actor) = (self.now, &mut self.actors[device]);
        let known = actor.task.filter(|task| Some((task.id, task.attempt)) == told.assignment.zip(told.attempt));
        match (told.action, known) {
            (Action::Download, Some(task)) if task.stage == AssignmentState::Staged => {
                // The server has not heard of it.
                self.say(device, Reported::Staged, None);
            }
            (Action::Download, Some(_)) => {}
            // Told to install what it has lost, it fetches it first.
            (Action::Download | Action::Install, None) => {
                let (Some((id, attempt)), Some(release)) = (told.assignment.zip(told.attempt), told.release) else {
                    panic!("a download of nothing: {told:?}")
                };
                let done_at = now + MINUTE * (1 + self.dice.roll(40) as u32);
                actor.task = Some(Task { id, attempt, release, stage: AssignmentState::Downloading, done_at });
                if self.dice.percent(30) {
                    self.say(device, Reported::Downloading, None);
                }
            }
            (Action::Install, Some(mut task)) if task.stage == AssignmentState::Staged => {
                if told.not_after.is_some_and(|last| now > last) {
                    return;
                }
                task.stage = AssignmentState::Verifying;
                task.done_at = now + MINUTE * (2 + self.dice.roll(15) as u32);
                actor.task = Some(task);
                self.say(device, Reported::Activating, None);
                self.say(device, Reported::Verifying, None);
            }
            (Action::Cancel, Some(_)) => {
                self.say(device, Reported::Cancelled, None);
                self.actors[device].task = None;
            }
            _ => {}
        }
    }

    /// What became of the task by now.
    fn get_on(&mut self, device: usize) {
        let (now, calm) = (self.now, self.calm);
        let well = calm || self.setup.healthy;
        self.go_back(device, well);
        let Some(mut task) = self.actors[device].task.filter(|task| task.done_at <= now) else { return };
        let luck = if well { 99 } else { self.dice.roll(100) };
        match (task.stage, luck) {
            (AssignmentState::Downloading, 0..8) => {
                self.say(device, Reported::Failed, Some(FailureClass::Transient));
                self.actors[device].task = None;
            }
            (AssignmentState::Downloading, 8..10) => {
                self.say(device, Reported::Failed, Some(FailureClass::Permanent));
                self.actors[device].task = None;
            }
            (AssignmentState::Downloading, _) => {
                task.stage = AssignmentState::Staged;
                self.actors[device].task = Some(task);
                self.say(device, Reported::Staged, None);
            }
            (AssignmentState::Verifying, 0..6) => {
                self.say(device, Reported::RolledBack, None);
                self.actors[device].task = None;
            }
            (AssignmentState::Verifying, 6..9) => {
                self.say(device, Reported::Failed, Some(FailureClass::Transient));
                self.actors[device].task = None;
            }
            (AssignmentState::Verifying, 9..14) => {
                // Nothing for hours, and then it knows, or does not.
                let hours = 2 + self.dice.roll(30) as u32;
                self.actors[device].silent = Some(now + HOUR * hours);
                if self.dice.percent(50) {
                    self.actors[device].task = None;
                } else if let Some(task) = &mut self.actors[device].task {
                    task.done_at = now + HOUR * hours;
                }
            }
            (AssignmentState::Verifying, luck) => {
                self.run(device, task.release);
                // The report may be lost: what it runs tells the same.
                if luck >= 20 {
                    self.say(device, Reported::Succeeded, None);
                }
                self.actors[device].task = None;
            }
            _ => {}
        }
    }

    fn run(&mut self, device: usize, release: Digest) {
        let rel = self.setup.releases.iter().find(|one| one.digest == release).unwrap();
        let now = (rel.version.to_owned(), rel.counter, Some(release));
        let before = self.actors[device].installed.insert(rel.product, now);
        self.actors[device].before = before.map(|before| (rel.product, before));
    }

    /// A fault that shows only later: somebody puts the old version back.
    fn go_back(&mut self, device: usize, well: bool) {
        let goes = !well && self.actors[device].task.is_none() && self.dice.percent(2);
        if let Some((product, before)) = self.actors[device].before.take_if(|_| goes) {
            self.actors[device].installed.insert(product, before);
        }
    }

    fn say(&mut self, device: usize, event: Reported, class: Option<FailureClass>) {
        let Some(task) = self.actors[device].task else { return };
        let said = self.actors[device].said.entry((task.id, task.attempt)).or_default();
        *said += 1;
        let seq = *said;
        let failure = class.map(|class| Failure { class, code: "chance".to_owned(), text: String::new() });
        // Its clock may be wrong by a year; nothing depends on it.
        let at = Timestamp::from_millis(self.now.millis() - 31_536_000_000 * (self.dice.roll(3) as i64 - 1));
        let (assignment_id, attempt, release_sha256) = (task.id, task.attempt, task.release);
        let report = Report { assignment_id, attempt, seq, event, at, release_sha256, failure };
        self.actors[device].outbox.push(report);
    }

    /// Delivers what it has to say: in order or not, once or twice.
    fn deliver(&mut self, device: usize) {
        let mut reports = std::mem::take(&mut self.actors[device].outbox);
        if reports.is_empty() {
            return;
        }
        if !self.setup.healthy && self.dice.percent(10) {
            reports.reverse();
        }
        if self.dice.percent(15) {
            reports.extend(reports.clone());
        }
        let taken = self.server.report(self.now, device, &reports);
        self.oracle.reported(self.now, device, &reports, &taken, &mut self.server);
    }
}
