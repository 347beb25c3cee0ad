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
mod hooks;
mod identity;
mod image;
mod install;
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
mod verify;
mod words;
mod work;

/// The program: its arguments in, its exit code out. Never returns.
pub fn main() {
    std::process::exit(i32::from(cli::main(std::env::args_os())));
}

/// The program with other arguments, the first of which is its name.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(cli::main(args))
}
