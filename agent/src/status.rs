//! What people see of a running agent: one line for systemd, and a file that `status` reads. Nothing here is needed
//! by the agent, so none of it is synced.

use std::io;

use callboard_proto::{instruction::Instruction, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    check_in::CheckInError,
    client::plain,
    fs::{self, Mode},
    machine::State,
};

/// What the agent saw of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// When the last answer came, by the server's clock.
    pub(crate) last_check_in: Option<Timestamp>,
    /// What it said.
    pub(crate) last_answer: Option<String>,
    /// Why the last check-in failed, if it did.
    pub(crate) last_error: Option<String>,
}

impl Seen {
    pub(crate) fn checked_in(&mut self, agent: &Agent, instruction: &Instruction) {
        self.last_check_in = Some(agent.clock.trusted_now());
        self.last_answer = Some(plain(&instruction.reason.text, 300));
        self.last_error = None;
    }

    pub(crate) fn failed(&mut self, error: &CheckInError) {
        self.last_error = Some(format!("failed to {error}"));
    }
}

/// One line for `systemctl status`.
pub(crate) fn line(state: &State, seen: &Seen) -> String {
    let doing = state.task().map_or_else(
        || "idle".to_owned(),
        |task| format!("{} {}: {:?}", task.order.product, task.order.version, state.wire()),
    );
    match &seen.last_error {
        Some(error) => format!("{doing}; {error}"),
        None => doing,
    }
}

/// Writes the file for `status`, as far as that works.
pub(crate) fn write(agent: &Agent, seen: &Seen) {
    let written = || -> io::Result<()> {
        let path = agent.state_dir.status();
        let new = path.with_extension("new");
        fs::remove_tree(&*agent.fs, &new)?;
        agent.fs.create(&new, Mode::Private)?;
        agent.fs.write_at(&new, 0, &serde_json::to_vec(seen)?)?;
        agent.fs.rename(&new, &path)
    };
    if let Err(error) = written() {
        tracing::debug!(%error, "the status file could not be written");
    }
}
