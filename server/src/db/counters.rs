//! Named counters that several servers share: the generation, the next device number, departures, changed devices.

use callboard_proto::{ids::DeviceId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, find, load},
    schema::{changes, counters},
    types::{Ms, Uid, to_i64, to_u64},
};

/// The generation of rollouts, releases and sites.
pub(crate) fn generation(conn: &mut DbConn) -> QueryResult<u64> {
    value(conn, "generation")
}

/// Says that rollouts, releases or sites have changed; grants decided before are void.
pub(crate) fn bump_generation(conn: &mut DbConn) -> QueryResult<()> {
    add(conn, "generation", 1).map(drop)
}

/// How often devices left for good.
pub(crate) fn departures(conn: &mut DbConn) -> QueryResult<u64> {
    value(conn, "departures")
}

/// Says that devices have left.
pub(crate) fn count_departure(conn: &mut DbConn) -> QueryResult<()> {
    add(conn, "departures", 1).map(drop)
}

/// Reserves `n` dense device numbers; returns the first.
pub(crate) fn reserve_device_numbers(conn: &mut DbConn, n: usize) -> QueryResult<u64> {
    let end = add(conn, "device_number", to_i64(n))?;
    Ok(end.saturating_sub(u64::try_from(n).unwrap_or(0)))
}

/// Tells other servers that a device has changed.
pub(crate) fn device_changed(conn: &mut DbConn, device: DeviceId, now: Timestamp) -> QueryResult<()> {
    if matches!(conn, DbConn::Sqlite(_)) {
        // Nobody else reads an embedded database.
        return Ok(());
    }
    let row = (changes::device_id.eq(Uid::from(device)), changes::at.eq(Ms::from(now)));
    execute(conn, diesel::insert_into(changes::table).values(row)).map(drop)
}

/// Devices that changed after `seq`, oldest first, and the number of the last change read.
pub(crate) fn changed_devices(conn: &mut DbConn, seq: i64) -> QueryResult<(Vec<DeviceId>, i64)> {
    let query =
        changes::table.filter(changes::seq.gt(seq)).order(changes::seq).select((changes::seq, changes::device_id));
    let rows: Vec<(i64, Uid)> = load(conn, query.limit(10_000))?;
    let last = rows.last().map_or(seq, |(seq, _)| *seq);
    Ok((rows.into_iter().map(|(_, device)| device.id()).collect(), last))
}

/// Forgets changes that every server has read long ago.
pub(crate) fn purge_changes(conn: &mut DbConn, before: Timestamp) -> QueryResult<usize> {
    execute(conn, diesel::delete(changes::table.filter(changes::at.lt(Ms::from(before)))))
}

/// The number of the newest change.
pub(crate) fn last_change(conn: &mut DbConn) -> QueryResult<i64> {
    Ok(find(conn, changes::table.order(changes::seq.desc()).select(changes::seq).limit(1))?.unwrap_or(0))
}

fn value(conn: &mut DbConn, name: &'static str) -> QueryResult<u64> {
    let found: Option<i64> = find(conn, counters::table.find(name).select(counters::value))?;
    found.map(to_u64).ok_or(diesel::result::Error::NotFound)
}

fn add(conn: &mut DbConn, name: &'static str, n: i64) -> QueryResult<u64> {
    execute(conn, diesel::update(counters::table.find(name)).set(counters::value.eq(counters::value + n)))?;
    value(conn, name)
}
