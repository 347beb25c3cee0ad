//! Child processes that end with the demo, however it ends.
//!
//! A child is this same binary under a hidden verb that first asks the kernel to kill it when its parent is gone.
//! Each is its own process group, so that ctrl-C reaches the demo alone, which then ends them in order.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::stop::Stop;

/// The hidden verb.
pub(crate) const VERB: &str = "demo-child";
/// A process that runs until it is ended.
pub(super) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

/// This program with `args`, reading the profile of the demo.
pub(super) fn command<S: AsRef<OsStr>>(profile: &Path, args: impl IntoIterator<Item = S>) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
    // What the caller's shell says of other servers is not for the demo's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CALLBOARD_")) {
        command.env_remove(name);
    }
    command.args(args).env(crate::cli::profile::VARIABLE, profile).stdin(Stdio::null());
    Ok(command)
}

/// Starts a process that writes to `log`.
pub(super) fn start<S: AsRef<OsStr>>(
    name: &str,
    profile: &Path,
    args: impl IntoIterator<Item = S>,
    log: &Path,
) -> anyhow::Result<Running> {
    use std::os::unix::process::CommandExt as _;
    let file = File::options().create(true).append(true).open(log)?;
    let child = command(profile, [VERB, &std::process::id().to_string()])?
        .args(args)
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    Ok(Running { child, name: name.to_owned(), log: log.to_owned() })
}

impl Running {
    /// An error with the end of its log if it has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended ({status}): {}", self.name, self.last_words()),
        }
    }

    /// Asks it to end, as a shutdown does.
    pub(super) fn ask(&self) {
        // It may have ended already.
        let _ = pid(&self.child).map(|pid| kill_process(pid, Signal::TERM));
    }

    /// Waits for its end, at most `longest`; then kills it.
    pub(super) fn end(mut self, longest: Duration) -> anyhow::Result<ExitStatus> {
        self.ask();
        let until = Instant::now() + longest;
        // A child's end is a change that a signal would tell; a demo may look for it instead.
        let look = Stop::never();
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            look.wait(Duration::from_millis(10));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said last, for error messages.
    pub(super) fn last_words(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing can be done about failures here; the kernel ends the child with this process at the latest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn last_lines(log: &Path) -> String {
    const LINES: usize = 5;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join(" | ")
}

/// In the child: to be killed with the parent; false if that is gone already.
pub(super) fn bind_to_parent(parent: &str) -> bool {
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let alive = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    bound && alive.as_deref() == Some(parent)
}
