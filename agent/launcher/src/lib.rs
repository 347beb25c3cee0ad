//! Which version of the agent runs. A program of its own, which the package of the system brings and nothing updates:
//! what could strand a till is here, and small enough to be read in one sitting.
//!
//! The agent writes its intent into [`record::Launch`], in two slots, and ends. The launcher reads them, counts the try
//! before it begins, and becomes the agent. Whatever goes wrong ends in the packaged agent, which lies beside it.
//!
//! A library, so that agent and launcher have one format, and the agent's simulated disk can stop the power here too.

pub mod files;
pub mod launch;
pub mod record;
pub mod slot;
mod start;

pub use start::{dir, main};

/// Where the agent's versions lie unless [`DIR_VARIABLE`] says otherwise.
pub const DEFAULT_DIR: &str = "/opt/callboard-agent";
/// The environment variable that names another directory.
pub const DIR_VARIABLE: &str = "CALLBOARD_AGENT_DIR";
/// Set by the launcher, to the directory that it looked into: how an agent knows that it was launched. All else of the
/// environment stays as it is.
pub const LAUNCHED_VARIABLE: &str = "CALLBOARD_LAUNCHED_FROM";
/// The agent's program, at the top of a version's directory and beside the launcher.
pub const PROGRAM: &str = "callboard-agent";
/// How an agent ends that wants the launcher to start another version.
pub const HAND_OVER: u8 = 10;
