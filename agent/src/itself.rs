//! The agent as one of its own products: which version this process is, which one the launcher starts next, and when
//! this process makes room for it.
//!
//! The switch is the launcher's record. The links `current` and `previous` say the same to people, and what may be
//! deleted. Order and journal are those of every product; only what it means to switch, to start and to watch differs:
//!
//! 1. The agent before stages the version, writes it into the record as being on trial, and ends.
//! 2. The launcher counts a try and starts the new one, which commits itself after one verified answer of the server. Until
//!    then it writes the journal in the schema of the one before.
//! 3. When the tries are used up the launcher starts the one before. It finds the trial in the journal, itself running,
//!    and goes back as after any failure. So does the new one itself if it gets no answer in time.

use std::{
    cell::{Cell, RefCell},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_launcher::{
    LAUNCHED_VARIABLE, PROGRAM, launch,
    record::{Dir, Launch, Trial},
};
use callboard_proto::{digest::Digest, ids::Product, report::Failure};

use crate::{
    PRODUCT, Program,
    agent::Agent,
    config::Settings,
    fs::{self, Disk, Fs, Kind},
    hardware,
    layout::{ProductDir, StateDir, link_target, release_of},
    machine::{Event, Phase, Previous, Task, permanent, transient},
    products::ProductRecord,
    slots::{Body, Found, Schemas, SlotError, Slots},
    words::Code,
};

/// An agent that has run for so long does not end as soon as it is started.
const LASTS: Duration = Duration::from_secs(60);
/// The launcher's schema, whatever that of the agent is.
const SCHEMAS: Schemas = Schemas::just(callboard_launcher::record::SCHEMA);

/// What this process is, and where it runs.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) program: Program,
    /// Where the launcher has looked for versions, if one has started this process.
    pub(crate) launched_from: Option<PathBuf>,
    /// The version there that it runs from; without one, it is the packaged agent.
    pub(crate) running: Option<Dir>,
    /// What tells the machine from others.
    pub(crate) machine: Option<String>,
}

/// What the launcher knows, and what this process is to it.
#[derive(Debug)]
pub(crate) struct Itself {
    running: Option<Dir>,
    slots: RefCell<Slots<Launch>>,
    /// There was no record, or it is lost.
    lost: bool,
    schemas: Schemas,
    makes_room: Cell<bool>,
    lasted: Cell<bool>,
}

impl Body for Launch {
    fn encode(&self, _schema: u32) -> Vec<u8> {
        self.to_text().into_bytes()
    }

    fn decode(_schema: u32, bytes: &[u8]) -> Option<Self> {
        Self::from_text(std::str::from_utf8(bytes).ok()?)
    }
}

impl Process {
    /// Looks at the environment and at where the program lies.
    pub(crate) fn found(program: Program) -> Self {
        let launched_from = std::env::var_os(LAUNCHED_VARIABLE).map(PathBuf::from);
        let own = std::env::current_exe().ok();
        let running = launched_from.as_deref().zip(own).and_then(|(dir, own)| running(dir, &own));
        Self { program, launched_from, running, machine: hardware::facts() }
    }

    /// Whether nobody else could be started in its place.
    pub(crate) const fn must_start(&self) -> bool {
        self.launched_from.is_some()
    }
}

fn running(dir: &Path, program: &Path) -> Option<Dir> {
    program.strip_prefix(dir.join("versions")).ok()?.iter().next()?.to_str()?.parse().ok()
}

/// Verbs that read the agent's records, for people and at the start of the machine.
const VERBS: [&str; 6] = ["status", "doctor", "enrol", "prepare-image", "recover", "resolve"];

/// People call the packaged agent. Where another version runs, that one answers: it knows its own records. Returns if there
/// is none.
pub(crate) fn hand_on() {
    let is_for_people = std::env::args_os().nth(1).is_some_and(|verb| VERBS.iter().any(|known| verb == *known));
    if !is_for_people || std::env::var_os(LAUNCHED_VARIABLE).is_some() {
        return;
    }
    let dir = callboard_launcher::dir();
    let packaged = std::env::current_exe().is_ok_and(|own| running(&dir, &own).is_none());
    let committed = peek(&Disk, &dir).ok().and_then(|launch| launch.committed).filter(|_| packaged);
    let program = committed.and_then(|name| launch::usable(&callboard_launcher::files::Disk, &dir, &name).ok());
    if let Some(program) = program {
        // Returns only if it fails, and then this version does what it can.
        let _ = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    }
}

/// Whether a product is the agent.
pub(crate) fn is_it(product: &Product) -> bool {
    product.as_str() == PRODUCT
}

/// What the launcher is told, for `status`.
pub(crate) fn peek(fs: &dyn Fs, dir: &Path) -> Result<Launch, SlotError> {
    Ok(Slots::peek(fs, launch::slots(dir), SCHEMAS.known)?.unwrap_or_default())
}

impl Itself {
    /// `None` if there is no launcher, or if this agent does not update itself.
    pub(crate) fn open(fs: &dyn Fs, settings: &Settings, process: &Process) -> Option<Self> {
        let launched_from = process.launched_from.as_deref()?;
        let dir = settings.products.iter().find(|(product, _)| is_it(product)).and_then(|(_, own)| own.directory())?;
        if dir != launched_from && dir.canonicalize().ok().as_deref() != Some(launched_from) {
            tracing::error!(directory = %dir.display(), launcher = %launched_from.display(),
                "the launcher looks for versions of the agent elsewhere; the agent does not update itself");
            return None;
        }
        let opened = fs::create_dirs(fs, dir)
            .map_err(|source| SlotError::Write { path: dir.to_owned(), source })
            .and_then(|()| Slots::<Launch>::open(fs, launch::slots(dir), SCHEMAS));
        let (slots, found) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%error, "the launcher cannot be told anything; the agent does not update itself");
                return None;
            }
        };
        let (own, running) = (process.program.schema, process.running.clone());
        let trial = slots.record().trial.as_ref().filter(|trial| Some(&trial.dir) == running.as_ref());
        let written = trial.map_or(own, |trial| trial.schema.min(own));
        let lost = matches!(found, Found::New | Found::Lost);
        let schemas = Schemas { known: own, written };
        let (slots, makes_room, lasted) = (RefCell::new(slots), Cell::new(false), Cell::new(false));
        Some(Self { running, slots, lost, schemas, makes_room, lasted })
    }

    /// In which the agent's records are read and written.
    pub(crate) const fn schemas(&self) -> Schemas {
        self.schemas
    }

    /// Whether the launcher is to start another version, as soon as this process has ended.
    pub(crate) const fn makes_room(&self) -> bool {
        self.makes_room.get()
    }

    /// Whether this process is on trial.
    pub(crate) fn is_on_trial(&self) -> bool {
        let launch = self.launch();
        launch.trial.is_some_and(|trial| Some(trial.dir) == self.running)
    }

    /// The release that ran before the committed one: if that does not last, it is the installed one again.
    pub(crate) fn previous_release(&self, fs: &dyn Fs, state_dir: &StateDir) -> Option<Digest> {
        let previous = self.launch().previous?;
        let names = fs.list(&state_dir.releases()).ok()?;
        names.iter().filter_map(|name| release_of(name)).find(|digest| previous.as_str().starts_with(&digest.short()))
    }

    fn launch(&self) -> Launch {
        self.slots.borrow().record().clone()
    }

    fn is(&self, dir: &Dir) -> bool {
        self.running.as_ref() == Some(dir)
    }

    fn write(&self, fs: &dyn Fs, launch: Launch) -> Result<(), Failure> {
        let written = self.slots.borrow_mut().write_twice(fs, launch);
        written.map_err(|error| transient(Code::Storage, format!("failed to {error}")))
    }

    /// Writes what is to run from now on, and makes room if that is another.
    fn settle(&self, fs: &dyn Fs, wanted: Launch) -> Result<(), Failure> {
        let committed = wanted.committed.clone();
        if self.launch() != wanted {
            self.write(fs, wanted)?;
        }
        self.makes_room.set(committed != self.running);
        Ok(())
    }

    /// Makes room for the version on trial, if this is not that and it has a try left.
    fn hand_over(&self, dir: &Dir) -> Result<(), Failure> {
        let left = self.launch().trial.filter(|trial| trial.dir == *dir).map_or(0, |trial| trial.tries_left);
        if self.is(dir) {
            Ok(())
        } else if left > 0 {
            self.makes_room.set(true);
            Ok(())
        } else {
            let text = "every start of the new agent came to an end before the server had answered it";
            Err(permanent(Code::TrialInterrupted, text))
        }
    }
}

fn dir(task: &Task) -> Result<Dir, Failure> {
    let dir = task.order.dir.parse();
    dir.map_err(|()| permanent(Code::Internal, format!("{:?} is no version's directory", task.order.dir)))
}

/// Whether a staged tree is one that the launcher can start.
pub(crate) fn inspect(fs: &dyn Fs, tree: &Path) -> Result<(), Failure> {
    let program = tree.join(PROGRAM);
    match fs.stat(&program) {
        Ok(Some(found)) if found.kind == Kind::File && found.executable => Ok(()),
        _ => Err(permanent(Code::Layout, format!("{} is missing, or is no program", program.display()))),
    }
}

/// Tells the launcher to try the version of `task`.
pub(crate) fn flip(agent: &Agent, own: &Itself, task: &Task) -> Result<(), Failure> {
    let (dir, launch) = (dir(task)?, own.launch());
    match &launch.trial {
        Some(trial) if trial.dir == dir => own.hand_over(&dir),
        _ => {
            // The machine's own count is one more: it lets the one before find out.
            let tries_left = task.order.trial_tries.saturating_sub(1).max(1);
            let trial = Trial { dir, tries_left, schema: own.schemas.written };
            own.write(&*agent.fs, Launch { trial: Some(trial), ..launch })
        }
    }
}

/// Makes room for the version of `task`, unless it runs.
pub(crate) fn restart(own: &Itself, task: &Task) -> Result<(), Failure> {
    own.hand_over(&dir(task)?)
}

/// Waits until the server has answered this version, and it has believed the answer.
pub(crate) async fn watch(agent: &Agent, own: &Itself, task: &Task, wait: Duration) -> Result<Event, Failure> {
    let dir = dir(task)?;
    if !own.is(&dir) {
        own.hand_over(&dir)?;
        return Ok(Event::Restarted);
    }
    agent.notifier.expect(wait);
    match tokio::time::timeout(wait, agent.answered.notified()).await {
        Ok(()) => Ok(Event::Healthy),
        Err(_elapsed) => {
            let text = format!("the new agent got no answer that it could believe within {} s", wait.as_secs());
            Err(permanent(Code::NoContact, text))
        }
    }
}

/// Tells the launcher that the version of `task` stays. From then on there is no way back to the schema before.
pub(crate) fn commit(agent: &Agent, own: &Itself, task: &Task) -> Result<(), Failure> {
    let (dir, launch) = (dir(task)?, own.launch());
    let wanted = if launch.committed.as_ref() == Some(&dir) {
        Launch { trial: None, ..launch }
    } else {
        Launch { committed: Some(dir.clone()), previous: launch.committed, trial: None, starts: 0 }
    };
    own.settle(&*agent.fs, wanted)?;
    if own.is(&dir) {
        agent.journal.borrow_mut().write_in(own.schemas.known);
        agent.products.borrow_mut().values_mut().for_each(|slots| slots.write_in(own.schemas.known));
    }
    Ok(())
}

/// Tells the launcher to start what ran before.
pub(crate) fn revert(agent: &Agent, own: &Itself, previous: &Previous) -> Result<(), Failure> {
    let committed = match previous {
        Previous::Link(target) => target.strip_prefix("versions/").and_then(|name| name.parse().ok()),
        Previous::Nothing | Previous::Directory => None,
    };
    // What was before that one is deleted with the leftovers.
    own.settle(&*agent.fs, Launch { committed, ..Launch::default() })
}

/// Puts right, at the start, what the launcher's record and the agent's own disagree on. A switch that was cut short is
/// finished by the machine.
pub(crate) fn reconcile(agent: &Agent) {
    let Some(own) = &agent.itself else { return };
    let launch = own.launch();
    let switching = agent.state().task().is_some_and(|task| is_it(&task.order.product) && is_switch(&task.phase));
    let wanted = match &launch.trial {
        _ if switching => return,
        _ if own.lost => Launch { committed: installed(agent), ..Launch::default() },
        // The journal was lost, and nobody would ever end it.
        Some(_) => Launch { trial: None, previous: None, ..launch.clone() },
        None => return,
    };
    if wanted != launch {
        tracing::warn!(?launch, ?wanted, "the launcher's record was not right");
        if let Err(failure) = point(agent, wanted.committed.as_ref()).and_then(|()| own.settle(&*agent.fs, wanted)) {
            tracing::error!(text = failure.text, "the launcher's record could not be put right");
        }
    }
}

const fn is_switch(phase: &Phase) -> bool {
    matches!(
        phase,
        Phase::Switching { .. } | Phase::Trial { .. } | Phase::Committing { .. } | Phase::RollingBack { .. }
    )
}

/// The committed version, if it is there.
fn installed(agent: &Agent) -> Option<Dir> {
    let (product, _, dirs) = agent.own_product()?;
    let installed = agent.product_record(&product).installed?;
    inspect(&*agent.fs, &dirs.version(&installed.dir)).ok()?;
    installed.dir.parse().ok()
}

/// Makes the link for people agree with what is committed.
fn point(agent: &Agent, committed: Option<&Dir>) -> Result<(), Failure> {
    let Some((_, _, dirs)) = agent.own_product() else { return Ok(()) };
    let (fs, current) = (&*agent.fs, dirs.current());
    let pointed = match (committed, fs.read_link(&current).ok()) {
        (None, None) => Ok(()),
        (None, Some(_)) => fs.remove_file(&current).and_then(|()| fs.sync_dir(dirs.path())),
        (Some(dir), found) if found.as_deref() == Some(&link_target(dir.as_str())) => Ok(()),
        (Some(dir), _) => fs::replace_link(fs, &current, &link_target(dir.as_str())),
    };
    pointed.map_err(|error| transient(Code::Storage, format!("failed to point {}: {error}", current.display())))
}

/// This process has run for `time`: once that is a while, its start is no sign of a version that does not last.
pub(crate) fn has_run(agent: &Agent, time: Duration) {
    let Some(own) = agent.itself.as_ref().filter(|own| time >= LASTS && !own.lasted.get()) else { return };
    own.lasted.set(true);
    if let Err(failure) = lasts(agent, own) {
        tracing::error!(text = failure.text, "the launcher could not be told that this agent lasts");
    }
}

/// This process ends because it was asked to.
pub(crate) fn stops(agent: &Agent) {
    let Some(own) = &agent.itself else { return };
    let launch = own.launch();
    if launch.committed == own.running
        && launch.trial.is_none()
        && let Err(failure) = lasts(agent, own)
    {
        tracing::error!(text = failure.text, "the launcher could not be told that this agent was stopped");
    }
}

fn lasts(agent: &Agent, own: &Itself) -> Result<(), Failure> {
    let launch = own.launch();
    // How a trial ends is not decided here.
    if launch.trial.is_some() {
        return Ok(());
    }
    let running = own.running.as_ref().map(Dir::as_str);
    let recorded = agent.own_product().and_then(|(product, _, _)| agent.product_record(&product).installed);
    let is_recorded = recorded.is_none_or(|installed| Some(installed.dir.as_str()) == running);
    if launch.committed != own.running || !is_recorded {
        adopt(agent, own)?;
    } else if launch.starts == 0 {
        return Ok(());
    }
    let previous = launch.previous.filter(|_| launch.committed == own.running);
    own.write(&*agent.fs, Launch { committed: own.running.clone(), previous, trial: None, starts: 0 })
}

/// The committed version did not last, and this one, which the launcher has started in its place, does: it is the
/// installed one from now on. The server sees that the device has gone back.
fn adopt(agent: &Agent, own: &Itself) -> Result<(), Failure> {
    let Some((product, _, _)) = agent.own_product() else { return Ok(()) };
    let record = agent.product_record(&product);
    let given_up = record.installed.as_ref().map(|installed| installed.version.to_string());
    tracing::error!(given_up, "the committed version of the agent does not last; this one stays in its place");
    let target = own.running.as_ref().map(|dir| link_target(dir.as_str()));
    let found =
        target.and_then(|target| crate::run::installed(&*agent.fs, &agent.state_dir, &agent.trust.root(), &target));
    let record = ProductRecord { installed: found.and_then(|found| found.installed), ..record };
    let mut products = agent.products.borrow_mut();
    if let Some(slots) = products.get_mut(&product) {
        let written = slots.write_twice(&*agent.fs, record);
        written.map_err(|error| transient(Code::Storage, format!("failed to {error}")))?;
    }
    drop(products);
    agent.update_coarsely(|record| record.last_error = Some(Code::CrashLoop.as_str().to_owned()));
    point(agent, own.running.as_ref())
}

impl Agent {
    /// What a piece of work has to do differently because its product is the agent. An agent that was started without the
    /// launcher leaves its own update alone.
    pub(crate) async fn itself_of(&self, task: &Task) -> Option<&Itself> {
        if !is_it(&task.order.product) {
            return None;
        }
        if self.itself.is_none() {
            tracing::error!("an update of the agent itself is under way; start it by callboard-launcher");
            return std::future::pending().await;
        }
        self.itself.as_ref()
    }

    fn own_product(&self) -> Option<(Product, &crate::config::ProductSettings, ProductDir)> {
        let (product, settings) = self.settings.products.iter().find(|(product, _)| is_it(product))?;
        Some((product.clone(), settings, ProductDir::new(settings.directory()?)))
    }
}
