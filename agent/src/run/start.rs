//! From a configuration to a running agent: what is remembered is read, and half-done things are repaired.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use callboard_proto::{digest::Digest, ids::Product, release::Release, root::Root, signed::Verified};
use tokio::sync::Notify;

use crate::{
    agent::Agent,
    budget,
    client::{Client, Credentials, TlsError},
    clock::Clock,
    config::Settings,
    fs::{self, Disk, Fs},
    hardware,
    hooks::Machine,
    identity::{self, Identity, IdentityError},
    image,
    install::{command::Programs, tidy},
    itself::{self, Itself, Process},
    journal::Journal,
    layout::{ProductDir, StateDir, release_of},
    lock::{Lock, LockError},
    machine::{Phase, Previous, Task},
    notify::Notifier,
    outbox::Outbox,
    products::{InstalledRelease, ProductRecord, ProductSlots},
    renew,
    servers::{PlaceError, Servers},
    slots::{Body, Found, Schemas, SlotError, Slots},
    trust::{self, Trust},
    verify::{self, Floor},
    words::Code,
    work,
};

/// An agent that cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0}")]
    Lock(#[from] LockError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("{0}")]
    Slots(#[from] SlotError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Place(#[from] PlaceError),
    #[error("use state directory {path}: {source}")]
    StateDir { path: PathBuf, source: io::Error },
    #[error("listen for signals: {0}")]
    Signals(io::Error),
}

/// Reads, repairs, connects nothing yet. The lock is held for the life of the process.
pub(super) fn agent(settings: Settings, process: Process) -> Result<Agent, StartError> {
    let state_dir = StateDir::new(&settings.state_dir);
    let fs: Rc<dyn Fs> = Rc::new(Disk);
    let identity = Identity::load(&*fs, &state_dir)?;
    std::mem::forget(Lock::take(&state_dir)?);
    open(settings, fs, identity, process)
}

/// The same on any filesystem, without a lock.
pub(crate) fn open(
    mut settings: Settings,
    fs: Rc<dyn Fs>,
    identity: Identity,
    process: Process,
) -> Result<Agent, StartError> {
    let (itself, way) = itself(&*fs, &mut settings, &process);
    let state_dir = StateDir::new(&settings.state_dir);
    for directory in state_dir.directories() {
        fs::create_dirs(&*fs, &directory).map_err(|source| StartError::StateDir { path: directory.clone(), source })?;
    }
    let root = identity::load_root(&*fs, &state_dir)?;
    let (journal, found): (Journal, Found) = way.open(&*fs, state_dir.slots())?;
    let record = journal.record().clone();
    let clock = Arc::new(Clock::new(record.floor_time));
    clock.raise_floor(root.issued_at);
    let head = trust::load_head(&*fs, &state_dir, &root);
    if let Some(head) = &head {
        clock.raise_floor(head.issued_at);
    }
    let outbox =
        Outbox::open(&*fs, &state_dir).map_err(|source| StartError::StateDir { path: state_dir.outbox(), source })?;
    let (products, floor_lost) = products(&*fs, &settings, &state_dir, &root, record.state.task(), way)?;
    if record.state.task().is_none()
        && let Err(error) = work::tidied(&*fs, &state_dir, &products, itself.as_ref())
    {
        tracing::warn!(%error, "what the last update left over could not be removed");
    }
    let renewal = renew::open(&*fs, &state_dir);
    let image_id = image::id(settings.image_id_file.as_deref());
    let hardware_id = process.machine.and_then(|facts| hardware::id(&facts, identity.device_id));
    let outside = Rc::new(Machine {
        directory: settings.hooks.directory.clone(),
        inhibit_directory: settings.hooks.inhibit_directory.clone(),
    });
    let agent = Agent {
        outside,
        program: process.program,
        itself,
        answered: Notify::new(),
        client: RefCell::new(Rc::new(client(&*fs, &settings, &state_dir, &identity, &clock)?)),
        servers: RefCell::new(Servers::at(identity.place())),
        settings,
        fs,
        clock,
        identity: RefCell::new(Rc::new(identity)),
        renewal: RefCell::new(renewal),
        trust: Trust::new(root, head),
        journal: RefCell::new(journal),
        outbox: RefCell::new(outbox),
        products: RefCell::new(products),
        notifier: Notifier::default(),
        installers: Rc::new(Programs),
        astray: RefCell::default(),
        attacks: RefCell::new(record.attacks),
        orders: RefCell::new(budget::ORDERS),
        seq: Cell::new(record.checkin_seq),
        bytes_done: Cell::new(0),
        rate: Cell::new(record.max_bytes_per_s),
        pace: RefCell::default(),
        contact_error: RefCell::new(None),
        heard_at: Cell::new(None),
        aftermath: RefCell::new(None),
        boot_id: boot_id(),
        image_id,
        hardware_id,
        state_dir,
    };
    renew::resume(&agent);
    itself::reconcile(&agent);
    tell_of_losses(&agent, found == Found::Lost, floor_lost);
    Ok(agent)
}

fn tell_of_losses(agent: &Agent, journal_lost: bool, floor_lost: bool) {
    if journal_lost {
        tracing::error!(
            "both slots of the journal are damaged; what is installed stays, what was under way is forgotten"
        );
    }
    if journal_lost || floor_lost {
        agent.update_coarsely(|record| record.last_error = Some(Code::JournalLost.as_str().to_owned()));
    }
}

/// What this process is to the launcher, and how it opens its records.
fn itself(fs: &dyn Fs, settings: &mut Settings, process: &Process) -> (Option<Itself>, Way) {
    let itself = Itself::open(fs, settings, process);
    // Of this product it is known what runs, wherever that came from.
    if let Some((_, own)) = settings.products.iter_mut().find(|(product, _)| itself::is_it(product)) {
        own.factory_version = process.program.version.parse().ok();
    }
    let schema = process.program.schema;
    let schemas = itself.as_ref().map_or(Schemas::just(schema), Itself::schemas);
    (itself, Way { schemas, anyway: process.must_start() })
}

/// How records are opened.
#[derive(Clone, Copy, Debug)]
struct Way {
    schemas: Schemas,
    /// Even if they are lost by that.
    anyway: bool,
}

impl Way {
    fn open<T: Body>(self, fs: &dyn Fs, paths: [PathBuf; 2]) -> Result<(Slots<T>, Found), SlotError> {
        if self.anyway { Slots::open_anyway(fs, paths, self.schemas) } else { Slots::open(fs, paths, self.schemas) }
    }
}

fn client(
    fs: &dyn Fs,
    settings: &Settings,
    state_dir: &StateDir,
    identity: &Identity,
    clock: &Arc<Clock>,
) -> Result<Client, StartError> {
    let key = identity::key(fs, state_dir, identity);
    let key = key.map_err(|source| StartError::StateDir { path: state_dir.key(), source })?;
    let credentials = Credentials::from_pem(&identity.certificate_pem, &key)?;
    identity::seal_key(fs, state_dir, identity, settings.seal_key);
    Ok(identity.place().client(credentials, clock, settings.network.clone())?)
}

fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let text = text.trim();
    if text.is_empty() { "unknown".to_owned() } else { text.chars().take(64).collect() }
}

/// Reads the records of all products and makes their directories agree with them. Says whether a record was lost.
fn products(
    fs: &dyn Fs,
    settings: &Settings,
    state_dir: &StateDir,
    root: &Root,
    task: Option<&Task>,
    way: Way,
) -> Result<(BTreeMap<Product, ProductSlots>, bool), SlotError> {
    let (mut all, mut lost) = (BTreeMap::new(), false);
    for (product, settings) in &settings.products {
        let dirs = settings.directory().map(ProductDir::new);
        let own = task.filter(|task| task.order.product == *product);
        let (mut slots, found): (ProductSlots, Found) = way.open(fs, state_dir.product(product))?;
        match found {
            Found::Valid | Found::New => {}
            Found::Half => {
                tracing::warn!(%product, "one copy of the product's record was damaged; the other is whole");
                slots.write_twice(fs, slots.record().clone())?;
            }
            Found::Lost => {
                tracing::error!(%product, "both copies of the product's record are damaged; rebuilding it from what is installed");
                lost = true;
                let record = match &dirs {
                    Some(dirs) => rebuilt(fs, state_dir, dirs, root, own),
                    None => rebuilt_of_program(fs, state_dir, root, product, own),
                };
                slots.write_twice(fs, record)?;
            }
        }
        // A switch that was cut short is finished by the machine, which knows where it was going.
        if let Some(dirs) = dirs.filter(|_| own.is_none_or(|task| task.phase.is_before_switch())) {
            repair(fs, &dirs, product, slots.record(), own);
        }
        all.insert(product.clone(), slots);
    }
    Ok((all, lost))
}

/// Makes a product's directory agree with its record.
fn repair(fs: &dyn Fs, dirs: &ProductDir, product: &Product, record: &ProductRecord, task: Option<&Task>) {
    let committed = record.installed.as_ref().map(|installed| installed.dir.as_str());
    match tidy::links(fs, dirs, committed) {
        Ok(true) => tracing::warn!(%product, "`current` did not point to what is installed; repaired"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%product, %error, "the product's links could not be repaired"),
    }
    if let Err(error) = tidy::versions(fs, dirs, task.map(|task| task.order.dir.as_str())) {
        tracing::warn!(%product, %error, "leftovers could not be removed");
    }
}

/// What can be known without the record: the release that is installed, and the floor it imposes.
fn rebuilt(fs: &dyn Fs, state_dir: &StateDir, dirs: &ProductDir, root: &Root, task: Option<&Task>) -> ProductRecord {
    // What `current` points to is on probation then, and not installed yet.
    let before = task.and_then(|task| match &task.phase {
        Phase::Switching { previous, .. } | Phase::Trial { previous, .. } | Phase::RollingBack { previous, .. } => {
            Some(previous)
        }
        _ => None,
    });
    let target = match before {
        Some(Previous::Link(target)) => Some(PathBuf::from(target)),
        Some(Previous::Nothing | Previous::Directory) => None,
        None => fs.read_link(&dirs.current()).ok(),
    };
    target.and_then(|target| installed(fs, state_dir, root, &target)).unwrap_or_default()
}

/// What is known of the release whose tree a link points to.
pub(crate) fn installed(fs: &dyn Fs, state_dir: &StateDir, root: &Root, target: &Path) -> Option<ProductRecord> {
    let dir = target.strip_prefix("versions").ok()?.to_str()?.to_owned();
    let release = kept(fs, state_dir, root, |digest, _| dir.starts_with(&digest.short()))?;
    Some(known(&release, dir, None))
}

/// The same for a product with an installer program, of which nothing can be seen: the only documents that are kept are
/// those of what is installed and of what is at hand.
fn rebuilt_of_program(
    fs: &dyn Fs,
    state_dir: &StateDir,
    root: &Root,
    product: &Product,
    task: Option<&Task>,
) -> ProductRecord {
    let at_hand = task.filter(|task| !matches!(task.phase, Phase::Committed)).map(|task| task.order.release);
    let release = kept(fs, state_dir, root, |digest, release| {
        release.product == *product && at_hand.is_none_or(|at_hand| at_hand != digest)
    });
    release.map(|release| known(&release, release.digest().short(), Some(release.digest()))).unwrap_or_default()
}

fn known(release: &Verified<Release>, dir: String, tree: Option<Digest>) -> ProductRecord {
    let (version, epoch, counter) = (release.version.clone(), release.epoch, release.counter);
    let installed = InstalledRelease { release: release.digest(), version, epoch, counter, dir, tree };
    let floor = Floor { epoch, counter: release.min_floor };
    ProductRecord { installed: Some(installed), floor, ..ProductRecord::default() }
}

/// The newest kept release that is the one looked for.
fn kept(
    fs: &dyn Fs,
    state_dir: &StateDir,
    root: &Root,
    is_it: impl Fn(Digest, &Release) -> bool,
) -> Option<Verified<Release>> {
    let names = fs.list(&state_dir.releases()).ok()?;
    let releases = names.iter().filter_map(|name| release_of(name)).filter_map(|digest| {
        let bytes = fs.read(&state_dir.release(digest), 1 << 20).ok()?;
        verify::release(&bytes, root, digest).ok().filter(|release| is_it(digest, release))
    });
    releases.max_by_key(|release| (release.epoch, release.counter))
}
