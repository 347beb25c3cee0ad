//! `callboard-agent run`

use std::io::IsTerminal;

use callboard_proto::text::{Lines, Priority, is_stderr_the_journal};
use tracing::Level;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};

use super::{Failed, runtime};
use crate::{
    config::Settings,
    identity::IdentityError,
    itself::Process,
    run::{self, Ended, StartError},
};

/// Returns the exit code.
pub(super) fn run(settings: Settings, process: Process, once: bool) -> Result<u8, Failed> {
    log();
    let ended = runtime()?.block_on(run::run(settings, process, once));
    match ended {
        Ok(Ended::Stopped | Ended::Done) => Ok(0),
        Ok(Ended::HandOver) => Ok(callboard_launcher::HAND_OVER),
        Ok(Ended::Failed) => Err(Failed::Tried("the server could not be asked, see the messages above".to_owned())),
        Err(error @ StartError::Identity(IdentityError::NotEnrolled { .. })) => Err(Failed::Input(error.to_string())),
        Err(error) => Err(Failed::Tried(format!("failed to {error}"))),
    }
}

/// What there is to do before the products start; nothing on a machine that is no device.
pub(super) fn recover(settings: Settings, process: Process) -> Result<(), Failed> {
    log();
    // Certificates and time are looked at with timers of the runtime.
    let runtime = runtime()?;
    let _entered = runtime.enter();
    match run::recover(settings, process) {
        Ok(()) | Err(StartError::Identity(IdentityError::NotEnrolled { .. })) => Ok(()),
        Err(error) => Err(Failed::Tried(format!("failed to {error}"))),
    }
}

/// A person's word, written down for the agent.
pub(super) fn resolve(settings: Settings, process: Process, keep: bool) -> Result<(), Failed> {
    log();
    let runtime = runtime()?;
    let _entered = runtime.enter();
    match run::resolve(settings, process, keep) {
        Ok(Ok(())) => super::say("the agent carries it out at its next start"),
        Ok(Err(why)) => Err(Failed::Input(why)),
        Err(error @ StartError::Identity(IdentityError::NotEnrolled { .. })) => Err(Failed::Input(error.to_string())),
        Err(error) => Err(Failed::Tried(format!("failed to {error}"))),
    }
}

/// To standard error, where the journal of systemd adds the time.
pub(super) fn log() {
    let level = std::env::var("CALLBOARD_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(Level::INFO);
    let terminal = std::io::stderr().is_terminal();
    let journal = is_stderr_the_journal();
    let builder = tracing_subscriber::fmt().with_max_level(level).with_ansi(terminal);
    let builder = builder.with_writer(writer(journal, terminal));
    // An error means that somebody else in this process has set up logging, which is fine.
    let _ = if journal { builder.without_time().try_init() } else { builder.try_init() };
}

/// Lines for standard error; the journal is told which of them are warnings.
fn writer(journal: bool, colours: bool) -> BoxMakeWriter {
    let of = |priority| move || Lines::for_journal(std::io::stderr(), priority);
    if !journal {
        return BoxMakeWriter::new(move || Lines::new(std::io::stderr(), colours));
    }
    let info = of(Priority::Info).with_max_level(Level::INFO).or_else(of(Priority::Debug));
    let warning = of(Priority::Warning).with_max_level(Level::WARN).or_else(info);
    BoxMakeWriter::new(of(Priority::Error).with_max_level(Level::ERROR).or_else(warning))
}
