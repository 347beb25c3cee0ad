//! What a world needs of a server, and the one in memory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use callboard_policy::{
    assignment::Unheard,
    catalog::Catalog,
    decide::Step,
    device::{Assignment, Device, Hold},
    freeze::FreezeSpec,
    gate::PhaseCounts,
    guard::{Cap, Caps, Pace},
    ledger::{Ledger, Unit},
    release::Release,
    rhythm::Rhythm,
    rollout::{
        Approval, HaltKind, HaltSpec, Membership, PhaseSpec, PolicyKind, Rollout, RolloutState, Spec, Unit as Moves,
        WindowSpec,
    },
    selector::Glob,
    site::SiteRules,
    trading::{HoursSpec, TradingHours},
    window::{Gates, Mode},
};
use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::{AssignmentId, SiteId},
    instruction::{Action, ActivateOn},
    report::Report,
    state::AssignmentState,
    time::Timestamp,
};

use super::setup::{Alone, Offers, Part, Roll, Setup};

pub(crate) const POLL_S: u64 = 300;
pub(crate) const AGENT: &str = "0.3.0";

/// What a device says when it checks in.
#[derive(Clone, Debug)]
pub(crate) struct Says {
    pub(crate) boot: u32,
    pub(crate) works_on: Option<(AssignmentId, u32, AssignmentState)>,
    pub(crate) installed: Vec<Installed>,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) action: Action,
    pub(crate) code: String,
    pub(crate) release: Option<Digest>,
    pub(crate) attempt: Option<u32>,
    pub(crate) next_s: u64,
    /// Not to be begun after.
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) assignment: Option<AssignmentId>,
    /// It may install without asking between these two.
    pub(crate) right: Option<(Timestamp, Timestamp, Alone)>,
}

pub(crate) fn alone_on(on: ActivateOn) -> Alone {
    match on {
        ActivateOn::Now => Alone::CutOff,
        ActivateOn::Shutdown => Alone::Shutdown,
        ActivateOn::Boot => Alone::Boot,
    }
}

/// What became of a device in a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) rollout: usize,
    pub(crate) phase: usize,
    pub(crate) state: AssignmentState,
    /// Where it was granted what it holds.
    pub(crate) site: Option<String>,
    pub(crate) whole: Assignment,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) state: RolloutState,
    pub(crate) open_phase: usize,
    pub(crate) counts: Vec<PhaseCounts>,
}

/// An operator's word about a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Start,
    Pause,
    Resume,
    Acknowledge,
    Cancel,
}

/// What devices and operators talk to.
pub(crate) trait Server {
    /// Says whether it was done.
    fn tell(&mut self, now: Timestamp, rollout: usize, word: Word) -> bool;
    fn hold(&mut self, now: Timestamp, device: usize, held: bool);
    /// The device stands at this site from now on.
    fn move_to(&mut self, now: Timestamp, device: usize, site: usize);
    /// The device gets a new certificate: another life.
    fn enrol(&mut self, now: Timestamp, device: usize);
    fn check_in(&mut self, now: Timestamp, device: usize, says: &Says) -> Told;
    /// Says whether the reports were taken, one by one.
    fn report(&mut self, now: Timestamp, device: usize, reports: &[Report]) -> Vec<bool>;
    /// Lets time have its effect.
    fn pass(&mut self, now: Timestamp);
    /// Forgets everything that is not kept.
    fn restart(&mut self, now: Timestamp);
    fn rows_of(&mut self, device: usize) -> Vec<Row>;
    fn stands(&mut self) -> Vec<Stand>;
    /// Whether timers go off when it is time. After a restart devices get some of it anew.
    fn keeps_time(&self) -> bool {
        true
    }
    /// Whether it may answer by what was true a moment ago. It grants nothing by that.
    fn may_be_behind(&self) -> bool {
        false
    }
}

/// The server in memory.
pub(crate) struct Twin {
    pub(crate) setup: Setup,
    pub(crate) ledger: Ledger,
    pub(crate) units: Vec<Unit>,
    boots: Vec<Option<u32>>,
    /// When the silence of devices may lead to something.
    rings: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl Twin {
    pub(crate) fn new(setup: &Setup) -> Self {
        let releases = setup.releases.iter().map(|one| Release {
            digest: one.digest,
            product: one.product.parse().unwrap(),
            version: one.version.parse().unwrap(),
            epoch: 0,
            counter: one.counter,
            min_floor: 0,
            channels: vec!["stable".to_owned()],
            hw: vec![Glob::new(one.hw)],
            not_after: None,
            requires_agent: None,
            requires_at_least: None,
            requires: Vec::new(),
            space_bytes: 0,
            distrust: None,
        });
        let freezes = setup.freeze.map(|(from, to, region)| {
            let spec = FreezeSpec {
                name: "freeze".parse().unwrap(),
                reason: "a test".to_owned(),
                from: from.to_string(),
                to: to.to_string(),
                selector: Some(format!("region = {region}")),
            };
            spec.read().unwrap()
        });
        let catalog = Catalog::new(1, Vec::new(), releases).with_freezes(freezes.into_iter().collect());
        let mut ledger = Ledger::new(catalog, std::time::Duration::from_secs(POLL_S));
        for roll in &setup.rollouts {
            ledger.add(Rollout::draft(roll.id, spec(setup, roll).plan().unwrap()));
        }
        let units = (0..setup.devices.len()).map(|n| Unit::new(device(setup, n), None)).collect();
        let boots = vec![None; setup.devices.len()];
        Self { setup: setup.clone(), ledger, units, boots, rings: BinaryHeap::new() }
    }

    /// Takes note of when the silence of a device leads to something, after anything that happened to it.
    fn listen(&mut self, device: usize) {
        self.rings.extend(self.ledger.next_ring(&self.units[device]).map(|at| Reverse((at, device))));
    }

    fn index(&self, one: &Assignment) -> usize {
        self.setup.rollouts.iter().position(|roll| roll.id == one.rollout).unwrap()
    }
}

fn device(setup: &Setup, n: usize) -> Device {
    let (one, shop) = (&setup.devices[n], setup.shop(n));
    let hours = shop.trades.map(|(opens, closes)| HoursSpec {
        days: Vec::new(),
        opens: format!("{opens:02}:00"),
        closes: format!("{closes:02}:00"),
    });
    let trading = TradingHours::read(&hours.into_iter().collect::<Vec<_>>()).unwrap();
    Device {
        site: Some(shop.id.parse().unwrap()),
        site_tz: Some(shop.tz),
        site_rules: SiteRules { trading, ..SiteRules::default() },
        labels: BTreeMap::from([("region".to_owned(), shop.region.to_owned())]),
        enrolled_at: Some(setup.start),
        ..Device::unheard_of(one.id, n as u32, one.name.parse().unwrap())
    }
}

fn spec(setup: &Setup, roll: &Roll) -> Spec {
    let [downloads, downloads_site, activations, activations_site] = roll.caps;
    let window = roll.window.map(|night| WindowSpec {
        tz: "site".to_owned(),
        days: Vec::new(),
        start: Some(format!("{:02}:00", night.hour)),
        cron: None,
        duration_min: night.minutes,
        gates: Gates { download: night.downloads, install: true },
        mode: if night.best_effort { Mode::BestEffort } else { Mode::Hard },
    });
    let cancels = |max| HaltSpec { max_failures: Some(max), action: HaltKind::Cancel, ..HaltSpec::default() };
    let halt = roll.max_failures.map(cancels);
    Spec {
        name: roll.name.parse().unwrap(),
        release: setup.releases[roll.release].digest,
        selector: roll.region.map_or_else(|| "all".to_owned(), |region| format!("region = {region}")),
        audience: if roll.frozen { Membership::Frozen } else { Membership::Live },
        policy: match roll.offers {
            Offers::Immediate => PolicyKind::Immediate,
            Offers::Scheduled => PolicyKind::Scheduled,
            Offers::Progressive => PolicyKind::Progressive,
            Offers::OnConnect => PolicyKind::OnConnect,
        },
        start_at: None,
        min_absence_s: None,
        windows: window.into_iter().collect(),
        phases: roll.phases.iter().map(phase).collect(),
        unit: if roll.by_site { Moves::Site } else { Moves::Device },
        caps: Caps {
            downloads: Cap { max_in_flight: downloads, max_in_flight_per_site: downloads_site },
            activations: Cap { max_in_flight: activations, max_in_flight_per_site: activations_site },
        },
        priority: roll.priority,
        max_attempts: roll.max_attempts,
        allow_downgrade: false,
        expected_install_min: roll.expected_install_min,
        during_trading: roll.during_trading,
        offline_activation: roll.alone.is_some(),
        activate_on: match roll.alone {
            None | Some(Alone::CutOff) => ActivateOn::Now,
            Some(Alone::Shutdown) => ActivateOn::Shutdown,
            Some(Alone::Boot) => ActivateOn::Boot,
        },
        deadline: None,
        ends_at: None,
        default_tz: None,
        pace: roll.pace.map(|rate| Pace { max_offers_per_minute: rate, doubles_every: roll.doubles_every }),
        halt: halt.into_iter().collect(),
        security: false,
    }
}

fn phase(part: &Part) -> PhaseSpec {
    PhaseSpec {
        name: part.name.to_owned(),
        percent: Some(part.percent),
        selector: None,
        success_percent: part.success_percent,
        completed_percent: part.completed_percent,
        min_completed: part.min_completed,
        max_wait_min: part.max_wait_min,
        soak_min: part.soak_min,
        approval: Approval::Auto,
    }
}

impl Server for Twin {
    fn tell(&mut self, now: Timestamp, rollout: usize, word: Word) -> bool {
        let id = self.setup.rollouts[rollout].id;
        let started = |ledger: &Ledger| ledger.rollout(id).unwrap().state != RolloutState::Draft;
        let done = match word {
            Word::Start => self.ledger.start(now, id, &self.units),
            _ if !started(&self.ledger) => Err("it is a draft".to_owned()),
            Word::Pause => self.ledger.change_state(now, id, RolloutState::Paused, false),
            Word::Resume => self.ledger.change_state(now, id, RolloutState::Running, false),
            Word::Acknowledge => self.ledger.change_state(now, id, RolloutState::Running, true),
            Word::Cancel => self.ledger.change_state(now, id, RolloutState::Cancelled, false),
        };
        done.is_ok()
    }

    fn hold(&mut self, _now: Timestamp, device: usize, held: bool) {
        self.units[device].device.held = held.then(|| Hold { reason: "a test".to_owned(), until: None });
    }

    fn move_to(&mut self, _now: Timestamp, device: usize, site: usize) {
        self.setup.devices[device].site = site;
        let there = self::device(&self.setup, device);
        let moved = &mut self.units[device].device;
        (moved.site, moved.site_tz, moved.site_rules) = (there.site, there.site_tz, there.site_rules);
        moved.labels = there.labels;
    }

    fn enrol(&mut self, now: Timestamp, device: usize) {
        self.ledger.enrol(now, &mut self.units[device]).unwrap();
    }

    fn check_in(&mut self, now: Timestamp, device: usize, says: &Says) -> Told {
        let unit = &mut self.units[device];
        if unit.last_seen.is_none() {
            unit.rhythm = Rhythm::guess(&unit.device, now);
        }
        unit.device.hw = self.setup.devices[device].hw.to_owned();
        (unit.device.arch, unit.device.agent) = ("x86_64".to_owned(), AGENT.to_owned());
        unit.device.channels = vec!["stable".to_owned()];
        unit.device.installed.clone_from(&says.installed);
        let booted = self.boots[device].is_some_and(|boot| boot != says.boot);
        self.boots[device] = Some(says.boot);
        let works_on = says.works_on.map(|(id, ..)| id);
        let decision = self.ledger.check_in(now, unit, booted, works_on).unwrap();
        self.listen(device);
        let unit = &self.units[device];
        let (action, id) = match decision.step {
            Step::GrantDownload { rollout, .. } => {
                (Action::Download, unit.device.assignment(rollout).map(|one| one.id))
            }
            Step::ContinueDownload { assignment } => (Action::Download, Some(assignment)),
            Step::GrantActivation { assignment, .. } | Step::ContinueActivation { assignment, .. } => {
                (Action::Install, Some(assignment))
            }
            Step::Cancel { assignment, .. } | Step::Recall { assignment } => (Action::Cancel, Some(assignment)),
            Step::Hold { assignment } => (Action::Hold, assignment),
            _ => (Action::None, None),
        };
        let one = unit.device.assignments.iter().find(|one| Some(one.id) == id);
        let attempt = one.map(|one| match (action, says.works_on) {
            (Action::Cancel, Some((works_on, attempt, _))) if works_on == one.id => attempt,
            _ => one.attempt,
        });
        Told {
            action,
            code: decision.reason.code,
            release: one.map(|one| one.release),
            attempt,
            next_s: decision.next_check_in.as_secs().clamp(1, POLL_S),
            not_after: match decision.step {
                Step::GrantActivation { not_after, .. } | Step::ContinueActivation { not_after, .. } => not_after,
                _ => None,
            },
            assignment: id,
            right: decision.right.map(|right| (right.not_before, right.not_after, alone_on(right.on))),
        }
    }

    fn report(&mut self, now: Timestamp, device: usize, reports: &[Report]) -> Vec<bool> {
        let mut taken = Vec::new();
        for report in reports {
            let heard = self.ledger.report(now, &mut self.units[device], report);
            assert!(!matches!(heard, Err(Unheard::OtherRelease(other)) if other != report.release_sha256));
            taken.push(heard.is_ok());
        }
        self.listen(device);
        taken
    }

    fn pass(&mut self, now: Timestamp) {
        let mut due = BTreeSet::new();
        while let Some(Reverse((_, device))) = self.rings.peek().filter(|Reverse((at, _))| *at <= now).copied() {
            self.rings.pop();
            due.insert(device);
        }
        for device in due {
            self.ledger.ring(now, &mut self.units[device]).unwrap();
            self.listen(device);
        }
        self.ledger.look(now);
        self.ledger.news.clear();
    }

    fn restart(&mut self, _now: Timestamp) {}

    fn rows_of(&mut self, device: usize) -> Vec<Row> {
        let row = |(one, site): (&Assignment, Option<&SiteId>)| {
            let site = site.map(ToString::to_string);
            Row { rollout: self.index(one), phase: one.phase, state: one.state, site, whole: one.clone() }
        };
        let mut rows: Vec<Row> = self.units[device].lives().map(row).collect();
        rows.sort_by_key(|row| row.rollout);
        rows
    }

    fn stands(&mut self) -> Vec<Stand> {
        let stand = |roll: &Roll| {
            let rollout = self.ledger.rollout(roll.id).unwrap();
            let counts = self.ledger.standing(roll.id).map(|standing| standing.counts.clone()).unwrap_or_default();
            Stand { state: rollout.state, open_phase: rollout.open_phase, counts }
        };
        self.setup.rollouts.iter().map(stand).collect()
    }
}
