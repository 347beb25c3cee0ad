//! The bytes of one slot: magic, schema, sequence number, length, JSON body, SHA-256 over all of these.

use callboard_proto::digest::Digest;

use super::{JournalError, Record};

/// Bytes of a slot: two flash pages of 4 KiB, and several times the largest record.
pub(super) const SIZE: usize = 8 * 1024;
pub(super) const SIZE_BYTES: u64 = 8 * 1024;
/// Raised when an older agent could no longer read the body.
pub(super) const SCHEMA: u32 = 1;
const MAGIC: &[u8; 8] = b"CALLBRD\n";
/// Magic, schema, sequence number, length.
const HEADER: usize = 8 + 4 + 8 + 4;
/// Bytes left for the body.
pub(super) const ROOM: usize = SIZE - HEADER - 32;

pub(super) enum Read {
    Missing,
    Invalid,
    Valid(u64, Box<Record>),
}

pub(super) fn blank() -> Vec<u8> {
    vec![0; SIZE]
}

pub(super) fn encode(seq: u64, record: &Record) -> Result<Vec<u8>, JournalError> {
    // A struct of strings and numbers always serialises; an empty body could never be mistaken for a record.
    let body = serde_json::to_vec(record).unwrap_or_default();
    let too_large = JournalError::TooLarge { size: body.len() };
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= ROOM).ok_or(too_large)?;
    let mut bytes = Vec::with_capacity(SIZE);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&SCHEMA.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes.resize(SIZE, 0);
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Read, JournalError> {
    let Some((schema, seq, body)) = split(bytes) else { return Ok(Read::Invalid) };
    if schema > SCHEMA {
        // The checksum was right: a newer agent wrote this, and guessing at its meaning could lose an installation.
        return Err(JournalError::Newer { found: schema });
    }
    Ok(serde_json::from_slice(body).map_or(Read::Invalid, |record| Read::Valid(seq, Box::new(record))))
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
