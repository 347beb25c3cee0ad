//! What is told to others: written in the transaction in which it happened, with a delivery to each webhook that wants it.

use callboard_proto::{
    admin::{NOTICES, Notice},
    ids::{DeviceId, RolloutId},
    time::Timestamp,
};
use diesel::{BoolExpressionMethods, ExpressionMethods, JoinOnDsl, NullableExpressionMethods, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, find, load},
    events::NewEvent,
    schema::{devices, notices, rollouts},
    types::{Ms, Uid, to_u64},
    webhooks,
};

/// A notice and the number of its device.
pub(crate) struct Told {
    pub(crate) notice: Notice,
    pub(crate) number: Option<i64>,
}

/// Tells of an event, if it is of a kind that is told.
pub(super) fn of_event(conn: &mut DbConn, at: Timestamp, event: &NewEvent) -> QueryResult<()> {
    match NOTICES.iter().find(|kind| **kind == event.kind) {
        Some(kind) => insert(conn, at, kind, event.device, event.rollout, &event.text),
        None => Ok(()),
    }
}

/// Tells of something.
pub(crate) fn insert(
    conn: &mut DbConn,
    at: Timestamp,
    kind: &str,
    device: Option<DeviceId>,
    rollout: Option<RolloutId>,
    text: &str,
) -> QueryResult<()> {
    let row = (
        notices::at.eq(Ms::from(at)),
        notices::kind.eq(kind),
        notices::device_id.eq(device.map(Uid::from)),
        notices::rollout_id.eq(rollout.map(Uid::from)),
        notices::text.eq(text),
    );
    execute(conn, diesel::insert_into(notices::table).values(row))?;
    let Some(last) = newest(conn)? else { return Ok(()) };
    for Told { notice, .. } in after(conn, last - 1, 1)? {
        webhooks::enqueue(conn, &notice)?;
    }
    Ok(())
}

/// The number of the newest one.
pub(crate) fn newest(conn: &mut DbConn) -> QueryResult<Option<i64>> {
    find(conn, notices::table.select(notices::seq).order(notices::seq.desc()).limit(1))
}

/// Those after a number, oldest first.
pub(crate) fn after(conn: &mut DbConn, seq: i64, limit: i64) -> QueryResult<Vec<Told>> {
    type Row = (i64, Ms, String, Option<String>, Option<String>, String, Option<i64>);
    let query = notices::table
        .left_join(devices::table.on(devices::id.nullable().eq(notices::device_id)))
        .left_join(rollouts::table.on(rollouts::id.nullable().eq(notices::rollout_id)))
        .filter(notices::seq.gt(seq))
        .order(notices::seq)
        .limit(limit)
        .select((
            notices::seq,
            notices::at,
            notices::kind,
            devices::name.nullable(),
            rollouts::name.nullable(),
            notices::text,
            devices::number.nullable(),
        ));
    let rows: Vec<Row> = load(conn, query)?;
    let told = |(seq, at, kind, device, rollout, text, number): Row| Told {
        notice: Notice { seq: to_u64(seq), at: at.into(), kind, device, rollout, text },
        number,
    };
    Ok(rows.into_iter().map(told).collect())
}

/// Whether just that was told since then.
pub(crate) fn was_told(conn: &mut DbConn, kind: &str, text: &str, since: Timestamp) -> QueryResult<bool> {
    let (kind, text) = (kind.to_owned(), text.to_owned());
    let same = notices::kind.eq(kind).and(notices::text.eq(text)).and(notices::at.gt(Ms::from(since)));
    Ok(find(conn, notices::table.filter(same).count())?.unwrap_or(0_i64) > 0)
}

/// Forgets old ones, at most `limit`; says how many.
pub(crate) fn purge(conn: &mut DbConn, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let old = notices::table.filter(notices::at.lt(Ms::from(before))).order(notices::at).limit(limit);
    let old: Vec<i64> = load(conn, old.select(notices::seq))?;
    execute(conn, diesel::delete(notices::table.filter(notices::seq.eq_any(old))))
}
