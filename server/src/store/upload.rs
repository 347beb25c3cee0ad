//! Receiving a payload: hashed piece by piece, checked against what was announced, synced, then named.
//!
//! The chunk list is put in place before the payload, so whoever finds a payload finds its list. Receiving what is
//! already there replaces it by the same bytes, which also repairs a file that the disk has damaged.

use std::{fs, io::Write as _, path::Path};

use callboard_proto::{
    digest::Digest,
    payload::{Chunked, Chunker},
};
use rustix::fs::{FallocateFlags, FlockOperation};
use tempfile::NamedTempFile;

use super::{Store, StoreError, failed};
use crate::durable::sync_dir;

/// What the sender announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
}

/// What is in the store now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
    pub(crate) chunk_size: u32,
    pub(crate) chunks_sha256: Digest,
}

/// A payload on its way in. Dropping it deletes what has come so far.
pub(crate) struct Upload {
    store: Store,
    file: NamedTempFile,
    expected: Expected,
    received: u64,
    chunk_size: u32,
    chunker: Chunker,
}

impl Upload {
    pub(super) fn begin(store: &Store, expected: Expected, chunk_size: u32) -> Result<Self, StoreError> {
        if expected.size == 0 {
            return Err(StoreError::Empty);
        }
        if expected.size > store.max_bytes {
            return Err(StoreError::TooLarge { size: expected.size, limit: store.max_bytes });
        }
        let file = temporary(store, expected.size)?;
        let chunker = Chunker::new(chunk_size);
        Ok(Self { store: store.clone(), file, expected, received: 0, chunk_size, chunker })
    }

    /// Takes the next bytes. After an error the upload can only be dropped.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.received = self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.received > self.expected.size {
            return Err(StoreError::SizeMismatch { received: self.received, expected: self.expected.size });
        }
        self.chunker.update(bytes);
        self.file.as_file_mut().write_all(bytes).map_err(failed("write", self.file.path()))
    }

    /// Checks the whole and puts it in place; durable when this returns.
    pub(crate) fn finish(self) -> Result<Stored, StoreError> {
        let Chunked { sha256, size, list } = self.chunker.finish();
        if size != self.expected.size {
            return Err(StoreError::SizeMismatch { received: size, expected: self.expected.size });
        }
        if sha256 != self.expected.sha256 {
            return Err(StoreError::DigestMismatch { received: sha256, expected: self.expected.sha256 });
        }
        let chunks_sha256 = Digest::of(&list);
        if self.store.size(chunks_sha256)?.is_none() {
            let mut file = temporary(&self.store, u64::try_from(list.len()).unwrap_or(u64::MAX))?;
            file.as_file_mut().write_all(&list).map_err(failed("write", file.path()))?;
            put_in_place(&self.store, file, chunks_sha256)?;
        }
        put_in_place(&self.store, self.file, sha256)?;
        Ok(Stored { sha256, size, chunk_size: self.chunk_size, chunks_sha256 })
    }
}

/// A locked temporary file with its space reserved, so that a full disk is found before the bytes are sent.
fn temporary(store: &Store, size: u64) -> Result<NamedTempFile, StoreError> {
    let dir = store.uploads();
    let file = tempfile::Builder::new().prefix("upload-").tempfile_in(&dir).map_err(failed("create", &dir))?;
    let errno = |action, errno: rustix::io::Errno| failed(action, file.path())(errno.into());
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| errno("lock", error))?;
    match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size) {
        // Some file systems cannot reserve; there a full disk shows while writing.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(file),
        Err(error) => Err(errno("reserve space for", error)),
    }
}

fn put_in_place(store: &Store, file: NamedTempFile, digest: Digest) -> Result<(), StoreError> {
    file.as_file().sync_all().map_err(failed("sync", file.path()))?;
    let path = store.path(digest);
    let second = path.parent().unwrap_or(&store.dir);
    let first = second.parent().unwrap_or(&store.dir);
    fs::create_dir_all(second).map_err(failed("create", second))?;
    file.persist(&path).map_err(|error| failed("rename", &path)(error.error))?;
    // All three every time: a directory that was there may never have been synced.
    [second, first, &store.dir].iter().try_for_each(|dir: &&Path| sync_dir(dir).map_err(failed("sync", dir)))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    const LIMIT: u64 = 1 << 20;
    const CHUNK: u32 = 4096;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(&dir.path().join("payloads"), LIMIT).unwrap();
        (dir, store)
    }

    fn expected(bytes: &[u8]) -> Expected {
        Expected { sha256: Digest::of(bytes), size: bytes.len().try_into().unwrap() }
    }

    fn receive(store: &Store, expected: Expected, bytes: &[u8]) -> Result<Stored, StoreError> {
        let mut upload = store.begin(expected, CHUNK)?;
        for piece in bytes.chunks(1000) {
            upload.write(piece)?;
        }
        upload.finish()
    }

    fn content(store: &Store, digest: Digest) -> Vec<u8> {
        let mut blob = store.open(digest).unwrap().unwrap();
        let mut bytes = Vec::new();
        blob.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(u64::try_from(bytes.len()).unwrap(), blob.len);
        bytes
    }

    fn nothing_is_left(store: &Store) {
        assert_eq!(fs::read_dir(store.uploads()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 1, "only the directory for uploads");
    }

    fn sample() -> Vec<u8> {
        (0..10_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_payload_and_its_chunk_list_are_found_by_their_digests() {
        let (_dir, store) = store();
        let bytes = sample();
        let stored = receive(&store, expected(&bytes), &bytes).unwrap();
        assert_eq!(content(&store, stored.sha256), bytes);
        let list: Vec<u8> = bytes.chunks(4096).flat_map(|chunk| *Digest::of(chunk).as_bytes()).collect();
        assert_eq!(content(&store, stored.chunks_sha256), list);
        if let Some(mut cached) = store.open_cached(stored.sha256) {
            let mut again = Vec::new();
            cached.file.read_to_end(&mut again).unwrap();
            assert_eq!((again, cached.len), (bytes, 40_000));
        }
        assert_eq!(fs::read_dir(store.uploads()).unwrap().count(), 0);
    }

    #[test]
    fn receiving_the_same_twice_changes_nothing_and_repairs_a_damaged_file() {
        let (_dir, store) = store();
        let bytes = sample();
        let first = receive(&store, expected(&bytes), &bytes).unwrap();
        fs::write(store.path(first.sha256), b"rotten").unwrap();
        let second = receive(&store, expected(&bytes), &bytes).unwrap();
        assert_eq!(first, second);
        assert_eq!(content(&store, first.sha256), bytes);
    }

    #[test]
    fn a_wrong_digest_or_size_leaves_nothing_behind() {
        let (_dir, store) = store();
        let bytes = sample();
        let other = Expected { sha256: Digest::of(b"other"), ..expected(&bytes) };
        assert!(matches!(receive(&store, other, &bytes), Err(StoreError::DigestMismatch { .. })));
        let short = receive(&store, expected(&bytes), &bytes[1..]);
        assert!(matches!(short, Err(StoreError::SizeMismatch { received: 39_999, expected: 40_000 })), "{short:?}");
        let long = receive(&store, expected(&bytes[1..]), &bytes);
        assert!(matches!(long, Err(StoreError::SizeMismatch { .. })), "{long:?}");
        nothing_is_left(&store);
    }

    #[test]
    fn empty_and_oversize_payloads_are_refused_before_a_byte_is_taken() {
        let (_dir, store) = store();
        let of_size = |size| store.begin(Expected { sha256: Digest::of(b""), size }, CHUNK).map(drop);
        assert!(matches!(of_size(0), Err(StoreError::Empty)));
        assert!(matches!(of_size(LIMIT + 1), Err(StoreError::TooLarge { .. })));
        assert!(matches!(of_size(u64::MAX), Err(StoreError::TooLarge { .. })));
        assert!(of_size(LIMIT).is_ok());
        nothing_is_left(&store);
    }

    #[test]
    fn a_disk_that_fills_up_is_reported_as_such_and_leaves_nothing_behind() {
        let (_dir, store) = store();
        let bytes = sample();
        let mut upload = store.begin(expected(&bytes), CHUNK).unwrap();
        *upload.file.as_file_mut() = File::options().write(true).open("/dev/full").unwrap();
        assert!(matches!(upload.write(&bytes), Err(StoreError::Full(_))));
        drop(upload);
        nothing_is_left(&store);
    }

    #[test]
    fn a_start_deletes_abandoned_uploads_and_leaves_running_ones_alone() {
        let (_dir, store) = store();
        let bytes = sample();
        fs::write(store.uploads().join("upload-abandoned"), b"half").unwrap();
        let mut running = store.begin(expected(&bytes), CHUNK).unwrap();
        Store::prepare(&store.dir, LIMIT).unwrap();
        assert_eq!(fs::read_dir(store.uploads()).unwrap().count(), 1);
        running.write(&bytes).unwrap();
        running.finish().unwrap();
        assert_eq!(content(&store, Digest::of(&bytes)), bytes);
    }
}
