//! A shop in which agents run: what its tills look like, and a server that orders releases without a network.

use std::{
    collections::BTreeMap,
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
mod crash;
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
    static PARSED: [OnceLock<Settings>; 2] = [const { OnceLock::new() }; 2];
    let parse = || {
        // A check that cannot even be started, as its directory is not on the real disk, is a failed one.
        let health = if health == Health::Bad { "health = ['/bin/true']" } else { "" };
        let text = format!(
            "state_dir = '{STATE}'\n[polling]\nmin_s = 0\nmax_s = 0\n\
             [products.pos-app]\ndirectory = '{POS}'\nfactory_version = '0.9'\ntrial_s = 0\n{health}"
        );
        Settings::parse(&text).expect("settings")
    };
    PARSED[usize::from(health == Health::Bad)].get_or_init(parse).clone()
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

fn state_dir() -> StateDir {
    StateDir::new(Path::new(STATE))
}

fn product_dir() -> ProductDir {
    ProductDir::new(Path::new(POS))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A shop with everything durable.
fn shop(before: Before) -> SimFs {
    let fs = SimFs::with_directories(&[Path::new(STATE), Path::new(POS)]);
    let (identity, key) = identity();
    let state_dir = state_dir();
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
    outside: Option<Outsider>,
}

/// Makes what runs hooks.
type Outsider = fn(&SimFs, Health) -> Rc<dyn crate::hooks::Outside>;

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
        let kept = state_dir().release(self.release.digest);
        crate::fs::replace(fs, &kept, &self.release.bytes).ok()?;
        let release = &self.release.release;
        let dirs = product_dir();
        let order = Order {
            attempt: self.attempt,
            release: self.release.digest,
            min_floor: release.min_floor,
            hooks: release.hooks.clone(),
            rollback: release.rollback,
            reboot: self.reboots,
            dir: crate::install::free_dir(fs, &dirs, self.release.digest).ok()?,
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
        let state_dir = state_dir();
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
        runtime().block_on(async {
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

/// The files of a directory without directories.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

/// What lies in a directory; `None` without it.
fn tree(fs: &SimFs, path: &Path) -> Option<Contents> {
    let names = fs.list(path).ok()?;
    names.into_iter().map(|name| Some((PathBuf::from(&name), fs.read(&path.join(&name), 1 << 20).ok()?))).collect()
}

/// What runs.
fn running(fs: &SimFs) -> Option<Contents> {
    tree(fs, &product_dir().current())
}

impl Signed {
    /// Whether this is all of it and nothing else.
    fn is(&self, found: &Contents) -> bool {
        let mut contents = self.contents.iter();
        found.len() == contents.len()
            && contents.all(|(payload, bytes)| found.get(Path::new(&payload.name)) == Some(bytes))
    }

    /// What it installs.
    fn tree(&self) -> Contents {
        self.contents.iter().map(|(payload, bytes)| (PathBuf::from(&payload.name), bytes.clone())).collect()
    }
}

fn contents_of(counter: u64) -> Contents {
    signed(counter).tree()
}

fn running_before(before: Before) -> Option<Contents> {
    match before {
        Before::Nothing => None,
        Before::FactoryLink | Before::FactoryDirectory => Some(BTreeMap::from([("app".into(), b"factory".to_vec())])),
        Before::Release => Some(contents_of(1)),
    }
}

fn all_keeps(mixes: u64) -> impl Iterator<Item = Keeps> {
    [Keeps::Nothing, Keeps::Everything].into_iter().chain((0..mixes).map(Keeps::Some))
}
