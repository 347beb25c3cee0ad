//! A till whose agent updates itself: the real launcher, the packaged agent beside it, and what systemd does with them.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    server::{Binaries, TestServer},
    till::{QUICK, Till},
    wait,
};

/// The product that is the agent.
pub const AGENT: &str = "callboard-agent";

/// One enrolled till on its packaged agent.
pub struct LaunchedTill {
    pub till: Till,
    running: Option<Child>,
    /// How its processes have ended: an exit code, or the number of a signal, negative.
    pub ends: Vec<i32>,
}

impl TestServer {
    /// Enrols a till that is started by the launcher; `own` is what the agent's own table says.
    pub fn launched_till(&self, name: &str, own: &str) -> LaunchedTill {
        let till = self.till_via(self.device_address(), name, QUICK);
        let launched = LaunchedTill { till, running: None, ends: Vec::new() };
        let config = fs::read_to_string(launched.till.config()).unwrap();
        let own = format!("{config}\n[products.{AGENT}]\ndirectory = {:?}\n{own}", launched.dir());
        fs::write(launched.till.config(), own).unwrap();
        fs::create_dir(launched.bin()).unwrap();
        fs::copy(self.binaries().launcher, launched.launcher()).unwrap();
        std::os::unix::fs::symlink(self.binaries().agent, launched.bin().join(AGENT)).unwrap();
        launched
    }

    /// Builds, signs and publishes another version of the agent that behaves so, by the operator's commands.
    pub fn publish_agent(&self, version: &str, counter: u64, behaviour: &str) {
        let tree = self.home().join(format!("agent-{version}"));
        fs::create_dir(&tree).unwrap();
        let program = tree.join(AGENT);
        fs::copy(next_agent(self.binaries()), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("edition"), format!("{version} {behaviour}")).unwrap();
        let out = self.home().join(format!("agent-{version}.release"));
        let (tree, out) = (tree.to_str().unwrap(), out.to_str().unwrap());
        let (counter, key) = (counter.to_string(), self.dir().join("try-out-keys/release.key"));
        let build = ["release", "build", tree, "--product", AGENT, "--version", version, "--counter", &counter];
        self.cli([&build[..], &["--out", out]].concat()).ok();
        self.cli(["release", "sign", "--key", key.to_str().unwrap(), out]).ok();
        self.cli(["release", "publish", out]).ok();
    }
}

/// The other agent, without what only a debugger needs.
fn next_agent(binaries: Binaries) -> &'static Path {
    static STRIPPED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_dir, path) = STRIPPED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(AGENT);
        let stripped = Command::new("strip").arg("-o").arg(&path).arg(binaries.next_agent).status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(binaries.next_agent, &path).unwrap();
        }
        (dir, path)
    });
    path
}

impl LaunchedTill {
    /// Where the versions of the agent lie.
    pub fn dir(&self) -> PathBuf {
        self.till.home().join(AGENT)
    }

    fn bin(&self) -> PathBuf {
        self.till.home().join("bin")
    }

    fn launcher(&self) -> PathBuf {
        self.bin().join("callboard-launcher")
    }

    /// Starts the launcher.
    pub fn switch_on(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.till.home().join("agent.log")).unwrap();
        let mut command = Command::new(self.launcher());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CALLBOARD_AGENT_DIR", self.dir());
        command.arg("run").arg("--config").arg(self.till.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.running = Some(command.spawn().unwrap());
    }

    fn child(&mut self) -> &mut Child {
        self.running.as_mut().expect("the till is on")
    }

    /// `Restart=always`.
    fn keep_up(&mut self) {
        if let Some(status) = self.child().try_wait().unwrap() {
            self.ends.push(status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap());
            self.switch_on();
        }
    }

    /// Keeps the agent up until it is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        wait::until(what, || {
            self.keep_up();
            is_so(self)
        });
    }

    /// The version's directory that the agent runs from; `None` for the packaged one, and for the launcher.
    pub fn runs(&mut self) -> Option<String> {
        let program = fs::read_link(format!("/proc/{}/exe", self.child().id())).ok()?;
        let below = program.strip_prefix(self.dir().join("versions")).ok()?;
        Some(below.iter().next()?.to_str()?.to_owned())
    }

    /// `kill -9`, and the start that follows.
    pub fn kill(&mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
        self.ends.push(-9);
        self.switch_on();
    }

    /// Stops as systemd does.
    pub fn switch_off(&mut self) {
        let mut child = self.running.take().expect("the till is on");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.till.log());
    }

    /// What `status` says of the agent.
    #[track_caller]
    pub fn versions(&self) -> Value {
        let status = Command::new(self.bin().join(AGENT))
            .args(["status", "--output", "json", "--config"])
            .arg(self.till.config())
            .env_clear()
            .env("CALLBOARD_AGENT_DIR", self.dir())
            .output()
            .unwrap();
        let text = String::from_utf8(status.stdout).unwrap();
        assert!(status.status.success(), "{text}{}", String::from_utf8_lossy(&status.stderr));
        serde_json::from_str::<Value>(&text).unwrap()["agent"].clone()
    }
}

impl Drop for LaunchedTill {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may have ended by itself, which is then the test's business.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the ends of the agent: {:?}", self.ends);
        }
    }
}
