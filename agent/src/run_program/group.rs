//! Everything that a program has started, so that it can be ended as a whole.
//!
//! Where systemd has delegated the agent's control group (`Delegate=yes`, cgroup v2), the program gets one of its own
//! below it, which no child can leave. Elsewhere its processes are told by their process group and by a mark in their
//! environment, which a child that starts a session of its own inherits all the same.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::clock::boottime;

/// Carries the mark.
const MARK: &str = "CALLBOARD_RUN";
/// Where cgroup v2 is mounted, alone or beside v1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Processes that start others while they are being ended are looked for again so often.
const ROUNDS: u32 = 100;

/// The processes of one program.
#[derive(Debug)]
pub(crate) struct Group {
    mark: String,
    /// Its own control group, and the agent's.
    control: Option<(PathBuf, PathBuf)>,
    leader: Option<Pid>,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self::below(delegated())
    }

    /// With a control group below this one, if there is one.
    fn below(own: Option<PathBuf>) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Relaxed);
        let mark = format!("{}-{run}-{}", getpid().as_raw_nonzero(), boottime().as_nanos());
        let control = own.and_then(|own| {
            let child = own.join(format!("hook-{mark}"));
            fs::create_dir(&child).ok().map(|()| (child, own))
        });
        Self { mark, control, leader: None }
    }

    /// Starts the program in the group.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> io::Result<Child> {
        command.env(MARK, &self.mark).process_group(0).kill_on_drop(true);
        // A child begins where its parent is, so the agent goes there for that moment: there is none in which the child
        // could start another one elsewhere.
        let entered = self.control.as_ref().is_some_and(|(child, _)| enter(child).is_ok());
        let spawned = command.spawn();
        if let Some((child, own)) = &self.control {
            let back = !entered || enter(own).is_ok();
            if !(entered && back) {
                tracing::warn!(cgroup = %child.display(), "a program runs without a control group of its own");
                let _ = fs::remove_dir(child);
                self.control = None;
            }
        }
        let spawned = spawned?;
        self.leader = spawned.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(spawned)
    }

    /// TERM to all, and to whoever is left after `grace` KILL.
    pub(crate) async fn stop(&self, leader: &mut Child, grace: Duration) {
        self.signal(Signal::TERM);
        let end = Instant::now() + grace;
        while Instant::now() < end {
            // So that it is no zombie among the members.
            let _ = leader.try_wait();
            if self.members().is_empty() {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
        self.kill();
    }

    /// KILL to whoever is left.
    pub(crate) fn kill(&self) {
        if let Some((child, _)) = &self.control
            && fs::write(child.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for _ in 0..ROUNDS {
            if !self.signal(Signal::KILL) {
                return;
            }
        }
    }

    /// Says whether there was anybody to tell.
    fn signal(&self, signal: Signal) -> bool {
        let members = self.members();
        for pid in &members {
            // An error means that it is gone.
            let _ = kill_process(*pid, signal);
        }
        !members.is_empty()
    }

    fn members(&self) -> Vec<Pid> {
        let listed = self.control.as_ref().map(|(child, _)| fs::read_to_string(child.join("cgroup.procs")));
        match listed {
            Some(Ok(pids)) => pids.lines().filter_map(pid).filter(|pid| is_alive(*pid)).collect(),
            _ => processes().filter(|pid| self.has(*pid)).collect(),
        }
    }

    fn has(&self, pid: Pid) -> bool {
        let directory = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let stat = Stat::read(&directory);
        let grouped = stat.as_ref().is_some_and(|stat| Some(stat.group) == self.leader);
        let mark = format!("{MARK}={}", self.mark);
        let marked = || {
            let environment = fs::read(directory.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
        };
        stat.is_some_and(|stat| !stat.is_zombie) && (grouped || marked())
    }
}

impl Drop for Group {
    /// Nothing that a program has started outlives it.
    fn drop(&mut self) {
        self.kill();
        if let Some((child, _)) = &self.control {
            // They are ended, and may not be gone yet. Nobody sends: the receiver is a pause that cannot be cut short.
            let (_sender, pause) = std::sync::mpsc::channel::<()>();
            for _ in 0..ROUNDS {
                match fs::remove_dir(child) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        let _ = pause.recv_timeout(Duration::from_millis(5));
                    }
                    _ => return,
                }
            }
        }
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    is_zombie: bool,
    group: Pid,
}

impl Stat {
    fn read(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join("stat")).ok()?;
        // The name may hold anything, parentheses too.
        let (_, fields) = text.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let is_zombie = matches!(fields.next()?, "Z" | "X");
        // Of a process that is going away it is -1.
        let group = fields.nth(1).and_then(pid)?;
        Some(Self { is_zombie, group })
    }
}

fn is_alive(pid: Pid) -> bool {
    Stat::read(&PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()))).is_some_and(|stat| !stat.is_zombie)
}

fn pid(text: &str) -> Option<Pid> {
    text.trim().parse::<i32>().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str().and_then(pid))
}

fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), getpid().as_raw_nonzero().to_string())
}

/// The agent's own control group, if it may make others below it.
fn delegated() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = MOUNTS.into_iter().find(|mount| Path::new(mount).join("cgroup.procs").exists())?;
    let own = Path::new(mount).join(path);
    let says = |name: &str| {
        let mut value = [0; 8];
        rustix::fs::getxattr(&own, name, &mut value[..]).is_ok_and(|size| value.get(..size) == Some(&b"1"[..]))
    };
    ["user.delegate", "trusted.delegate"].into_iter().any(says).then(|| own.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control group of the test's own, where the machine has cgroup v2 and lets us.
    fn own() -> Option<PathBuf> {
        let mount = MOUNTS.into_iter().find(|mount| Path::new(mount).join("cgroup.procs").exists())?;
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let own = Path::new(mount).join(path);
        fs::write(own.join("cgroup.procs"), getpid().as_raw_nonzero().to_string()).ok().map(|()| own)
    }

    async fn gone(pid: Pid) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while is_alive(pid) && Instant::now() < end {
            sleep(LOOK_EVERY).await;
        }
        !is_alive(pid)
    }

    /// A grandchild in a session of its own, in a process group of its own, that ignores TERM.
    async fn ends_everything(mut group: Group) {
        let dir = tempfile::tempdir().expect("a directory");
        let pid_file = dir.path().join("pid");
        let inner = format!("trap '' TERM; echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", pid_file.display());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "setsid sh -c \"$1\" & wait", "sh", &inner]).env("PATH", "/usr/bin:/bin");
        let mut child = group.spawn(&mut command).expect("started");
        while !pid_file.exists() {
            sleep(LOOK_EVERY).await;
        }
        let grandchild = pid(&fs::read_to_string(&pid_file).expect("a pid")).expect("a number");
        assert!(is_alive(grandchild));
        group.stop(&mut child, Duration::from_millis(200)).await;
        let _ = child.wait().await;
        assert!(gone(grandchild).await, "the grandchild still runs");
        let control = group.control.as_ref().map(|(child, _)| child.clone());
        drop(group);
        assert!(control.is_none_or(|path| !path.exists()), "the control group is left over");
    }

    #[tokio::test]
    async fn a_grandchild_in_a_session_of_its_own_is_ended_by_its_mark() {
        ends_everything(Group::below(None)).await;
    }

    #[tokio::test]
    async fn a_grandchild_in_a_session_of_its_own_is_ended_by_its_control_group() {
        let Some(own) = own() else {
            eprintln!("skipped: needs cgroup v2 and the right to make groups");
            return;
        };
        let group = Group::below(Some(own));
        assert!(group.control.is_some());
        ends_everything(group).await;
    }
}
