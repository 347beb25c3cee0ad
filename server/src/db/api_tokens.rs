//! API tokens of operators; of each secret only the SHA-256 is stored.

use callboard_proto::{admin::Grant, digest::Digest, ids::TokenId, time::Timestamp};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    QueryError,
    conn::{DbConn, execute, find, load},
    schema::api_tokens,
    types::{Ms, Sha, Uid, from_json, to_json},
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
    pub(crate) grants: Vec<Grant>,
    pub(crate) expires_at: Option<Timestamp>,
    /// Who answers for what is done with it, if a person does.
    pub(crate) person: Option<String>,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    secret_sha256: Sha,
    name: String,
    created_at: Ms,
    revoked_at: Option<Ms>,
    grants: String,
    expires_at: Option<Ms>,
    person: Option<String>,
}

impl TryFrom<Row> for ApiToken {
    type Error = QueryError;

    fn try_from(row: Row) -> QueryResult<Self> {
        Ok(Self {
            id: row.id.id(),
            secret_sha256: row.secret_sha256.0,
            name: row.name,
            created_at: row.created_at.into(),
            revoked_at: row.revoked_at.map(Timestamp::from),
            grants: from_json(&row.grants)?,
            expires_at: row.expires_at.map(Timestamp::from),
            person: row.person,
        })
    }
}

/// One token, also one that was revoked.
pub(crate) fn get(conn: &mut DbConn, id: TokenId) -> QueryResult<Option<ApiToken>> {
    find::<_, Row>(conn, api_tokens::table.find(Uid::from(id)))?.map(ApiToken::try_from).transpose()
}

/// The usable token of this name; whether letters are large or small makes no other name.
pub(crate) fn by_name(conn: &mut DbConn, name: &str) -> QueryResult<Option<ApiToken>> {
    let usable = api_tokens::table.filter(api_tokens::revoked_at.is_null());
    let found = find::<_, Row>(conn, usable.filter(lower(api_tokens::name).eq(name.to_ascii_lowercase())))?;
    found.map(ApiToken::try_from).transpose()
}

/// Who answers for what was done by this name: the persons behind tokens that have it or had it.
pub(crate) fn persons(conn: &mut DbConn, name: &str) -> QueryResult<Vec<String>> {
    let named = api_tokens::table.filter(lower(api_tokens::name).eq(name.to_ascii_lowercase()));
    let found: Vec<Option<String>> = load(conn, named.select(api_tokens::person))?;
    Ok(found.into_iter().flatten().collect())
}

/// Lets somebody answer for all tokens behind which no person stands, also those that were revoked; gives their names.
pub(crate) fn answer_for_all(conn: &mut DbConn, person: &str) -> QueryResult<Vec<String>> {
    let free = api_tokens::table.filter(api_tokens::person.is_null());
    let names = load(conn, free.order(api_tokens::id).select(api_tokens::name))?;
    let free = api_tokens::table.filter(api_tokens::person.is_null());
    execute(conn, diesel::update(free).set(api_tokens::person.eq(Some(person))))?;
    Ok(names)
}

/// A page of tokens, newest first.
pub(crate) fn list(conn: &mut DbConn, before: TokenId, limit: i64) -> QueryResult<Vec<ApiToken>> {
    // Ids are UUIDs of version 7, so they sort by time.
    let query =
        api_tokens::table.filter(api_tokens::id.lt(Uid::from(before))).order(api_tokens::id.desc()).limit(limit);
    load::<_, Row>(conn, query)?.into_iter().map(ApiToken::try_from).collect()
}

/// The tokens that can be used now and have no end: whoever counts on one that ends is locked out later.
pub(crate) fn lasting(conn: &mut DbConn) -> QueryResult<Vec<ApiToken>> {
    let lasting = api_tokens::table.filter(api_tokens::revoked_at.is_null().and(api_tokens::expires_at.is_null()));
    load::<_, Row>(conn, lasting)?.into_iter().map(ApiToken::try_from).collect()
}

/// Writes a new token.
pub(crate) fn insert(conn: &mut DbConn, token: &ApiToken) -> QueryResult<()> {
    let row = (
        api_tokens::id.eq(Uid::from(token.id)),
        api_tokens::secret_sha256.eq(Sha(token.secret_sha256)),
        api_tokens::name.eq(&token.name),
        api_tokens::created_at.eq(Ms::from(token.created_at)),
        api_tokens::grants.eq(to_json(&token.grants)?),
        api_tokens::expires_at.eq(token.expires_at.map(Ms::from)),
        api_tokens::person.eq(token.person.as_deref()),
    );
    execute(conn, diesel::insert_into(api_tokens::table).values(row)).map(drop)
}

/// Revokes a token.
pub(crate) fn revoke(conn: &mut DbConn, id: TokenId, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(api_tokens::table.find(Uid::from(id)));
    execute(conn, row.set(api_tokens::revoked_at.eq(Some(Ms::from(now))))).map(drop)
}
