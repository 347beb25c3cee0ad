//! The `[hooks]` table: programs of the device's owner, and how long an update may be put off.

use std::{path::PathBuf, time::Duration};

use callboard_proto::release::{MAX_HOOK_TIMEOUT_S, MAX_POSTPONE_S};
use serde::Deserialize;

use super::{absolute, seconds};

/// What the device's owner decides about hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookSettings {
    /// Programs of the owner, in a directory for each stage.
    pub(crate) directory: PathBuf,
    /// Each file in it is a reason not to switch now.
    pub(crate) inhibit_directory: PathBuf,
    /// What a program of the owner may take.
    pub(crate) timeout: Duration,
    /// How soon the server is asked again after the device has put a switch off.
    pub(crate) retry: Duration,
    /// No switch is put off for longer, whatever the release allows.
    pub(crate) max_postpone: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragment {
    directory: Option<PathBuf>,
    inhibit_directory: Option<PathBuf>,
    timeout_s: Option<u64>,
    retry_s: Option<u64>,
    max_postpone_s: Option<u64>,
}

impl Fragment {
    pub(super) fn validate(self) -> Result<HookSettings, String> {
        let path = |key: &str, given: Option<PathBuf>, usual: &str| {
            absolute(&format!("hooks.{key}"), given.unwrap_or_else(|| usual.into()))
        };
        let most = u64::from(MAX_POSTPONE_S);
        let postpone = self.max_postpone_s.map(|given| seconds("hooks.max_postpone_s", given, 0, most));
        Ok(HookSettings {
            directory: path("directory", self.directory, "/etc/callboard/hooks.d")?,
            inhibit_directory: path("inhibit_directory", self.inhibit_directory, "/run/callboard/inhibit.d")?,
            timeout: seconds("hooks.timeout_s", self.timeout_s.unwrap_or(60), 1, u64::from(MAX_HOOK_TIMEOUT_S))?,
            retry: seconds("hooks.retry_s", self.retry_s.unwrap_or(60), 1, 86_400)?,
            max_postpone: postpone.transpose()?,
        })
    }
}
