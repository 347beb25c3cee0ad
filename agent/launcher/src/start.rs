//! From the chosen programs to a running one, in the same process.

use std::{
    convert::Infallible,
    env,
    ffi::{CString, OsString},
    io::{self, Write as _},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::unistd::execve;

use crate::{
    DIR_VARIABLE, LAUNCHED_VARIABLE, PROGRAM,
    files::Disk,
    launch::{self, Chosen},
};

/// Where the packaged agent is looked for if the launcher cannot find out where it lies itself.
const USUAL_PLACE: &str = "/usr/local/bin";

/// The program. Returns only if nothing could be started.
pub fn main() -> ExitCode {
    let dir = dir();
    let Chosen { programs, notes } = launch::choose(&Disk, &dir);
    for note in &notes {
        say(note);
    }
    for program in programs.iter().chain([&packaged()]) {
        let Err(error) = become_it(program, &dir);
        say(&format!("failed to start {}: {error}", program.display()));
    }
    ExitCode::FAILURE
}

/// Returns only if it fails: the process is the agent from then on, for whoever has started it too. What the system does
/// not take for a program is none, and never a script for a shell.
fn become_it(program: &Path, dir: &Path) -> io::Result<Infallible> {
    let text = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::from);
    let own = text(program.into())?;
    let arguments = env::args_os().skip(1).map(text).collect::<io::Result<Vec<_>>>()?;
    let arguments: Vec<CString> = [own.clone()].into_iter().chain(arguments).collect();
    let kept = env::vars_os().filter(|(name, _)| name != LAUNCHED_VARIABLE);
    let told = (OsString::from(LAUNCHED_VARIABLE), OsString::from(dir));
    let environment = kept.chain([told]).map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        text(name)
    });
    Ok(execve(&own, &arguments, &environment.collect::<io::Result<Vec<_>>>()?)?)
}

/// Where the agent's versions lie, through links to the directory itself: those are the owner's choice.
pub fn dir() -> PathBuf {
    let dir = env::var_os(DIR_VARIABLE).map_or_else(|| PathBuf::from(crate::DEFAULT_DIR), PathBuf::from);
    dir.canonicalize().unwrap_or(dir)
}

/// The agent beside this program.
fn packaged() -> PathBuf {
    let own = env::current_exe().ok();
    own.as_deref().and_then(Path::parent).unwrap_or(Path::new(USUAL_PLACE)).join(PROGRAM)
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "callboard-launcher: {text}");
}
