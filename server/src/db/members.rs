//! What membership has come to since rollouts started: one row for each device that joined late, was excluded, or came
//! back. What was fixed at the start stands in the sets of [`super::phases`] and [`super::exclusions`]; a row here goes
//! before them. So what one device changes costs the same in a fleet of any size.
//!
//! The rows are part of what is known about a device: whoever writes one has the device's revision rise.

use std::collections::{HashMap, HashSet};

use callboard_policy::{audience::Exclusion, device::Member};
use callboard_proto::ids::RolloutId;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable, result::Error};

use super::{
    conn::{DbConn, execute, load},
    schema::members,
    types::{Uid, to_i64, to_u32},
};

#[derive(Queryable)]
struct Row {
    rollout_id: Uid,
    number: i64,
    phase: i64,
    excluded: Option<String>,
}

/// The reason that a word in the database stands for.
pub(super) fn exclusion(code: &str) -> QueryResult<Exclusion> {
    Exclusion::from_code(code).ok_or_else(|| Error::DeserializationError(format!("exclusion {code:?}").into()))
}

/// What the memberships of devices with these numbers have come to.
pub(super) fn of(conn: &mut DbConn, numbers: &[i64]) -> QueryResult<HashMap<u32, Vec<Member>>> {
    let query = members::table.filter(members::number.eq_any(numbers.to_vec())).order(members::rollout_id);
    let rows: Vec<Row> = load(conn, query)?;
    let mut found: HashMap<u32, Vec<Member>> = HashMap::new();
    for row in rows {
        let member = Member {
            rollout: row.rollout_id.id(),
            phase: usize::try_from(row.phase).unwrap_or_default(),
            excluded: row.excluded.as_deref().map(exclusion).transpose()?,
        };
        found.entry(to_u32(row.number)).or_default().push(member);
    }
    Ok(found)
}

/// Writes what the membership of a device has come to.
pub(crate) fn put(conn: &mut DbConn, number: u32, member: &Member) -> QueryResult<()> {
    let key = (Uid::from(member.rollout), i64::from(number));
    let values = (members::phase.eq(to_i64(member.phase)), members::excluded.eq(member.excluded.map(Exclusion::code)));
    if execute(conn, diesel::update(members::table.find(key)).set(values))? == 0 {
        let new = (members::rollout_id.eq(key.0), members::number.eq(key.1), values);
        execute(conn, diesel::insert_into(members::table).values(new))?;
    }
    Ok(())
}

/// Numbers of devices that joined a rollout late or came back to it.
pub(crate) fn counting(conn: &mut DbConn, rollout: RolloutId, limit: usize) -> QueryResult<Vec<u32>> {
    let query = members::table
        .filter(members::rollout_id.eq(Uid::from(rollout)))
        .filter(members::excluded.is_null())
        .order(members::number)
        .limit(to_i64(limit));
    let numbers: Vec<i64> = load(conn, query.select(members::number))?;
    Ok(numbers.into_iter().map(to_u32).collect())
}

/// Those of the devices that a rollout has not excluded since it started.
pub(crate) fn not_excluded(conn: &mut DbConn, rollout: RolloutId, numbers: Vec<i64>) -> QueryResult<Vec<i64>> {
    let query = members::table
        .filter(members::rollout_id.eq(Uid::from(rollout)))
        .filter(members::excluded.is_not_null())
        .filter(members::number.eq_any(numbers.clone()));
    let excluded: HashSet<i64> = load(conn, query.select(members::number))?.into_iter().collect();
    Ok(numbers.into_iter().filter(|number| !excluded.contains(number)).collect())
}
