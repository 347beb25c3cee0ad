//! Other ways to start a server: from a shell, as somebody without rights, and such that it must fail.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{ANY_PORT, Output, TestServer};
use crate::postgres::unprivileged_user;

impl TestServer {
    /// `callboard serve` as the last words of another command.
    pub(super) fn under(&self, mut command: Command) -> Command {
        let plain = self.serve_command();
        command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(plain.get_program()).args(plain.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log_file());
        command
    }

    pub(super) fn serve_where_the_disk_is(&self) -> Command {
        self.disk.as_ref().map_or_else(|| self.serve_command(), |disk| self.under(disk.enter()))
    }

    /// Starts the server, which is expected to end by itself.
    pub fn serve_fails(&self) -> Output {
        Output::of_ending(&mut self.serve_where_the_disk_is())
    }

    /// Starts the server from a shell, after `prelude`.
    pub fn serve_under(&mut self, prelude: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{prelude}; exec \"$@\""), "sh"]);
        let child = self.under(shell).spawn().unwrap();
        self.wait_ready(child);
    }

    /// Starts the server as a user for whom the rights of files hold.
    pub fn serve_unprivileged(&mut self) {
        let child = self.unprivileged().spawn().unwrap();
        self.wait_ready(child);
    }

    /// The same, where the server is expected to end by itself.
    pub fn unprivileged_refused(&self) -> Output {
        Output::of_ending(&mut self.unprivileged())
    }

    /// Whoever runs the tests as root stands above the rights of files. So the data directory is given to somebody
    /// else, as whom the server runs.
    fn unprivileged(&self) -> Command {
        let Some((uid, gid)) = unprivileged_user() else {
            return self.serve_command();
        };
        fs::set_permissions(self.home(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
        for path in tree(&self.dir()) {
            rustix::fs::chown(&path, owner.0, owner.1).unwrap();
        }
        // The build directory may be closed to others.
        let program = self.home().join("callboard");
        if !program.exists() {
            // Not by this process: a child that another test makes meanwhile would hold the file open for writing.
            assert!(Command::new("cp").arg(self.binaries.callboard).arg(&program).status().unwrap().success());
        }
        let plain = self.serve_command();
        let mut command = Command::new(program);
        command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(plain.get_args()).current_dir("/").uid(uid).gid(gid);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log_file());
        command
    }

    /// Runs `serve` with more arguments, which is expected to end by itself; gives exit code and messages.
    pub fn serve_refused(&self, more: &[&str]) -> Output {
        let mut command = self.command();
        command.arg("serve").arg("--dir").arg(self.dir()).args(more);
        for flag in ["--device-listen", "--admin-listen"].into_iter().filter(|flag| !more.contains(flag)) {
            command.args([flag, ANY_PORT]);
        }
        Output::of_ending(&mut command)
    }
}

/// A file or a directory with everything in it, the directory first.
pub fn tree(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        if path.is_dir() && !path.is_symlink() {
            let mut entries: Vec<PathBuf> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            found.append(&mut entries);
        }
        next += 1;
    }
    found
}

/// Takes the right to write from everybody, or gives it back to the owner.
pub fn set_writable(paths: &[PathBuf], writable: bool) {
    for path in paths {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        let mode = if writable { mode | 0o200 } else { mode & !0o222 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}
