//! The power is cut at every single file operation of an update, the medium keeps some of what was not synced, and
//! the agent starts again. After that the till must work, and in the end the update must have come to its one end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use callboard_proto::{
    digest::Digest,
    release::{Payload, Release},
    report::{self, Receipt, ReportKey},
    signed::Envelope,
};

use super::*;
use crate::{
    fs::{
        Fs, Mode,
        sim::{Keeps, SimFs},
    },
    identity::Identity,
    journal::Attempt,
    layout::{ProductDir, StateDir},
    machine::{Occasion, Order, Right},
    testing::{self, Keys, identity},
};

mod by_program;
mod damage;
mod hooks;
mod hostile;
mod itself;
mod recover;
mod trust;
mod waiting;

const STATE: &str = "/var/lib/callboard";
const POS: &str = "/opt/pos";

/// How the shop stands before the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    FactoryLink,
    FactoryDirectory,
    /// An earlier release, installed by the agent.
    Release,
}

/// Whether the new version is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Bad,
}

fn settings(health: Health) -> Settings {
    // A check that cannot even be started, as its directory is not on the real disk, is a failed one.
    let health = if health == Health::Bad { "health = ['/bin/true']" } else { "" };
    let text = format!(
        "state_dir = '{STATE}'\n[polling]\nmin_s = 0\nmax_s = 0\n\
         [products.pos-app]\ndirectory = '{POS}'\nfactory_version = '0.9'\ntrial_s = 0\n{health}"
    );
    Settings::parse(&text).expect("settings")
}

/// How it comes to the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The server says `install`.
    Granted,
    /// By a right that came with the download.
    Alone(ActivateOn),
}

struct Signed {
    bytes: Vec<u8>,
    digest: Digest,
    release: Release,
    contents: Vec<(Payload, Vec<u8>)>,
}

/// Release `counter`: two files, larger than a sector and a chunk.
fn signed(counter: u64) -> &'static Signed {
    static SIGNED: [OnceLock<Signed>; 3] = [const { OnceLock::new() }; 3];
    SIGNED[usize::try_from(counter).expect("small")].get_or_init(|| {
        let app = format!("release {counter} ").repeat(500).into_bytes();
        let config = format!("release = {counter}").into_bytes();
        let contents = vec![(testing::payload("app", &app), app), (testing::payload("config", &config), config)];
        let payloads = contents.iter().map(|(payload, _)| payload.clone()).collect();
        let release = Release { payloads, min_floor: counter, ..testing::release(counter) };
        let bytes = testing::signed(&release, &[&Keys::fixed().release]);
        let digest = Envelope::parse::<Release>(&bytes).expect("an envelope").digest();
        Signed { bytes, digest, release, contents }
    })
}

/// The server is away, the machine goes down or has come up.
fn occasion(right: &Right) -> Occasion {
    let now = crate::clock::Clock::new(testing::NOW).trusted_now();
    Occasion { on: right.on, now, boot: "this one".to_owned() }
}

fn write(fs: &SimFs, path: &Path, bytes: &[u8]) {
    fs.create(path, Mode::Private).expect("created");
    fs.write_at(path, 0, bytes).expect("written");
}

/// A shop with everything durable.
fn shop(before: Before) -> SimFs {
    let fs = SimFs::with_directories(&[Path::new(STATE), Path::new(POS)]);
    let (identity, key) = identity();
    let state_dir = StateDir::new(Path::new(STATE));
    write(&fs, &state_dir.key(), key.as_bytes());
    write(&fs, &state_dir.identity(), &serde_json::to_vec(&identity).expect("JSON"));
    write(&fs, &state_dir.root(), &testing::root_envelope(&Keys::fixed()));
    let pos = Path::new(POS);
    let factory = match before {
        Before::FactoryLink => {
            fs.symlink(Path::new("pos-0.9"), &pos.join("current")).expect("linked");
            Some(pos.join("pos-0.9"))
        }
        Before::FactoryDirectory => Some(pos.join("current")),
        Before::Nothing | Before::Release => None,
    };
    if let Some(factory) = factory {
        fs.create_dir(&factory).expect("made");
        write(&fs, &factory.join("app"), b"factory");
    }
    fs.sync_all(Path::new("/")).expect("synced");
    if before == Before::Release {
        let mut server = Server::ordering(1);
        assert!(server.drive(&fs, Health::Good), "the first release is installed");
        fs.sync_all(Path::new("/")).expect("synced");
    }
    fs
}

/// The server's side: orders one release and collects reports.
struct Server {
    release: &'static Signed,
    attempt: Attempt,
    heard: BTreeMap<(u32, u32), report::Event>,
    way: Way,
    /// Whether its release restarts the machine.
    reboots: bool,
    /// What runs hooks, if it is not the real machine.
    outside: Option<fn(&SimFs, Health) -> Rc<dyn crate::hooks::Outside>>,
}

impl Server {
    fn ordering(counter: u64) -> Self {
        let attempt = Attempt { attempt: u32::try_from(counter).expect("small"), ..testing::order(1, 1).attempt };
        Self {
            release: signed(counter),
            attempt,
            heard: BTreeMap::new(),
            way: Way::Granted,
            reboots: false,
            outside: None,
        }
    }

    fn ended(&self) -> Option<report::Event> {
        self.heard.get(&(self.attempt.attempt, outbox::seq(report::Event::Failed))).copied()
    }

    fn order(&self, runner: &Runner, fs: &SimFs) -> Option<Event> {
        let state = runner.agent.state();
        if runner.agent.record().last_ended == Some(self.attempt) {
            return None;
        }
        if let Some(task) = state.task() {
            if let (Phase::Staged { .. } | Phase::Waiting { tree: Some(_) }, Some(right)) = (&task.phase, &task.right) {
                return Some(Event::Alone(occasion(right)));
            }
            return Some(self.say(task.order.clone()));
        }
        let kept = StateDir::new(Path::new(STATE)).release(self.release.digest);
        crate::fs::replace(fs, &kept, &self.release.bytes).ok()?;
        let release = &self.release.release;
        let dirs = ProductDir::new(Path::new(POS));
        let order = Order {
            attempt: self.attempt,
            release: self.release.digest,
            min_floor: release.min_floor,
            hooks: release.hooks.clone(),
            rollback: release.rollback,
            reboot: self.reboots,
            dir: crate::install::free_dir(fs, &dirs, self.release.digest),
            ..testing::order(release.counter, 1)
        };
        Some(self.say(order))
    }

    fn say(&self, order: Order) -> Event {
        let hour = Duration::from_secs(3600);
        let right = |on| {
            let now = crate::clock::Clock::new(testing::NOW).trusted_now();
            Right { not_before: now - hour, not_after: now + hour, on, boot: "the one before".to_owned() }
        };
        match self.way {
            Way::Granted => Event::Ordered { order, activate: true, right: None },
            Way::Alone(on) => Event::Ordered { order, activate: false, right: Some(right(on)) },
        }
    }

    /// The same after a start.
    fn again(&self) -> Self {
        Self { heard: self.heard.clone(), ..*self }
    }

    /// What the network would have brought.
    fn deliver(&self, fs: &SimFs) -> std::io::Result<()> {
        let state_dir = StateDir::new(Path::new(STATE));
        for (payload, bytes) in &self.release.contents {
            let path = state_dir.payload(payload.sha256);
            crate::fs::remove_tree(fs, &path)?;
            fs.create(&path, Mode::Private)?;
            fs.sync_dir(&state_dir.payloads())?;
            fs.write_at(&path, 0, bytes)?;
            fs.sync_data(&path)?;
        }
        Ok(())
    }

    fn collect(&mut self, runner: &mut Runner) {
        let Some(batch) = runner.agent.outbox.borrow().batch() else { return };
        for report in &batch.reports {
            let earlier = self.heard.insert((report.attempt, report.seq), report.event);
            assert!(earlier.is_none_or(|event| event == report.event), "{earlier:?}, then {:?}", report.event);
        }
        let accepted: Vec<ReportKey> = batch.reports.iter().map(report::Report::key).collect();
        let receipt = Receipt { accepted, refused: Vec::new() };
        let agent = &runner.agent;
        agent.outbox.borrow_mut().acknowledge(&*agent.fs, &agent.state_dir, &receipt);
        runner.acknowledge();
    }

    /// Starts an agent and talks with it until the order has come to its end. `false` if the power was cut.
    fn drive(&mut self, fs: &SimFs, health: Health) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            loop {
                match self.drive_once(fs, health).await {
                    Left::Done => return true,
                    Left::CutOff => return false,
                    // Every shutdown is followed by a start.
                    Left::ShutDown => {}
                }
            }
        })
    }

    async fn drive_once(&mut self, fs: &SimFs, health: Health) -> Left {
        let process = testing::process();
        let agent = start::open(settings(health), Rc::new(SimFs::shared(fs)), identity().0, process);
        let Ok(mut agent) = agent else {
            assert!(fs.is_off(), "an agent that does not start: {:?}", agent.err());
            return Left::CutOff;
        };
        if let Some(outside) = self.outside {
            agent.outside = outside(fs, health);
        }
        let mut runner = Runner::new(Rc::new(agent), false);
        runner.apply(Event::Started);
        for _ in 0..200 {
            if fs.is_off() {
                return Left::CutOff;
            }
            let fetching = matches!(runner.agent.state().task().map(|task| &task.phase), Some(Phase::Downloading));
            if let Some(work) = runner.work.take() {
                let event = if fetching && self.deliver(fs).is_ok() { Event::Fetched } else { work.await };
                runner.apply(event);
                continue;
            }
            self.collect(&mut runner);
            if runner.work.is_some() {
                continue;
            }
            match self.order(&runner, fs) {
                Some(Event::Alone(Occasion { on: ActivateOn::Shutdown, .. })) => {
                    runner.switch_at_shutdown().await;
                    return Left::ShutDown;
                }
                Some(event) => runner.apply(event),
                None if fs.is_off() => return Left::CutOff,
                None => return Left::Done,
            }
        }
        panic!("the agent does not come to an end: {:?}", runner.agent.state());
    }
}

/// Why an agent does not run any more.
enum Left {
    Done,
    CutOff,
    ShutDown,
}

/// Contents of everything below `current`, by path; `None` without it.
fn running(fs: &SimFs) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let current = ProductDir::new(Path::new(POS)).current();
    let names = fs.list(&current).ok()?;
    Some(
        names
            .into_iter()
            .map(|name| (PathBuf::from(&name), fs.read(&current.join(&name), 1 << 20).expect("a file")))
            .collect(),
    )
}

fn contents_of(counter: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    signed(counter).contents.iter().map(|(payload, bytes)| (PathBuf::from(&payload.name), bytes.clone())).collect()
}

fn running_before(before: Before) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    match before {
        Before::Nothing => None,
        Before::FactoryLink | Before::FactoryDirectory => Some(BTreeMap::from([("app".into(), b"factory".to_vec())])),
        Before::Release => Some(contents_of(1)),
    }
}

fn floor(fs: &SimFs) -> u64 {
    let state_dir = StateDir::new(Path::new(STATE));
    let product = "pos-app".parse().expect("a name");
    let record = crate::products::ProductSlots::peek(fs, state_dir.product(&product), 1).expect("readable");
    record.unwrap_or_default().floor.counter
}

/// What must hold the moment the power is back, before any agent runs.
fn assert_safe(fs: &SimFs, before: Before, context: &str) {
    let (old, new) = (running_before(before), Some(contents_of(2)));
    let now = running(fs);
    assert!(now == old || now == new, "what runs is neither the old version nor the new: {context}");
    let dirs = ProductDir::new(Path::new(POS));
    for name in fs.list(&dirs.versions()).unwrap_or_default() {
        let name = name.to_str().expect("text");
        if name == signed(2).digest.short() {
            let path = dirs.version(name);
            for (payload, bytes) in &signed(2).contents {
                let found = fs.read(&path.join(&payload.name), 1 << 20);
                assert!(found.is_ok_and(|found| found == *bytes), "an incomplete tree is visible: {context}");
            }
        }
    }
    assert!(floor(fs) >= u64::from(before == Before::Release), "the floor fell: {context}");
}

/// What must hold in the end.
fn assert_ended(fs: &SimFs, server: &Server, before: Before, health: Health, context: &str) {
    let (runs, ended) = match health {
        Health::Good => (Some(contents_of(2)), report::Event::Succeeded),
        Health::Bad => (running_before(before), report::Event::RolledBack),
    };
    assert_eq!(server.ended(), Some(ended), "{context}");
    assert_eq!(running(fs), runs, "{context}");
    let raised = if health == Health::Good { 2 } else { u64::from(before == Before::Release) };
    assert_eq!(floor(fs), raised, "the floor rises with a commit and only then: {context}");
    let left = fs.list(&StateDir::new(Path::new(STATE)).payloads()).expect("a list");
    assert!(left.is_empty(), "payloads are left over: {context}");
    let state_dir = StateDir::new(Path::new(STATE));
    assert!(fs.read(&state_dir.key(), 1 << 20).is_ok() && fs.read(&state_dir.root(), 1 << 20).is_ok(), "{context}");
    let names: BTreeSet<_> = fs.list(Path::new(POS)).expect("a list").into_iter().collect();
    assert!(!names.contains(std::ffi::OsStr::new("current.new")), "{context}");
}

fn all_keeps(mixes: u64) -> impl Iterator<Item = Keeps> {
    [Keeps::Nothing, Keeps::Everything].into_iter().chain((0..mixes).map(Keeps::Some))
}

/// Cuts the power before every call of an update, `deep` times in a row, with `mixes` outcomes each. Returns how many
/// crash states were seen.
fn cut_everywhere(before: Before, health: Health, way: Way, mixes: u64) -> u32 {
    let start = shop(before);
    let mut states = 0;
    for cut in 0.. {
        let fs = SimFs::clone(&start);
        fs.cut_power_at(cut);
        let mut server = Server { way, ..Server::ordering(2) };
        if server.drive(&fs, health) {
            assert_ended(&fs, &server, before, health, "without a cut");
            assert!(cut > 60, "an update of {cut} calls");
            return states;
        }
        for keeps in all_keeps(mixes) {
            states += 1;
            let log = fs.log();
            let context =
                format!("{before:?} {health:?} {way:?}, cut before call {cut} after {:?}, {keeps:?}", log.last());
            let rebooted = fs.reboot(keeps);
            assert_safe(&rebooted, before, &context);
            let mut server = server.again();
            assert!(server.drive(&rebooted, health), "{context}");
            assert_ended(&rebooted, &server, before, health, &context);
            let again = rebooted.reboot(Keeps::Nothing);
            assert!(server.drive(&again, health), "{context}");
            assert_ended(&again, &server, before, health, &format!("{context}, started once more"));
        }
    }
    states
}

#[test]
fn a_power_cut_before_any_call_of_a_good_update_leaves_a_working_till() {
    let all = [Before::Nothing, Before::FactoryLink, Before::FactoryDirectory, Before::Release];
    let states: u32 = all.map(|before| cut_everywhere(before, Health::Good, Way::Granted, 5)).iter().sum();
    assert!(states > 2000, "{states} crash states");
}

#[test]
fn a_power_cut_before_any_call_of_a_rollback_leaves_a_working_till() {
    let all = [Before::Nothing, Before::FactoryLink, Before::FactoryDirectory, Before::Release];
    let states: u32 = all.map(|before| cut_everywhere(before, Health::Bad, Way::Granted, 5)).iter().sum();
    assert!(states > 2000, "{states} crash states");
}

#[test]
fn a_power_cut_before_any_call_of_an_update_without_asking_leaves_a_working_till() {
    for on in [ActivateOn::Now, ActivateOn::Shutdown, ActivateOn::Boot] {
        for health in [Health::Good, Health::Bad] {
            let states = cut_everywhere(Before::Release, health, Way::Alone(on), 1);
            assert!(states > 200, "{states} crash states of {on:?} {health:?}");
        }
    }
}

#[test]
fn a_second_power_cut_during_recovery_changes_nothing() {
    let start = shop(Before::Release);
    for cut in (0..).step_by(3) {
        let fs = SimFs::clone(&start);
        fs.cut_power_at(cut);
        let mut server = Server::ordering(2);
        if server.drive(&fs, Health::Good) {
            return;
        }
        for second in (0..).step_by(5) {
            let rebooted = fs.reboot(Keeps::Some(u64::from(cut * 1000 + second)));
            rebooted.cut_power_at(second);
            let mut server = server.again();
            if server.drive(&rebooted, Health::Good) {
                break;
            }
            let context = format!("cut before call {cut}, then before call {second} after {:?}", rebooted.log().last());
            let again = rebooted.reboot(Keeps::Some(u64::from(second)));
            assert_safe(&again, Before::Release, &context);
            assert!(server.drive(&again, Health::Good), "{context}");
            assert_ended(&again, &server, Before::Release, Health::Good, &context);
        }
    }
}
