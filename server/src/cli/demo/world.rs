//! The world of the demo: one server, ten tills, and a photograph of both to return to before every scenario.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use callboard_proto::{
    admin::{Device, DeviceStatus, ImportDevices, ImportSites, Imported, Page},
    time::Timestamp,
};

use super::{
    INTERRUPTED,
    door::Door,
    fleet::{self, AtStart, Fleet},
    operator::Operator,
    server::{self, Server},
    software,
    stage::{Board, Stage},
    till::Till,
    tree,
};
use crate::{
    cli::{
        api::{PageArgs, Path as ApiPath},
        stop::Stop,
    },
    clock::Clock,
};

/// How long a busy machine may take for a step that takes seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(200);
/// A scenario begins so long after the photograph: who is off then was away for more than an hour.
const ABSENCE: Duration = Duration::from_secs(2 * 3600);

/// Everything that exists.
pub(super) struct World {
    dir: PathBuf,
    fleet: Fleet,
    door: Door,
    devices_at: SocketAddr,
    server: Option<Server>,
    pub(super) tills: Vec<Till>,
    pub(super) operator: Operator,
    pub(super) stage: Stage,
    /// Of the rollout that is going on.
    pub(super) board: Option<Board>,
    stop: Stop,
}

impl World {
    /// Makes everything in `dir`, lets every till but the unknown one check in once, and takes the photograph.
    pub(super) fn make(dir: &Path, stage: &Stage, stop: &Stop) -> anyhow::Result<Self> {
        for part in ["devices", "logs", "software"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let mut world = Self {
            dir: dir.to_owned(),
            fleet: fleet::load()?,
            door: Door::open(stop)?,
            devices_at: (Ipv4Addr::LOCALHOST, 0).into(),
            server: None,
            tills: Vec::new(),
            operator: Operator::new(&dir.join("profile.toml"), stage),
            stage: stage.clone(),
            board: None,
            stop: stop.clone(),
        };
        server::init(&world.server_dir(), &world.operator, world.door.url())?;
        world.start_server()?;
        world.import()?;
        for software in software::ALL {
            software.publish(&dir.join("software"), &server::release_key(&world.server_dir()), &world.operator)?;
        }
        world.unpack()?;
        world.wait("nine tills to check in", |devices| {
            devices.iter().filter(|device| device.status == DeviceStatus::Online).count() == 9
        })?;
        world.halt()?;
        for part in ["server", "devices"] {
            tree::copy(&dir.join(part), &dir.join("photo").join(part))?;
        }
        Ok(world)
    }

    /// Puts everything back to the photograph, two hours later, with the tills of that state switched on.
    pub(super) fn begin(&mut self, on: &[AtStart]) -> anyhow::Result<()> {
        self.board = None;
        self.halt()?;
        for part in ["server", "devices"] {
            tree::remove(&self.dir.join(part))?;
            tree::copy(&self.dir.join("photo").join(part), &self.dir.join(part))?;
        }
        self.start_server()?;
        self.server()?.set_clock(Clock::system().now() + ABSENCE)?;
        for name in self.names(on) {
            self.switch_on(&name)?;
        }
        let wanted = self.names(on);
        self.wait("the tills to check in", |devices| {
            let online = devices.iter().filter(|device| device.status == DeviceStatus::Online);
            online.map(|device| device.name.to_string()).eq(wanted.iter().cloned())
        })
    }

    /// Where a browser looks.
    pub(super) fn url(&self) -> String {
        self.door.url()
    }

    /// The running server.
    pub(super) fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("the server is not running")
    }

    /// Names of the tills that begin in one of these states, in the order of the registry.
    pub(super) fn names(&self, states: &[AtStart]) -> Vec<String> {
        let facts = self.fleet.devices.iter().filter(|facts| states.contains(&facts.at_start));
        facts.map(|facts| facts.name.to_string()).collect()
    }

    /// Switches a till on; the one that nobody has seen is enrolled first.
    pub(super) fn switch_on(&mut self, name: &str) -> anyhow::Result<()> {
        let profile = self.operator.profile().to_owned();
        let bundle = self.dir.join(format!("{name}.bundle"));
        let till = self.tills.iter_mut().find(|till| till.name().as_str() == name).context("no such till")?;
        if !till.is_enrolled() {
            let file = bundle.to_str().context("the demo's directory must have a plain name")?;
            self.operator.runs(&["token", "create", "--device", name, "--bundle", file])?;
            till.enrol(&profile, &bundle)?;
        }
        till.switch_on(&profile)
    }

    /// All devices, as the registry shows them.
    pub(super) fn devices(&self) -> anyhow::Result<Vec<Device>> {
        let all = PageArgs { limit: 100, after: None };
        let page: Page<Device> = self.server()?.api.list(&ApiPath::new(["devices"]), &all)?;
        Ok(page.items)
    }

    /// Steps the server's clock; the tills follow with their next check-in.
    pub(super) fn set_clock(&self, now: Timestamp) -> anyhow::Result<()> {
        self.server()?.set_clock(now)
    }

    /// Looks at the devices again and again until they are as wanted.
    pub(super) fn wait(&mut self, what: &str, wanted: impl Fn(&[Device]) -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while !wanted(&self.devices()?) {
            anyhow::ensure!(Instant::now() < until, "waited {} seconds for {what}, in vain", PATIENCE.as_secs());
            self.breathe()?;
        }
        Ok(())
    }

    /// Between two looks: everything that should run runs, and nobody wants to stop.
    pub(super) fn breathe(&mut self) -> anyhow::Result<()> {
        if let Some(server) = &mut self.server {
            server.check()?;
        }
        for till in &mut self.tills {
            till.check()?;
        }
        anyhow::ensure!(!self.stop.wait(LOOK), INTERRUPTED);
        Ok(())
    }

    /// Switches everything off.
    pub(super) fn halt(&mut self) -> anyhow::Result<()> {
        for till in &self.tills {
            till.ask_off();
        }
        for till in &mut self.tills {
            till.switch_off()?;
        }
        self.door.lead_to(None);
        self.server.take().map_or(Ok(()), Server::end)
    }

    fn server_dir(&self) -> PathBuf {
        self.dir.join("server")
    }

    fn start_server(&mut self) -> anyhow::Result<()> {
        let log = self.dir.join("logs/server.log");
        let profile = self.operator.profile();
        let server = Server::start(&self.server_dir(), self.devices_at, profile, &log, &self.stop)?;
        self.devices_at = server.devices()?;
        self.door.lead_to(Some(server.admin()?));
        self.server = Some(server);
        Ok(())
    }

    fn import(&self) -> anyhow::Result<()> {
        let api = &self.server()?.api;
        let sites = ImportSites { sites: self.fleet.sites.clone(), dry_run: false };
        let _: Imported = api.post(&ApiPath::new(["sites", "import"]), &sites)?;
        let devices = self.fleet.devices.iter().map(fleet::Facts::import).collect();
        let _: Imported = api.post(&ApiPath::new(["devices", "import"]), &ImportDevices { devices, dry_run: false })?;
        Ok(())
    }

    fn unpack(&mut self) -> anyhow::Result<()> {
        for facts in &self.fleet.devices {
            self.tills.push(Till::unpack(facts, &self.dir.join("devices"), &self.dir.join("logs"))?);
        }
        for name in self.names(&[AtStart::Online, AtStart::Offline]) {
            self.switch_on(&name)?;
        }
        Ok(())
    }
}
