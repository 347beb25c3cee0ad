//! API tokens of operators; of each secret only the SHA-256 is stored.

use callboard_proto::{digest::Digest, ids::TokenId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::api_tokens,
    types::{Ms, Sha, Uid},
};

#[diesel::declare_sql_function]
extern "SQL" {
    /// Small letters for large ones; names are ASCII.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// A permission to operate the server.
#[derive(Clone, Debug)]
pub(crate) struct ApiToken {
    pub(crate) id: TokenId,
    pub(crate) secret_sha256: Digest,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    secret_sha256: Sha,
    name: String,
    created_at: Ms,
    revoked_at: Option<Ms>,
}

impl From<Row> for ApiToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.id(),
            secret_sha256: row.secret_sha256.0,
            name: row.name,
            created_at: row.created_at.into(),
            revoked_at: row.revoked_at.map(Timestamp::from),
        }
    }
}

/// One token, also one that was revoked.
pub(crate) fn get(conn: &mut DbConn, id: TokenId) -> QueryResult<Option<ApiToken>> {
    Ok(find::<_, Row>(conn, api_tokens::table.find(Uid::from(id)))?.map(ApiToken::from))
}

/// The usable token of this name; whether letters are large or small makes no other name.
pub(crate) fn by_name(conn: &mut DbConn, name: &str) -> QueryResult<Option<ApiToken>> {
    let usable = api_tokens::table.filter(api_tokens::revoked_at.is_null());
    Ok(find::<_, Row>(conn, usable.filter(lower(api_tokens::name).eq(name.to_ascii_lowercase())))?.map(ApiToken::from))
}

/// A page of tokens, newest first.
pub(crate) fn list(conn: &mut DbConn, before: TokenId, limit: i64) -> QueryResult<Vec<ApiToken>> {
    // Ids are UUIDs of version 7, so they sort by time.
    let query =
        api_tokens::table.filter(api_tokens::id.lt(Uid::from(before))).order(api_tokens::id.desc()).limit(limit);
    Ok(load::<_, Row>(conn, query)?.into_iter().map(ApiToken::from).collect())
}

/// How many tokens can be used.
pub(crate) fn usable(conn: &mut DbConn) -> QueryResult<i64> {
    let query = api_tokens::table.filter(api_tokens::revoked_at.is_null()).count();
    Ok(find(conn, query)?.unwrap_or(0))
}

/// Writes a new token.
pub(crate) fn insert(conn: &mut DbConn, id: TokenId, secret: Digest, name: &str, now: Timestamp) -> QueryResult<()> {
    let row = (
        api_tokens::id.eq(Uid::from(id)),
        api_tokens::secret_sha256.eq(Sha(secret)),
        api_tokens::name.eq(name),
        api_tokens::created_at.eq(Ms::from(now)),
    );
    execute(conn, diesel::insert_into(api_tokens::table).values(row)).map(drop)
}

/// Revokes a token.
pub(crate) fn revoke(conn: &mut DbConn, id: TokenId, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(api_tokens::table.find(Uid::from(id)));
    execute(conn, row.set(api_tokens::revoked_at.eq(Some(Ms::from(now))))).map(drop)
}
