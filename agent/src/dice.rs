//! Random numbers, from the operating system.

use callboard_proto::instruction::Nonce;

/// The operating system has no random numbers to give; nothing can be asked safely then.
#[derive(Debug, thiserror::Error)]
#[error("draw a random number: {0}")]
pub(crate) struct DiceError(getrandom::Error);

/// A nonce that was never used before.
pub(crate) fn nonce() -> Result<Nonce, DiceError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(DiceError)?;
    Ok(Nonce(bytes))
}

/// A number that spreads devices over time; where there is none, the middle does.
pub(crate) fn roll() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
