//! What of a payload is on disk already: found by hashing, never by belief.

use std::{io, ops::Range, path::Path};

use callboard_proto::{
    digest::{Digest, Hasher},
    release::Payload,
};

use super::list::ChunkList;
use crate::fs::Fs;

/// Which chunks are right.
#[derive(Debug)]
pub(super) struct Partial {
    have: Vec<bool>,
    bytes_done: u64,
    whole: Digest,
}

impl Partial {
    /// Hashes the file at `path`. Gives way to other work after each chunk.
    pub(super) async fn scan(fs: &dyn Fs, path: &Path, payload: &Payload, list: &ChunkList) -> io::Result<Self> {
        let size = fs.stat(path)?.map_or(0, |meta| meta.size);
        if size > payload.size {
            fs.truncate(path, payload.size)?;
        }
        let mut buffer = vec![0; usize::try_from(payload.chunk_size).unwrap_or(0)];
        let mut whole = Hasher::default();
        let mut found = Self { have: vec![false; list.len()], bytes_done: 0, whole: Digest::of(b"") };
        for (n, have) in found.have.iter_mut().enumerate() {
            let range = list.range(n);
            if range.start >= size {
                break;
            }
            let length = usize::try_from(range.end - range.start).unwrap_or(0);
            let part = buffer.get_mut(..length).unwrap_or_default();
            let filled = fs.read_at(path, range.start, part)?;
            let part = part.get(..filled).unwrap_or_default();
            whole.update(part);
            *have = filled == length && list.is_right(n, part);
            if *have {
                found.bytes_done += range.end - range.start;
            }
            tokio::task::yield_now().await;
        }
        found.whole = whole.finish();
        Ok(found)
    }

    /// The first `count` chunks, of which somebody else says that they are there.
    pub(super) fn first(count: usize, list: &ChunkList) -> Self {
        let have: Vec<bool> = (0..list.len()).map(|n| n < count).collect();
        let bytes_done = count.checked_sub(1).map_or(0, |last| list.range(last).end);
        Self { have, bytes_done, whole: Digest::of(b"") }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.have.iter().all(|have| *have)
    }

    /// Digest of everything, once complete.
    pub(super) fn whole(&self) -> Option<Digest> {
        self.is_complete().then_some(self.whole)
    }

    pub(super) const fn bytes_done(&self) -> u64 {
        self.bytes_done
    }

    pub(super) fn has(&self, n: usize) -> bool {
        self.have.get(n).copied().unwrap_or(false)
    }

    /// The first run of missing chunks.
    pub(super) fn first_gap(&self) -> Option<Range<usize>> {
        let start = self.have.iter().position(|have| !have)?;
        let length = self.have.iter().skip(start).position(|have| *have).unwrap_or(self.have.len() - start);
        Some(start..start + length)
    }

    /// Chunk `n` is right and written.
    pub(super) fn add(&mut self, n: usize, bytes: u64) {
        if let Some(have) = self.have.get_mut(n)
            && !*have
        {
            *have = true;
            self.bytes_done += bytes;
        }
    }
}
