//! The agent updates itself: launcher and both versions of the agent on a disk that loses power at every single file
//! operation of any of them.

use callboard_launcher::{
    PROGRAM,
    files::{Files, Kind, Look},
    launch,
    record::{Dir, Launch},
    slot,
};

use super::*;
use crate::{
    PRODUCT, Program,
    itself::{self, Process},
    machine::permanent,
    products::{ProductRecord, ProductSlots},
};

const OWN: &str = "/opt/callboard-agent";
/// It changes what the records look like.
const NEXT: Program = Program { version: "0.2.0", schema: 2 };

/// How the new version behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    Good,
    /// It ends before it has read anything.
    Broken,
    /// It ends after it has written into the journal.
    Crashes,
    /// It runs, and never gets an answer.
    Deaf,
}

/// The launcher's operations on the simulated disk.
struct Power<'a>(&'a SimFs);

impl Files for Power<'_> {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.0.read(path, slot::SIZE)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let made = self.0.stat(path)?.is_none();
        if made {
            self.0.create(path, Mode::Private)?;
        }
        self.0.write_at(path, 0, bytes)?;
        self.0.sync_data(path)?;
        if made { self.0.sync_dir(Path::new(OWN)) } else { Ok(()) }
    }

    fn look(&self, path: &Path) -> std::io::Result<Look> {
        let found = self.0.stat(path)?.ok_or(std::io::ErrorKind::NotFound)?;
        let kind = match found.kind {
            crate::fs::Kind::File => Kind::File,
            crate::fs::Kind::Directory => Kind::Directory,
            _ => Kind::Other,
        };
        Ok(Look { kind, executable: found.executable, guarded: true })
    }
}

/// Release `counter` of the agent.
fn agent(counter: u64) -> &'static Signed {
    static SIGNED: [OnceLock<Signed>; 3] = [const { OnceLock::new() }; 3];
    SIGNED[usize::try_from(counter).expect("small")].get_or_init(|| {
        let program = format!("agent {counter} ").repeat(200).into_bytes();
        let contents = vec![(testing::payload(PROGRAM, &program), program)];
        let payloads = contents.iter().map(|(payload, _)| payload.clone()).collect();
        let product = PRODUCT.parse().expect("a name");
        let release = Release { product, payloads, min_floor: counter, ..testing::release(counter) };
        let bytes = testing::signed(&release, &[&Keys::fixed().release]);
        let digest = Envelope::parse::<Release>(&bytes).expect("an envelope").digest();
        Signed { bytes, digest, release, contents }
    })
}

fn dir(counter: u64) -> Dir {
    agent(counter).digest.short().parse().expect("a name")
}

fn own_settings() -> Settings {
    let text =
        format!("state_dir = '{STATE}'\n[polling]\nmin_s = 0\nmax_s = 0\n[products.{PRODUCT}]\ndirectory = '{OWN}'");
    Settings::parse(&text).expect("settings")
}

/// One till through all its starts.
struct Till {
    server: Server,
    new: New,
    /// What the ordered release is.
    program: Program,
    /// Starts of the release that is ordered.
    starts: u32,
}

/// Why a process does not run any more.
enum Gone {
    /// Nothing is left to do.
    Done,
    CutOff,
    /// It has ended, for whatever reason: systemd starts the launcher again.
    Ended,
}

impl Till {
    fn ordering(counter: u64, new: New) -> Self {
        let server = Server { release: agent(counter), ..Server::ordering(counter) };
        Self { server, new, program: NEXT, starts: 0 }
    }

    /// The same after a start.
    fn again(&self) -> Self {
        let server = Server { heard: self.server.heard.clone(), ..Self::ordering(self.counter(), self.new).server };
        Self { server, ..*self }
    }

    fn counter(&self) -> u64 {
        self.server.release.release.counter
    }

    /// What systemd does. `false` if the power was cut.
    fn drive(&mut self, fs: &SimFs) -> bool {
        let runtime = runtime();
        for _ in 0..30 {
            let chosen = launch::choose(&Power(fs), Path::new(OWN));
            if fs.is_off() {
                return false;
            }
            let version = |path: &PathBuf| path.parent()?.file_name()?.to_str()?.parse::<Dir>().ok();
            let running = chosen.programs.first().and_then(version);
            match runtime.block_on(self.live(fs, running)) {
                Gone::Done => return true,
                Gone::CutOff => return false,
                Gone::Ended => {}
            }
        }
        panic!("the agent does not come to rest");
    }

    async fn live(&mut self, fs: &SimFs, running: Option<Dir>) -> Gone {
        let is_new = running == Some(dir(self.counter()));
        self.starts += u32::from(is_new);
        if is_new && self.new == New::Broken {
            return Gone::Ended;
        }
        let program = if is_new { self.program } else { Program::OURS };
        let process = Process { program, launched_from: Some(OWN.into()), running, ..testing::process() };
        let opened = start::open(own_settings(), Rc::new(SimFs::shared(fs)), identity().0, process);
        let Ok(opened) = opened else {
            assert!(fs.is_off(), "an agent that does not start: {:?}", opened.err());
            return Gone::CutOff;
        };
        let mut runner = Runner::new(Rc::new(opened), false);
        runner.apply(Event::Started);
        for _ in 0..200 {
            if fs.is_off() {
                return Gone::CutOff;
            }
            if (is_new && self.new == New::Crashes) || self.makes_room(&runner) {
                return Gone::Ended;
            }
            let phase = runner.agent.state().task().map(|task| task.phase.clone());
            if let Some(work) = runner.work.take() {
                let event = match phase {
                    Some(Phase::Downloading) if self.server.deliver(fs).is_ok() => Event::Fetched,
                    Some(Phase::Trial { restarted: true, .. }) if is_new && self.new == New::Deaf => {
                        Event::Failed(permanent(Code::NoContact, "no answer"))
                    }
                    _ => {
                        runner.agent.answered.notify_one();
                        work.await
                    }
                };
                runner.apply(event);
                continue;
            }
            self.server.collect(&mut runner);
            if runner.work.is_some() || self.makes_room(&runner) {
                continue;
            }
            match self.order(&runner, fs) {
                Some(event) => runner.apply(event),
                None if fs.is_off() => return Gone::CutOff,
                None => {
                    // An agent that has come to rest stays a while.
                    itself::has_run(&runner.agent, Duration::from_secs(600));
                    return if fs.is_off() { Gone::CutOff } else { Gone::Done };
                }
            }
        }
        panic!("the agent does not come to an end: {:?}", runner.agent.state());
    }

    fn makes_room(&self, runner: &Runner) -> bool {
        runner.agent.itself.as_ref().expect("a launcher").makes_room()
    }

    fn order(&self, runner: &Runner, fs: &SimFs) -> Option<Event> {
        let product = PRODUCT.parse().expect("a name");
        let record = runner.agent.product_record(&product);
        if runner.agent.state().task().is_none()
            && record.installed.is_some_and(|own| own.release == self.server.release.digest)
        {
            return None;
        }
        match self.server.order(runner, fs)? {
            Event::Ordered { order, activate, right } if runner.agent.state().task().is_none() => {
                let dir = crate::install::free_dir(fs, &ProductDir::new(Path::new(OWN)), order.release).ok()?;
                let order = Order { product, dir, trial_tries: 4, ..order };
                Some(Event::Ordered { order, activate, right })
            }
            event => Some(event),
        }
    }
}

/// A till on its packaged agent, or one that has updated itself to release 1.
fn till(updated: bool) -> SimFs {
    let fs = SimFs::with_directories(&[Path::new(STATE), Path::new(OWN)]);
    let (identity, key) = identity();
    let state_dir = state_dir();
    write(&fs, &state_dir.key(), key.as_bytes());
    write(&fs, &state_dir.identity(), &serde_json::to_vec(&identity).expect("JSON"));
    write(&fs, &state_dir.root(), &testing::root_envelope(&Keys::fixed()));
    fs.sync_all(Path::new("/")).expect("synced");
    if updated {
        let mut till = Till { program: Program::OURS, ..Till::ordering(1, New::Good) };
        assert!(till.drive(&fs));
        assert_ended(&fs, &till, None, "the first update");
        fs.sync_all(Path::new("/")).expect("synced");
    }
    fs
}

fn launch_record(fs: &SimFs) -> Launch {
    itself::peek(fs, Path::new(OWN)).expect("readable")
}

fn product_record(fs: &SimFs) -> ProductRecord {
    let product = PRODUCT.parse().expect("a name");
    let slots = state_dir().product(&product);
    ProductSlots::peek(fs, slots, NEXT.schema).expect("readable").unwrap_or_default()
}

/// What must hold in the end; `before` is the version that ran before the update.
fn assert_ended(fs: &SimFs, till: &Till, before: Option<Dir>, context: &str) {
    let (new, counter) = (dir(till.counter()), till.counter());
    let (launch, product) = (launch_record(fs), product_record(fs));
    let good = till.new == New::Good;
    let (event, committed) = match good {
        true => (report::Event::Succeeded, Some(new.clone())),
        false => (report::Event::RolledBack, before.clone()),
    };
    assert_eq!(till.server.ended(), Some(event), "{context}");
    assert_eq!((&launch.committed, &launch.trial), (&committed, &None), "{context}");
    assert!(launch.starts <= 1, "{launch:?}: {context}");
    let installed = product.installed.map(|installed| installed.dir);
    assert_eq!(installed.as_deref(), committed.as_ref().map(Dir::as_str), "{context}");
    assert_eq!(product.bad.len(), usize::from(!good), "{context}");
    assert_eq!(product.floor.counter, if good { counter } else { counter - 1 }, "{context}");
    let dirs = ProductDir::new(Path::new(OWN));
    let linked = fs.read_link(&dirs.current()).ok();
    assert_eq!(linked, committed.as_ref().map(|dir| crate::layout::link_target(dir.as_str())), "{context}");
    if let Some(dir) = &committed {
        let program = fs.read(&dirs.version(dir.as_str()).join(PROGRAM), 1 << 20).expect("a program");
        let wanted = if good { counter } else { counter - 1 };
        assert!(program == agent(wanted).contents[0].1, "{context}");
    }
    assert!(till.starts <= 3 || good, "{} starts of a version that may be tried three times: {context}", till.starts);
}

/// What must hold the moment the power is back: whatever the launcher starts is whole, and a committed version never
/// gives way to the packaged agent.
fn assert_startable(fs: &SimFs, before: Option<&Dir>, context: &str) {
    let chosen = launch::choose(&Power(&SimFs::clone(fs)), Path::new(OWN));
    for program in &chosen.programs {
        let bytes = fs.read(program, 1 << 20).expect("a program");
        assert!([1, 2].iter().any(|counter| agent(*counter).contents[0].1 == bytes), "{program:?}: {context}");
    }
    assert!(before.is_none() || !chosen.programs.is_empty(), "{:?}: {context}", chosen.notes);
}

/// Cuts the power before every call of an update. Returns how many crash states were seen.
fn cut_everywhere(updated: bool, new: New, mixes: u64) -> u32 {
    let start = till(updated);
    let (counter, before) = if updated { (2, Some(dir(1))) } else { (1, None) };
    let mut states = 0;
    for cut in 0.. {
        let fs = SimFs::clone(&start);
        fs.cut_power_at(cut);
        let mut till = Till::ordering(counter, new);
        if till.drive(&fs) {
            assert_ended(&fs, &till, before, "without a cut");
            assert!(cut > 60, "an update of {cut} calls");
            return states;
        }
        for keeps in all_keeps(mixes) {
            states += 1;
            let context = format!("updated {updated}, {new:?}, cut {cut} after {}, {keeps:?}", fs.last());
            let rebooted = fs.reboot(keeps);
            assert_startable(&rebooted, before.as_ref(), &context);
            let mut till = till.again();
            assert!(till.drive(&rebooted), "{context}");
            assert_ended(&rebooted, &till, before.clone(), &context);
            let again = rebooted.reboot(Keeps::Nothing);
            assert!(till.again().drive(&again), "{context}");
            assert_ended(&again, &till, before.clone(), &format!("{context}, started once more"));
        }
    }
    states
}

#[test]
fn a_power_cut_before_any_call_of_launcher_or_agent_ends_in_the_new_version_or_the_old() {
    for updated in [false, true] {
        let states = cut_everywhere(updated, New::Good, 2);
        assert!(states > 240, "{states} crash states");
    }
}

#[test]
fn a_power_cut_on_the_way_back_from_a_bad_version_of_the_agent_leaves_the_one_before() {
    for new in [New::Broken, New::Crashes, New::Deaf] {
        for updated in [false, true] {
            let states = cut_everywhere(updated, new, 0);
            assert!(states > 120, "{states} crash states of {new:?}");
        }
    }
}

#[test]
fn when_both_slots_of_the_launcher_are_lost_the_packaged_agent_puts_them_right() {
    for new in [New::Good, New::Crashes, New::Deaf] {
        let start = till(true);
        for cut in (0..).step_by(3) {
            let fs = SimFs::clone(&start);
            fs.cut_power_at(cut);
            let mut till = Till::ordering(2, new);
            let ended = till.drive(&fs);
            let rebooted = fs.reboot(Keeps::Everything);
            for slot in launch::slots(Path::new(OWN)) {
                if rebooted.stat(&slot).expect("a look").is_some() {
                    rebooted.write_at(&slot, 0, b"garbage").expect("damaged");
                    rebooted.sync_data(&slot).expect("synced");
                }
            }
            let context = format!("{new:?}, cut {cut} after {}", fs.last());
            assert!(till.again().drive(&rebooted), "{context}");
            let (launch, product) = (launch_record(&rebooted), product_record(&rebooted));
            let installed = product.installed.map(|installed| installed.dir);
            assert_eq!(launch.committed.as_ref().map(Dir::as_str), installed.as_deref(), "{context}");
            assert!(launch.trial.is_none() && launch.committed.is_some(), "{launch:?}: {context}");
            assert!(product.floor.counter >= 1, "the floor fell: {context}");
            if ended {
                break;
            }
        }
    }
}

#[test]
fn a_committed_version_that_does_not_last_gives_way_to_the_one_before_which_then_is_the_installed_one() {
    let fs = till(true);
    let mut good = Till::ordering(2, New::Good);
    assert!(good.drive(&fs));
    assert_eq!(launch_record(&fs).previous, Some(dir(1)));
    // From now on it ends as soon as it is started.
    let mut broken = Till { new: New::Broken, starts: 0, ..good.again() };
    assert!(broken.drive(&fs));
    assert_eq!(broken.starts, 3);
    let (launch, product) = (launch_record(&fs), product_record(&fs));
    assert_eq!((launch.committed, launch.previous, launch.starts), (Some(dir(1)), None, 0));
    let installed = product.installed.map(|installed| (installed.release, installed.dir));
    assert_eq!(installed, Some((agent(1).digest, dir(1).to_string())));
    assert_eq!(product.floor.counter, 2, "the floor never falls");
}
