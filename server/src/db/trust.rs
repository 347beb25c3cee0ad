//! Roots and heads, as the bytes that were received.

use callboard_proto::time::Timestamp;
use diesel::{ExpressionMethods, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, find, load},
    schema::{heads, roots},
    types::{Ms, to_i64, to_u64},
};

/// The newest root and its version.
pub(crate) fn newest_root(conn: &mut DbConn) -> QueryResult<Option<(u64, Vec<u8>)>> {
    let query = roots::table.order(roots::version.desc()).limit(1).select((roots::version, roots::envelope));
    Ok(find::<_, (i64, Vec<u8>)>(conn, query)?.map(|(version, bytes)| (to_u64(version), bytes)))
}

/// Roots read at once: a chain as long as any device walks through in one go.
const MAX_ROOTS: i64 = 64;

/// The newest roots with their versions, the oldest first.
pub(crate) fn roots(conn: &mut DbConn) -> QueryResult<Vec<(u64, Vec<u8>)>> {
    let query = roots::table.order(roots::version.desc()).limit(MAX_ROOTS).select((roots::version, roots::envelope));
    let rows: Vec<(i64, Vec<u8>)> = load(conn, query)?;
    Ok(rows.into_iter().rev().map(|(version, bytes)| (to_u64(version), bytes)).collect())
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

/// The newest head.
pub(crate) fn newest_head(conn: &mut DbConn) -> QueryResult<Option<Vec<u8>>> {
    let newest = heads::table.order((heads::epoch.desc(), heads::serial.desc())).limit(1);
    find(conn, newest.select(heads::envelope))
}

/// Writes a new head, of which epoch and serial are told.
pub(crate) fn insert_head(
    conn: &mut DbConn,
    (epoch, serial): (u32, u64),
    envelope: &[u8],
    now: Timestamp,
) -> QueryResult<()> {
    let row = (
        heads::epoch.eq(i64::from(epoch)),
        heads::serial.eq(to_i64(serial)),
        heads::envelope.eq(envelope),
        heads::published_at.eq(Ms::from(now)),
    );
    execute(conn, diesel::insert_into(heads::table).values(row)).map(drop)
}
