//! The installer `command`: a program of the device's owner that puts releases into slots, packages or firmware.
//!
//! The agent decides what is installed and when; the program knows slots and boot loader. It is named by `agent.toml`
//! alone, never by the server or a release. Every verb is idempotent: it may be killed anywhere and is run again.

use std::{
    ffi::OsString,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use callboard_proto::{digest::Digest, release::Release, report::Failure};
use rustix::process::geteuid;
use tokio::process::ChildStdin;

use crate::{
    hooks,
    machine::permanent,
    run_program::{Ended, Program, Running},
    words::Code,
};

/// Said to the program, and said by it in answer to `probe`.
pub(crate) const CONTRACT: &str = "1";
/// Kept of each of standard output and error; answers are short, and a failure's reason stands at the end.
const KEEP: usize = 4096;
/// What others may not do with the program and with the directories that lead to it.
const WRITE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// What the program is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Say what it can do, and how far it is with a release. Changes nothing.
    Probe,
    /// Put a release's payloads beside what runs.
    Install,
    /// Make it what runs, now or with the next start of the machine.
    Activate,
    /// Say whether it is what runs.
    IsActive,
    /// Keep it; what was there before is not needed any more.
    Commit,
    /// Make what was there before what runs.
    Rollback,
}

/// One run of a program.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) program: &'a Path,
    pub(crate) verb: Verb,
    pub(crate) release: Digest,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// How long it may take.
    pub(crate) wait: Duration,
}

/// How a program ended, some time later.
pub(crate) type Ending<'a> = Pin<Box<dyn Future<Output = Result<Ended, Failure>> + 'a>>;

/// The installer programs. A test puts a model in their place.
pub(crate) trait Installers {
    /// Runs one to its end.
    fn run<'a>(&'a self, call: Call<'a>) -> Ending<'a>;
}

/// Those of the device's owner.
pub(crate) struct Programs;

impl Installers for Programs {
    fn run<'a>(&'a self, call: Call<'a>) -> Ending<'a> {
        Box::pin(async move { call.program()?.run(call.wait).await.map_err(|error| call.not_started(&error)) })
    }
}

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Install => "install",
            Self::Activate => "activate",
            Self::IsActive => "is-active",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
        }
    }
}

impl Call<'_> {
    /// Starts the program with a pipe for what it is to install.
    pub(crate) fn start_fed(&self) -> Result<(Running, ChildStdin), Failure> {
        self.program()?.start_fed().map_err(|error| self.not_started(&error))
    }

    fn program(&self) -> Result<Program, Failure> {
        let program = usable(self.program).map_err(|reason| permanent(Code::Installer, reason))?;
        let program = Program::new(&program, hooks::environment([]), KEEP)
            .arguments([self.verb.as_str(), &self.release.to_string()]);
        Ok(self.environment.iter().fold(program, |program, (name, value)| program.env(name, value)))
    }

    fn not_started(&self, error: &io::Error) -> Failure {
        permanent(Code::Installer, format!("{} could not be started: {error}", self.program.display()))
    }
}

/// The program behind `path`, if nobody can have changed it but root and whoever runs this agent.
pub(crate) fn usable(path: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    let real = path.canonicalize().map_err(|error| format!("installer {shown}: {error}"))?;
    let found = real.metadata().map_err(|error| format!("installer {shown}: {error}"))?;
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Err(format!("installer {shown} is no program; wanted is a file that may be executed"));
    }
    let chain = real.ancestors().chain(path.ancestors().skip(1));
    for place in chain {
        let found = place.metadata().map_err(|error| format!("installer {shown}: {}: {error}", place.display()))?;
        let own = geteuid().as_raw();
        if found.uid() != 0 && found.uid() != own {
            return Err(format!(
                "installer {shown}: {} belongs to user {}; it has to belong to root",
                place.display(),
                found.uid()
            ));
        }
        // In a sticky directory nobody can replace what belongs to others.
        let sticky = found.is_dir() && found.mode() & STICKY != 0;
        if found.mode() & WRITE_BY_OTHERS != 0 && !sticky {
            let place = place.display();
            return Err(format!("installer {shown}: others may write to {place}; chmod go-w {place}"));
        }
    }
    Ok(real)
}

/// What a program answers to `probe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probed {
    /// It takes payloads as a stream, so that they need not be stored.
    pub(crate) stream: bool,
    /// Bytes of the release's payloads, one after the other, that it has durably.
    pub(crate) have: u64,
    /// The release is complete beside what runs, or runs.
    pub(crate) ready: bool,
}

impl Probed {
    /// Reads `key=value` lines. Keys that are not known are for agents to come.
    pub(crate) fn parse(answer: &str, release: &Release) -> Result<Self, String> {
        let mut probed = Self::default();
        let mut contract = None;
        for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Some((key, value)) = line.split_once('=') else {
                return Err(format!("{line:?} is no answer to probe; wanted are lines such as contract={CONTRACT}"));
            };
            match key {
                "contract" => contract = Some(value),
                "stream" => probed.stream = yes(key, value)?,
                "ready" => probed.ready = yes(key, value)?,
                "have" => {
                    let have = value.parse().ok().filter(|have| *have <= total(release));
                    probed.have = have.ok_or_else(|| {
                        format!("have={value} is no number of bytes of this release, which has {}", total(release))
                    })?;
                }
                _ => {}
            }
        }
        match contract {
            Some(CONTRACT) => Ok(probed),
            Some(other) => Err(format!("it keeps contract {other}; this agent knows contract {CONTRACT}")),
            None => Err(format!("it does not say contract={CONTRACT} in answer to probe")),
        }
    }
}

/// Whether an answer asks for a restart of the machine.
pub(crate) fn asks_for_restart(answer: &str) -> bool {
    answer.lines().any(|line| line.trim() == "reboot=needed")
}

/// Bytes of all payloads.
pub(crate) fn total(release: &Release) -> u64 {
    release.payloads.iter().map(|payload| payload.size).sum()
}

fn yes(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("{key}={value} is neither yes nor no")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::testing;

    fn probed(answer: &str) -> Result<Probed, String> {
        Probed::parse(answer, &testing::release(1))
    }

    #[test]
    fn answers_to_probe_are_read_line_by_line() {
        let all = Probed { stream: true, have: 7, ready: true };
        assert_eq!(probed("contract=1\nstream=yes\nhave=7\nready=yes\ncolour=blue\n"), Ok(all));
        assert_eq!(probed("contract=1"), Ok(Probed::default()));
        for (answer, wanted) in [
            ("", "does not say contract=1"),
            ("stream=yes", "does not say contract=1"),
            ("contract=2", "keeps contract 2"),
            ("hello\ncontract=1", "\"hello\" is no answer"),
            ("contract=1\nstream=maybe", "neither yes nor no"),
            ("contract=1\nhave=8", "which has 7"),
            ("contract=1\nhave=-1", "no number of bytes"),
        ] {
            let said = probed(answer).expect_err("refused");
            assert!(said.contains(wanted), "{answer:?}: {said}");
        }
    }

    #[test]
    fn only_a_program_that_nobody_else_can_change_is_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let (bin, path) = (dir.path().join("bin"), dir.path().join("bin/installer"));
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
        };
        let refused = |wanted: &str| {
            let said = usable(&path).expect_err("refused");
            assert!(said.contains(wanted) && said.starts_with("installer /"), "{said}");
        };
        fs::create_dir(&bin).expect("made");
        refused("No such file");
        fs::write(&path, "#!/bin/sh\n").expect("written");
        mode(&path, 0o644);
        refused("is no program");
        mode(&path, 0o755);
        assert_eq!(usable(&path), path.canonicalize().map_err(|error| error.to_string()));
        for writable in [0o775, 0o757] {
            mode(&path, writable);
            refused("others may write to");
        }
        mode(&path, 0o755);
        mode(&bin, 0o777);
        refused("others may write to");
        // The directory that a link lies in counts as well as the one that it leads to.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&bin, &link).expect("linked");
        assert!(usable(&link.join("installer")).expect_err("refused").contains("others may write to"));
        mode(&bin, 0o1777);
        usable(&path).expect("nobody can replace it");
        mode(&bin, 0o755);
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        refused("is no program");
    }

    #[test]
    fn a_program_of_somebody_else_is_not_run() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("installer");
        fs::write(&path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        std::os::unix::fs::chown(&path, Some(12_345), None).expect("given away");
        let said = usable(&path).expect_err("refused");
        assert!(said.contains("belongs to user 12345"), "{said}");
    }
}
