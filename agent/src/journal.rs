//! What the agent was doing: one record in two preallocated slots.
//!
//! A record is written to the slot that holds the older one, then `fdatasync`. No rename, no growth, no directory
//! sync: it cannot hit a full disk, and a torn write costs one step. Progress (bytes, percent) is never journalled.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use callboard_proto::{ids::AssignmentId, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    fs::{Fs, Mode},
    layout::StateDir,
    machine::State,
};

mod slot;

/// Everything that must survive a power cut and changes with the agent's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Where the agent stands.
    pub(crate) state: State,
    /// Check-in numbers below this one may have been used.
    pub(crate) checkin_seq: u64,
    /// The last attempt that ended here, whatever the end was; it is not begun again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_ended: Option<Attempt>,
    /// Code of the last failure, until something succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// What was refused, by kind. Written with the state, and else only when a count doubles.
    #[serde(default)]
    pub(crate) attacks: BTreeMap<String, u64>,
    /// Failed check-ins in a row, roughly, so that a crash loop does not forget them.
    #[serde(default)]
    pub(crate) failures: u32,
    /// Nothing signed offline is newer, as far as this device knows.
    #[serde(default)]
    pub(crate) floor_time: Timestamp,
}

/// One attempt of one assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) assignment_id: AssignmentId,
    pub(crate) attempt: u32,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("read journal {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("write journal {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("read journal: it was written by a newer agent (schema {found}, this one knows {known})", known = slot::SCHEMA)]
    Newer { found: u32 },
    #[error("write journal: the record has {size} bytes, a slot has room for {room}", room = slot::ROOM)]
    TooLarge { size: usize },
}

/// How the journal was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A valid record.
    Valid,
    /// No slot exists: the device was just enrolled.
    New,
    /// Slots exist and none is valid.
    Lost,
}

/// The two slots and the newest record.
#[derive(Debug)]
pub(crate) struct Journal {
    slots: [PathBuf; 2],
    seq: u64,
    record: Record,
}

impl Journal {
    /// Reads the newest valid record; makes the slots if they are missing or broken.
    pub(crate) fn open(fs: &dyn Fs, state_dir: &StateDir) -> Result<(Self, Found), JournalError> {
        let slots = state_dir.slots();
        let mut newest: Option<(u64, Record)> = None;
        let mut found = Found::New;
        let mut broken = Vec::new();
        for path in &slots {
            match read_slot(fs, path)? {
                slot::Read::Missing => broken.push(path.clone()),
                slot::Read::Invalid => {
                    broken.push(path.clone());
                    found = Found::Lost;
                }
                slot::Read::Valid(seq, record) => {
                    if newest.as_ref().is_none_or(|(other, _)| seq > *other) {
                        newest = Some((seq, *record));
                    }
                }
            }
        }
        if newest.is_some() {
            found = Found::Valid;
        }
        let (seq, record) = newest.unwrap_or_default();
        for path in &broken {
            make_slot(fs, path).map_err(|source| JournalError::Write { path: path.clone(), source })?;
        }
        Ok((Self { slots, seq, record }, found))
    }

    /// Reads without writing anything, for `status`.
    pub(crate) fn peek(fs: &dyn Fs, state_dir: &StateDir) -> Result<Option<Record>, JournalError> {
        let mut newest: Option<(u64, Record)> = None;
        for path in state_dir.slots() {
            if let slot::Read::Valid(seq, record) = read_slot(fs, &path)?
                && newest.as_ref().is_none_or(|(other, _)| seq > *other)
            {
                newest = Some((seq, *record));
            }
        }
        Ok(newest.map(|(_, record)| record))
    }

    /// The newest record.
    pub(crate) const fn record(&self) -> &Record {
        &self.record
    }

    /// Makes `record` durable. On an error the record before it is still the valid one.
    pub(crate) fn write(&mut self, fs: &dyn Fs, record: Record) -> Result<(), JournalError> {
        let seq = self.seq + 1;
        let bytes = slot::encode(seq, &record)?;
        // Record n lies in slot n mod 2, so this one overwrites the older.
        let [even, odd] = &self.slots;
        let path = if seq.is_multiple_of(2) { even } else { odd };
        let failed = |source| JournalError::Write { path: path.clone(), source };
        fs.write_at(path, 0, &bytes).map_err(failed)?;
        fs.sync_data(path).map_err(failed)?;
        self.seq = seq;
        self.record = record;
        Ok(())
    }
}

/// Written in full once, so that no later write needs room.
fn make_slot(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    let size = fs.stat(path)?.map(|meta| meta.size);
    if size == Some(slot::SIZE_BYTES) {
        return Ok(());
    }
    if size.is_none() {
        fs.create(path, Mode::Private)?;
    }
    fs.truncate(path, 0)?;
    fs.write_at(path, 0, &slot::blank())?;
    fs.sync_data(path)?;
    path.parent().map_or(Ok(()), |parent| fs.sync_dir(parent))
}

fn read_slot(fs: &dyn Fs, path: &Path) -> Result<slot::Read, JournalError> {
    match fs.read(path, slot::SIZE) {
        Ok(bytes) => slot::decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(slot::Read::Missing),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(slot::Read::Invalid),
        Err(source) => Err(JournalError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
