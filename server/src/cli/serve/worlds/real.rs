//! The real use cases on a real database, by one server or by several.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use callboard_policy::{device::Hold, guard::Streak, rollout::RolloutState};
use callboard_proto::{
    admin::{NewFreeze, RolloutSpec},
    check_in::{CheckIn, Facts, Progress},
    digest::Digest,
    ids::{AssignmentId, DeviceId, Id},
    instruction::{Action, Instruction},
    report::Report,
    signed::Envelope,
    state::{AgentState, AssignmentState},
    time::Timestamp,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    server::{AGENT, POLL_S, Row, Says, Server, Stand, Told, Word, alone_on},
    setup::{Alone, Dice, Offers, Part, Roll, Setup},
    template::{Copy, Template},
};
use crate::{
    app::{
        self, App, Because, assignments,
        check_in::{self, Arrival, Question, Reply},
        devices, freezes, presence, report, rollouts, timers,
    },
    ca::DeviceCa,
    cli::serve::open,
    clock::Clock,
    db::{self, devices::NewDevice, rollouts::Record, sites::Site},
};

pub(super) struct Real {
    setup: Setup,
    apps: Vec<App>,
    runtime: tokio::runtime::Runtime,
    dice: Dice,
    clock: Clock,
    settings: crate::config::Settings,
    /// Since when the servers hear.
    hears_since: Timestamp,
    /// What was read last, and what it was read after.
    read: Option<State>,
    seq: u64,
    copy: Copy,
}

/// Everything about assignments and rollouts.
struct State {
    /// Commits before it was read: while there is no other one, it stays like this. Unknown to PostgreSQL.
    commits: Option<u32>,
    rows: Vec<Vec<Row>>,
    stands: Vec<Stand>,
}

impl Drop for Real {
    fn drop(&mut self) {
        self.apps.iter().for_each(|app| app.db.close());
    }
}

impl Real {
    pub(super) fn new(setup: &Setup, template: &Template, servers: usize) -> Self {
        let mut settings = template.settings();
        let copy = template.copy();
        settings.database = copy.url();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut real = Self {
            setup: setup.clone(),
            apps: Vec::new(),
            runtime,
            dice: Dice::new(setup.seed ^ 0xabcd),
            clock: Clock::fixed(setup.start),
            settings,
            hears_since: setup.start,
            read: None,
            seq: 0,
            copy,
        };
        real.apps = (0..servers).map(|_| real.open()).collect();
        real.make();
        real
    }

    fn open(&self) -> App {
        let ca = Arc::new(DeviceCa::load(&self.settings.dir).unwrap());
        let url = "https://localhost:8443".to_owned();
        self.runtime.block_on(open(&self.settings, self.clock.clone(), ca, url, Vec::new())).unwrap()
    }

    /// One of the servers.
    fn app(&mut self) -> usize {
        self.dice.roll(self.apps.len() as u64) as usize
    }

    /// Makes sites, devices and drafts known.
    fn make(&mut self) {
        let (setup, now) = (self.setup.clone(), self.setup.start);
        let app = &self.apps[0];
        let written = self.runtime.block_on(app.db.write(move |conn| {
            for shop in &setup.sites {
                let labels = BTreeMap::from([("region".to_owned(), shop.region.to_owned())]);
                let mut site = Site::new(shop.id.parse().unwrap(), shop.id.clone(), shop.tz, labels);
                let hours = shop.trades.map(|(opens, closes)| {
                    json!({ "days": [], "opens": format!("{opens:02}:00"), "closes": format!("{closes:02}:00") })
                });
                site.trading = hours.into_iter().map(|hours| serde_json::from_value(hours).unwrap()).collect();
                db::sites::put(conn, &site)?;
            }
            let new = |n: usize| NewDevice {
                id: setup.devices[n].id,
                name: setup.devices[n].name.parse().unwrap(),
                site: Some(setup.shop(n).id.parse().unwrap()),
                description: String::new(),
                serial: None,
                labels: BTreeMap::new(),
                installed: Vec::new(),
            };
            let devices: Vec<NewDevice> = (0..setup.devices.len()).map(new).collect();
            db::devices::insert(conn, &devices, now)?;
            for roll in &setup.rollouts {
                let record = Record {
                    id: roll.id,
                    release: setup.releases[roll.release].digest,
                    spec: spec(&setup, roll),
                    state: RolloutState::Draft,
                    state_reason: None,
                    created_at: now,
                    started_at: None,
                    ended_at: None,
                    open_phase: 0,
                    streak: Streak::default(),
                    takes_back: None,
                    created_by: "test".to_owned(),
                    edited_by: None,
                    countersigned: None,
                    phases: Vec::new(),
                };
                db::rollouts::insert(conn, &record)?;
            }
            Ok::<_, app::Error>(())
        }));
        written.unwrap();
        if let Some((from, to, region)) = self.setup.freeze {
            let freeze = NewFreeze {
                name: "freeze".parse().unwrap(),
                reason: "a test".to_owned(),
                from: from.to_string(),
                to: to.to_string(),
                selector: Some(format!("region = {region}")),
            };
            self.runtime.block_on(freezes::create(&self.apps[0], app::Actor::unlimited("test"), freeze)).unwrap();
        }
        for app in &self.apps {
            self.runtime.block_on(app.reload_catalog()).unwrap();
        }
    }

    /// The other servers hear of changes now and then.
    fn follow(&mut self) {
        for app in &self.apps {
            self.runtime.block_on(app.refresh_catalog()).unwrap();
            app.forget_devices();
        }
    }

    fn read(&mut self) -> (&[Vec<Row>], &[Stand]) {
        let commits = self.copy.commits();
        if self.read.as_ref().is_none_or(|read| commits.is_none() || read.commits != commits) {
            self.read = Some(self.look(commits));
        }
        let State { rows, stands, .. } = self.read.as_ref().unwrap();
        (rows, stands)
    }

    fn look(&self, commits: Option<u32>) -> State {
        let setup = self.setup.clone();
        let read = self.runtime.block_on(self.apps[0].db.read(move |conn| {
            let mut rows = vec![Vec::new(); setup.devices.len()];
            let mut stands = Vec::new();
            for (rollout, roll) in setup.rollouts.iter().enumerate() {
                let nil: AssignmentId = Id::from_uuid(Uuid::nil());
                for (record, _) in db::assignments::list(conn, roll.id, None, nil, 10_000)? {
                    let device = setup.devices.iter().position(|one| one.id == record.device).unwrap();
                    rows[device].push(Row {
                        rollout,
                        phase: record.assignment.phase,
                        state: record.assignment.state,
                        site: record.granted_site.map(|site| site.to_string()),
                        whole: record.assignment,
                    });
                }
                let record = db::rollouts::get(conn, roll.id)?.unwrap();
                let counts = rollouts::all_counts(&record);
                stands.push(Stand { state: record.state, open_phase: record.open_phase, counts });
            }
            Ok::<_, app::Error>(State { commits, rows, stands })
        }));
        read.unwrap()
    }

    fn device(&self, device: usize) -> DeviceId {
        self.setup.devices[device].id
    }
}

impl Server for Real {
    fn tell(&mut self, now: Timestamp, rollout: usize, word: Word) -> bool {
        self.clock.set(now);
        let name = self.setup.rollouts[rollout].name.to_owned();
        let because = Because { by: app::Actor::unlimited("test"), reason: "a test".to_owned() };
        let at = self.app();
        let app = &self.apps[at];
        let change = |to, acknowledge| rollouts::change_state(app, name.clone(), to, because.clone(), acknowledge);
        let id = self.setup.rollouts[rollout].id;
        let read = app.db.read(move |conn| Ok::<_, app::Error>(db::rollouts::get(conn, id)?.unwrap().state));
        let draft = self.runtime.block_on(read).unwrap() == RolloutState::Draft;
        if draft != (word == Word::Start) {
            return false;
        }
        let done = match word {
            Word::Start => {
                self.runtime.block_on(rollouts::start(app, name.clone(), because.clone())).map(|(record, _)| record)
            }
            Word::Pause => self.runtime.block_on(change(RolloutState::Paused, false)),
            Word::Resume => self.runtime.block_on(change(RolloutState::Running, false)),
            Word::Acknowledge => self.runtime.block_on(change(RolloutState::Running, true)),
            Word::Cancel => self.runtime.block_on(change(RolloutState::Cancelled, false)),
        };
        done.is_ok()
    }

    fn hold(&mut self, now: Timestamp, device: usize, held: bool) {
        self.clock.set(now);
        let hold = held.then(|| Hold { reason: "a test".to_owned(), until: None });
        let (at, name) = (self.app(), self.setup.devices[device].name.clone());
        self.runtime.block_on(devices::hold(&self.apps[at], app::Actor::unlimited("test"), name, hold)).unwrap();
        // An operator's word counts from its answer on, at every server within half a second.
        self.follow();
    }

    fn move_to(&mut self, now: Timestamp, device: usize, site: usize) {
        self.clock.set(now);
        self.setup.devices[device].site = site;
        let moved = json!({ "name": self.setup.devices[device].name, "site": self.setup.shop(device).id });
        let import = serde_json::from_value(json!({ "devices": [moved] })).unwrap();
        let at = self.app();
        self.runtime.block_on(devices::import(&self.apps[at], app::Actor::unlimited("test"), import)).unwrap();
        self.follow();
    }

    fn enrol(&mut self, now: Timestamp, device: usize) {
        self.clock.set(now);
        let (at, id) = (self.app(), self.device(device));
        let app = &self.apps[at];
        // What enrolment does, without keys and certificates.
        let credential = db::devices::Credential {
            spki: Digest::of(&now.millis().to_be_bytes()),
            certificate: "certificate".to_owned(),
            token: Id::from_uuid(Uuid::nil()),
            hw: self.setup.devices[device].hw.to_owned(),
            arch: "x86_64".to_owned(),
            serial: None,
        };
        let done = self.runtime.block_on(app.db.write(move |conn| {
            assignments::begin_anew(conn, id, now)?;
            Ok::<_, app::Error>(db::devices::set_credential(conn, id, &credential, now)?)
        }));
        done.unwrap();
        self.follow();
    }

    fn check_in(&mut self, now: Timestamp, device: usize, says: &Says) -> Told {
        self.clock.set(now);
        self.seq += 1;
        let state = match says.works_on {
            None => AgentState::Idle,
            Some((.., AssignmentState::Downloading)) => AgentState::Downloading,
            Some((.., AssignmentState::Staged)) => AgentState::Staged,
            Some(_) => AgentState::Trial,
        };
        let progress = says.works_on.map(|(assignment_id, attempt, _)| Progress {
            assignment_id,
            attempt,
            bytes_done: 0,
            bytes_total: 1,
        });
        let facts = Facts {
            hw: self.setup.devices[device].hw.to_owned(),
            arch: "x86_64".to_owned(),
            agent: AGENT.to_owned(),
            tz: None,
            serial: None,
            channels: vec!["stable".to_owned()],
            installed: says.installed.clone(),
            attributes: BTreeMap::new(),
            image_id: None,
            hardware_id: None,
        };
        let body = json!({
            "nonce": "0".repeat(64), "checkin_seq": self.seq, "boot_id": says.boot.to_string(),
            "facts": facts, "state": state, "progress": progress, "root_version": 1,
        });
        let body: CheckIn = serde_json::from_value(body).unwrap();
        for app in self.apps.iter().filter(|_| self.apps.len() > 1) {
            // What another server has heard is in the database a second later.
            self.runtime.block_on(presence::flush(app)).unwrap();
        }
        let (at, id) = (self.app(), self.device(device));
        let app = &self.apps[at];
        let answer = self.runtime.block_on(async {
            let known = devices::known(app, id).await.unwrap().unwrap();
            let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
            let request = Digest::of(&self.seq.to_le_bytes());
            let arrival = Arrival { request, address: None, issuer: Digest::of(b"the CA"), deadline };
            let mut question = Question::new(app, &known, body, arrival);
            match check_in::answer(app, known, &mut question).await.unwrap() {
                Reply::Signed(signed) => signed,
                Reply::Later(_) => panic!("it did not ask to wait"),
            }
        });
        let envelope = Envelope::parse::<Instruction>(&answer).unwrap();
        let told: Instruction = serde_json::from_slice(&envelope.payload).unwrap();
        Told {
            action: told.action,
            code: told.reason.code,
            release: told.release_sha256,
            attempt: told.attempt,
            next_s: u64::from(told.next_checkin_s).clamp(1, POLL_S),
            not_after: told.not_after.filter(|_| told.action == Action::Install),
            assignment: told.assignment_id,
            right: told
                .not_before
                .zip(told.not_after)
                .filter(|_| told.offline_activation)
                .map(|(from, to)| (from, to, alone_on(told.activate_on))),
        }
    }

    fn report(&mut self, now: Timestamp, device: usize, reports: &[Report]) -> Vec<bool> {
        self.clock.set(now);
        let (at, id, all) = (self.app(), self.device(device), reports.to_vec());
        let app = &self.apps[at];
        let mut taken = Vec::new();
        for one in all {
            let receipt = self.runtime.block_on(async {
                let known = devices::known(app, id).await.unwrap().unwrap();
                report::reports(app, &known, vec![one]).await.unwrap()
            });
            taken.push(receipt.refused.is_empty());
        }
        taken
    }

    fn pass(&mut self, now: Timestamp) {
        self.clock.set(now);
        let at = self.app();
        let app = &self.apps[at];
        // Who is silent, and timed out as well, is looked at twice, five seconds apart.
        for _ in 0..2 {
            self.runtime.block_on(timers::ring(app, self.hears_since)).unwrap();
        }
        self.runtime.block_on(rollouts::advance::advance_by_time(app)).unwrap();
        if self.dice.percent(50) {
            self.follow();
        }
    }

    fn restart(&mut self, now: Timestamp) {
        let at = self.app();
        self.clock.set(now);
        self.runtime.block_on(presence::flush(&self.apps[at])).unwrap();
        self.apps[at].db.close();
        self.apps[at] = self.open();
        if self.setup.seed % 4 == 3 {
            self.hears_since = now;
        }
    }

    fn rows_of(&mut self, device: usize) -> Vec<Row> {
        self.read().0[device].clone()
    }

    fn stands(&mut self) -> Vec<Stand> {
        self.read().1.to_vec()
    }

    fn keeps_time(&self) -> bool {
        false
    }

    fn may_be_behind(&self) -> bool {
        self.apps.len() > 1
    }
}

fn spec(setup: &Setup, roll: &Roll) -> RolloutSpec {
    let [downloads, downloads_site, activations, activations_site] = roll.caps;
    let cap = |all: Option<u32>, site: Option<u32>| json!({ "max_in_flight": all, "max_in_flight_per_site": site });
    let windows: Vec<serde_json::Value> = roll
        .window
        .iter()
        .map(|night| {
            json!({
                "tz": "site", "start": format!("{:02}:00", night.hour), "duration_min": night.minutes,
                "gates": if night.downloads { vec!["download", "install"] } else { vec!["install"] },
                "mode": if night.best_effort { "best_effort" } else { "hard" },
            })
        })
        .collect();
    let phase = |part: &Part| {
        json!({
            "name": part.name, "percent": part.percent, "success_percent": part.success_percent,
            "completed_percent": part.completed_percent, "min_completed": part.min_completed,
            "max_wait_min": part.max_wait_min, "soak_min": part.soak_min,
        })
    };
    let spec = json!({
        "name": roll.name,
        "release": setup.releases[roll.release].digest,
        "selector": roll.region.map_or_else(|| "all".to_owned(), |region| format!("region = {region}")),
        "audience": if roll.frozen { "frozen" } else { "live" },
        "policy": match roll.offers {
            Offers::Immediate => "immediate",
            Offers::Scheduled => "scheduled",
            Offers::Progressive => "progressive",
            Offers::OnConnect => "on_connect",
        },
        "windows": windows,
        "phases": roll.phases.iter().map(phase).collect::<Vec<_>>(),
        "unit": if roll.by_site { "site" } else { "device" },
        "caps": { "downloads": cap(downloads, downloads_site), "activations": cap(activations, activations_site) },
        "priority": roll.priority,
        "expected_install_min": roll.expected_install_min,
        "during_trading": roll.during_trading,
        "max_attempts": roll.max_attempts,
        "offline_activation": roll.alone.is_some(),
        "activate_on": match roll.alone {
            None | Some(Alone::CutOff) => "now",
            Some(Alone::Shutdown) => "shutdown",
            Some(Alone::Boot) => "boot",
        },
        "pace": roll.pace.map(|rate| json!({ "max_offers_per_minute": rate, "doubles_every": roll.doubles_every })),
        "halt": roll.max_failures.iter().map(|max| json!({ "max_failures": max, "action": "cancel" })).collect::<Vec<_>>(),
    });
    serde_json::from_value(spec).unwrap()
}
