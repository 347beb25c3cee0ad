//! A small record that is never half-written: one of two preallocated files has it, with a checksum.
//!
//! A record is written to the slot that holds the older one, then `fdatasync`. No rename, no growth, no directory
//! sync: it cannot hit a full disk, and a torn write costs one step.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    fs::{self, Fs, Kind},
    words::Code,
};

pub(crate) mod bytes;

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("read {path}: it was written by a newer agent (schema {found}, this one knows {known})", known = bytes::SCHEMA)]
    Newer { path: PathBuf, found: u32 },
    #[error("write {path}: the record has {size} bytes, a slot has room for {room}", room = bytes::ROOM)]
    TooLarge { path: PathBuf, size: usize },
}

impl SlotError {
    /// A stable word for it.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => Code::of_storage(source),
            Self::Newer { .. } | Self::TooLarge { .. } => Code::Storage,
        }
    }
}

/// How the slots were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A valid record in each of them.
    Valid,
    /// A valid record in one. The other was damaged or gone, and is empty now.
    Half,
    /// No slot exists: there never was a record.
    New,
    /// Slots exist and none is valid.
    Lost,
}

/// The two slots and the newest record.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    paths: [PathBuf; 2],
    seq: u64,
    record: T,
}

/// What is in a slot.
enum Slot<T> {
    Missing,
    Invalid,
    Valid(u64, T),
}

impl<T: Clone + Default + Serialize + DeserializeOwned> Slots<T> {
    /// Reads the newest valid record; makes the slots if they are missing or broken.
    pub(crate) fn open(fs: &dyn Fs, paths: [PathBuf; 2]) -> Result<(Self, Found), SlotError> {
        let mut newest: Option<(u64, T)> = None;
        let (mut broken, mut damaged) = (Vec::new(), false);
        for path in &paths {
            match read(fs, path)? {
                Slot::Missing => broken.push(path),
                Slot::Invalid => {
                    broken.push(path);
                    damaged = true;
                }
                Slot::Valid(seq, record) => newest = newer(newest, seq, record),
            }
        }
        let found = match &newest {
            Some(_) if broken.is_empty() => Found::Valid,
            Some(_) => Found::Half,
            None if damaged => Found::Lost,
            None => Found::New,
        };
        for path in broken {
            make(fs, path, &T::default())?;
        }
        let (seq, record) = newest.unwrap_or_default();
        Ok((Self { paths, seq, record }, found))
    }

    /// Reads without writing anything, for `status`.
    pub(crate) fn peek(fs: &dyn Fs, paths: [PathBuf; 2]) -> Result<Option<T>, SlotError> {
        let mut newest = None;
        for path in &paths {
            if let Slot::Valid(seq, record) = read(fs, path)? {
                newest = newer(newest, seq, record);
            }
        }
        Ok(newest.map(|(_, record)| record))
    }

    /// The newest record.
    pub(crate) const fn record(&self) -> &T {
        &self.record
    }

    /// Makes `record` durable. On an error the record before it is still the valid one.
    pub(crate) fn write(&mut self, fs: &dyn Fs, record: T) -> Result<(), SlotError> {
        let seq = self.seq + 1;
        // Record n lies in slot n mod 2, so this one overwrites the older.
        let [even, odd] = &self.paths;
        let path = if seq.is_multiple_of(2) { even } else { odd };
        let bytes = encode(path, seq, &record)?;
        let failed = |source| SlotError::Write { path: path.clone(), source };
        match fs.write_at(path, 0, &bytes).and_then(|()| fs.sync_data(path)) {
            // The other slot has the record before. This one is made anew, elsewhere, which is the only write that needs room.
            Err(error) if fs::is_failing(&error) => fs::replace(fs, path, &bytes).map_err(failed)?,
            written => written.map_err(failed)?,
        }
        self.seq = seq;
        self.record = record;
        Ok(())
    }

    /// Makes `record` durable in both slots, so that damage to either of them later loses nothing, and brings nothing
    /// older back.
    pub(crate) fn write_twice(&mut self, fs: &dyn Fs, record: T) -> Result<(), SlotError> {
        self.write(fs, record.clone())?;
        self.write(fs, record)
    }
}

fn newer<T>(newest: Option<(u64, T)>, seq: u64, record: T) -> Option<(u64, T)> {
    match newest {
        Some((other, newest)) if other > seq => Some((other, newest)),
        _ => Some((seq, record)),
    }
}

/// Written in full once, so that no later write needs room. Zeros are never a slot, only damage.
fn make<T: Serialize>(fs: &dyn Fs, path: &Path, empty: &T) -> Result<(), SlotError> {
    let bytes = encode(path, 0, empty)?;
    let whole = || Ok(fs.stat(path)?.is_some_and(|meta| meta.kind == Kind::File && meta.size == bytes::SIZE_BYTES));
    let made = whole().and_then(|whole| match whole {
        // In place, as that works on a full disk too.
        true => fs.write_at(path, 0, &bytes).and_then(|()| fs.sync_data(path)),
        false => fs::replace(fs, path, &bytes),
    });
    made.map_err(|source| SlotError::Write { path: path.to_owned(), source })
}

fn encode<T: Serialize>(path: &Path, seq: u64, record: &T) -> Result<Vec<u8>, SlotError> {
    bytes::encode(seq, record).map_err(|size| SlotError::TooLarge { path: path.to_owned(), size })
}

fn read<T: DeserializeOwned>(fs: &dyn Fs, path: &Path) -> Result<Slot<T>, SlotError> {
    match fs.read(path, bytes::SIZE) {
        Ok(bytes) => match bytes::decode(&bytes) {
            Ok(Some((seq, record))) => Ok(Slot::Valid(seq, record)),
            Ok(None) => Ok(Slot::Invalid),
            // Guessing at its meaning could lose an installation.
            Err(bytes::Newer(found)) => Err(SlotError::Newer { path: path.to_owned(), found }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Slot::Missing),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Slot::Invalid),
        // A bad sector is no reason to stay down: the other slot has the record, or it is lost.
        Err(error) if fs::is_failing(&error) => Ok(Slot::Invalid),
        Err(source) => Err(SlotError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
