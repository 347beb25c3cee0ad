//! A small record that is never half-written: one of two preallocated files has it, with a checksum.
//!
//! A record is written to the slot that holds the older one, then `fdatasync`. No rename, no growth, no directory
//! sync: it cannot hit a full disk, and a torn write costs one step.
//!
//! The bytes of a slot are those of `callboard_launcher::slot`. Each says in which schema its body is: an agent reads every
//! schema up to its own, and one that is on trial writes that of the agent before it.

use std::{
    io,
    path::{Path, PathBuf},
};

use callboard_launcher::slot::{self, ROOM, SIZE};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    fs::{self, Fs, Kind},
    words::Code,
};

/// What can stand in a slot.
pub(crate) trait Body: Clone + Default {
    /// The bytes, so that an agent that knows no schema above `schema` can read them.
    fn encode(&self, schema: u32) -> Vec<u8>;
    /// What was written in `schema`.
    fn decode(schema: u32, bytes: &[u8]) -> Option<Self>;
}

/// A body of this kind, as JSON.
pub(crate) fn json<T: Serialize>(body: &T) -> Vec<u8> {
    // A struct of strings and numbers always serialises; an empty body could never be mistaken for a record.
    serde_json::to_vec(body).unwrap_or_default()
}

/// Reads it.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// The schemas of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schemas {
    /// The highest that it can read.
    pub(crate) known: u32,
    /// The one that it writes.
    pub(crate) written: u32,
}

impl Schemas {
    /// Those of an agent that writes what it knows.
    pub(crate) const fn just(schema: u32) -> Self {
        Self { known: schema, written: schema }
    }
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("read {path}: it was written by a newer agent (schema {found}, this one knows {known})")]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("write {path}: the record has {size} bytes, a slot has room for {ROOM}")]
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
    schema: u32,
    seq: u64,
    record: T,
}

/// What is in a slot.
enum Slot<T> {
    Missing,
    Invalid,
    Valid(u64, T),
}

impl<T: Body> Slots<T> {
    /// Reads the newest valid record; makes the slots if they are missing or broken.
    pub(crate) fn open(fs: &dyn Fs, paths: [PathBuf; 2], schemas: Schemas) -> Result<(Self, Found), SlotError> {
        let mut newest: Option<(u64, T)> = None;
        let (mut broken, mut damaged) = (Vec::new(), false);
        for path in &paths {
            match read(fs, path, schemas.known)? {
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
            make(fs, path, schemas.written, &T::default())?;
        }
        let (seq, record) = newest.unwrap_or_default();
        Ok((Self { paths, schema: schemas.written, seq, record }, found))
    }

    /// The same for an agent that must start whatever it finds. What a newer one has written is lost for it, but kept
    /// beside the slots.
    pub(crate) fn open_anyway(fs: &dyn Fs, paths: [PathBuf; 2], schemas: Schemas) -> Result<(Self, Found), SlotError> {
        match Self::open(fs, paths.clone(), schemas) {
            Err(SlotError::Newer { .. }) => {}
            other => return other,
        }
        for path in &paths {
            set_aside(fs, path).map_err(|source| SlotError::Write { path: path.clone(), source })?;
        }
        Self::open(fs, paths, schemas).map(|(slots, _new)| (slots, Found::Lost))
    }

    /// Reads without writing anything, for `status`.
    pub(crate) fn peek(fs: &dyn Fs, paths: [PathBuf; 2], known: u32) -> Result<Option<T>, SlotError> {
        let mut newest = None;
        for path in &paths {
            if let Slot::Valid(seq, record) = read(fs, path, known)? {
                newest = newer(newest, seq, record);
            }
        }
        Ok(newest.map(|(_, record)| record))
    }

    /// Writes in another schema from now on.
    pub(crate) const fn write_in(&mut self, schema: u32) {
        self.schema = schema;
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
        let bytes = encode(path, self.schema, seq, &record)?;
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
fn make<T: Body>(fs: &dyn Fs, path: &Path, schema: u32, empty: &T) -> Result<(), SlotError> {
    let bytes = encode(path, schema, 0, empty)?;
    let size = u64::try_from(SIZE).unwrap_or(u64::MAX);
    let whole = || Ok(fs.stat(path)?.is_some_and(|meta| meta.kind == Kind::File && meta.size == size));
    let made = whole().and_then(|whole| match whole {
        // In place, as that works on a full disk too.
        true => fs.write_at(path, 0, &bytes).and_then(|()| fs.sync_data(path)),
        false => fs::replace(fs, path, &bytes),
    });
    made.map_err(|source| SlotError::Write { path: path.to_owned(), source })
}

fn set_aside(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    if fs.stat(path)?.is_none() {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".newer");
    fs.rename(path, Path::new(&name))?;
    path.parent().map_or(Ok(()), |parent| fs.sync_dir(parent))
}

fn encode<T: Body>(path: &Path, schema: u32, seq: u64, record: &T) -> Result<Vec<u8>, SlotError> {
    let body = record.encode(schema);
    let bytes = slot::Slot { schema, seq, body: &body }.encode();
    bytes.ok_or_else(|| SlotError::TooLarge { path: path.to_owned(), size: body.len() })
}

fn read<T: Body>(fs: &dyn Fs, path: &Path, known: u32) -> Result<Slot<T>, SlotError> {
    match fs.read(path, SIZE) {
        Ok(bytes) => match slot::decode(&bytes) {
            // Guessing at its meaning could lose an installation.
            Some(slot) if slot.schema > known => {
                Err(SlotError::Newer { path: path.to_owned(), found: slot.schema, known })
            }
            Some(slot) => {
                Ok(T::decode(slot.schema, slot.body).map_or(Slot::Invalid, |body| Slot::Valid(slot.seq, body)))
            }
            None => Ok(Slot::Invalid),
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
