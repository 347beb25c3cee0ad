//! Sessions of people who have logged in; of each secret only the SHA-256 is stored.

use callboard_proto::{digest::Digest, ids::TokenId, time::Timestamp};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::sessions,
    types::{Ms, Sha, Uid},
};

/// A session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: TokenId,
    pub(crate) secret_sha256: Digest,
    pub(crate) user: TokenId,
    pub(crate) created_at: Timestamp,
    pub(crate) last_used_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    /// The address that logged in.
    pub(crate) source: Option<String>,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    secret_sha256: Sha,
    user_id: Uid,
    created_at: Ms,
    last_used_at: Ms,
    ends_at: Ms,
    source: Option<String>,
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.id(),
            secret_sha256: row.secret_sha256.0,
            user: row.user_id.id(),
            created_at: row.created_at.into(),
            last_used_at: row.last_used_at.into(),
            ends_at: row.ends_at.into(),
            source: row.source,
        }
    }
}

/// One session.
pub(crate) fn get(conn: &mut DbConn, id: TokenId) -> QueryResult<Option<Session>> {
    Ok(find::<_, Row>(conn, sessions::table.find(Uid::from(id)))?.map(Session::from))
}

/// Sessions of a person, oldest first.
pub(crate) fn of(conn: &mut DbConn, user: TokenId) -> QueryResult<Vec<Session>> {
    let query = sessions::table.filter(sessions::user_id.eq(Uid::from(user))).order(sessions::id);
    Ok(load::<_, Row>(conn, query)?.into_iter().map(Session::from).collect())
}

/// Writes a new session.
pub(crate) fn insert(conn: &mut DbConn, session: &Session) -> QueryResult<()> {
    let row = (
        sessions::id.eq(Uid::from(session.id)),
        sessions::secret_sha256.eq(Sha(session.secret_sha256)),
        sessions::user_id.eq(Uid::from(session.user)),
        sessions::created_at.eq(Ms::from(session.created_at)),
        sessions::last_used_at.eq(Ms::from(session.last_used_at)),
        sessions::ends_at.eq(Ms::from(session.ends_at)),
        sessions::source.eq(session.source.as_deref()),
    );
    execute(conn, diesel::insert_into(sessions::table).values(row)).map(drop)
}

/// Notes that a session was used.
pub(crate) fn touch(conn: &mut DbConn, id: TokenId, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(sessions::table.find(Uid::from(id)));
    execute(conn, row.set(sessions::last_used_at.eq(Ms::from(now)))).map(drop)
}

/// Ends a session; says whether there was one.
pub(crate) fn delete(conn: &mut DbConn, id: TokenId) -> QueryResult<bool> {
    Ok(execute(conn, diesel::delete(sessions::table.find(Uid::from(id))))? > 0)
}

/// Ends the sessions of a person but perhaps one.
pub(crate) fn delete_of(conn: &mut DbConn, user: TokenId, keep: Option<TokenId>) -> QueryResult<()> {
    for session in of(conn, user)?.into_iter().filter(|session| Some(session.id) != keep) {
        delete(conn, session.id)?;
    }
    Ok(())
}

/// Forgets sessions that have ended.
pub(crate) fn purge(conn: &mut DbConn, now: Timestamp, unused_since: Timestamp) -> QueryResult<()> {
    let over = sessions::ends_at.le(Ms::from(now)).or(sessions::last_used_at.le(Ms::from(unused_since)));
    execute(conn, diesel::delete(sessions::table.filter(over))).map(drop)
}
