//! From the slots to the programs to be tried, one after the other.

use std::path::{Path, PathBuf};

use crate::{
    PROGRAM,
    files::{Files, Kind},
    record::{Dir, Launch, SCHEMA},
    slot::{self, Slot},
};

/// Starts without an agent that lasts, after which the version before is started.
pub const MAX_STARTS: u8 = 3;

/// What to start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// To be tried in this order; after them the packaged agent.
    pub programs: Vec<PathBuf>,
    /// What the journal of the system should know.
    pub notes: Vec<String>,
}

/// The two slots below the agent's directory.
pub fn slots(dir: &Path) -> [PathBuf; 2] {
    [dir.join("launch.0"), dir.join("launch.1")]
}

/// Where a version lies.
pub fn version(dir: &Path, name: &Dir) -> PathBuf {
    dir.join("versions").join(name.as_str())
}

/// Decides what to start, after what that costs is durable: a try of the version on trial, or one start more.
pub fn choose(files: &dyn Files, dir: &Path) -> Chosen {
    let mut chosen = Chosen::default();
    let Some((seq, launch)) = newest(files, dir, &mut chosen.notes) else { return chosen };
    let (next, versions) = plan(&launch);
    if next != launch
        && let Err(error) = write(files, dir, seq + 1, &next)
    {
        // What is not counted is not tried.
        chosen.notes.push(format!("failed to count this start, so the packaged agent it is: {error}"));
        return chosen;
    }
    for name in versions {
        match usable(files, dir, &name) {
            Ok(program) => chosen.programs.push(program),
            Err(why) => chosen.notes.push(format!("version {name} cannot be started: {why}")),
        }
    }
    chosen
}

/// What to write down, and which versions to try.
fn plan(launch: &Launch) -> (Launch, Vec<Dir>) {
    let mut next = launch.clone();
    let stable = [&launch.committed, &launch.previous].into_iter().flatten().cloned();
    match &mut next.trial {
        Some(trial) if trial.tries_left > 0 => {
            trial.tries_left -= 1;
            let on_trial = trial.dir.clone();
            (next, [on_trial].into_iter().chain(stable).collect())
        }
        _ => {
            let given_up = usize::from(launch.starts / MAX_STARTS);
            let versions: Vec<Dir> = stable.skip(given_up).collect();
            // Of the packaged agent nothing is counted: there is no other.
            if !versions.is_empty() {
                next.starts += 1;
            }
            (next, versions)
        }
    }
}

/// The newer of the two records.
fn newest(files: &dyn Files, dir: &Path, notes: &mut Vec<String>) -> Option<(u64, Launch)> {
    let mut newest: Option<(u64, Launch)> = None;
    for path in slots(dir) {
        // Without any record the agent was never updated, and that is nothing to be told.
        let Ok(bytes) = files.read(&path) else { continue };
        match read(&bytes) {
            Some((seq, launch)) if newest.as_ref().is_none_or(|(other, _)| *other < seq) => {
                newest = Some((seq, launch))
            }
            Some(_) => {}
            None => notes.push(format!("{} is damaged", path.display())),
        }
    }
    newest
}

fn read(bytes: &[u8]) -> Option<(u64, Launch)> {
    let slot = slot::decode(bytes).filter(|slot| slot.schema == SCHEMA)?;
    Some((slot.seq, Launch::from_text(std::str::from_utf8(slot.body).ok()?)?))
}

fn write(files: &dyn Files, dir: &Path, seq: u64, launch: &Launch) -> std::io::Result<()> {
    let [even, odd] = slots(dir);
    let path = if seq.is_multiple_of(2) { even } else { odd };
    let text = launch.to_text();
    let bytes = Slot { schema: SCHEMA, seq, body: text.as_bytes() }.encode();
    files.write(&path, &bytes.ok_or(std::io::ErrorKind::FileTooLarge)?)
}

/// The program of a version, if it is one that may be run; else why not.
pub fn usable(files: &dyn Files, dir: &Path, name: &Dir) -> Result<PathBuf, String> {
    let version = version(dir, name);
    let program = version.join(PROGRAM);
    let parts = [dir, &dir.join("versions"), &version, &program];
    for path in parts {
        let wrong = |why: &str| Err(format!("{} {why}", path.display()));
        let look = match files.look(path) {
            Ok(look) => look,
            Err(error) => return wrong(&format!("cannot be looked at: {error}")),
        };
        let wanted = if path == program { Kind::File } else { Kind::Directory };
        if look.kind != wanted {
            return wrong("is not what it must be, a directory and in it a file");
        }
        if !look.executable {
            return wrong("is not executable");
        }
        if !look.guarded {
            return wrong("can be changed by others than root");
        }
    }
    Ok(program)
}

#[cfg(test)]
mod tests;
