//! What devices say that they refused: counters of theirs, one row for each device that has told of anything. No value in it
//! can be larger than its type, and a device adds nothing to another one's row.

use std::collections::BTreeMap;

use callboard_proto::{ids::DeviceId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};
use serde::{Deserialize, Serialize};

use crate::db::{
    conn::{DbConn, execute, find, load},
    schema::{attacks, devices},
    types::{Ms, Uid, from_json, to_json},
};

/// What a device says, by kind.
pub(crate) type Told = BTreeMap<String, u32>;

/// What is known of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attacks {
    /// When the event log was told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) logged_at: Option<Timestamp>,
    /// By kind.
    pub(crate) counters: BTreeMap<String, Counter>,
}

/// What is known of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    /// The device's own counter, which begins anew when the device does.
    pub(crate) reported: u32,
    /// How much it has risen by altogether.
    pub(crate) total: u32,
    /// The part of that which an operator has taken note of.
    pub(crate) acknowledged: u32,
    /// When it rose last.
    pub(crate) at: Timestamp,
}

/// What is known of a device, if it has told of anything yet.
pub(crate) fn get(conn: &mut DbConn, id: DeviceId) -> QueryResult<Attacks> {
    let found: Option<String> = find(conn, attacks::table.find(Uid::from(id)).select(attacks::counters))?;
    Ok(found.map(|counters| from_json(&counters)).transpose()?.unwrap_or_default())
}

/// Writes what is known of a device; `risen` says that something rose now.
pub(crate) fn set(conn: &mut DbConn, id: DeviceId, known: &Attacks, risen: Option<Timestamp>) -> QueryResult<()> {
    let counters = attacks::counters.eq(to_json(known)?);
    let risen_at = risen.map(|at| attacks::risen_at.eq(Some(Ms::from(at))));
    let row = diesel::update(attacks::table.find(Uid::from(id)));
    if execute(conn, row.set((counters.clone(), risen_at)))? == 0 {
        let row = (attacks::device_id.eq(Uid::from(id)), counters, attacks::risen_at.eq(risen.map(Ms::from)));
        execute(conn, diesel::insert_into(attacks::table).values(row))?;
    }
    Ok(())
}

/// An operator has taken note of everything so far.
pub(crate) fn acknowledge(conn: &mut DbConn, id: DeviceId, known: &Attacks) -> QueryResult<()> {
    let row = diesel::update(attacks::table.find(Uid::from(id)));
    let values = (attacks::counters.eq(to_json(known)?), attacks::risen_at.eq(None::<Ms>));
    execute(conn, row.set(values)).map(drop)
}

/// The device begins anew, and its counters with it. What it told before stays known.
pub(super) fn begin_anew(conn: &mut DbConn, id: DeviceId) -> QueryResult<()> {
    let mut known = get(conn, id)?;
    if known.counters.is_empty() {
        return Ok(());
    }
    known.counters.values_mut().for_each(|counter| counter.reported = 0);
    set(conn, id, &known, None)
}

/// Numbers of devices in service that told of something since then of which nobody has taken note, at most `limit`.
pub(crate) fn since(conn: &mut DbConn, since: Timestamp, limit: i64) -> QueryResult<Vec<(i64, Attacks)>> {
    let rows = attacks::table
        .inner_join(devices::table)
        .filter(attacks::risen_at.ge(Ms::from(since)))
        .filter(devices::decommissioned_at.is_null())
        .limit(limit)
        .select((devices::number, attacks::counters));
    let found: Vec<(i64, String)> = load(conn, rows)?;
    found.into_iter().map(|(number, counters)| Ok((number, from_json(&counters)?))).collect()
}
