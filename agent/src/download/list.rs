//! The chunk list: one SHA-256 after the other, authenticated by its own digest in the release.

use std::ops::Range;

use callboard_proto::{digest::Digest, release::Payload};

/// A verified chunk list.
#[derive(Debug)]
pub(crate) struct ChunkList {
    bytes: Vec<u8>,
    size: u64,
    chunk_size: u64,
}

/// Bytes that are not the list the release names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WrongList {
    #[error("{found} bytes, {wanted} are right")]
    Length { found: usize, wanted: usize },
    #[error("its digest is another")]
    Digest,
}

impl ChunkList {
    /// How long the list of `payload` is.
    pub(crate) fn bytes_of(payload: &Payload) -> usize {
        usize::try_from(payload.chunk_count().saturating_mul(32)).unwrap_or(usize::MAX)
    }

    /// Accepts the list that `payload` names.
    pub(crate) fn parse(bytes: Vec<u8>, payload: &Payload) -> Result<Self, WrongList> {
        let wanted = Self::bytes_of(payload);
        if bytes.len() != wanted {
            return Err(WrongList::Length { found: bytes.len(), wanted });
        }
        if Digest::of(&bytes) != payload.chunks_sha256 {
            return Err(WrongList::Digest);
        }
        Ok(Self { bytes, size: payload.size, chunk_size: u64::from(payload.chunk_size) })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many chunks there are.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() / 32
    }

    /// Where chunk `n` lies in the payload.
    pub(crate) fn range(&self, n: usize) -> Range<u64> {
        let start = u64::try_from(n).unwrap_or(u64::MAX).saturating_mul(self.chunk_size).min(self.size);
        start..start.saturating_add(self.chunk_size).min(self.size)
    }

    /// Whether `bytes` are chunk `n`.
    pub(crate) fn is_right(&self, n: usize, bytes: &[u8]) -> bool {
        self.bytes.chunks_exact(32).nth(n).is_some_and(|wanted| Digest::of(bytes).as_bytes() == wanted)
    }
}
