//! How many devices were done with a rollout, hour by hour: what a forecast measures its rate from. Changes in the
//! transaction that changes the counters.

use std::time::Duration;

use callboard_policy::forecast::Hour;
use callboard_proto::{ids::RolloutId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, load},
    schema::hours,
    types::{Ms, Uid, to_u32},
};

const HOUR_MS: i64 = 3_600_000;

/// Counts devices that were done now; fewer than none if some have begun anew.
pub(super) fn add(conn: &mut DbConn, rollout: RolloutId, now: Timestamp, done: i64) -> QueryResult<()> {
    let start = Ms::from(Timestamp::from_millis(now.millis().div_euclid(HOUR_MS) * HOUR_MS));
    let row = hours::table.find((Uid::from(rollout), start));
    if execute(conn, diesel::update(row).set(hours::done.eq(hours::done + done)))? == 0 {
        let new = (hours::rollout_id.eq(Uid::from(rollout)), hours::start.eq(start), hours::done.eq(done));
        execute(conn, diesel::insert_into(hours::table).values(new))?;
    }
    Ok(())
}

/// The hours of the last `look_back`, oldest first.
pub(crate) fn of(conn: &mut DbConn, rollout: RolloutId, now: Timestamp, look_back: Duration) -> QueryResult<Vec<Hour>> {
    // The hour in which they begin counts too.
    let since = Timestamp::from_millis((now - look_back).millis() - HOUR_MS);
    let rows = hours::table
        .filter(hours::rollout_id.eq(Uid::from(rollout)))
        .filter(hours::start.gt(Ms::from(since)))
        .order(hours::start)
        .select((hours::start, hours::done));
    let rows: Vec<(Ms, i64)> = load(conn, rows)?;
    Ok(rows.into_iter().map(|(start, done)| Hour { start: start.into(), done: to_u32(done.max(0)) }).collect())
}

/// Forgets hours that no forecast looks at any more.
pub(crate) fn purge(conn: &mut DbConn, before: Timestamp) -> QueryResult<usize> {
    execute(conn, diesel::delete(hours::table.filter(hours::start.lt(Ms::from(before)))))
}
