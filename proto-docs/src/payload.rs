//! Payload bytes: formats and chunk lists.
//!
//! A `raw` payload is one file. A `tar_zst` payload is a directory as a deterministic POSIX tar (entries sorted by
//! path bytes, owner 0:0, time 0, modes 0644, 0755 or link) in one zstd frame. The chunk list of a payload is the
//! SHA-256 of each chunk, 32 bytes each, in order; it is itself served by its digest.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, Hasher};

/// Chunk size that `release build` uses: at most this much is fetched again after an error.
pub const CHUNK_SIZE: u32 = 1 << 20;
/// Smallest chunk size accepted.
pub const MIN_CHUNK_SIZE: u32 = 4 << 10;
/// Largest chunk size accepted; a device verifies each chunk in memory.
pub const MAX_CHUNK_SIZE: u32 = 4 << 20;

/// How the bytes of a payload are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One file, as it is.
    Raw,
    /// A deterministic tar in one zstd frame.
    TarZst,
}

/// Computes digest and chunk list of a stream in one pass.
pub struct Chunker {
    whole: Hasher,
    chunk: Sha256,
    filled: usize,
    chunk_size: usize,
    list: Vec<u8>,
    size: u64,
}

/// What a [`Chunker`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunked {
    /// Digest of all bytes.
    pub sha256: Digest,
    /// Bytes in all.
    pub size: u64,
    /// The chunk list.
    pub list: Vec<u8>,
}

impl Chunker {
    /// For chunks of `chunk_size` bytes.
    pub fn new(chunk_size: u32) -> Self {
        Self {
            whole: Hasher::default(),
            chunk: Sha256::new(),
            filled: 0,
            chunk_size: usize::try_from(chunk_size.max(1)).unwrap_or(usize::MAX),
            list: Vec::new(),
            size: 0,
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.chunk_size - self.filled));
            self.chunk.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.chunk_size {
                self.end_chunk();
            }
        }
    }

    /// Digest, size and chunk list of everything added.
    pub fn finish(mut self) -> Chunked {
        if self.filled > 0 {
            self.end_chunk();
        }
        Chunked { sha256: self.whole.finish(), size: self.size, list: self.list }
    }

    fn end_chunk(&mut self) {
        self.list.extend_from_slice(&std::mem::take(&mut self.chunk).finalize());
        self.filled = 0;
    }
}
