//! Root documents, as the bytes that were received.

use callboard_proto::time::Timestamp;
use diesel::{ExpressionMethods, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, find},
    schema::roots,
    types::{Ms, to_i64, to_u64},
};

/// The newest root and its version.
pub(crate) fn newest_root(conn: &mut DbConn) -> QueryResult<Option<(u64, Vec<u8>)>> {
    let query = roots::table.order(roots::version.desc()).limit(1).select((roots::version, roots::envelope));
    Ok(find::<_, (i64, Vec<u8>)>(conn, query)?.map(|(version, bytes)| (to_u64(version), bytes)))
}

/// One root.
pub(crate) fn root(conn: &mut DbConn, version: u64) -> QueryResult<Option<Vec<u8>>> {
    find(conn, roots::table.find(to_i64(version)).select(roots::envelope))
}

/// Writes a new root.
pub(crate) fn insert_root(conn: &mut DbConn, version: u64, envelope: &[u8], now: Timestamp) -> QueryResult<()> {
    let row = (roots::version.eq(to_i64(version)), roots::envelope.eq(envelope), roots::published_at.eq(Ms::from(now)));
    execute(conn, diesel::insert_into(roots::table).values(row)).map(drop)
}
