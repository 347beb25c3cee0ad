//! From a verified payload to files, trusting nothing in it: limits are those the release declares.
//!
//! Accepted are files, directories and symbolic links that stay inside, with long names in the GNU form. Everything
//! else is refused: absolute paths, `..`, hard links, devices, set-user-id, sparse files, names that occur twice,
//! more bytes or entries than declared, anything after the end.

use std::{
    collections::BTreeSet,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use callboard_proto::{release::Payload, report::FailureClass};

use super::unpack::{input::Input, input::Limited, names::Names};
use crate::{
    fs::{Fs, Mode},
    words::{Attack, Code},
};

mod input;
mod names;

/// zstd frames that need a larger window than 128 MiB are refused; a till has to hold it in memory.
const MAX_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 128 * 1024;
/// Zeros that programs add to fill the last record of a tar.
const MAX_PADDING: u64 = 64 * 1024;

/// A payload that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("entry {path:?} {reason}")]
    Path { path: String, reason: &'static str },
    #[error("there is more in it than the release declares ({0})")]
    Limit(&'static str),
    #[error("there is something after its end")]
    Trailing,
}

impl UnpackError {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Io(error) => match Code::of_storage(error) {
                Code::Storage => Code::Unpack,
                code => code,
            },
            Self::Path { .. } => Code::PathEscape,
            Self::Limit(_) | Self::Trailing => Code::Oversize,
        }
    }

    pub(super) const fn attack(&self) -> Option<Attack> {
        match self {
            Self::Io(_) => None,
            Self::Path { .. } => Some(Attack::PathEscape),
            Self::Limit(_) | Self::Trailing => Some(Attack::Oversize),
        }
    }

    pub(super) fn class(&self) -> FailureClass {
        match self {
            // A full or failing disk may recover; the same verified bytes will never unpack differently.
            Self::Io(error) if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::StorageFull => {
                FailureClass::Transient
            }
            _ => FailureClass::Permanent,
        }
    }
}

/// Copies a single file to its name.
pub(super) fn raw(
    fs: &dyn Fs,
    from: &Path,
    payload: &Payload,
    into: &Path,
    progress: &dyn Fn(),
) -> Result<(), UnpackError> {
    if payload.size > payload.unpacked_size {
        return Err(UnpackError::Limit("bytes"));
    }
    let path = into.join(&payload.name);
    // Nothing says whether it is a program, and being runnable does not harm other files.
    create(fs, &path, Mode::Program)?;
    copy(fs, &mut Input::new(fs, from), &path, payload.size, progress)
}

/// Unpacks a tar in one zstd frame.
pub(super) fn tar_zst(
    fs: &dyn Fs,
    from: &Path,
    payload: &Payload,
    into: &Path,
    progress: &dyn Fn(),
) -> Result<(), UnpackError> {
    let input = BufReader::with_capacity(BUFFER, Input::new(fs, from));
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    // Headers, padding and long names on top of the files' own bytes.
    let ceiling = payload.unpacked_size + (u64::from(payload.entries) + 1) * names::MAX_OVERHEAD + MAX_PADDING;
    let mut archive = tar::Archive::new(Limited::new(decoder, ceiling));
    let mut unpacker = Unpacker {
        fs,
        into,
        progress,
        bytes_left: payload.unpacked_size,
        entries_left: payload.entries,
        directories: BTreeSet::from([PathBuf::new()]),
    };
    let mut names = Names::default();
    for entry in archive.entries()?.raw(true) {
        unpacker.entry(&mut entry?, &mut names)?;
    }
    names.finish()?;
    let mut limited = archive.into_inner();
    if !limited.only_zeros_follow()? {
        return Err(UnpackError::Trailing);
    }
    let mut rest = limited.into_inner().finish();
    if rest.read(&mut [0])? != 0 {
        return Err(UnpackError::Trailing);
    }
    Ok(())
}

struct Unpacker<'a> {
    fs: &'a dyn Fs,
    into: &'a Path,
    progress: &'a dyn Fn(),
    bytes_left: u64,
    entries_left: u32,
    /// Directories that are known to be directories and not links to some.
    directories: BTreeSet<PathBuf>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, names: &mut Names) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if names.take_long(kind, entry)? {
            return Ok(());
        }
        let (path, target) = names.of(entry)?;
        let shown = || path.display().to_string();
        let refuse = |reason| UnpackError::Path { path: shown(), reason };
        self.entries_left = self.entries_left.checked_sub(1).ok_or(UnpackError::Limit("entries"))?;
        if entry.header().mode()? & 0o7000 != 0 {
            return Err(refuse("has the set-user-id, set-group-id or sticky bit"));
        }
        self.parents(&path)?;
        match kind {
            tar::EntryType::Directory => self.directory(&path),
            tar::EntryType::Regular => self.file(entry, &path),
            tar::EntryType::Symlink => {
                let target = names::inside(&path, &target).map_err(refuse)?;
                self.fs.symlink(&target, &self.into.join(&path)).map_err(|error| twice(error, &path))
            }
            _ => Err(refuse("is neither file, directory nor symbolic link")),
        }
    }

    /// Makes what is missing above `path`. Nothing is ever written through a link: what is not in the set of
    /// directories is created, and creating fails where a link stands.
    fn parents(&mut self, path: &Path) -> Result<(), UnpackError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if self.directories.contains(parent) {
            return Ok(());
        }
        self.parents(parent)?;
        self.directory(parent)
    }

    fn directory(&mut self, path: &Path) -> Result<(), UnpackError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        if self.directories.contains(path) {
            return Err(UnpackError::Path { path: path.display().to_string(), reason: "occurs twice" });
        }
        let full = self.into.join(path);
        match self.fs.create_dir(&full) {
            // Two payloads of one release may share directories.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_directory(self.fs, &full)? => {}
            other => other.map_err(|error| twice(error, path))?,
        }
        self.directories.insert(path.to_owned());
        Ok(())
    }

    fn file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<(), UnpackError> {
        let size = entry.header().entry_size()?;
        self.bytes_left = self.bytes_left.checked_sub(size).ok_or(UnpackError::Limit("bytes"))?;
        let mode = if entry.header().mode()? & 0o111 == 0 { Mode::Data } else { Mode::Program };
        let full = self.into.join(path);
        create(self.fs, &full, mode)?;
        copy(self.fs, entry, &full, size, self.progress)
    }
}

fn is_directory(fs: &dyn Fs, path: &Path) -> io::Result<bool> {
    Ok(fs.stat(path)?.is_some_and(|meta| meta.kind == crate::fs::Kind::Directory))
}

fn create(fs: &dyn Fs, path: &Path, mode: Mode) -> Result<(), UnpackError> {
    fs.create(path, mode).map_err(|error| twice(error, path))
}

fn twice(error: io::Error, path: &Path) -> UnpackError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            UnpackError::Path { path: path.display().to_string(), reason: "occurs twice" }
        }
        _ => UnpackError::Io(error),
    }
}

fn copy(fs: &dyn Fs, from: &mut dyn Read, to: &Path, size: u64, progress: &dyn Fn()) -> Result<(), UnpackError> {
    let mut buffer = vec![0; BUFFER.min(usize::try_from(size).unwrap_or(BUFFER))];
    let mut offset = 0;
    while offset < size {
        let most = usize::try_from(size - offset).unwrap_or(BUFFER).min(buffer.len());
        let part = buffer.get_mut(..most).unwrap_or_default();
        from.read_exact(part)?;
        fs.write_at(to, offset, part)?;
        offset += u64::try_from(most).unwrap_or(0);
        progress();
    }
    Ok(())
}
