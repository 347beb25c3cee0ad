//! Members of a rollout that have not been offered its release yet: those who are waited for.

use std::collections::BTreeMap;

use callboard_policy::{catalog::Catalog, rollout::Rollout};
use callboard_proto::ids::SiteId;
use roaring::RoaringBitmap;

use super::resolve_for;
use crate::{
    app::{Actor, App, Error, Result},
    db::{self, DbConn, devices, rollouts},
};

/// Members looked up at a time.
const AT_A_TIME: usize = 1000;
/// And for one page, at most: those who wait may stand behind many who do not.
const FOR_A_PAGE: usize = 50 * AT_A_TIME;

/// A rollout, and devices in the order of their numbers after one, at most `rows` of them. Nobody is waited for by one that
/// is not at work.
pub(crate) async fn list(
    app: &App,
    actor: Actor,
    reference: String,
    after: i64,
    rows: i64,
) -> Result<(rollouts::Record, Vec<devices::Record>)> {
    let catalog = app.catalog();
    app.db
        .read(move |conn| {
            let record = resolve_for(conn, &actor, &reference)?;
            let Some(rollout) = at_work(&catalog.catalog, &record) else {
                return Ok((record, Vec::new()));
            };
            let members = counted(conn, rollout, FOR_A_PAGE)?;
            let mut left =
                members.iter().map(i64::from).skip_while(|number| *number <= after).take(FOR_A_PAGE).peekable();
            let (mut found, rows) = (Vec::new(), usize::try_from(rows).unwrap_or(0));
            while left.peek().is_some() && found.len() < rows {
                found.extend(without_offer(conn, rollout, left.by_ref().take(AT_A_TIME).collect())?);
            }
            found.truncate(rows);
            Ok::<_, Error>((record, db::devices::numbered(conn, found)?))
        })
        .await
}

/// The rollout, unless it waits for nobody: one that was called off is still known where devices finish it.
pub(crate) fn at_work<'a>(catalog: &'a Catalog, record: &rollouts::Record) -> Option<&'a Rollout> {
    catalog.rollout(record.id).filter(|_| record.state.is_active())
}

/// How many there are at each of some sites.
pub(crate) fn at_sites(conn: &mut DbConn, rollout: &Rollout, sites: &[SiteId]) -> Result<BTreeMap<SiteId, u32>> {
    let members = counted(conn, rollout, FOR_A_PAGE)?;
    let is_member = |number: &i64| u32::try_from(*number).is_ok_and(|number| members.contains(number));
    let mut at: BTreeMap<i64, SiteId> = db::standings::devices_at(conn, sites)?.into_iter().collect();
    at.retain(|number, _| is_member(number));
    let (numbers, mut counts) = (at.keys().copied().collect::<Vec<_>>(), BTreeMap::new());
    for looked in numbers.chunks(AT_A_TIME) {
        for number in without_offer(conn, rollout, looked.to_vec())? {
            if let Some(site) = at.remove(&number) {
                *counts.entry(site).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

/// Members that counted when it started, and of those who have joined since `joined` at most.
pub(super) fn counted(conn: &mut DbConn, rollout: &Rollout, joined: usize) -> Result<RoaringBitmap> {
    let mut members = RoaringBitmap::new();
    for phase in &rollout.members.phases {
        members |= phase;
    }
    members -= rollout.members.uncounted();
    members.extend(db::members::counting(conn, rollout.id, joined)?);
    Ok(members)
}

/// Those of the devices that were not excluded since and have no assignment.
pub(super) fn without_offer(conn: &mut DbConn, rollout: &Rollout, looked: Vec<i64>) -> Result<Vec<i64>> {
    let looked = db::members::not_excluded(conn, rollout.id, looked)?;
    Ok(db::assignments::without(conn, rollout.id, looked)?)
}
