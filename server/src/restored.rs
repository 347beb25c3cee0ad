//! Whether a data directory is a backup that was put in place, and since when it runs again.
//!
//! What was issued between the backup and that moment is not in the registry. `callboard backup` leaves a mark in the
//! copy, and the first server on it writes the moment down.

use std::{fs, io, path::Path};

use callboard_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Access};

const FILE: &str = "restored.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// When a server first ran on it.
    at: Option<Timestamp>,
}

/// Marks a copy of a data directory as one.
pub(crate) fn mark(copy: &Path) -> io::Result<()> {
    fs::write(copy.join(FILE), serde_json::to_vec_pretty(&Mark { at: None })?)
}

/// When the directory was put in place, if it is a backup; it is now, if no server ran on it before.
pub(crate) fn at(dir: &Path, now: Timestamp) -> io::Result<Option<Timestamp>> {
    let path = dir.join(FILE);
    let mark: Mark = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if mark.at.is_none() {
        durable::replace(&path, &serde_json::to_vec_pretty(&Mark { at: Some(now) })?, Access::Owner)?;
    }
    Ok(mark.at.or(Some(now)))
}
