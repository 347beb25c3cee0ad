//! What a hook that failed has said: too long for the journal, so it lies beside it until the failure is reported.

use callboard_proto::text::is_command;
use serde::{Deserialize, Serialize};

use super::MAX_OUTPUT;
use crate::{agent::Agent, fs, journal::Attempt};

#[derive(Serialize, Deserialize)]
struct Output {
    attempt: Attempt,
    text: String,
}

/// Keeps it, as far as that works: the failure itself has the last words too.
pub(super) fn keep(agent: &Agent, attempt: Attempt, text: &str) {
    // What a terminal would obey takes six bytes as JSON, and tells nobody anything.
    let plain = |c: char| if is_command(c) && !matches!(c, '\n' | '\t') { ' ' } else { c };
    let output = Output { attempt, text: text.chars().map(plain).collect() };
    let bytes = serde_json::to_vec(&output).unwrap_or_default();
    if let Err(error) = fs::replace(&*agent.fs, &agent.state_dir.output(), &bytes) {
        tracing::warn!(%error, "the output of a hook could not be kept");
    }
}

/// What the hook that ended this attempt has said.
pub(crate) fn said(agent: &Agent, attempt: Attempt) -> Option<String> {
    // Not UTF-8, a byte became three; as JSON, one may become two.
    let bytes = agent.fs.read(&agent.state_dir.output(), MAX_OUTPUT * 3 + 1024).ok()?;
    let output: Output = serde_json::from_slice(&bytes).ok()?;
    (output.attempt == attempt).then_some(output.text)
}

/// It is reported.
pub(crate) fn forget(agent: &Agent) {
    if let Err(error) = fs::remove_tree(&*agent.fs, &agent.state_dir.output()) {
        tracing::warn!(%error, "the output of a hook could not be removed");
    }
}
