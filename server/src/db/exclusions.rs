//! Who was excluded from a rollout when it started, by why, and how many members are by now. What a single device has
//! come to since is in [`super::members`].

use std::collections::BTreeMap;

use callboard_policy::audience::Exclusion;
use callboard_proto::ids::RolloutId;
use diesel::{ExpressionMethods, QueryDsl, QueryResult};
use roaring::RoaringBitmap;

use super::{
    conn::{DbConn, execute, load},
    members::exclusion,
    schema::{excluded, exclusions},
    types::{Uid, from_set, to_i64, to_u32},
};

/// Who was excluded from a rollout when it started.
pub(super) fn of(conn: &mut DbConn, id: RolloutId) -> QueryResult<BTreeMap<Exclusion, RoaringBitmap>> {
    let query = exclusions::table.filter(exclusions::rollout_id.eq(Uid::from(id)));
    let rows: Vec<(String, Vec<u8>)> = load(conn, query.select((exclusions::why, exclusions::members)))?;
    rows.into_iter().map(|(why, members)| Ok((exclusion(&why)?, from_set(&members)?))).collect()
}

/// Writes who is excluded for this reason.
pub(super) fn insert(conn: &mut DbConn, id: RolloutId, why: Exclusion, members: &[u8]) -> QueryResult<()> {
    let row =
        (exclusions::rollout_id.eq(Uid::from(id)), exclusions::why.eq(why.code()), exclusions::members.eq(members));
    execute(conn, diesel::insert_into(exclusions::table).values(row)).map(drop)
}

/// How many members of each phase of a rollout are excluded for which reason.
pub(super) fn counts(conn: &mut DbConn, id: Uid) -> QueryResult<Vec<(i64, String, u32)>> {
    let query = excluded::table.filter(excluded::rollout_id.eq(id)).filter(excluded::devices.gt(0));
    let rows: Vec<(i64, String, i64)> = load(conn, query.select((excluded::idx, excluded::why, excluded::devices)))?;
    Ok(rows.into_iter().map(|(idx, why, devices)| (idx, why, to_u32(devices))).collect())
}

/// Counts members of a phase that are excluded, or fewer of them.
pub(super) fn count(conn: &mut DbConn, id: RolloutId, idx: usize, why: Exclusion, more: i64) -> QueryResult<()> {
    let key = (Uid::from(id), to_i64(idx), why.code().to_owned());
    let row = diesel::update(excluded::table.find(key.clone()));
    // Of a rollout from before they were counted there is nothing to take off.
    if execute(conn, row.set(excluded::devices.eq(excluded::devices + more)))? == 0 && more > 0 {
        let (id, idx, why) = key;
        let new =
            (excluded::rollout_id.eq(id), excluded::idx.eq(idx), excluded::why.eq(why), excluded::devices.eq(more));
        execute(conn, diesel::insert_into(excluded::table).values(new))?;
    }
    Ok(())
}
