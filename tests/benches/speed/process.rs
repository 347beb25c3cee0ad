//! Server processes, which end with the benchmark, and the processors that they share with the load.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// A process that is ended when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command` on the servers' processors.
    pub(crate) fn start(command: &mut Command, processors: &Processors) -> anyhow::Result<Self> {
        Self::start_as(command, processors, Role::Server)
    }

    /// Starts `command` on the processors of `role`.
    pub(crate) fn start_as(command: &mut Command, processors: &Processors, role: Role) -> anyhow::Result<Self> {
        processors.take(role)?;
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {command:?}"));
        processors.take(Role::Load)?;
        child.map(Self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until `ready` has something.
    pub(crate) fn until<T>(&mut self, ready: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        self.until_within(Duration::from_secs(30), ready)
    }

    /// The same, for what may take longer.
    pub(crate) fn until_within<T>(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            if let Some(status) = self.0.try_wait()? {
                anyhow::bail!("a process ended by itself: {status}");
            }
            anyhow::ensure!(began.elapsed() < limit, "a process was not ready within {} s", limit.as_secs());
            pause(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not SIGKILL at once: a master of workers would leave them behind.
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).ok();
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(15) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            pause(Duration::from_millis(10));
        }
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits; measuring is the one place that has to.
#[expect(clippy::disallowed_methods, reason = "a benchmark lets time pass, and there is nothing to wait for")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Who runs on which processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Load,
}

/// The machine's processors: one half for the servers, the other for the load, so that neither takes from the other.
pub(crate) struct Processors {
    servers: Vec<usize>,
    load: Vec<usize>,
}

impl Processors {
    pub(crate) fn split() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        let (servers, load) = all.split_at(all.len() / 2);
        if servers.is_empty() {
            return Ok(Self { servers: all.clone(), load: all });
        }
        Ok(Self { servers: servers.to_vec(), load: load.to_vec() })
    }

    /// Moves this process, and what it starts from now on.
    pub(crate) fn take(&self, role: Role) -> anyhow::Result<()> {
        let mut set = CpuSet::new();
        let cpus = if role == Role::Server { &self.servers } else { &self.load };
        cpus.iter().for_each(|cpu| set.set(*cpu));
        Ok(sched_setaffinity(None, &set)?)
    }

    /// How many the servers have.
    pub(crate) fn of_servers(&self) -> usize {
        self.servers.len()
    }
}
