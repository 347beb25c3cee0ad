//! A till: the real agent as a process, with a state directory and a product of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use callboard_proto::{
    admin::{Assignment, Device},
    state::AgentState,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    server::{Output, SmallDisk, TestServer, tree},
    wait,
};

/// One enrolled till.
pub struct Till {
    pub name: String,
    home: tempfile::TempDir,
    agent: &'static str,
    /// Looked into for programs before anything else.
    programs: Option<PathBuf>,
    /// Under its state directory.
    disk: Option<SmallDisk>,
    running: Option<Child>,
}

/// What a till's `agent.toml` says beside the directories.
pub const QUICK: &str = "factory_version = \"1.0.0\"\ntrial_s = 0\n";

impl TestServer {
    /// Enrols a till over `address`, which may be a proxy's. `product` is what the product's table says.
    pub fn till_via(&self, address: SocketAddr, name: &str, product: &str) -> Till {
        let till = Till::new(self.binaries().agent, name, product);
        let mut bundle = self.bundle(&json!({}));
        bundle.server_url = format!("https://{address}");
        fs::write(till.bundle(), serde_json::to_vec(&bundle).unwrap()).unwrap();
        till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", name]).ok();
        till
    }

    /// Enrols a till.
    pub fn till(&self, name: &str) -> Till {
        self.till_via(self.device_address(), name, QUICK)
    }

    /// A till's row in a rollout.
    #[track_caller]
    pub fn assignment(&self, rollout: &str, till: &Till) -> Option<Assignment> {
        let all: Vec<Assignment> = self.api().list(&format!("rollouts/{rollout}/assignments"));
        all.into_iter().find(|one| one.device.as_str() == till.name)
    }

    /// Waits until a till's assignment is over, and says how.
    #[track_caller]
    pub fn outcome(&self, rollout: &str, till: &Till) -> Assignment {
        wait::until_some(&format!("the end of {rollout} on {}", till.name), || {
            self.assignment(rollout, till).filter(|one| one.state.is_final())
        })
    }

    /// What the registry knows of a till.
    #[track_caller]
    pub fn registered(&self, till: &Till) -> Device {
        self.registered_by_name(&till.name)
    }

    /// The same by its name.
    #[track_caller]
    pub fn registered_by_name(&self, name: &str) -> Device {
        self.api().get(&format!("devices/{name}"))
    }
}

impl Till {
    /// A till that is not enrolled.
    pub fn new(agent: &'static str, name: &str, product: &str) -> Self {
        let home = tempfile::Builder::new().prefix("callboard-till-").tempdir().unwrap();
        let till = Self { name: name.to_owned(), home, agent, programs: None, disk: None, running: None };
        fs::create_dir(till.product()).unwrap();
        let config = format!(
            "state_dir = {:?}\n[polling]\nmin_s = 0\nmax_s = 1\nfirst_max_s = 0\nwait_s = 0\n\
             [network]\nconnect_timeout_s = 5\nanswer_timeout_s = 10\nstall_timeout_s = 2\n\
             [products.pos-app]\ndirectory = {:?}\n{product}",
            till.state_dir(),
            till.product()
        );
        fs::write(till.config(), config).unwrap();
        till
    }

    /// Sets a key that its `agent.toml` has.
    pub fn set(&self, key: &str, value: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        let is_it = |line: &str| line.split(" = ").next() == Some(key);
        assert_eq!(text.lines().filter(|line| is_it(line)).count(), 1, "{key}");
        let set = |line: &str| if is_it(line) { format!("{key} = {value}\n") } else { format!("{line}\n") };
        fs::write(self.config(), text.lines().map(set).collect::<String>()).unwrap();
    }

    /// Lets a program install the product, instead of the agent in a directory.
    pub fn install_by(&self, program: &Path, timeout_s: u64) {
        let text = fs::read_to_string(self.config()).unwrap();
        let line = text.lines().find(|line| line.starts_with("directory = ")).unwrap();
        let installer = format!("installer = {program:?}\ninstaller_timeout_s = {timeout_s}");
        fs::write(self.config(), text.replace(line, &installer)).unwrap();
    }

    /// Moves the state directory to a disk of its own; says whether there is one.
    pub fn move_to_small_disk(&mut self, bytes: u64) -> bool {
        self.disk = SmallDisk::mount(&self.state_dir(), bytes);
        self.disk.is_some()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Bytes of all files in the state directory.
    pub fn stored(&self) -> u64 {
        let dir = self.disk.as_ref().map_or_else(|| self.state_dir(), SmallDisk::seen_from_outside);
        // Files come and go meanwhile.
        let sizes =
            tree(&dir).into_iter().filter_map(|path| path.symlink_metadata().ok()).filter(|meta| meta.is_file());
        sizes.map(|meta| meta.len()).sum()
    }

    /// The product's directory.
    pub fn product(&self) -> PathBuf {
        self.home.path().join("pos-app")
    }

    pub fn config(&self) -> PathBuf {
        self.home.path().join("agent.toml")
    }

    pub fn bundle(&self) -> PathBuf {
        self.home.path().join("bundle.json")
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A verb with this till's configuration, to its end.
    pub fn command(&self, args: &[&str]) -> Output {
        ended(self.prepare(args))
    }

    /// From its next start on, the agent finds the programs of this directory before those of the machine.
    pub fn first_in_path(&mut self, programs: &Path) {
        self.programs = Some(programs.to_owned());
    }

    fn prepare(&self, args: &[&str]) -> Command {
        let mut command = match &self.disk {
            Some(disk) => {
                let mut command = disk.enter();
                command.arg(self.agent);
                command
            }
            None => Command::new(self.agent),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = self.programs.iter().cloned().chain(std::env::split_paths(&path));
        command.env_clear().env("PATH", std::env::join_paths(places).unwrap());
        command.args(args).arg("--config").arg(self.config());
        command
    }

    /// `run --once`.
    pub fn once(&self) -> Output {
        self.command(&["run", "--once"])
    }

    /// `run --once`, started by another program with these arguments.
    pub fn once_under(&self, wrapper: &[&str]) -> Output {
        let (program, first) = wrapper.split_first().expect("a program");
        let own = self.prepare(&["run", "--once"]);
        let mut command = Command::new(program);
        command.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(first).arg(own.get_program()).args(own.get_args());
        ended(command)
    }

    /// Starts the agent.
    pub fn switch_on(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.prepare(&["run"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.running = Some(command.spawn().unwrap());
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the till is on").id()
    }

    /// The power goes: `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.running.take().expect("the till is on");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the agent as systemd does.
    pub fn switch_off(&mut self) {
        let mut child = self.running.take().expect("the till is on");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("agent.log")
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// `status --output json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.command(&["status", "--output", "json"]).json()
    }

    /// Where the agent stands.
    #[track_caller]
    pub fn state(&self) -> AgentState {
        serde_json::from_value(self.status()["state"].clone()).unwrap()
    }

    /// The version that the agent says is installed.
    #[track_caller]
    pub fn version(&self) -> String {
        self.status()["installed"][0]["version"].as_str().unwrap_or("none").to_owned()
    }

    /// The bytes of a file below `current`.
    pub fn runs(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.product().join("current").join(file)).ok()
    }

    /// Bytes of payloads in the state directory.
    pub fn fetched(&self) -> u64 {
        let files = fs::read_dir(self.state_dir().join("payloads")).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// Waits until the agent runs a version and has nothing left to do.
    pub fn wait_for(&self, version: &str) {
        wait::until(&format!("the till runs {version}"), || {
            self.version() == version && self.state() == AgentState::Idle
        });
    }
}

/// Runs a program to its end.
fn ended(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may have ended by itself, which is then the test's business.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, self.log());
        }
    }
}
