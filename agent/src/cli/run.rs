//! `callboard-agent run`

use std::io::IsTerminal;

use callboard_proto::text::Lines;
use tracing::Level;

use super::{Failed, runtime};
use crate::{
    config::Settings,
    identity::IdentityError,
    run::{self, Ended, StartError},
};

pub(super) fn run(settings: Settings, once: bool) -> Result<(), Failed> {
    log();
    let ended = runtime()?.block_on(run::run(settings, once));
    match ended {
        Ok(Ended::Stopped | Ended::Done) => Ok(()),
        Ok(Ended::Failed) => Err(Failed::Tried("the server could not be asked, see the messages above".to_owned())),
        Err(error @ StartError::Identity(IdentityError::NotEnrolled { .. })) => Err(Failed::Input(error.to_string())),
        Err(error) => Err(Failed::Tried(format!("failed to {error}"))),
    }
}

/// To standard error, where the journal of systemd adds the time.
fn log() {
    let level = std::env::var("CALLBOARD_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(Level::INFO);
    let terminal = std::io::stderr().is_terminal();
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let builder = tracing_subscriber::fmt().with_max_level(level).with_ansi(terminal);
    let builder = builder.with_writer(move || Lines::new(std::io::stderr(), terminal));
    // An error means that somebody else in this process has set up logging, which is fine.
    let _ = if under_systemd { builder.without_time().try_init() } else { builder.try_init() };
}
