//! A real server as a child process, on SQLite or on PostgreSQL.

mod cli;
mod launch;
mod recount;
mod small_disk;
mod sql;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use callboard_proto::{digest::Digest, root::Root, signed::Verified, time::Timestamp};
pub use cli::Output;
pub use launch::{set_writable, tree};
use serde::Deserialize;

use crate::{
    api::Api,
    clock::{START, TestClock},
    postgres::{self, Database},
    wait,
};
pub(crate) use small_disk::{SmallDisk, namespaces};

/// The thin binaries, which only an integration test knows.
#[derive(Clone, Copy, Debug)]
pub struct Binaries {
    pub callboard: &'static str,
    pub agent: &'static str,
    pub launcher: &'static str,
    /// The agent in other versions.
    pub next_agent: &'static str,
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A data directory with its database, and the server that runs on it unless it was stopped.
pub struct TestServer {
    pub engine: Engine,
    pub clock: TestClock,
    binaries: Binaries,
    admin_listen: String,
    home: tempfile::TempDir,
    disk: Option<SmallDisk>,
    database: Option<Arc<Database>>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    file: ServeFile,
}

/// Loopback, and a port that the system gives.
const ANY_PORT: &str = "127.0.0.1:0";

/// `run/serve.json`.
#[derive(Deserialize)]
struct ServeFile {
    device_url: String,
    admin_url: String,
    pid: u32,
}

/// Runs a test on both engines; without PostgreSQL that half is skipped and says so.
///
/// `settings` are lines of `server.toml`.
pub fn on_both(binaries: Binaries, settings: &[&str], test: impl Fn(&mut TestServer)) {
    let test = |server: &mut TestServer| {
        // A snapshot is the same on both engines.
        insta::allow_duplicates! { test(server) }
    };
    let test = |server: &mut TestServer| {
        test(server);
        server.recount();
    };
    test(&mut TestServer::start(binaries, Engine::Sqlite, settings).unwrap());
    match TestServer::start(binaries, Engine::Postgres, settings) {
        Some(mut server) => test(&mut server),
        None => eprintln!("skipped: needs postgres"),
    }
}

impl TestServer {
    /// A new data directory without a running server; `None` if the engine is not there.
    pub fn prepare(binaries: Binaries, engine: Engine) -> Option<Self> {
        let database = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Arc::new(postgres::database()?)),
        };
        Some(Self::of(binaries, engine, database, TestClock::starting()))
    }

    fn of(binaries: Binaries, engine: Engine, database: Option<Arc<Database>>, clock: TestClock) -> Self {
        let home = tempfile::Builder::new().prefix("callboard-test-").tempdir().unwrap();
        let admin_listen = ANY_PORT.to_owned();
        Self { engine, clock, binaries, admin_listen, home, disk: None, database, running: None }
    }

    /// A new data directory and a server on it, ready; `None` if the engine is not there.
    pub fn start(binaries: Binaries, engine: Engine, settings: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(binaries, engine)?;
        let dir = server.dir();
        server.cli(["init", "--fixed-clock", START, "--dir", dir.to_str().unwrap()]).ok();
        server.configure(settings);
        server.serve();
        Some(server)
    }

    /// Another server on the same database, with the same keys and a payload directory of its own.
    pub fn second(&self) -> Self {
        let mut second = Self::of(self.binaries, self.engine, self.database.clone(), self.clock.clone());
        fs::create_dir(second.dir()).unwrap();
        for entry in fs::read_dir(self.dir()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), second.dir().join(entry.file_name())).unwrap();
        }
        fs::copy(self.profile(), second.profile()).unwrap();
        fs::create_dir(second.dir().join("try-out-keys")).unwrap();
        let key = "try-out-keys/release.key";
        fs::copy(self.dir().join(key), second.dir().join(key)).unwrap();
        second.serve();
        second
    }

    /// Adds lines to `server.toml`; the next start reads them.
    pub fn configure(&self, settings: &[&str]) {
        let path = self.dir().join("server.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\n{}\n", settings.join("\n"))).unwrap();
    }

    /// Where operators reach the server from the next start on.
    pub fn listen_for_operators_on(&mut self, address: &str) {
        self.admin_listen = address.to_owned();
    }

    /// The data directory.
    pub fn dir(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.servers_dir(), SmallDisk::seen_from_outside)
    }

    /// The data directory by the name that the server knows.
    fn servers_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A directory for files of the test.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub const fn binaries(&self) -> Binaries {
        self.binaries
    }

    /// The database's URL, as the server is told.
    pub fn database_url(&self) -> String {
        match &self.database {
            Some(database) => database.url.clone(),
            None => format!("sqlite:{}", self.dir().join("callboard.db").display()),
        }
    }

    /// Starts the server and waits until it is ready.
    pub fn serve(&mut self) {
        let child = self.serve_where_the_disk_is().spawn().unwrap();
        self.wait_ready(child);
    }

    fn wait_ready(&mut self, mut child: Child) {
        let path = self.dir().join("run/serve.json");
        let file = wait::until_some("the server is ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            let file: ServeFile = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            (file.pid == child.id()).then_some(file)
        });
        self.running = Some(Running { child, file });
    }

    /// `callboard serve` as the tests run it.
    pub fn serve_command(&self) -> Command {
        let mut command = self.command();
        command.args(["serve", "--device-listen", ANY_PORT, "--admin-listen", &self.admin_listen, "--fixed-clock"]);
        command.arg(self.clock.now().to_string()).arg("--dir").arg(self.servers_dir());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log_file());
        command
    }

    fn log_file(&self) -> fs::File {
        fs::File::options().create(true).append(true).open(self.home.path().join("serve.log")).unwrap()
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("serve.log")).unwrap_or_default()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// `kill -9`: nothing is flushed, nothing said.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Stops as an operator does.
    pub fn stop(&mut self) {
        self.tell_to_stop();
        self.wait_stopped();
    }

    /// Tells the server to stop, and does not wait for it.
    pub fn tell_to_stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.running().child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until a server that was told to stop has ended well.
    pub fn wait_stopped(&mut self) {
        let status = self.running.take().expect("the server runs").child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    /// Stops; that it could not write everything is no surprise.
    pub fn stop_whatever(&mut self) {
        self.tell_to_stop();
        self.running.take().expect("the server runs").child.wait().unwrap();
    }

    pub fn restart_after_kill(&mut self) {
        self.kill();
        self.serve();
    }

    pub fn device_address(&self) -> SocketAddr {
        self.running().file.device_url.strip_prefix("https://").unwrap().parse().unwrap()
    }

    pub fn device_url(&self) -> &str {
        &self.running().file.device_url
    }

    /// The admin API, as the first admin.
    pub fn api(&self) -> Api {
        let (_scheme, address) = self.running().file.admin_url.split_once("://").unwrap();
        Api { address: address.parse().unwrap(), token: self.token() }
    }

    fn token(&self) -> String {
        let profile: toml::Table = fs::read_to_string(self.profile()).unwrap().parse().unwrap();
        profile["token"].as_str().unwrap().to_owned()
    }

    /// Sets the server's clock.
    pub fn set_clock(&self, now: Timestamp) {
        self.api().try_put("clock", &serde_json::json!({ "now": now })).ok();
        self.clock.set(now);
    }

    /// Lets the server's time pass.
    pub fn advance(&self, by: Duration) {
        self.set_clock(self.clock.now() + by);
    }

    /// The root that `init` made, as a device gets it.
    pub fn root(&self) -> Verified<Root> {
        Root::open_initial(&fs::read(self.dir().join("root.json")).unwrap()).unwrap()
    }

    /// Where the store keeps a payload.
    pub fn payload_file(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        self.dir().join("payloads").join(&hex[..2]).join(&hex[2..4]).join(hex)
    }

    /// Every file of the payload store, uploads under way among them.
    pub fn payload_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.dir().join("payloads")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            // It may have ended by itself, which is then the test's business.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("on {:?}; the server's log:\n{}", self.engine, self.log());
        }
    }
}
