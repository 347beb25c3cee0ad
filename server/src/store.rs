//! Payload files, named by what is in them: `<dir>/ab/cd/<sha256>`, chunk lists among them.
//!
//! A file appears under its name only when all its bytes are there, checked and on the disk; it never changes
//! afterwards. Knows nothing of the database, of HTTP, or of who may have what. Everything here blocks: callers on
//! async threads go through the blocking pool.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use callboard_proto::{
    digest::Digest,
    payload::{CHUNK_SIZE, Chunker},
};

mod partial;
pub(crate) mod range;
pub(crate) mod upload;

pub(crate) use partial::Partial;
use upload::{Expected, Upload};

/// Where uploads grow; no hexadecimal pair has this name.
pub(crate) const UPLOADS: &str = "tmp";

/// A directory of payload files.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    max_bytes: u64,
}

/// A payload that is there.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) file: File,
    pub(crate) len: u64,
}

impl Store {
    /// Makes the directory if need be and deletes what interrupted uploads left behind.
    ///
    /// `max_bytes` is the largest payload that [`Store::begin`] admits.
    pub(crate) fn prepare(dir: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        let store = Self { dir: dir.to_owned(), max_bytes };
        let uploads = store.uploads();
        fs::create_dir_all(&uploads).map_err(failed("create", &uploads))?;
        for entry in fs::read_dir(&uploads).map_err(failed("read", &uploads))? {
            let path = entry.map_err(failed("read", &uploads))?.path();
            if partial::may_go_on(&path) {
                continue;
            }
            remove_if_abandoned(&path).map_err(failed("clean up", &path))?;
        }
        Ok(store)
    }

    /// Begins to receive a payload.
    pub(crate) fn begin(&self, expected: Expected, chunk_size: u32) -> Result<Upload, StoreError> {
        Upload::begin(self, expected, chunk_size)
    }

    /// Opens a payload or chunk list; `None` if there is none of that digest.
    pub(crate) fn open(&self, digest: Digest) -> Result<Option<Blob>, StoreError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let len = file.metadata().map_err(failed("read", &path))?.len();
        Ok(Some(Blob { file, len }))
    }

    /// Opens a payload if that needs no disk access, so that async threads may call it. `None` only says that
    /// [`Store::open`] has to be asked: the name is not in the kernel's cache, or the kernel (before 5.12) cannot tell.
    pub(crate) fn open_cached(&self, digest: Digest) -> Option<Blob> {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = File::from(openat2(CWD, self.path(digest), flags, Mode::empty(), ResolveFlags::CACHED).ok()?);
        let len = file.metadata().ok()?.len();
        Some(Blob { file, len })
    }

    /// Size of a payload or chunk list; `None` if there is none of that digest.
    pub(crate) fn size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Whether the bytes that are there are those of that digest: reads them all.
    pub(crate) fn is_intact(&self, digest: Digest) -> Result<bool, StoreError> {
        let Some(mut blob) = self.open(digest)? else {
            return Ok(false);
        };
        let mut chunker = Chunker::new(CHUNK_SIZE);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = blob.file.read(&mut buffer).map_err(failed("read", &self.path(digest)))?;
            match buffer.get(..read) {
                Some(bytes) if !bytes.is_empty() => chunker.update(bytes),
                _ => return Ok(chunker.finish().sha256 == digest),
            }
        }
    }

    /// Where the file of that digest is, or would be. Made of hexadecimal digits only, so nothing can lead elsewhere.
    fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        let (first, rest) = hex.split_at(2);
        let (second, _) = rest.split_at(2);
        self.dir.join(first).join(second).join(&hex)
    }

    fn uploads(&self) -> PathBuf {
        self.dir.join(UPLOADS)
    }
}

/// A running upload holds a lock on its file, so a second server on the same directory does not lose its uploads.
fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => fs::remove_file(path),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Why a payload could not be stored or opened. Nothing of a refused upload stays on the disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the disk that holds the payloads is full")]
    Full(#[source] io::Error),
    #[error("the payload directory {path:?} is not writable")]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("a payload of {size} bytes is over the limit of {limit} bytes")]
    TooLarge { size: u64, limit: u64 },
    #[error("a payload of 0 bytes; at least one is wanted")]
    Empty,
    #[error("another request sends the same payload now")]
    Busy,
    #[error("the piece begins at byte {from}, but {received} bytes have come; go on from there")]
    Elsewhere { from: u64, received: u64 },
    #[error("{received} bytes came, {expected} were announced")]
    SizeMismatch { received: u64, expected: u64 },
    #[error("the bytes have the digest {received}, announced was {expected}")]
    DigestMismatch { received: Digest, expected: Digest },
    #[error("{action} {path:?}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Tells the failures that an operator can mend from all others.
fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    move |source| match source.kind() {
        // Too large for a limit on files, which an operator can lift as well.
        StorageFull | QuotaExceeded | FileTooLarge => StoreError::Full(source),
        ReadOnlyFilesystem | PermissionDenied => StoreError::NotWritable { path: path.to_owned(), source },
        _ => StoreError::Io { action, path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_read_only_disks_are_told_apart_from_broken_ones() {
        let classified = |errno: rustix::io::Errno| failed("write", Path::new("/p"))(errno.into());
        assert!(matches!(classified(rustix::io::Errno::NOSPC), StoreError::Full(_)));
        assert!(matches!(classified(rustix::io::Errno::DQUOT), StoreError::Full(_)));
        assert!(matches!(classified(rustix::io::Errno::FBIG), StoreError::Full(_)));
        assert!(matches!(classified(rustix::io::Errno::ROFS), StoreError::NotWritable { .. }));
        assert!(matches!(classified(rustix::io::Errno::ACCESS), StoreError::NotWritable { .. }));
        assert!(matches!(classified(rustix::io::Errno::IO), StoreError::Io { .. }));
    }

    #[test]
    fn a_payload_lies_two_levels_deep() {
        let store = Store { dir: "/p".into(), max_bytes: 1 };
        let digest = Digest::of(b"");
        let path = "/p/e3/b0/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(store.path(digest), Path::new(path));
    }

    #[test]
    fn what_is_not_there_is_none_and_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path(), 1).unwrap();
        assert!(store.open(Digest::of(b"x")).unwrap().is_none());
        assert!(store.open_cached(Digest::of(b"x")).is_none());
        assert_eq!(store.size(Digest::of(b"x")).unwrap(), None);
        assert!(!store.is_intact(Digest::of(b"x")).unwrap());
    }

    #[test]
    fn a_rotten_payload_is_told_from_a_sound_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path(), 1).unwrap();
        let mut bytes = vec![7; 600_000];
        let digest = Digest::of(&bytes);
        let path = store.path(digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert!(store.is_intact(digest).unwrap());
        bytes[599_999] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(!store.is_intact(digest).unwrap());
    }
}
