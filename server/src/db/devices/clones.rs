//! Devices that may have a copy, and devices that may enrol again.

use callboard_proto::{admin::PossibleClone, ids::DeviceId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};

use serde::{Deserialize, Serialize};

use super::Record;
use crate::db::{
    conn::{DbConn, execute, find},
    schema::devices,
    types::{Uid, from_json, to_json},
};

/// Devices that may have a copy, without their assignments: so many of them, from after a number on.
pub(crate) fn doubted(conn: &mut DbConn, after: i64, limit: i64) -> QueryResult<Vec<Record>> {
    super::load_by(conn, super::By::Doubted(after, limit))
}

/// The column `identity`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IdentityColumn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) possible_clone: Option<PossibleClone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reenrol_until: Option<Timestamp>,
}

pub(super) fn read(column: Option<&str>) -> QueryResult<IdentityColumn> {
    Ok(column.map(from_json).transpose()?.unwrap_or_default())
}

/// Says that a device may have a copy, or that it has none.
pub(crate) fn set_clone(conn: &mut DbConn, id: DeviceId, possible_clone: Option<PossibleClone>) -> QueryResult<()> {
    edit(conn, id, |identity| identity.possible_clone = possible_clone)
}

/// Says until when a device may enrol again although it has a key.
pub(crate) fn set_reenrol_until(conn: &mut DbConn, id: DeviceId, until: Option<Timestamp>) -> QueryResult<()> {
    edit(conn, id, |identity| identity.reenrol_until = until)
}

fn edit(conn: &mut DbConn, id: DeviceId, change: impl FnOnce(&mut IdentityColumn)) -> QueryResult<()> {
    let stored: Option<Option<String>> = find(conn, devices::table.find(Uid::from(id)).select(devices::identity))?;
    let mut identity = read(stored.flatten().as_deref())?;
    change(&mut identity);
    let any = identity.possible_clone.is_some() || identity.reenrol_until.is_some();
    let column = any.then(|| to_json(&identity)).transpose()?;
    let row = diesel::update(devices::table.find(Uid::from(id)));
    execute(conn, row.set(devices::identity.eq(column))).map(drop)
}
