//! Everything that one running agent holds: settings, identity, what it remembers, and its way to the server.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use callboard_proto::{
    check_in::{CheckIn, Facts, Installed, Progress},
    head::Head,
    ids::Product,
    instruction::Nonce,
};
use tokio::sync::Notify;

use crate::{
    Program,
    budget::Budget,
    client::{Client, ClientError},
    clock::{self, Clock},
    config::{ProductSettings, Settings},
    download::pace::Pace,
    fs::Fs,
    hooks::Outside,
    identity::Identity,
    install::{self, command::Installers},
    itself::{self, Itself},
    journal::{Journal, Record},
    layout::{ProductDir, StateDir},
    machine::State,
    notify::Notifier,
    outbox::Outbox,
    products::{ProductRecord, ProductSlots},
    renew::Renewal,
    servers::Servers,
    slots::SlotError,
    trust::Trust,
    verify::{self, Refusal},
    words::{Attack, Code},
};

/// Check-in numbers reserved by one journal write.
const SEQ_BLOCK: u64 = 64;

/// One agent.
pub(crate) struct Agent {
    pub(crate) program: Program,
    pub(crate) settings: Settings,
    pub(crate) state_dir: StateDir,
    pub(crate) fs: Rc<dyn Fs>,
    /// Programs that it runs, and what the device's owner has laid down.
    pub(crate) outside: Rc<dyn Outside>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) client: RefCell<Rc<Client>>,
    /// Which address that client connects to.
    pub(crate) servers: RefCell<Servers>,
    pub(crate) identity: RefCell<Rc<Identity>>,
    pub(crate) renewal: RefCell<Renewal>,
    pub(crate) trust: Trust,
    pub(crate) journal: RefCell<Journal>,
    pub(crate) outbox: RefCell<Outbox>,
    pub(crate) products: RefCell<BTreeMap<Product, ProductSlots>>,
    pub(crate) notifier: Notifier,
    /// The products' installer programs.
    pub(crate) installers: Rc<dyn Installers>,
    /// Products of which another release runs than the one that was installed last.
    pub(crate) astray: RefCell<BTreeSet<Product>>,
    /// What the launcher knows, if this agent updates itself.
    pub(crate) itself: Option<Itself>,
    /// Told of every answer of the server that was believed.
    pub(crate) answered: Notify,
    /// Counted since enrolment; the journal is behind by less than half.
    pub(crate) attacks: RefCell<BTreeMap<String, u64>>,
    /// Orders that may still be begun.
    pub(crate) orders: RefCell<Budget>,
    /// The last check-in number used.
    pub(crate) seq: Cell<u64>,
    /// Verified bytes of the download at hand.
    pub(crate) bytes_done: Cell<u64>,
    /// How many payload bytes a second it may read.
    pub(crate) rate: Cell<Option<u64>>,
    /// What of that is used.
    pub(crate) pace: RefCell<Pace>,
    /// Why the last contact failed; gone with the next that succeeds.
    pub(crate) contact_error: RefCell<Option<String>>,
    /// When the question was sent to which the last verified answer came, in time since boot.
    pub(crate) heard_at: Cell<Option<Duration>>,
    /// A failure that does not change how an update has ended, but that people should hear of.
    pub(crate) aftermath: RefCell<Option<String>>,
    pub(crate) boot_id: String,
    /// The installation of the system.
    pub(crate) image_id: Option<String>,
    /// The machine.
    pub(crate) hardware_id: Option<String>,
}

impl Agent {
    /// The newest record of the journal.
    pub(crate) fn record(&self) -> Record {
        self.journal.borrow().record().clone()
    }

    /// Where the agent stands.
    pub(crate) fn state(&self) -> State {
        self.journal.borrow().record().state.clone()
    }

    /// The way to the server that is asked now.
    pub(crate) fn client(&self) -> Rc<Client> {
        Rc::clone(&self.client.borrow())
    }

    /// Changes the journal, durably.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Record)) -> Result<(), SlotError> {
        let mut record = self.record();
        record.attacks.clone_from(&self.attacks.borrow());
        record.floor_time = self.clock.floor();
        change(&mut record);
        self.journal.borrow_mut().write(&*self.fs, record)
    }

    /// Changes the journal where losing the change costs little.
    pub(crate) fn update_coarsely(&self, change: impl FnOnce(&mut Record)) {
        if let Err(error) = self.update(change) {
            tracing::warn!(%error, "the journal could not be written");
        }
    }

    /// Takes another rate for downloads. It is written down when it is far from the one that a restart would find: it may
    /// change every minute.
    pub(crate) fn allow(&self, rate: Option<u64>) {
        let another = self.rate.replace(rate) != rate;
        let near = |known: Option<u64>| match (known, rate) {
            (Some(known), Some(rate)) => known <= rate.saturating_mul(2) && rate <= known.saturating_mul(2),
            (known, rate) => known == rate,
        };
        if !near(self.record().max_bytes_per_s) {
            self.update_coarsely(|record| record.max_bytes_per_s = rate);
        }
        if another {
            tracing::info!(max_bytes_per_s = rate, "downloads have another limit");
        }
    }

    /// Counts something that an honest server does not send.
    pub(crate) fn attack(&self, attack: Attack) {
        let name = attack.as_str();
        tracing::warn!(attack = name, "refused what no honest server sends");
        let count = {
            let mut attacks = self.attacks.borrow_mut();
            let count = attacks.entry(name.to_owned()).or_default();
            *count += 1;
            *count
        };
        if count.is_power_of_two() {
            self.update_coarsely(|_record| {});
        }
    }

    /// Counts an answer that could not be used, if no honest server gives such a one.
    pub(crate) fn unusable(&self, error: &ClientError) {
        if let Some(attack) = error.attack() {
            self.attack(attack);
        }
    }

    /// Counts what was refused, if it is something that an honest server does not send.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(attack) = refusal.attack() {
            self.attack(attack);
        }
    }

    /// The settings of a product and where it lies. Orders are only accepted for configured products, so `None` means
    /// that the configuration was changed while one was carried out. Of a product with an installer program, nothing but
    /// backups lies there.
    pub(crate) fn product(&self, product: &Product) -> Option<(&ProductSettings, ProductDir)> {
        let settings = self.settings.products.get(product)?;
        Some((settings, self.place_of(product, settings)))
    }

    /// Where all products lie.
    pub(crate) fn product_dirs(&self) -> Vec<ProductDir> {
        self.settings.products.iter().map(|(product, settings)| self.place_of(product, settings)).collect()
    }

    fn place_of(&self, product: &Product, settings: &ProductSettings) -> ProductDir {
        settings.directory().map_or_else(|| self.state_dir.by_program(product), ProductDir::new)
    }

    /// What is remembered of a product.
    pub(crate) fn product_record(&self, product: &Product) -> ProductRecord {
        let record = self.products.borrow().get(product).map(|slots| slots.record().clone()).unwrap_or_default();
        record.at_least(self.settings.products.get(product).map(|settings| settings.floor).unwrap_or_default())
    }

    /// The next check-in's body; its answer may be held back for `wait_s`.
    pub(crate) fn question(&self, nonce: Nonce, wait_s: u32) -> CheckIn {
        let record = self.record();
        let progress = record.state.task().map(|task| Progress {
            assignment_id: task.order.attempt.assignment_id,
            attempt: task.order.attempt.attempt,
            bytes_done: self.bytes_done.get(),
            bytes_total: task.order.bytes_total,
        });
        let (root, head) = (self.trust.root(), self.trust.head());
        let stale = verify::stale(&root, head.as_ref().map(|head| &***head), self.clock.trusted_now());
        let stale = stale.err().map(|refusal| refusal.code().as_str().to_owned());
        CheckIn {
            crit: Vec::new(),
            nonce,
            checkin_seq: self.next_seq(record.checkin_seq),
            boot_id: self.boot_id.clone(),
            uptime_s: clock::boottime().as_secs(),
            facts: self.facts(),
            state: record.state.wire(),
            progress,
            root_version: root.version,
            head_serial: head.as_ref().map(|head| head.serial),
            free_bytes: self.free_bytes(),
            last_error: self
                .degraded(head.as_ref().map(|head| &***head))
                .or(record.last_error)
                .or_else(|| self.contact_error.borrow().clone())
                .or(stale),
            attacks: self.attacks.borrow().clone(),
            wait_s,
        }
    }

    /// The word for having fallen back to what may not be installed any more.
    fn degraded(&self, head: Option<&Head>) -> Option<String> {
        let mut products = self.settings.products.keys();
        let is_it = head.is_some_and(|head| products.any(|one| self.product_record(one).is_degraded(one, head)));
        is_it.then(|| Code::DegradedInsecure.as_str().to_owned())
    }

    fn next_seq(&self, reserved: u64) -> u64 {
        let seq = self.seq.get() + 1;
        self.seq.set(seq);
        if seq >= reserved {
            self.update_coarsely(|record| record.checkin_seq = seq + SEQ_BLOCK);
        }
        seq
    }

    /// What is installed, as the server is told.
    pub(crate) fn installed(&self) -> Vec<Installed> {
        let installed = self.settings.products.iter().filter_map(|(product, settings)| {
            let record = self.product_record(product);
            let there =
                record.installed.is_some() || install::has_factory(&*self.fs, settings) || itself::is_it(product);
            record.wire(product, settings).filter(|_| there && !self.astray.borrow().contains(product))
        });
        installed.collect()
    }

    fn facts(&self) -> Facts {
        let settings = &self.settings;
        Facts {
            agent: self.program.version.to_owned(),
            hw: settings.hw.clone(),
            arch: settings.arch.clone(),
            tz: settings.tz.clone(),
            // What enrolment could read; without it the registry keeps what it has.
            serial: settings.serial.read().ok().flatten(),
            image_id: self.image_id.clone(),
            hardware_id: self.hardware_id.clone(),
            channels: settings.channels.clone(),
            installed: self.installed(),
            attributes: settings.attributes.clone(),
        }
    }

    /// The least free of the places where releases are staged.
    fn free_bytes(&self) -> Option<u64> {
        let products = self.settings.products.values().filter_map(ProductSettings::directory);
        let places = products.chain([self.state_dir.path()]);
        places.filter_map(|place| self.fs.space(place).ok()).map(|space| space.free).min()
    }
}
