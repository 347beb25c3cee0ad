//! One agent per state directory.

use std::{fs::File, io, path::Path};

use rustix::fs::FlockOperation;

use crate::layout::StateDir;

/// Held as long as the process lives; the kernel releases it however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("use state directory {path}: another callboard-agent is running on it; stop that one first")]
    Taken { path: String },
    #[error("use state directory {path}: {source}")]
    Io { path: String, source: io::Error },
}

impl Lock {
    /// Takes the lock, or fails at once.
    pub(crate) fn take(state_dir: &StateDir) -> Result<Self, LockError> {
        let shown = || state_dir.path().display().to_string();
        let file = open(&state_dir.lock()).map_err(|source| LockError::Io { path: shown(), source })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Taken { path: shown() }),
            Err(error) => Err(LockError::Io { path: shown(), source: error.into() }),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_on_the_same_state_directory_is_told_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = StateDir::new(dir.path());
        let first = Lock::take(&state_dir).expect("free");
        let refused = Lock::take(&state_dir).expect_err("taken");
        assert!(refused.to_string().contains("another callboard-agent is running on it"), "{refused}");
        drop(first);
        Lock::take(&state_dir).expect("free again");
    }
}
