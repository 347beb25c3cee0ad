//! The event log: what happened to devices and rollouts, in the transaction in which it happened.

use callboard_proto::{
    ids::{DeviceId, RolloutId},
    time::Timestamp,
};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, JoinOnDsl, NullableExpressionMethods, QueryDsl, QueryResult,
    sql_types::Bool,
};

use super::{
    audit::{self, Change},
    conn::{DbConn, execute, load},
    notices,
    schema::{devices, events, rollouts},
    types::{Ms, Uid},
};

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) kind: &'static str,
    pub(crate) device: Option<DeviceId>,
    pub(crate) rollout: Option<RolloutId>,
    pub(crate) text: String,
    /// Who made this change, if somebody did: then it is a link of the audit's chain.
    pub(crate) change: Option<Change>,
}

/// An event with the names of what it is about.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) seq: i64,
    pub(crate) at: Timestamp,
    pub(crate) kind: String,
    pub(crate) device: Option<String>,
    pub(crate) rollout: Option<String>,
    pub(crate) text: String,
    /// The device's number.
    pub(crate) number: Option<i64>,
}

/// Which events, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) device: Option<DeviceId>,
    pub(crate) rollout: Option<RolloutId>,
    pub(crate) kind: Option<String>,
    /// Only those with a lower number.
    pub(crate) before: Option<i64>,
    pub(crate) limit: i64,
}

impl NewEvent {
    pub(crate) fn device(kind: &'static str, device: DeviceId, text: impl Into<String>) -> Self {
        Self { kind, device: Some(device), rollout: None, text: text.into(), change: None }
    }

    pub(crate) fn rollout(kind: &'static str, rollout: RolloutId, text: impl Into<String>) -> Self {
        Self { kind, device: None, rollout: Some(rollout), text: text.into(), change: None }
    }

    pub(crate) fn general(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, device: None, rollout: None, text: text.into(), change: None }
    }
}

/// Writes an event.
pub(crate) fn insert(conn: &mut DbConn, at: Timestamp, event: &NewEvent) -> QueryResult<()> {
    write(conn, at, event)?;
    notices::of_event(conn, at, event)
}

fn write(conn: &mut DbConn, at: Timestamp, event: &NewEvent) -> QueryResult<()> {
    if let Some(change) = &event.change {
        return audit::append(conn, at, event, change);
    }
    let row = (
        events::at.eq(Ms::from(at)),
        events::kind.eq(event.kind),
        events::device_id.eq(event.device.map(Uid::from)),
        events::rollout_id.eq(event.rollout.map(Uid::from)),
        events::text.eq(&event.text),
    );
    execute(conn, diesel::insert_into(events::table).values(row)).map(drop)
}

/// A page of events, newest first.
pub(crate) fn list(conn: &mut DbConn, filter: Filter) -> QueryResult<Vec<Event>> {
    type Row = (i64, Ms, String, Option<String>, Option<String>, String, Option<i64>);
    let before = filter.before.unwrap_or(i64::MAX);
    let any = filter.kind.is_none();
    let query = events::table
        .left_join(devices::table.on(devices::id.nullable().eq(events::device_id)))
        .left_join(rollouts::table.on(rollouts::id.nullable().eq(events::rollout_id)))
        .filter(events::seq.lt(before))
        .filter(any.into_sql::<Bool>().or(events::kind.eq(filter.kind.unwrap_or_default())))
        .order(events::seq.desc())
        .limit(filter.limit)
        .select((
            events::seq,
            events::at,
            events::kind,
            devices::name.nullable(),
            rollouts::name.nullable(),
            events::text,
            devices::number.nullable(),
        ));
    let rows: Vec<Row> = match (filter.device, filter.rollout) {
        (Some(device), Some(rollout)) => {
            let of_device = query.filter(events::device_id.eq(Uid::from(device)));
            load(conn, of_device.filter(events::rollout_id.eq(Uid::from(rollout))))
        }
        (Some(device), None) => load(conn, query.filter(events::device_id.eq(Uid::from(device)))),
        (None, Some(rollout)) => load(conn, query.filter(events::rollout_id.eq(Uid::from(rollout)))),
        (None, None) => load(conn, query),
    }?;
    let event = |(seq, at, kind, device, rollout, text, number): Row| Event {
        seq,
        at: at.into(),
        kind,
        device,
        rollout,
        text,
        number,
    };
    Ok(rows.into_iter().map(event).collect())
}

/// Forgets events from before `before`, oldest first and at most `limit`; says how many.
pub(crate) fn purge(conn: &mut DbConn, before: Timestamp, now: Timestamp, limit: i64) -> QueryResult<usize> {
    let links = audit::purge(conn, before, now, limit)?;
    let old = events::table.filter(events::at.lt(Ms::from(before)).and(events::link.is_null()));
    let old: Vec<i64> = load(conn, old.order(events::at).limit(limit).select(events::seq))?;
    Ok(links + execute(conn, diesel::delete(events::table.filter(events::seq.eq_any(old))))?)
}
