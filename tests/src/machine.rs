//! A machine to install on: a root directory of its own, where `/usr` and its like are this machine's and everything
//! that an installer writes is not.
//!
//! It is entered by `chroot` in a mount namespace, so nothing is mounted or written on the machine that runs the tests.
//! Needs `unshare` and a system that lets its users make namespaces.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use callboard_proto::enrol::Bundle;

use crate::server::{Binaries, Output, namespaces};

/// Makes the system's own directories visible below the root, and goes there. `/usr/local` belongs to the machine.
const ENTER: &str = r#"
set -e
root=$1; shift
for dir in /bin /sbin /lib /lib32 /lib64 /libx32 /usr /proc /dev; do
    if [ -L $dir ]; then
        ln -sfn "$(readlink $dir)" "$root$dir"
    elif [ -d $dir ]; then
        mkdir -p "$root$dir"
        mount --rbind $dir "$root$dir"
    fi
done
mount --bind "$root/local" "$root/usr/local"
exec chroot "$root" "$@"
"#;

/// A machine with the distribution of the agent in `/kit`, and nothing installed.
pub struct Machine {
    home: tempfile::TempDir,
}

impl Machine {
    /// `None` where none can be made.
    pub fn new(binaries: Binaries) -> Option<Self> {
        let home = tempfile::Builder::new().prefix("callboard-machine-").tempdir().unwrap();
        let machine = Self { home };
        for dir in ["etc", "kit", "local/bin", "local/sbin", "opt", "root", "run", "tmp", "var/lib"] {
            fs::create_dir_all(machine.path(dir)).unwrap();
        }
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        for file in ["install-agent.sh", "callboard-agent.service", "callboard-recover.service"] {
            fs::copy(deploy.join(file), machine.path("kit").join(file)).unwrap();
        }
        fs::copy(binaries.agent, machine.path("kit/callboard-agent")).unwrap();
        fs::copy(binaries.launcher, machine.path("kit/callboard-launcher")).unwrap();
        let probe = machine.run(&["true"]);
        (probe.code == Some(0)).then_some(machine)
    }

    /// Where a path of the machine lies. Without the leading slash.
    pub fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// What is written in a file of the machine.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A program of the machine's own.
    pub fn program(&self, path: &str, text: &[u8]) {
        fs::write(self.path(path), text).unwrap();
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A bundle, as an operator hands it over.
    pub fn bring(&self, bundle: &Bundle) {
        fs::write(self.path("kit/bundle.json"), serde_json::to_vec(bundle).unwrap()).unwrap();
    }

    /// Runs a command on the machine.
    pub fn run(&self, command: &[&str]) -> Output {
        let mut enter = Command::new("unshare");
        enter.args(namespaces()).args(["sh", "-c", ENTER, "sh"]).arg(self.home.path()).args(command);
        enter.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Output::of(enter.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("unshare: {error}")))
    }

    /// Runs the installer.
    pub fn install(&self, args: &[&str]) -> Output {
        self.run(&[&["sh", "/kit/install-agent.sh"], args].concat())
    }

    /// A systemd that notes what it is told. A service whose program ends with `BROKEN` does not start.
    pub fn with_systemd(self) -> Self {
        fs::create_dir_all(self.path("run/systemd/system")).unwrap();
        let script = "#!/bin/sh\n\
                      printf '%s\\n' \"$*\" >>/systemctl.log\n\
                      case $1 in restart) ! tail -c 6 /usr/local/bin/callboard-agent | grep -q BROKEN ;; esac\n";
        self.program("local/sbin/systemctl", script.as_bytes());
        self
    }

    /// What systemd was told since the last time.
    pub fn told(&self) -> Vec<String> {
        let told = self.read("systemctl.log").lines().map(str::to_owned).collect();
        let _ = fs::remove_file(self.path("systemctl.log"));
        told
    }
}
