//! The bytes of one slot: magic, schema, sequence number, length, JSON body, SHA-256 over all of these.

use callboard_proto::digest::Digest;

use serde::{Serialize, de::DeserializeOwned};

/// Bytes of a slot: two flash pages of 4 KiB, and several times the largest record.
pub(crate) const SIZE: usize = 8 * 1024;
pub(crate) const SIZE_BYTES: u64 = 8 * 1024;
/// Raised when an older agent could no longer read the body.
pub(crate) const SCHEMA: u32 = 1;
const MAGIC: &[u8; 8] = b"CALLBRD\n";
/// Magic, schema, sequence number, length.
const HEADER: usize = 8 + 4 + 8 + 4;
/// Bytes left for the body.
pub(crate) const ROOM: usize = SIZE - HEADER - 32;

/// The checksum is right and the schema is one of a newer agent.
pub(crate) struct Newer(pub(super) u32);

/// The error is how many bytes the record has.
pub(crate) fn encode<T: Serialize>(seq: u64, record: &T) -> Result<Vec<u8>, usize> {
    // A struct of strings and numbers always serialises; an empty body could never be mistaken for a record.
    frame(SCHEMA, seq, &serde_json::to_vec(record).unwrap_or_default())
}

/// A slot with this body, whatever stands in it.
pub(crate) fn frame(schema: u32, seq: u64, body: &[u8]) -> Result<Vec<u8>, usize> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= ROOM).ok_or(body.len())?;
    let mut bytes = Vec::with_capacity(SIZE);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&schema.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(body);
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes.resize(SIZE, 0);
    Ok(bytes)
}

/// Sequence number and record; `None` for anything that was not written whole.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(u64, T)>, Newer> {
    match split(bytes) {
        Some((schema, _, _)) if schema > SCHEMA => Err(Newer(schema)),
        Some((_, seq, body)) => Ok(serde_json::from_slice(body).ok().map(|record| (seq, record))),
        None => Ok(None),
    }
}

/// Schema, sequence number and body of a slot whose checksum is right.
fn split(bytes: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (schema, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    let (digest, _) = rest.split_first_chunk::<32>()?;
    let covered = bytes.get(..HEADER + length)?;
    let right = magic == MAGIC && Digest::of(covered).as_bytes() == digest;
    right.then(|| (u32::from_le_bytes(*schema), u64::from_le_bytes(*seq), body))
}
