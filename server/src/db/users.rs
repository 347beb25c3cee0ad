//! People who log in: passwords as hashes, and what each may do.

use callboard_proto::{admin::Grant, ids::TokenId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    QueryError,
    conn::{DbConn, execute, find, load},
    schema::users,
    types::{Ms, Uid, from_json, to_json},
};

#[diesel::declare_sql_function]
extern "SQL" {
    /// Small letters for large ones; names are ASCII.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// A person.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: TokenId,
    pub(crate) name: String,
    /// As `people::password` writes it; of whoever logs in by a provider, nothing.
    pub(crate) password: Option<String>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) totp: Option<Vec<u8>>,
    /// The last step whose code was used.
    pub(crate) totp_used: Option<i64>,
    pub(crate) created_at: Timestamp,
    pub(crate) disabled_at: Option<Timestamp>,
    /// The provider's issuer, a space, and the provider's name for the person.
    pub(crate) subject: Option<String>,
    /// A secret for codes that the person has not yet shown to have.
    pub(crate) totp_pending: Option<Vec<u8>>,
}

impl User {
    /// Who vouches for the person, if that is not a password.
    pub(crate) fn provider(&self) -> Option<&str> {
        self.subject.as_deref()?.split(' ').next()
    }
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    name: String,
    password: String,
    grants: String,
    totp: Option<Vec<u8>>,
    totp_used: Option<i64>,
    created_at: Ms,
    disabled_at: Option<Ms>,
    subject: Option<String>,
    totp_pending: Option<Vec<u8>>,
}

impl TryFrom<Row> for User {
    type Error = QueryError;

    fn try_from(row: Row) -> QueryResult<Self> {
        Ok(Self {
            id: row.id.id(),
            name: row.name,
            password: Some(row.password).filter(|password| !password.is_empty()),
            grants: from_json(&row.grants)?,
            totp: row.totp,
            totp_used: row.totp_used,
            created_at: row.created_at.into(),
            disabled_at: row.disabled_at.map(Timestamp::from),
            subject: row.subject,
            totp_pending: row.totp_pending,
        })
    }
}

/// One person.
pub(crate) fn get(conn: &mut DbConn, id: TokenId) -> QueryResult<Option<User>> {
    find::<_, Row>(conn, users::table.find(Uid::from(id)))?.map(User::try_from).transpose()
}

/// The person of this name; whether letters are large or small makes no other name.
pub(crate) fn by_name(conn: &mut DbConn, name: &str) -> QueryResult<Option<User>> {
    let query = users::table.filter(lower(users::name).eq(name.to_ascii_lowercase()));
    find::<_, Row>(conn, query)?.map(User::try_from).transpose()
}

/// The person whom a provider knows by this subject.
pub(crate) fn by_subject(conn: &mut DbConn, subject: &str) -> QueryResult<Option<User>> {
    find::<_, Row>(conn, users::table.filter(users::subject.eq(subject.to_owned())))?.map(User::try_from).transpose()
}

/// A page of people by name.
pub(crate) fn list(conn: &mut DbConn, after: &str, limit: i64) -> QueryResult<Vec<User>> {
    let query = users::table.filter(users::name.gt(after.to_owned())).order(users::name).limit(limit);
    load::<_, Row>(conn, query)?.into_iter().map(User::try_from).collect()
}

/// Everybody who may log in.
pub(crate) fn enabled(conn: &mut DbConn) -> QueryResult<Vec<User>> {
    let query = users::table.filter(users::disabled_at.is_null());
    load::<_, Row>(conn, query)?.into_iter().map(User::try_from).collect()
}

/// Writes a new person.
pub(crate) fn insert(conn: &mut DbConn, user: &User) -> QueryResult<()> {
    let row = (
        users::id.eq(Uid::from(user.id)),
        users::name.eq(&user.name),
        users::password.eq(user.password.as_deref().unwrap_or_default()),
        users::grants.eq(to_json(&user.grants)?),
        users::totp.eq(user.totp.as_deref()),
        users::totp_used.eq(user.totp_used),
        users::created_at.eq(Ms::from(user.created_at)),
        users::disabled_at.eq(user.disabled_at.map(Ms::from)),
        users::subject.eq(user.subject.as_deref()),
        users::totp_pending.eq(user.totp_pending.as_deref()),
    );
    execute(conn, diesel::insert_into(users::table).values(row)).map(drop)
}

/// Writes everything about a person that can change.
pub(crate) fn update(conn: &mut DbConn, user: &User) -> QueryResult<()> {
    let row = (
        users::password.eq(user.password.as_deref().unwrap_or_default()),
        users::grants.eq(to_json(&user.grants)?),
        users::totp.eq(user.totp.as_deref()),
        users::totp_used.eq(user.totp_used),
        users::disabled_at.eq(user.disabled_at.map(Ms::from)),
        users::totp_pending.eq(user.totp_pending.as_deref()),
    );
    execute(conn, diesel::update(users::table.find(Uid::from(user.id))).set(row)).map(drop)
}
