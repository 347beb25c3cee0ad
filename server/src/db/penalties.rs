//! Releases that rolled back on a device. It is not offered them again by any rollout, unless an operator asks for that.

use callboard_proto::{digest::Digest, ids::DeviceId, time::Timestamp};
use diesel::{ExpressionMethods, NullableExpressionMethods as _, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, load},
    life,
    schema::{devices, penalties},
    types::{Ms, Sha, Uid},
};

/// Releases that rolled back on a device since then.
pub(super) fn of(conn: &mut DbConn, device: DeviceId, since: Timestamp) -> QueryResult<Vec<Digest>> {
    let rows = penalties::table
        .filter(penalties::device_id.eq(Uid::from(device)))
        .filter(penalties::at.ge(Ms::from(since)))
        .order(penalties::at);
    let releases: Vec<Sha> = load(conn, rows.select(penalties::release))?;
    Ok(releases.into_iter().map(|release| release.0).collect())
}

/// Devices on which a release rolled back in the life that they lead now, in the order of their ids.
pub(crate) fn on(conn: &mut DbConn, release: Digest, after: DeviceId, limit: i64) -> QueryResult<Vec<DeviceId>> {
    let rows = penalties::table
        .inner_join(devices::table)
        .filter(penalties::release.eq(Sha(release)))
        .filter(penalties::device_id.gt(Uid::from(after)))
        .filter(life::own_penalty().assume_not_null())
        .order(penalties::device_id)
        .limit(limit);
    let devices: Vec<Uid> = load(conn, rows.select(penalties::device_id))?;
    Ok(devices.into_iter().map(Uid::id).collect())
}

/// Writes down that a release rolled back.
pub(crate) fn put(conn: &mut DbConn, device: DeviceId, release: Digest, now: Timestamp) -> QueryResult<()> {
    lift(conn, device, release)?;
    let row = (
        penalties::device_id.eq(Uid::from(device)),
        penalties::release.eq(Sha(release)),
        penalties::at.eq(Ms::from(now)),
    );
    execute(conn, diesel::insert_into(penalties::table).values(row)).map(drop)
}

/// Lets a release be offered again; says whether it had rolled back.
pub(crate) fn lift(conn: &mut DbConn, device: DeviceId, release: Digest) -> QueryResult<bool> {
    let row = penalties::table.find((Uid::from(device), Sha(release)));
    Ok(execute(conn, diesel::delete(row))? > 0)
}
