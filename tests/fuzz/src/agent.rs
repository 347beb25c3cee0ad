//! What the agent reads from its own disk and of its downloads. Its inside is reached by a door that only tests have.

/// A chunk list and the payload that it is to be of.
pub(super) fn chunk_list(bytes: &[u8]) -> bool {
    callboard_agent::fuzz::chunk_list(bytes)
}

/// A slot of the journal, and what the agent makes of its record.
pub(super) fn journal(bytes: &[u8]) -> bool {
    callboard_agent::fuzz::journal(bytes)
}
