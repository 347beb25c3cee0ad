//! The same for a product with an installer program: a model with two slots on the same medium, which loses power with
//! the agent. At no cut may half of a release be active, and what ran before stays until the commit.

use std::cell::{Cell, RefCell};

use callboard_proto::release::{Installer, Stage};
use tokio::sync::Notify;

use super::*;
use crate::{
    fs,
    hooks::{self, Inhibitor, Outside},
    install::command::{Call, Ending, Installers, Verb},
    run_program::{Ended, Verdict},
};

const SLOTS: &str = "/slots";
/// What the image brought.
const FACTORY: u64 = 0;

/// What is odd about this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind {
    /// The program takes streams.
    streams: bool,
    /// A slot is active after a restart of the machine alone.
    restarts: bool,
    /// The boot loader finds that the new slot does not start, and takes the one before.
    falls_back: bool,
    /// The program says for ever that the new release is what runs.
    lies: bool,
    healthy: bool,
}

/// The program, the slots and the boot loader.
struct Model {
    fs: SimFs,
    kind: Kind,
    /// The slot that the machine was started from.
    booted: String,
    restart: Notify,
}

fn signed(counter: u64) -> &'static Signed {
    static SIGNED: [OnceLock<Signed>; 3] = [const { OnceLock::new() }; 3];
    SIGNED[usize::try_from(counter).expect("small")].get_or_init(|| {
        let image = format!("image {counter} ").repeat(900).into_bytes();
        let more = format!("firmware {counter}").into_bytes();
        let contents = vec![(testing::payload("image", &image), image), (testing::payload("mcu", &more), more)];
        let payloads = contents.iter().map(|(payload, _)| payload.clone()).collect();
        let installer = Installer::Command;
        let release = Release { payloads, min_floor: counter, installer, ..testing::release(counter) };
        let bytes = testing::signed(&release, &[&Keys::fixed().release]);
        let digest = Envelope::parse::<Release>(&bytes).expect("an envelope").digest();
        Signed { bytes, digest, release, contents }
    })
}

/// What a slot with the release holds.
fn image(counter: u64) -> Vec<u8> {
    signed(counter).contents.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
}

fn at(name: &str) -> PathBuf {
    Path::new(SLOTS).join(name)
}

fn other(slot: &str) -> &'static str {
    if slot == "a" { "b" } else { "a" }
}

fn text(fs: &SimFs, name: &str) -> Option<String> {
    fs.read(&at(name), 1 << 20).ok().map(|bytes| String::from_utf8(bytes).expect("text"))
}

impl Model {
    /// The machine starts: from the slot that is marked, or from the one before if that does not come up.
    fn start(fs: &SimFs, kind: Kind) -> Self {
        let (active, kept) = (text(fs, "active").unwrap_or_default(), text(fs, "kept").unwrap_or_default());
        let booted = if kind.falls_back && active != kept {
            // If the power goes in the middle of it, the next start does it again.
            let _ = fs::replace(fs, &at("active"), kept.as_bytes());
            kept
        } else {
            active
        };
        Self { fs: SimFs::shared(fs), kind, booted, restart: Notify::new() }
    }

    fn id(&self, slot: &str) -> Option<String> {
        text(&self.fs, &format!("{slot}.id"))
    }

    /// The slot that installations go to.
    fn spare(&self) -> &'static str {
        other(&text(&self.fs, "kept").unwrap_or_default())
    }

    fn runs(&self) -> Option<String> {
        if self.kind.restarts { Some(self.booted.clone()) } else { text(&self.fs, "active") }
    }

    /// Writes from `from` on, and calls it whole at the end.
    fn write(&self, release: Digest, from: u64, bytes: &[u8], whole: bool) -> std::io::Result<()> {
        let (fs, slot) = (&self.fs, self.spare());
        let (id, img, part) = (at(&format!("{slot}.id")), at(&format!("{slot}.img")), at(&format!("{slot}.part")));
        if from == 0 {
            if fs.stat(&id)?.is_some() {
                fs.remove_file(&id)?;
                fs.sync_dir(Path::new(SLOTS))?;
            }
            fs::remove_tree(fs, &part)?;
            fs.sync_dir(Path::new(SLOTS))?;
            fs::remove_tree(fs, &img)?;
            fs.create(&img, Mode::Data)?;
        }
        let mut done = from;
        for piece in bytes.chunks(3000) {
            fs.write_at(&img, done, piece)?;
            done += u64::try_from(piece.len()).expect("small");
            fs.sync_data(&img)?;
            fs::replace(fs, &part, format!("{release} {done}").as_bytes())?;
        }
        if whole {
            fs::replace(fs, &id, release.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// How much of the release the spare slot has, durably.
    fn have(&self, release: Digest) -> u64 {
        let noted = text(&self.fs, &format!("{}.part", self.spare())).unwrap_or_default();
        let done = noted.strip_prefix(&format!("{release} ")).and_then(|done| done.parse().ok());
        done.unwrap_or(0)
    }

    fn mark(&self, name: &str, slot: &str) -> std::io::Result<()> {
        if text(&self.fs, name).as_deref() == Some(slot) {
            // It may be there and not be durable yet.
            return self.fs.sync_dir(Path::new(SLOTS));
        }
        fs::replace(&self.fs, &at(name), slot.as_bytes())
    }

    fn restart_if(&self, needed: bool) -> String {
        if self.kind.restarts && needed { "reboot=needed\n".to_owned() } else { String::new() }
    }

    fn carry_out(&self, call: &Call<'_>) -> std::io::Result<(Verdict, String)> {
        let wanted = call.release.to_string();
        let is = |slot: &str| self.id(slot).as_ref() == Some(&wanted);
        let (active, kept) = (text(&self.fs, "active").unwrap_or_default(), text(&self.fs, "kept").unwrap_or_default());
        let verdict = |yes| if yes { Verdict::Done } else { Verdict::Failed };
        let nothing = String::new();
        Ok(match call.verb {
            Verb::Probe => {
                let stream = if self.kind.streams { "yes" } else { "no" };
                let ready = if is(self.spare()) || is(&kept) { "yes" } else { "no" };
                let have = self.have(call.release);
                (Verdict::Done, format!("contract=1\nstream={stream}\nready={ready}\nhave={have}\n"))
            }
            Verb::Install => {
                let lines = call.environment.iter().find(|(name, _)| *name == "CALLBOARD_PAYLOADS").expect("told");
                let lines = lines.1.to_str().expect("text");
                let files = lines.lines().map(|line| Path::new(line.split(' ').nth(3).expect("a path")));
                let bytes: std::io::Result<Vec<_>> = files.map(|path| self.fs.read(path, 1 << 20)).collect();
                self.write(call.release, 0, &bytes?.concat(), true)?;
                (Verdict::Done, nothing)
            }
            Verb::Activate if is(&active) => (Verdict::Done, self.restart_if(self.booted != active)),
            Verb::Activate if is(self.spare()) => {
                self.mark("active", self.spare())?;
                (Verdict::Done, self.restart_if(true))
            }
            Verb::Activate => (Verdict::Failed, nothing),
            Verb::IsActive if self.kind.lies && wanted == signed(2).digest.to_string() => (Verdict::Done, nothing),
            Verb::IsActive => (verdict(self.runs().is_some_and(|slot| is(&slot))), nothing),
            Verb::Commit if is(&active) => {
                self.mark("kept", &active)?;
                (Verdict::Done, nothing)
            }
            Verb::Commit => (Verdict::Failed, nothing),
            Verb::Rollback => {
                self.mark("active", &kept)?;
                (Verdict::Done, self.restart_if(self.booted != kept))
            }
        })
    }
}

impl Installers for Rc<Model> {
    fn run<'a>(&'a self, call: Call<'a>) -> Ending<'a> {
        Box::pin(async move {
            let (verdict, said) = self.carry_out(&call).unwrap_or_else(|error| (Verdict::Broken, error.to_string()));
            Ok(Ended::for_test(verdict, &said))
        })
    }
}

/// No hooks, a health command, and a machine that starts anew when it is told to.
impl Outside for Rc<Model> {
    fn run(&self, _call: hooks::Call) -> hooks::Run<'_> {
        let exit = hooks::Exit::Code(i32::from(!self.kind.healthy));
        Box::pin(async move { hooks::Done { exit, output: String::new() } })
    }

    fn local(&self, _stage: Stage) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn inhibitors(&self) -> Vec<Inhibitor> {
        Vec::new()
    }

    fn reboot(&self) -> std::pin::Pin<Box<dyn Future<Output = report::Failure> + '_>> {
        self.restart.notify_one();
        Box::pin(std::future::pending())
    }
}

/// One machine, from start to start.
struct Shop {
    fs: SimFs,
    kind: Kind,
    server: RefCell<Server>,
    boots: Cell<u32>,
}

impl Shop {
    fn new(fs: SimFs, kind: Kind, counter: u64) -> Self {
        let server = Server { release: signed(counter), ..Server::ordering(counter) };
        Self { fs, kind, server: RefCell::new(server), boots: Cell::new(0) }
    }

    /// The image, or with release 1 installed on it.
    fn before(kind: Kind, counter: u64) -> SimFs {
        let fs = super::shop(Before::Nothing);
        fs.create_dir(Path::new(SLOTS)).expect("made");
        write(&fs, &at("a.img"), b"factory");
        write(&fs, &at("a.id"), b"factory");
        write(&fs, &at("active"), b"a");
        write(&fs, &at("kept"), b"a");
        fs.sync_all(Path::new("/")).expect("synced");
        if counter > FACTORY {
            let healthy = Kind { healthy: true, falls_back: false, lies: false, ..kind };
            let shop = Self::new(fs, healthy, counter);
            assert!(shop.drive(), "the first release is installed");
            shop.fs.sync_all(Path::new("/")).expect("synced");
            return SimFs::clone(&shop.fs);
        }
        fs
    }

    /// Until the order has come to its end, over restarts of the machine; `false` if the power was cut.
    fn drive(&self) -> bool {
        runtime().block_on(async {
            for _ in 0..20 {
                match self.drive_once().await {
                    Left::Done => return true,
                    Left::CutOff => return false,
                    Left::ShutDown => {}
                }
            }
            panic!("the machine is started again and again")
        })
    }

    async fn drive_once(&self) -> Left {
        let text = format!(
            "state_dir = '{STATE}'\n[polling]\nmin_s = 0\nmax_s = 0\n\
             [products.pos-app]\ninstaller = '/usr/lib/installer'\nfactory_version = '0.9'\ntrial_s = 0\nhealth = ['/health']"
        );
        let settings = Settings::parse(&text).expect("settings");
        let agent = start::open(settings, Rc::new(SimFs::shared(&self.fs)), identity().0, testing::process());
        let Ok(mut agent) = agent else {
            assert!(self.fs.is_off(), "an agent that does not start: {:?}", agent.err());
            return Left::CutOff;
        };
        let model = Rc::new(Model::start(&self.fs, self.kind));
        self.boots.set(self.boots.get() + 1);
        agent.boot_id = format!("boot {}", self.boots.get());
        agent.installers = Rc::new(Rc::clone(&model));
        agent.outside = Rc::new(Rc::clone(&model));
        let mut runner = Runner::new(Rc::new(agent), false);
        runner.apply(Event::Started);
        for _ in 0..200 {
            if self.fs.is_off() {
                return Left::CutOff;
            }
            let fetching = matches!(runner.agent.state().task().map(|task| &task.phase), Some(Phase::Downloading));
            if let Some(work) = runner.work.take() {
                if fetching && self.deliver(&model).is_ok() {
                    runner.apply(Event::Fetched);
                    continue;
                }
                tokio::select! {
                    biased;
                    event = work => runner.apply(event),
                    () = model.restart.notified() => return Left::ShutDown,
                }
                continue;
            }
            self.server.borrow_mut().collect(&mut runner);
            if runner.work.is_some() {
                continue;
            }
            let order = self.server.borrow().order(&runner, &self.fs);
            match order {
                Some(event) => runner.apply(event),
                None if self.fs.is_off() => return Left::CutOff,
                None => return Left::Done,
            }
        }
        panic!("the agent does not come to an end: {:?}", runner.agent.state());
    }

    /// What the network would have brought: into the state directory, or to the program from where it was.
    fn deliver(&self, model: &Model) -> std::io::Result<()> {
        let server = self.server.borrow();
        if !self.kind.streams {
            return server.deliver(&self.fs);
        }
        let digest = server.release.digest;
        if model.id(model.spare()).is_some_and(|id| id == digest.to_string()) {
            return Ok(());
        }
        let bytes: Vec<u8> = server.release.contents.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let from = crate::work::resume(&server.release.release, model.have(digest));
        model.write(digest, from, &bytes[usize::try_from(from).expect("small")..], true)
    }

    fn ended(&self) -> Option<report::Event> {
        self.server.borrow().ended()
    }

    /// The same machine with what the medium kept, and with its server.
    fn after_power_cut(&self, keeps: Keeps) -> Self {
        let before = self.server.borrow();
        let server = Server { heard: before.heard.clone(), release: before.release, ..Server::ordering(2) };
        drop(before);
        let fs = self.fs.reboot(keeps);
        Self { fs, kind: self.kind, server: RefCell::new(server), boots: Cell::new(self.boots.get()) }
    }

    /// Which release a slot holds, if it is whole.
    fn release_in(&self, slot: &str) -> Option<u64> {
        let (id, bytes) =
            (text(&self.fs, &format!("{slot}.id"))?, self.fs.read(&at(&format!("{slot}.img")), 1 << 20).ok()?);
        if id == "factory" {
            return (bytes == b"factory").then_some(FACTORY);
        }
        [1, 2].into_iter().find(|n| id == signed(*n).digest.to_string() && bytes == image(*n))
    }

    fn slot(&self, name: &str) -> u64 {
        let slot = text(&self.fs, name).expect("a mark");
        self.release_in(&slot).unwrap_or_else(|| panic!("{name} is slot {slot}, which is not whole"))
    }
}

fn floor(fs: &SimFs) -> u64 {
    let product = "pos-app".parse().expect("a name");
    let file = state_dir().product(&product);
    crate::products::ProductSlots::peek(fs, file, 1).expect("readable").unwrap_or_default().floor.counter
}

/// What must hold the moment the power is back.
fn assert_safe(shop: &Shop, before: u64, context: &str) {
    let (active, kept) = (shop.slot("active"), shop.slot("kept"));
    assert!([before, 2].contains(&active) && [before, 2].contains(&kept), "{active} {kept}: {context}");
    assert!(kept == before || active == 2, "the way back is gone before the new release was kept: {context}");
    assert!(floor(&shop.fs) >= before && (floor(&shop.fs) < 2 || kept == 2), "{context}");
}

fn assert_ended(shop: &Shop, before: u64, context: &str) {
    assert_ended_as(shop, before, shop.kind.healthy && !shop.kind.falls_back, context);
}

fn assert_ended_as(shop: &Shop, before: u64, good: bool, context: &str) {
    let (runs, wanted) = if good { (2, report::Event::Succeeded) } else { (before, report::Event::RolledBack) };
    assert_eq!(shop.ended(), Some(wanted), "{context}");
    assert_eq!((shop.slot("active"), shop.slot("kept")), (runs, runs), "{context}");
    assert_eq!(floor(&shop.fs), runs, "the floor rises with a commit and only then: {context}");
    let left = shop.fs.list(&state_dir().payloads()).expect("a list");
    assert!(left.is_empty(), "payloads are left over: {context}");
}

/// Cuts the power before every call, with some outcomes each; returns how many crash states were seen.
fn cut_everywhere(kind: Kind, before: u64, mixes: u64) -> u32 {
    let start = Shop::before(kind, before);
    let mut states = 0;
    for cut in 0.. {
        let shop = Shop::new(SimFs::clone(&start), kind, 2);
        shop.fs.cut_power_at(cut);
        if shop.drive() {
            assert_ended(&shop, before, "without a cut");
            assert!(cut > 60, "an update of {cut} calls");
            return states;
        }
        for keeps in all_keeps(mixes) {
            states += 1;
            let context = format!("{kind:?} from {before}, cut before call {cut} after {}, {keeps:?}", shop.fs.last());
            let again = shop.after_power_cut(keeps);
            assert_safe(&again, before, &context);
            if states % STRIDE == 0 {
                states += cut_again_everywhere(&again, before, &context);
            }
            assert!(again.drive(), "{context}");
            assert_ended(&again, before, &context);
        }
    }
    states
}

/// The recovery is cut short from every so many-th state.
const STRIDE: u32 = 307;

/// Cuts the power before every call of what follows a power cut. On trial each cut costs a try, so a good release may go
/// back as well.
fn cut_again_everywhere(from: &Shop, before: u64, context: &str) -> u32 {
    let mut states = 0;
    for cut in 0.. {
        let shop = from.after_power_cut(Keeps::Everything);
        shop.fs.cut_power_at(cut);
        if shop.drive() {
            return states;
        }
        for keeps in [Keeps::Nothing, Keeps::Some(u64::from(cut))] {
            states += 1;
            let context = format!("{context}; then before call {cut} after {}, {keeps:?}", shop.fs.last());
            let again = shop.after_power_cut(keeps);
            assert_safe(&again, before, &context);
            assert!(again.drive(), "{context}");
            let good = shop.kind.healthy && !shop.kind.falls_back && again.ended() != Some(report::Event::RolledBack);
            assert_ended_as(&again, before, good, &context);
        }
    }
    states
}

#[test]
fn a_power_cut_before_any_call_of_an_update_by_a_program_leaves_one_whole_slot_active() {
    let mut states = 0;
    for (streams, restarts) in [(false, false), (true, false), (false, true), (true, true)] {
        for healthy in [true, false] {
            let kind = Kind { streams, restarts, healthy, ..Kind::default() };
            states += cut_everywhere(kind, 1, 3);
        }
    }
    assert!(states > 3000, "{states} crash states");
}

#[test]
fn a_power_cut_before_any_call_of_a_first_update_by_a_program_keeps_the_image() {
    for restarts in [false, true] {
        let kind = Kind { restarts, healthy: true, ..Kind::default() };
        let states = cut_everywhere(kind, FACTORY, 2);
        assert!(states > 200, "{states} crash states");
    }
}

#[test]
fn a_boot_loader_that_falls_back_is_believed_after_any_power_cut() {
    let kind = Kind { restarts: true, falls_back: true, healthy: true, ..Kind::default() };
    let states = cut_everywhere(kind, 1, 2);
    assert!(states > 200, "{states} crash states");
}

#[test]
fn a_machine_is_started_anew_once_for_the_way_there_and_once_for_the_way_back() {
    for (healthy, boots) in [(true, 2), (false, 3)] {
        let kind = Kind { restarts: true, healthy, ..Kind::default() };
        let shop = Shop::new(Shop::before(kind, 1), kind, 2);
        assert!(shop.drive());
        assert_ended(&shop, 1, "without a cut");
        assert_eq!(shop.boots.get(), boots, "{healthy}");
    }
}

#[test]
fn a_program_that_says_what_is_not_so_leaves_the_device_inconsistent_and_is_started_no_more() {
    for restarts in [false, true] {
        let kind = Kind { restarts, lies: true, ..Kind::default() };
        let shop = Shop::new(Shop::before(kind, 1), kind, 2);
        assert!(shop.drive());
        assert_eq!(shop.ended(), Some(report::Event::Failed));
        let record = crate::journal::Journal::peek(&shop.fs, state_dir().slots(), 1).expect("readable");
        let state = record.unwrap_or_default().state;
        assert!(matches!(state.task().map(|task| &task.phase), Some(Phase::Inconsistent { .. })), "{state:?}");
        assert_eq!(shop.slot("kept"), 1);
        assert!(shop.boots.get() <= 3, "{} starts", shop.boots.get());
    }
}

#[test]
fn both_copies_of_a_products_record_can_be_lost() {
    let kind = Kind { healthy: true, ..Kind::default() };
    let fs = Shop::before(kind, 1);
    for path in state_dir().product(&"pos-app".parse().expect("a name")) {
        fs.truncate(&path, 0).expect("emptied");
    }
    let shop = Shop::new(SimFs::clone(&fs), kind, 2);
    assert!(shop.drive());
    assert_ended(&shop, 1, "with the record of release 1 rebuilt");
}
