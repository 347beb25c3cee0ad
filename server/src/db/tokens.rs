//! Enrolment tokens of devices; of each secret only the SHA-256 is stored.

use std::collections::BTreeMap;

use callboard_proto::{
    digest::Digest,
    ids::{DeviceId, SiteId, TokenId},
    time::Timestamp,
};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::{devices, enrol_tokens},
    types::{Ms, Sha, Uid, from_json, parse, to_i64, to_json, to_u32},
};

/// A permission to enrol.
#[derive(Clone, Debug)]
pub(crate) struct EnrolToken {
    pub(crate) id: TokenId,
    pub(crate) secret_sha256: Digest,
    pub(crate) device: Option<DeviceId>,
    pub(crate) site: Option<SiteId>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) uses: u32,
    pub(crate) max_uses: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
    /// Only serial numbers that match this glob.
    pub(crate) serial_pattern: Option<String>,
    /// Whether whoever uses it waits for an operator.
    pub(crate) waits: bool,
    /// Selectors of the part of the fleet whose devices it may take over; none for all of it.
    pub(crate) reach: Option<Vec<String>>,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    secret_sha256: Sha,
    device_id: Option<Uid>,
    site_id: Option<String>,
    labels: String,
    uses: i64,
    max_uses: i64,
    created_at: Ms,
    expires_at: Ms,
    revoked_at: Option<Ms>,
    serial_pattern: Option<String>,
    waits: i16,
    reach: Option<String>,
}

impl Row {
    fn into_token(self) -> QueryResult<EnrolToken> {
        Ok(EnrolToken {
            id: self.id.id(),
            secret_sha256: self.secret_sha256.0,
            device: self.device_id.map(Uid::id),
            site: self.site_id.as_deref().map(parse).transpose()?,
            labels: from_json(&self.labels)?,
            uses: to_u32(self.uses),
            max_uses: to_u32(self.max_uses),
            created_at: self.created_at.into(),
            expires_at: self.expires_at.into(),
            revoked_at: self.revoked_at.map(Timestamp::from),
            serial_pattern: self.serial_pattern,
            waits: self.waits != 0,
            reach: self.reach.as_deref().map(from_json).transpose()?,
        })
    }
}

/// One enrolment token.
pub(crate) fn get(conn: &mut DbConn, id: TokenId) -> QueryResult<Option<EnrolToken>> {
    find::<_, Row>(conn, enrol_tokens::table.find(Uid::from(id)))?.map(Row::into_token).transpose()
}

/// A page of enrolment tokens, newest first, each with the name of the device it is bound to.
pub(crate) fn list(conn: &mut DbConn, before: TokenId, limit: i64) -> QueryResult<Vec<(EnrolToken, Option<String>)>> {
    // Ids are UUIDs of version 7, so they sort by time.
    let query =
        enrol_tokens::table.filter(enrol_tokens::id.lt(Uid::from(before))).order(enrol_tokens::id.desc()).limit(limit);
    let rows: Vec<Row> = load(conn, query)?;
    let mut tokens = Vec::with_capacity(rows.len());
    for row in rows {
        let token = row.into_token()?;
        let name = match token.device {
            Some(device) => find(conn, devices::table.find(Uid::from(device)).select(devices::name))?,
            None => None,
        };
        tokens.push((token, name));
    }
    Ok(tokens)
}

/// Writes a new enrolment token.
pub(crate) fn insert(conn: &mut DbConn, token: &EnrolToken) -> QueryResult<()> {
    let row = (
        enrol_tokens::id.eq(Uid::from(token.id)),
        enrol_tokens::secret_sha256.eq(Sha(token.secret_sha256)),
        enrol_tokens::device_id.eq(token.device.map(Uid::from)),
        enrol_tokens::site_id.eq(token.site.as_ref().map(SiteId::as_str)),
        enrol_tokens::labels.eq(to_json(&token.labels)?),
        enrol_tokens::uses.eq(to_i64(token.uses)),
        enrol_tokens::max_uses.eq(to_i64(token.max_uses)),
        enrol_tokens::created_at.eq(Ms::from(token.created_at)),
        enrol_tokens::expires_at.eq(Ms::from(token.expires_at)),
        enrol_tokens::serial_pattern.eq(token.serial_pattern.as_deref()),
        enrol_tokens::waits.eq(i16::from(token.waits)),
        enrol_tokens::reach.eq(token.reach.as_ref().map(to_json).transpose()?),
    );
    execute(conn, diesel::insert_into(enrol_tokens::table).values(row)).map(drop)
}

/// Counts one use.
pub(crate) fn count_use(conn: &mut DbConn, id: TokenId) -> QueryResult<()> {
    let row = diesel::update(enrol_tokens::table.find(Uid::from(id)));
    execute(conn, row.set(enrol_tokens::uses.eq(enrol_tokens::uses + 1))).map(drop)
}

/// Revokes an enrolment token; says whether there was one.
pub(crate) fn revoke(conn: &mut DbConn, id: TokenId, now: Timestamp) -> QueryResult<bool> {
    let row = diesel::update(enrol_tokens::table.find(Uid::from(id)));
    Ok(execute(conn, row.set(enrol_tokens::revoked_at.eq(Some(Ms::from(now)))))? > 0)
}
