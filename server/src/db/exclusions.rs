//! Who is excluded from a rollout, by why. Decisions look at the rollout's own set; these say more to people.

use callboard_proto::ids::RolloutId;
use diesel::{ExpressionMethods, QueryDsl, QueryResult};
use roaring::RoaringBitmap;

use super::{
    conn::{DbConn, execute, load},
    schema::exclusions,
    types::{Uid, from_set, to_set},
};

/// Sets of device numbers by why.
pub(crate) type Exclusions = Vec<(String, RoaringBitmap)>;

/// Who is excluded from a rollout.
pub(crate) fn of(conn: &mut DbConn, id: RolloutId) -> QueryResult<Exclusions> {
    let query = exclusions::table.filter(exclusions::rollout_id.eq(Uid::from(id))).order(exclusions::why);
    let rows: Vec<(String, Vec<u8>)> = load(conn, query.select((exclusions::why, exclusions::members)))?;
    rows.into_iter().map(|(why, members)| Ok((why, from_set(&members)?))).collect()
}

/// Writes who is excluded for this reason; nobody any more is no row.
pub(crate) fn set(conn: &mut DbConn, id: RolloutId, why: &str, members: &RoaringBitmap) -> QueryResult<()> {
    execute(conn, diesel::delete(exclusions::table.find((Uid::from(id), why.to_owned()))))?;
    if members.is_empty() {
        return Ok(());
    }
    let row = (
        exclusions::rollout_id.eq(Uid::from(id)),
        exclusions::why.eq(why.to_owned()),
        exclusions::members.eq(to_set(members)?),
    );
    execute(conn, diesel::insert_into(exclusions::table).values(row)).map(drop)
}

/// Writes that one device is excluded for this reason and no other, or for none.
pub(crate) fn put(conn: &mut DbConn, id: RolloutId, number: u32, why: Option<&str>) -> QueryResult<()> {
    let mut wanted = RoaringBitmap::new();
    for (known, mut members) in of(conn, id)? {
        if why == Some(known.as_str()) {
            wanted = members;
        } else if members.remove(number) {
            set(conn, id, &known, &members)?;
        }
    }
    match why {
        Some(why) if wanted.insert(number) => set(conn, id, why, &wanted),
        _ => Ok(()),
    }
}
