//! The journal of systemd, to which a service's standard error goes: it adds the time, and takes a priority from the
//! beginning of a line, which `journalctl -p` selects by.

use std::os::unix::fs::MetadataExt as _;

/// What a line says of its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Something that should work does not.
    Error,
    /// Somebody should look at it.
    Warning,
    /// What happens.
    Info,
    /// For those who look for a fault.
    Debug,
}

impl Priority {
    /// What stands before the line.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warning => "<4>",
            Self::Info => "<6>",
            Self::Debug => "<7>",
        }
    }
}

/// Whether standard error goes to the journal. The variable alone does not say that: it is inherited by whatever a
/// service starts, which may write elsewhere.
pub fn is_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}
