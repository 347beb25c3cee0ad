//! When devices were seen last. It is written behind, in batches, and changes nothing else of their rows.

use std::{collections::BTreeMap, time::Duration};

use callboard_policy::{
    device::{Absence, Connection},
    rhythm::Rhythm,
};
use callboard_proto::{
    digest::Digest,
    ids::{AssignmentId, DeviceId},
    time::Timestamp,
};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult};
use serde::{Deserialize, Serialize};

use crate::db::{
    conn::{DbConn, execute, find, load},
    schema::devices,
    types::{Ms, Uid, from_json, to_json},
};

/// A device's last check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    pub(crate) boot_id: String,
    pub(crate) absence: Option<Absence>,
    /// The connection that is still owed an offer.
    pub(crate) owed: Option<Connection>,
    /// When its agent was at work last, and on which assignment, if it was since the check-in before.
    pub(crate) busy: Option<(Timestamp, AssignmentId)>,
    /// When it is usually there.
    pub(crate) rhythm: Rhythm,
    /// Host and port that it asked for.
    pub(crate) address: Option<String>,
    /// The root that it trusted.
    pub(crate) root: u64,
    /// The digest of the name of the CA that issued its certificate.
    pub(crate) ca: Digest,
    /// By what a copy of it is found out.
    pub(crate) trace: Trace,
}

/// A device's last check-in that the database knows, and when it is usually there.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastSeen {
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) absence: Option<Absence>,
    pub(crate) owed: Option<Connection>,
    pub(crate) boot_id: Option<String>,
    pub(crate) rhythm: Option<Rhythm>,
    pub(crate) trace: Option<Trace>,
}

/// When a device was seen last by any server.
pub(crate) fn last_seen(conn: &mut DbConn, id: DeviceId) -> QueryResult<LastSeen> {
    type Columns = (Option<Ms>, Option<String>, Option<String>, Option<Vec<u8>>);
    let columns = (devices::last_seen, devices::presence, devices::boot_id, devices::rhythm);
    let found: Option<Columns> = find(conn, devices::table.find(Uid::from(id)).select(columns))?;
    let (seen, presence, boot_id, rhythm) = found.unwrap_or_default();
    let Presence { absence, owed, trace, .. } = read_presence(presence.as_deref())?;
    let rhythm = rhythm.as_deref().and_then(Rhythm::from_slice);
    Ok(LastSeen { last_seen: seen.map(Into::into), absence, owed, boot_id, rhythm, trace })
}

/// Writes the last check-ins of many devices.
pub(crate) fn set_seen(conn: &mut DbConn, seen: &[(DeviceId, Seen)]) -> QueryResult<()> {
    for (id, seen) in seen {
        let at = Ms::from(seen.at);
        let newer = devices::last_seen.is_null().or(devices::last_seen.le(at));
        let row = diesel::update(devices::table.find(Uid::from(*id)).filter(newer));
        let presence = devices::presence.eq(write_presence(seen)?);
        let rhythm = devices::rhythm.eq(Some(seen.rhythm.as_bytes().as_slice()));
        let values =
            (devices::last_seen.eq(Some(at)), devices::boot_id.eq(Some(seen.boot_id.as_str())), presence, rhythm);
        let busy = seen.busy.map(|(at, on)| (devices::busy_at.eq(Ms::from(at)), devices::busy_on.eq(Uid::from(on))));
        execute(conn, row.set((values, busy)))?;
    }
    Ok(())
}

/// What the column `presence` tells: nothing that the database has to compare.
#[derive(Debug, Default)]
pub(super) struct Presence {
    pub(super) absence: Option<Absence>,
    /// The connection that is still owed an offer.
    pub(super) owed: Option<Connection>,
    pub(super) standing: Standing,
    pub(super) trace: Option<Trace>,
}

/// By what a copy of a device is found out: what its check-ins were numbered, and where they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// The number of its last check-in.
    pub(crate) seq: u64,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hardware: Option<String>,
    /// The boot before the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot_before: Option<String>,
    /// How often of late a check-in came that one machine alone would not have sent, and when that was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) strikes: Option<(u8, Timestamp)>,
}

/// Where a device stood with its last check-in, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The root that it trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<u64>,
    /// Host and port that it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// The digest of the name of the CA that issued its certificate, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
}

/// How it is written.
#[derive(Serialize, Deserialize)]
struct PresenceColumn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absence: Option<(Option<Timestamp>, Timestamp)>,
    /// Its first check-in, and the milliseconds that the device had been away before; none is without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed: Option<(Timestamp, Option<u64>)>,
    #[serde(flatten)]
    standing: Standing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<Trace>,
}

pub(super) fn read_presence(column: Option<&str>) -> QueryResult<Presence> {
    let Some(column) = column.map(from_json::<PresenceColumn>).transpose()? else {
        return Ok(Presence::default());
    };
    let absence = column.absence.map(|(since, until)| Absence { since, until });
    let connection =
        |(at, after): (_, Option<u64>)| Connection { at, after: after.map_or(Duration::MAX, Duration::from_millis) };
    Ok(Presence { absence, owed: column.owed.map(connection), standing: column.standing, trace: column.trace })
}

fn write_presence(seen: &Seen) -> QueryResult<String> {
    let absence = seen.absence.map(|absence| (absence.since, absence.until));
    let owed = seen.owed.map(|owed| (owed.at, u64::try_from(owed.after.as_millis()).ok()));
    let standing = Standing { root: Some(seen.root), address: seen.address.clone(), ca: Some(seen.ca.short()) };
    let trace = Some(seen.trace.clone());
    to_json(&PresenceColumn { absence, owed, standing, trace })
}

/// Rows that are read at a time.
const STEP: i64 = 10_000;

/// Where the devices that are enrolled and in service stood with their last check-ins, and how many of them.
pub(crate) fn standings(conn: &mut DbConn) -> QueryResult<BTreeMap<Standing, u64>> {
    let (mut counts, mut after) = (BTreeMap::new(), -1);
    loop {
        let in_service =
            devices::table.filter(devices::decommissioned_at.is_null()).filter(devices::spki.is_not_null());
        let page = in_service.filter(devices::number.gt(after)).order(devices::number).limit(STEP);
        let rows: Vec<(i64, Option<String>)> = load(conn, page.select((devices::number, devices::presence)))?;
        let Some((last, _)) = rows.last() else { return Ok(counts) };
        after = *last;
        for (_, presence) in &rows {
            *counts.entry(read_presence(presence.as_deref())?.standing).or_default() += 1;
        }
    }
}

/// How many devices were seen since `at`.
pub(crate) fn count_seen_since(conn: &mut DbConn, at: Timestamp) -> QueryResult<i64> {
    let seen = devices::table.filter(devices::decommissioned_at.is_null()).filter(devices::last_seen.ge(Ms::from(at)));
    Ok(find(conn, seen.count())?.unwrap_or_default())
}
