//! The bytes of one slot: magic, schema, sequence number, length, body, SHA-256 over all of these.
//!
//! Record n lies in slot n mod 2, so that a write overwrites the older of two; a torn one leaves the newer.

use sha2::{Digest as _, Sha256};

/// Bytes of a slot: two flash pages of 4 KiB, and several times the largest record.
pub const SIZE: usize = 8 * 1024;
const MAGIC: &[u8; 8] = b"CALLBRD\n";
/// Magic, schema, sequence number, length.
const HEADER: usize = 8 + 4 + 8 + 4;
/// Bytes left for the body.
pub const ROOM: usize = SIZE - HEADER - 32;

/// A slot whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// How the body is to be read.
    pub schema: u32,
    /// The slot with the higher one is the newer.
    pub seq: u64,
    /// The record.
    pub body: &'a [u8],
}

impl Slot<'_> {
    /// The bytes as they lie on the disk; `None` if the body has more than [`ROOM`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.body.len()).ok().filter(|_| self.body.len() <= ROOM)?;
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.schema.to_le_bytes());
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(self.body);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes.append(&mut vec![0; SIZE - bytes.len()]);
        Some(bytes)
    }
}

/// Reads a slot; `None` for anything that was not written whole.
pub fn decode(bytes: &[u8]) -> Option<Slot<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (schema, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    let (digest, _) = rest.split_first_chunk::<32>()?;
    let covered = bytes.get(..HEADER + length)?;
    let right = magic == MAGIC && Sha256::digest(covered).as_slice() == digest;
    right.then(|| Slot { schema: u32::from_le_bytes(*schema), seq: u64::from_le_bytes(*seq), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_whole_is_read_and_any_changed_byte_is_noticed() {
        let slot = Slot { schema: 1, seq: 7, body: b"committed 0123456789ab\n" };
        let bytes = slot.encode().expect("fits");
        assert_eq!((bytes.len(), decode(&bytes)), (SIZE, Some(slot)));
        for at in 0..HEADER + slot.body.len() + 32 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
        }
        for length in 0..HEADER + slot.body.len() + 32 {
            assert_eq!(decode(&bytes[..length]), None, "cut at {length}");
        }
        assert_eq!(decode(&[0; SIZE]), None);
    }

    #[test]
    fn a_body_that_does_not_fit_is_not_written() {
        let of = |length| Slot { schema: 1, seq: 1, body: &vec![b'x'; length] }.encode();
        assert!(of(ROOM).is_some() && of(ROOM + 1).is_none());
    }
}
