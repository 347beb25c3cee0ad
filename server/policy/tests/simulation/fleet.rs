//! Devices that come and go, fail, fall silent, lose what they had and say things twice.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
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
    setup::{Alone, Dice, Kind, Setup, mixed},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(1);
/// Something else may come in between, and then it is fetched again what was there; but not for ever.
const PATIENCE: u32 = 25;

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
    /// Until when the downloads of each site have been worked out.
    lines: Vec<Timestamp>,
    /// Who stands at each site.
    stand: Vec<BTreeSet<usize>>,
    pub(crate) steps: u64,
    pub(crate) seen: Seen,
}

/// What happened at least once, so that tests can tell whether they saw what they are about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Downloads that were cut off by the power switch.
    pub(crate) cut: u64,
    /// Devices that moved in the middle of something.
    pub(crate) moved: u64,
    /// Installs that nobody had been asked about.
    pub(crate) alone: u64,
}

impl Seen {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { cut: self.cut + other.cut, moved: self.moved + other.moved, alone: self.alone + other.alone }
    }
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
    /// How often it began to fetch what.
    began: BTreeMap<(AssignmentId, u32), u32>,
    /// Nothing is heard of it until then.
    silent: Option<Timestamp>,
    held: bool,
    right: Option<Right>,
    /// Until when it has been worked out whether it did.
    lived: Option<Timestamp>,
}

/// It may install without asking.
#[derive(Clone, Copy)]
struct Right {
    /// What it has of this assignment, in this attempt.
    of: (AssignmentId, u32),
    from: Timestamp,
    to: Timestamp,
    on: Alone,
    /// Where it stood when it was told.
    site: usize,
}

#[derive(Clone, Copy)]
struct Task {
    id: AssignmentId,
    attempt: u32,
    release: Digest,
    stage: AssignmentState,
    done_at: Timestamp,
    /// What is still to be fetched over a shared line.
    left: Option<u64>,
}

/// So many quarters of an hour later, on the quarter: whether a device is there changes only then, whatever its zone.
fn quarter(at: Timestamp, n: i64) -> Timestamp {
    const QUARTER_MS: i64 = 900_000;
    Timestamp::from_millis((at.millis() / QUARTER_MS + n) * QUARTER_MS)
}

/// A download over a shared line is done when it is done.
const SOME_TIME: Timestamp = Timestamp::from_millis(i64::MAX);

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
            began: BTreeMap::new(),
            silent: None,
            held: false,
            right: None,
            lived: None,
        }
    }
}

impl Actor {
    /// What it has ready and may install without asking.
    fn may_install(&self) -> Option<(Task, Right)> {
        let task = self.task.filter(|task| task.stage == AssignmentState::Staged)?;
        Some((task, self.right.filter(|right| right.of == (task.id, task.attempt))?))
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
        let lines = vec![now; setup.sites.len()];
        let mut stand = vec![BTreeSet::new(); setup.sites.len()];
        for (device, unit) in setup.devices.iter().enumerate() {
            stand[unit.site].insert(device);
        }
        let (queue, seen) = (BinaryHeap::new(), Seen::default());
        Self { setup, server, now, dice, actors, queue, oracle, calm: false, lines, stand, steps: 0, seen }
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
        for site in 0..self.setup.sites.len() {
            self.fetch(site);
        }
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
        if self.setup.moves && !self.calm && self.dice.percent(1) {
            self.move_away(device);
        }
        self.fetch(self.setup.devices[device].site);
        self.act_alone(device);
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
        if self.actors[device].silent.is_some_and(|until| at < until) {
            return false;
        }
        let hour = at.millis() / 3_600_000;
        let stretch = |hours: i64| mixed(self.setup.seed ^ ((device as u64) << 32) ^ (hour / hours) as u64) % 100;
        match self.setup.devices[device].kind {
            Kind::Vehicle => stretch(3) < 60,
            Kind::Sensor => stretch(1) < 30,
            Kind::Signage => stretch(1) < 95,
            Kind::Till => self.is_on(device, at) && stretch(1) < 90,
        }
    }

    /// Whether somebody has switched it on: tills an hour before the shop opens, and not on Sundays.
    fn is_on(&self, device: usize, at: Timestamp) -> bool {
        if self.setup.devices[device].kind != Kind::Till || self.calm {
            return true;
        }
        let shop = self.setup.shop(device);
        let face = at.utc().with_timezone(&shop.tz);
        let (opens, closes) = shop.trades.unwrap_or((8, 20));
        (opens.saturating_sub(1)..=closes).contains(&face.hour()) && face.weekday() != chrono::Weekday::Sun
    }

    fn move_away(&mut self, device: usize) {
        // What it has fetched by now it has fetched at the old place.
        let left = self.setup.devices[device].site;
        self.fetch(left);
        let site = self.dice.roll(self.setup.sites.len() as u64) as usize;
        self.fetch(site);
        self.stand[left].remove(&device);
        self.stand[site].insert(device);
        self.setup.devices[device].site = site;
        if let Some(task) = &mut self.actors[device].task {
            self.seen.moved += u64::from(site != left);
            if task.left.is_some() && self.setup.sites[site].line.is_none() {
                (task.left, task.done_at) = (None, self.now + 20 * MINUTE);
            }
        }
        self.server.move_to(self.now, device, site);
        self.oracle.moved(device, site);
    }

    /// What has come over the line of a site by now: all who are there and download share it evenly. Who is switched off
    /// keeps what it has.
    fn fetch(&mut self, site: usize) {
        let Some(line) = self.setup.sites[site].line else { return };
        let mut from = std::mem::replace(&mut self.lines[site], self.now);
        let fetches = |actor: &Actor| actor.task.and_then(|task| task.left).is_some_and(|left| left > 0);
        while from < self.now {
            let all: Vec<usize> =
                self.stand[site].iter().copied().filter(|device| fetches(&self.actors[*device])).collect();
            if all.is_empty() {
                return;
            }
            let ends = quarter(from, 1).min(self.now);
            let there: Vec<usize> = all.iter().copied().filter(|device| self.is_there(*device, from)).collect();
            self.seen.cut +=
                all.iter().filter(|one| self.is_on(**one, from) && !self.is_on(**one, ends)).count() as u64;
            let share = u128::from(line) / there.len().max(1) as u128;
            let left = |device: &usize| self.actors[*device].task.and_then(|task| task.left).unwrap_or_default();
            let least = there.iter().map(left).min().unwrap_or(u64::MAX);
            let first = Duration::from_millis((u128::from(least) * 1000).div_ceil(share.max(1)).max(1) as u64);
            let ends = ends.min(from + first);
            let bytes = (share * ends.since(from).as_millis()).div_ceil(1000) as u64;
            for device in there {
                if let Some(task) = &mut self.actors[device].task {
                    task.left = task.left.map(|left| left.saturating_sub(bytes));
                    task.done_at = if task.left == Some(0) { ends } else { task.done_at };
                }
            }
            from = ends;
        }
    }

    /// A device that may install without asking does so, when it is cut off, switched off or switched on.
    fn act_alone(&mut self, device: usize) {
        let now = self.now;
        let lived = self.actors[device].lived.replace(now).unwrap_or(now);
        let actor = &self.actors[device];
        let Some((task, Right { from, to, on, site, .. })) = actor.may_install() else { return };
        let quarters = (1..).map(|n| quarter(lived, n));
        let times = std::iter::once(lived.max(from)).chain(quarters).take_while(|at| *at <= now);
        let was_on = |at: Timestamp| self.is_on(device, at - MOMENT);
        let uses = |at: &Timestamp| match on {
            Alone::CutOff => self.is_on(device, *at) && !self.is_there(device, *at),
            Alone::Shutdown => was_on(*at) && !self.is_on(device, *at),
            Alone::Boot => !was_on(*at) && self.is_on(device, *at),
        };
        if let Some(at) = times.filter(|at| from <= *at && *at <= to).find(uses) {
            // The end of a right is the end of what it was given for.
            self.install_alone(device, at.min(to - MOMENT), task, site);
        }
    }

    /// It has been switched off and on again.
    fn restart(&mut self, device: usize) {
        self.actors[device].boot += 1;
        let Some((task, Right { from, to, on, site, .. })) = self.actors[device].may_install() else { return };
        if on != Alone::CutOff && from <= self.now && self.now <= to {
            self.install_alone(device, self.now.min(to - MOMENT), task, site);
        }
    }

    fn install_alone(&mut self, device: usize, at: Timestamp, task: Task, site: usize) {
        self.seen.alone += 1;
        self.oracle.acted_alone(device, at, task.release, site);
        // What it finds when it is switched on again is tried out then.
        let done_at = at + MINUTE * (2 + self.dice.roll(15) as u32);
        self.actors[device].task = Some(Task { stage: AssignmentState::Verifying, done_at, ..task });
        self.say(device, Reported::Activating, None);
        self.say(device, Reported::Verifying, None);
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
        let (now, actor) = (self.now, &self.actors[device]);
        let away = actor.seen.is_none_or(|seen| now.since(seen) > 2 * HOUR);
        let boots = match (away, self.setup.devices[device].kind) {
            (true, Kind::Till) => 100,
            // Some rollouts and policies wait for a device to come up.
            _ if self.calm && actor.may_install().is_some() => 60,
            _ if self.calm => 40,
            (true, _) => 20,
            (false, _) => 0,
        };
        if self.dice.percent(boots) {
            self.restart(device);
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
        self.oracle.comes(self.now, device, &says, &mut self.server);
        let told = self.server.check_in(self.now, device, &says);
        self.oracle.answered(self.now, device, &told, &self.setup, &mut self.server);
        let site = self.setup.devices[device].site;
        let actor = &mut self.actors[device];
        let of = told.assignment.zip(told.attempt);
        actor.right = of.zip(told.right).map(|(of, (from, to, on))| Right { of, from, to, on, site });
        actor.seen = Some(self.now);
        if std::env::var("WATCH").is_ok_and(|name| name == self.setup.devices[device].name) {
            let rows: Vec<_> =
                self.server.rows_of(device).into_iter().map(|row| (row.rollout, row.phase, row.whole)).collect();
            eprintln!("{}: boot {}, {:?}; {told:?}; {rows:?}", self.now, says.boot, says.works_on);
        }
        self.obey(device, &told);
        self.deliver(device);
        let task = self.actors[device].task.filter(|task| task.done_at > self.now);
        match task {
            // As often as it has to, or its place goes to another.
            Some(task) if task.left.is_some() && self.dice.percent(80) => {
                Duration::from_secs(300 + self.dice.roll(1200))
            }
            Some(task) if task.left.is_none() && self.dice.percent(80) => task.done_at.since(self.now).max(MINUTE),
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
                let line = self.setup.sites[self.setup.devices[device].site].line;
                let bytes = self.setup.releases.iter().find(|one| one.digest == release).map(|one| one.bytes);
                let left = line.and(bytes).filter(|_| !self.calm);
                let began = actor.began.entry((id, attempt)).or_default();
                *began += 1;
                let (seed, name) = (self.setup.seed, &self.setup.devices[device].name);
                assert!(*began <= PATIENCE, "seed {seed}, {name}: fetches {release} again and again: {told:?}");
                let takes = MINUTE * (1 + self.dice.roll(40) as u32);
                let done_at = if left.is_some() { SOME_TIME } else { now + takes };
                actor.task = Some(Task { id, attempt, release, stage: AssignmentState::Downloading, done_at, left });
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
            // Whoever has begun to install finishes.
            (Action::Cancel, Some(task)) if task.stage != AssignmentState::Verifying => {
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
                (task.stage, task.left) = (AssignmentState::Staged, None);
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
