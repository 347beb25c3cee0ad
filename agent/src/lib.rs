//! The Callboard agent: asks the server for its update, verifies it, installs it, and falls back when it fails.
//!
//! A library, so that the demo and the tests can run the same agent; the program is one line around it. Start reading
//! at `machine`, which knows every state, and at `run`, which carries them out.

use std::{ffi::OsString, process::ExitCode};

mod agent;
mod budget;
mod check_in;
mod cli;
mod client;
mod clock;
mod config;
mod dice;
mod doctor;
mod download;
mod enrol;
mod fs;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hardware;
mod hooks;
mod identity;
mod image;
mod install;
mod itself;
mod journal;
mod layout;
mod lock;
mod machine;
mod notify;
mod orders;
mod outbox;
mod poll;
mod products;
mod renew;
mod run;
mod run_program;
mod servers;
mod slots;
mod status;
#[cfg(test)]
mod testing;
mod trust;
mod vault;
mod verify;
mod words;
mod work;

/// The product that is the agent, and the name of its program at the top of a release.
pub const PRODUCT: &str = callboard_launcher::PROGRAM;

/// What a program around this library is. There is one, and in the tests there are others, of other versions.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its version.
    pub version: &'static str,
    /// In what schema it keeps its records once it is committed; it reads every one up to that. Raised when an older agent
    /// could no longer read them.
    pub schema: u32,
}

impl Program {
    /// The program of this package.
    pub const OURS: Self = Self { version: env!("CARGO_PKG_VERSION"), schema: 1 };
}

/// The program: its arguments in, its exit code out. Never returns.
pub fn main() {
    itself::hand_on();
    main_of(Program::OURS, std::env::args_os());
}

/// The commands, for whoever makes manual pages and completions of them; the agent itself has no place for that.
#[must_use]
pub fn command() -> clap::Command {
    cli::command()
}

/// The same for another one.
pub fn main_of(program: Program, args: impl IntoIterator<Item = OsString>) {
    std::process::exit(i32::from(cli::main(program, args)));
}

/// The program with other arguments, the first of which is its name.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(cli::main(Program::OURS, args))
}
