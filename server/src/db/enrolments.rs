//! Enrolments that wait for an operator, and those that were decided on and did not ask again yet.

use callboard_proto::{
    admin::EnrolmentState,
    digest::Digest,
    ids::{DeviceId, DeviceName, EnrolmentId, TokenId},
    time::Timestamp,
};
use diesel::{ExpressionMethods, JoinOnDsl, NullableExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::{devices, enrolments},
    types::{Ms, Sha, Uid, parse},
};

/// A key that asked to become a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enrolment {
    pub(crate) id: EnrolmentId,
    pub(crate) spki: Digest,
    pub(crate) token: TokenId,
    pub(crate) state: EnrolmentState,
    pub(crate) why: String,
    pub(crate) device: Option<DeviceId>,
    pub(crate) name: Option<DeviceName>,
    pub(crate) serial: Option<String>,
    pub(crate) hw: String,
    pub(crate) arch: String,
    pub(crate) source: Option<String>,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) decided_by: Option<String>,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    spki: Sha,
    token_id: Uid,
    state: i16,
    why: String,
    device_id: Option<Uid>,
    name: Option<String>,
    serial: Option<String>,
    hw: String,
    arch: String,
    source: Option<String>,
    first_at: Ms,
    last_at: Ms,
    decided_by: Option<String>,
}

impl Row {
    fn into_enrolment(self) -> QueryResult<Enrolment> {
        Ok(Enrolment {
            id: self.id.id(),
            spki: self.spki.0,
            token: self.token_id.id(),
            state: match self.state {
                1 => EnrolmentState::Accepted,
                2 => EnrolmentState::Rejected,
                _ => EnrolmentState::Waiting,
            },
            why: self.why,
            device: self.device_id.map(Uid::id),
            name: self.name.as_deref().map(parse).transpose()?,
            serial: self.serial,
            hw: self.hw,
            arch: self.arch,
            source: self.source,
            first_at: self.first_at.into(),
            last_at: self.last_at.into(),
            decided_by: self.decided_by,
        })
    }
}

const fn number(state: EnrolmentState) -> i16 {
    match state {
        EnrolmentState::Waiting => 0,
        EnrolmentState::Accepted => 1,
        EnrolmentState::Rejected => 2,
    }
}

/// One enrolment.
pub(crate) fn get(conn: &mut DbConn, id: EnrolmentId) -> QueryResult<Option<Enrolment>> {
    find::<_, Row>(conn, enrolments::table.find(Uid::from(id)))?.map(Row::into_enrolment).transpose()
}

/// The enrolment of a key.
pub(crate) fn by_spki(conn: &mut DbConn, spki: Digest) -> QueryResult<Option<Enrolment>> {
    find::<_, Row>(conn, enrolments::table.filter(enrolments::spki.eq(Sha(spki))))?.map(Row::into_enrolment).transpose()
}

/// A page of enrolments, newest first, each with the name of the device that it is about.
pub(crate) fn list(
    conn: &mut DbConn,
    before: EnrolmentId,
    limit: i64,
) -> QueryResult<Vec<(Enrolment, Option<String>)>> {
    // Ids are UUIDs of version 7, so they sort by time.
    let query = enrolments::table
        .left_join(devices::table.on(enrolments::device_id.eq(devices::id.nullable())))
        .filter(enrolments::id.lt(Uid::from(before)))
        .order(enrolments::id.desc())
        .limit(limit)
        .select((enrolments::all_columns, devices::name.nullable()));
    let rows: Vec<(Row, Option<String>)> = load(conn, query)?;
    rows.into_iter().map(|(row, name)| Ok((row.into_enrolment()?, name))).collect()
}

/// How many wait, of one token and from one source.
pub(crate) fn waiting(conn: &mut DbConn, token: TokenId, source: Option<&str>) -> QueryResult<(i64, i64)> {
    let waiting = || enrolments::table.filter(enrolments::state.eq(number(EnrolmentState::Waiting)));
    let of_token = find(conn, waiting().filter(enrolments::token_id.eq(Uid::from(token))).count())?;
    let from_source = match source {
        Some(source) => find(conn, waiting().filter(enrolments::source.eq(source.to_owned())).count())?,
        None => None,
    };
    Ok((of_token.unwrap_or(0), from_source.unwrap_or(0)))
}

/// How many wait.
pub(crate) fn count_waiting(conn: &mut DbConn) -> QueryResult<i64> {
    let waiting = enrolments::table.filter(enrolments::state.eq(number(EnrolmentState::Waiting)));
    Ok(find(conn, waiting.count())?.unwrap_or(0))
}

/// Writes an enrolment, instead of what was known of its key.
pub(crate) fn set(conn: &mut DbConn, one: &Enrolment) -> QueryResult<()> {
    delete(conn, one.spki)?;
    let row = (
        enrolments::id.eq(Uid::from(one.id)),
        enrolments::spki.eq(Sha(one.spki)),
        enrolments::token_id.eq(Uid::from(one.token)),
        enrolments::state.eq(number(one.state)),
        enrolments::why.eq(one.why.as_str()),
        enrolments::device_id.eq(one.device.map(Uid::from)),
        enrolments::name.eq(one.name.as_ref().map(DeviceName::as_str)),
        enrolments::serial.eq(one.serial.as_deref()),
        enrolments::hw.eq(one.hw.as_str()),
        enrolments::arch.eq(one.arch.as_str()),
        enrolments::source.eq(one.source.as_deref()),
        enrolments::first_at.eq(Ms::from(one.first_at)),
        enrolments::last_at.eq(Ms::from(one.last_at)),
        enrolments::decided_by.eq(one.decided_by.as_deref()),
    );
    execute(conn, diesel::insert_into(enrolments::table).values(row)).map(drop)
}

/// Forgets the enrolment of a key.
pub(crate) fn delete(conn: &mut DbConn, spki: Digest) -> QueryResult<()> {
    execute(conn, diesel::delete(enrolments::table.filter(enrolments::spki.eq(Sha(spki))))).map(drop)
}

/// A key has become a device: its enrolment is over, and so is every other that was to become that device.
pub(crate) fn settle(conn: &mut DbConn, spki: Digest, device: DeviceId) -> QueryResult<()> {
    delete(conn, spki)?;
    execute(conn, diesel::delete(enrolments::table.filter(enrolments::device_id.eq(Uid::from(device))))).map(drop)
}

/// Forgets enrolments that nobody asked for since `before`.
pub(crate) fn purge(conn: &mut DbConn, before: Timestamp) -> QueryResult<()> {
    execute(conn, diesel::delete(enrolments::table.filter(enrolments::last_at.lt(Ms::from(before))))).map(drop)
}
