//! `callboard-agent prepare-image`

use std::io;

use super::{Failed, say};
use crate::{
    config::Settings,
    fs::{self, Disk, Fs},
    layout::StateDir,
    lock::{Lock, LockError},
};

/// Forgets who this device is; what is installed stays, and so do the floors.
pub(super) fn prepare_image(settings: &Settings, forget: bool) -> Result<(), Failed> {
    let dir = settings.state_dir.display();
    if !forget {
        return Err(Failed::Input(format!(
            "this makes the machine forget which device it is (key, certificate, root, reports in {dir}), so that copies of \
             its disk become devices of their own; if that is what you want, add --forget-this-device"
        )));
    }
    let state_dir = StateDir::new(&settings.state_dir);
    let failed = |error: io::Error| Failed::Tried(format!("failed to empty {dir}: {error}"));
    if Disk.stat(state_dir.path()).map_err(failed)?.is_none() {
        return say(&format!("there is nothing in {dir}; the machine is no device"));
    }
    let _lock = Lock::take(&state_dir).map_err(|error @ (LockError::Taken { .. } | LockError::Io { .. })| {
        Failed::Tried(format!("failed to {error}"))
    })?;
    // Whose identity is gone is no device any more, whatever else is left by a power cut; so it goes first.
    let all = [state_dir.identity(), state_dir.renewal(), state_dir.key(), state_dir.next_key(), state_dir.root()];
    let all = all.into_iter().chain([state_dir.sealed_key()]);
    let rest = [state_dir.outbox(), state_dir.payloads(), state_dir.status()];
    for path in all.chain(state_dir.slots()).chain(rest) {
        fs::remove_tree(&Disk, &path).map_err(failed)?;
    }
    Disk.sync_dir(state_dir.path()).map_err(failed)?;
    say(&format!("{dir} says nothing of this device any more; what is installed stays"))
}
