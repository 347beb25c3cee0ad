//! Payloads that come in pieces, each with a request of its own: what has come stays for a day, so that an upload goes on
//! where it broke off.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::{digest::Digest, payload::CHUNK_SIZE};
use rustix::fs::FlockOperation;

use super::{
    Store, StoreError, failed,
    upload::{Expected, Stored},
};

/// How the files of such uploads begin.
pub(super) const PREFIX: &str = "partial-";
/// Whoever has not gone on by then begins again.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// An upload that goes on.
pub(crate) struct Partial {
    store: Store,
    file: File,
    path: PathBuf,
    expected: Expected,
    received: u64,
}

impl Store {
    fn partial(&self, sha256: Digest) -> PathBuf {
        self.uploads().join(format!("{PREFIX}{sha256}"))
    }

    /// How many bytes of a payload have come in pieces.
    pub(crate) fn received(&self, sha256: Digest) -> Result<u64, StoreError> {
        let path = self.partial(sha256);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Goes on with a payload of which `from` bytes have come.
    pub(crate) fn resume(&self, expected: Expected, from: u64) -> Result<Partial, StoreError> {
        if expected.size == 0 {
            return Err(StoreError::Empty);
        }
        if expected.size > self.max_bytes {
            return Err(StoreError::TooLarge { size: expected.size, limit: self.max_bytes });
        }
        let path = self.partial(expected.sha256);
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open.map_err(failed("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Busy),
            Err(errno) => return Err(failed("lock", &path)(errno.into())),
        }
        let received = file.seek(SeekFrom::End(0)).map_err(failed("read", &path))?;
        if received != from {
            return Err(StoreError::Elsewhere { from, received });
        }
        Ok(Partial { store: self.clone(), file, path, expected, received })
    }
}

impl Partial {
    /// Takes the next bytes. What is written stays, whatever happens to the rest of the piece.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let received = self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if received > self.expected.size {
            return Err(StoreError::SizeMismatch { received, expected: self.expected.size });
        }
        self.file.write_all(bytes).map_err(failed("write", &self.path))?;
        self.received = received;
        Ok(())
    }

    /// Ends the piece; with the last one the payload is checked and put in place.
    pub(crate) fn end(mut self) -> Result<Option<Stored>, StoreError> {
        if self.received < self.expected.size {
            return Ok(None);
        }
        let mut upload = self.store.begin(self.expected, CHUNK_SIZE)?;
        self.file.rewind().map_err(failed("read", &self.path))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = self.file.read(&mut buffer).map_err(failed("read", &self.path))?;
            match buffer.get(..read) {
                Some(bytes) if !bytes.is_empty() => upload.write(bytes)?,
                _ => break,
            }
        }
        let stored = upload.finish();
        // Right or wrong, nobody goes on with it.
        fs::remove_file(&self.path).map_err(failed("remove", &self.path))?;
        stored.map(Some)
    }
}

/// Whether a file belongs to an upload that may still go on.
pub(super) fn may_go_on(path: &Path) -> bool {
    let partial = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
    partial && age.is_none_or(|age| age < KEPT_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_goes_on_where_it_broke_off_and_is_checked_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path(), 1 << 20).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let size = u64::try_from(bytes.len()).unwrap();
        let expected = Expected { sha256: Digest::of(&bytes), size };
        let mut first = store.resume(expected, 0).unwrap();
        first.write(&bytes[..1000]).unwrap();
        assert!(matches!(store.resume(expected, 0), Err(StoreError::Busy)));
        assert!(first.end().unwrap().is_none());
        // Also over a restart.
        let store = Store::prepare(dir.path(), 1 << 20).unwrap();
        assert_eq!(store.received(expected.sha256).unwrap(), 1000);
        let elsewhere = store.resume(expected, 500).map(drop);
        assert!(matches!(elsewhere, Err(StoreError::Elsewhere { from: 500, received: 1000 })), "{elsewhere:?}");
        let mut second = store.resume(expected, 1000).unwrap();
        second.write(&bytes[1000..]).unwrap();
        assert_eq!(second.end().unwrap().map(|stored| stored.sha256), Some(expected.sha256));
        assert!(store.is_intact(expected.sha256).unwrap());
        assert_eq!(store.received(expected.sha256).unwrap(), 0);

        let other = Expected { sha256: Digest::of(b"other"), size: 4 };
        let mut wrong = store.resume(other, 0).unwrap();
        assert!(wrong.write(b"wrong").is_err());
        wrong.write(b"oops").unwrap();
        assert!(matches!(wrong.end(), Err(StoreError::DigestMismatch { .. })));
        assert_eq!(store.received(other.sha256).unwrap(), 0);
    }
}
