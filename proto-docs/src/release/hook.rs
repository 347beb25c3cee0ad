//! Programs that a release brings for the stages of its own update, and what going back from it takes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest path of a hook in bytes.
pub const MAX_PATH: usize = 100;
/// Longest time that a hook may ask for, in seconds.
pub const MAX_TIMEOUT_S: u32 = 3600;
/// Longest time that a release may let itself be put off, in seconds: 90 days.
pub const MAX_POSTPONE_S: u32 = 90 * 86_400;

/// A program of the release's tree that the device runs at one stage of the update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub stage: Stage,
    /// Where it lies in the tree: names of `A-Z a-z 0-9 . _ - +` with no dot first, joined by `/`.
    pub path: String,
    /// After so many seconds it is stopped and has failed; 1 to [`MAX_TIMEOUT_S`].
    pub timeout_s: u32,
}

/// The stages of an update at which hooks run, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// May the device take the release? Nothing was changed yet.
    PreInstall,
    /// Saves the data, for `restore`.
    Backup,
    /// May the device switch now, and drains it. The previous version still runs.
    PreActivate,
    /// `current` is the new version and was restarted.
    PostActivate,
    /// Is the new version well? Once and again during the trial.
    Health,
    /// The new version stays.
    Committed,
    /// The device is about to go back.
    PreRollback,
    /// Brings the data back that `backup` saved.
    Restore,
    /// `current` is the previous version and was restarted.
    PostRollback,
    /// The update is over and has failed.
    Failure,
}

impl Stage {
    /// Every stage, in their order.
    pub const ALL: [Self; 10] = [
        Self::PreInstall,
        Self::Backup,
        Self::PreActivate,
        Self::PostActivate,
        Self::Health,
        Self::Committed,
        Self::PreRollback,
        Self::Restore,
        Self::PostRollback,
        Self::Failure,
    ];

    /// The name on the wire and for hooks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreInstall => "pre-install",
            Self::Backup => "backup",
            Self::PreActivate => "pre-activate",
            Self::PostActivate => "post-activate",
            Self::Health => "health",
            Self::Committed => "committed",
            Self::PreRollback => "pre-rollback",
            Self::Restore => "restore",
            Self::PostRollback => "post-rollback",
            Self::Failure => "failure",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What going back to the previous version takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Rollback {
    /// Nothing but the switch: the previous version reads what this one wrote.
    #[default]
    Safe,
    /// The hook `backup` before the switch and the hook `restore` after it.
    NeedsBackup,
    /// There is no way back: a device that cannot keep the new version waits for a person.
    Forbidden,
}

impl Rollback {
    pub(super) fn is_safe(&self) -> bool {
        *self == Self::Safe
    }
}

/// Whether the hooks are in order for a release that goes back like this.
pub(super) fn check(hooks: &[Hook], rollback: Rollback) -> Result<(), String> {
    for (n, hook) in hooks.iter().enumerate() {
        hook.check()?;
        if hooks.iter().take(n).any(|other| other.stage == hook.stage) {
            return Err(format!("hooks names stage {} twice", hook.stage));
        }
    }
    for stage in [Stage::Backup, Stage::Restore] {
        let there = hooks.iter().any(|hook| hook.stage == stage);
        match (there, rollback == Rollback::NeedsBackup) {
            (false, true) => return Err(format!("rollback needs_backup needs a hook for stage {stage}")),
            (true, false) => return Err(format!("a hook for stage {stage} needs rollback needs_backup")),
            (true, true) | (false, false) => {}
        }
    }
    Ok(())
}

impl Hook {
    fn check(&self) -> Result<(), String> {
        let Self { stage, path, timeout_s } = self;
        let legal = |name: &str| {
            let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'+');
            !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
        };
        if path.len() > MAX_PATH || !path.split('/').all(legal) {
            return Err(format!(
                "path {path:?} of hook {stage} is not a plain path in the tree of at most {MAX_PATH} bytes"
            ));
        }
        if !(1..=MAX_TIMEOUT_S).contains(timeout_s) {
            return Err(format!("timeout_s of hook {stage} is {timeout_s}; 1 to {MAX_TIMEOUT_S} is wanted"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_stages_are_those_of_the_wire() {
        for stage in Stage::ALL {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
        }
        assert!(Stage::ALL.is_sorted(), "their order is the order of an update");
    }
}
