//! Requests that came with a key, and how they were answered.

use callboard_proto::{digest::Digest, time::Timestamp};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find},
    schema::answers,
    types::{Ms, Sha},
};

/// Which key of whom.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) asker: String,
    pub(crate) sha256: Digest,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) request: Digest,
    pub(crate) asked_at: Timestamp,
    /// 0 as long as it is not answered.
    pub(crate) status: i64,
    pub(crate) sealed: Vec<u8>,
}

#[derive(Queryable)]
struct Row {
    request_sha256: Sha,
    asked_at: Ms,
    status: i64,
    sealed: Vec<u8>,
}

/// What came with this key before.
pub(crate) fn get(conn: &mut DbConn, key: &Key) -> QueryResult<Option<Known>> {
    let query = answers::table.find((key.asker.clone(), Sha(key.sha256))).select((
        answers::request_sha256,
        answers::asked_at,
        answers::status,
        answers::sealed,
    ));
    Ok(find::<_, Row>(conn, query)?.map(|row| Known {
        request: row.request_sha256.0,
        asked_at: row.asked_at.into(),
        status: row.status,
        sealed: row.sealed,
    }))
}

/// Keys of one asker.
pub(crate) fn count(conn: &mut DbConn, asker: &str) -> QueryResult<i64> {
    Ok(find(conn, answers::table.filter(answers::asker.eq(asker.to_owned())).count())?.unwrap_or_default())
}

/// Writes down that a request is being carried out.
pub(crate) fn insert(conn: &mut DbConn, key: &Key, request: Digest, now: Timestamp) -> QueryResult<()> {
    let row = (
        answers::asker.eq(&key.asker),
        answers::key_sha256.eq(Sha(key.sha256)),
        answers::request_sha256.eq(Sha(request)),
        answers::asked_at.eq(Ms::from(now)),
        answers::status.eq(0),
        answers::sealed.eq(Vec::new()),
    );
    execute(conn, diesel::insert_into(answers::table).values(row)).map(drop)
}

/// Writes down how it was answered.
pub(crate) fn answer(conn: &mut DbConn, key: &Key, status: u16, sealed: &[u8]) -> QueryResult<()> {
    let row = diesel::update(answers::table.find((&key.asker, Sha(key.sha256))));
    execute(conn, row.set((answers::status.eq(i64::from(status)), answers::sealed.eq(sealed)))).map(drop)
}

/// Forgets a key.
pub(crate) fn delete(conn: &mut DbConn, key: &Key) -> QueryResult<()> {
    execute(conn, diesel::delete(answers::table.find((&key.asker, Sha(key.sha256))))).map(drop)
}

/// Forgets what one asker asked up to `until`.
pub(crate) fn purge_of(conn: &mut DbConn, asker: &str, until: Timestamp) -> QueryResult<()> {
    let old = answers::asker.eq(asker).and(answers::asked_at.le(Ms::from(until)));
    execute(conn, diesel::delete(answers::table.filter(old))).map(drop)
}

/// Forgets what was asked up to `until`.
pub(crate) fn purge(conn: &mut DbConn, until: Timestamp) -> QueryResult<()> {
    execute(conn, diesel::delete(answers::table.filter(answers::asked_at.le(Ms::from(until))))).map(drop)
}
