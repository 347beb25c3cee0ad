//! What is known of stored payloads; the bytes themselves are files.

use callboard_proto::{digest::Digest, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, find},
    schema::payloads,
    types::{Ms, Sha, to_i64, to_u64},
};

/// A stored payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
    pub(crate) chunks_sha256: Digest,
}

/// One payload.
pub(crate) fn get(conn: &mut DbConn, sha256: Digest) -> QueryResult<Option<Payload>> {
    let query = payloads::table.find(Sha(sha256)).select((payloads::size, payloads::chunks_sha256));
    let found: Option<(i64, Sha)> = find(conn, query)?;
    Ok(found.map(|(size, chunks)| Payload { sha256, size: to_u64(size), chunks_sha256: chunks.0 }))
}

/// Writes a payload down, unless it is known.
pub(crate) fn put(conn: &mut DbConn, payload: Payload, now: Timestamp) -> QueryResult<()> {
    let row = (
        payloads::sha256.eq(Sha(payload.sha256)),
        payloads::size.eq(to_i64(payload.size)),
        payloads::chunks_sha256.eq(Sha(payload.chunks_sha256)),
        payloads::stored_at.eq(Ms::from(now)),
    );
    execute(conn, diesel::insert_into(payloads::table).values(row).on_conflict_do_nothing()).map(drop)
}
