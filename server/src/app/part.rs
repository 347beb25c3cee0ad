//! Pages of lists for those who see a part of the fleet, where the database cannot tell by itself what is in it.

use std::collections::{HashMap, HashSet};

use super::{Reach, Result, rollouts};
use crate::db::{self, DbConn, selector::Context};

/// Rows looked through for one page at most: whoever sees little gets a short page, and goes on from there.
const LOOKED_THROUGH: usize = 10_000;
/// Rows read at a time.
const STEP: i64 = 1000;

/// Some items, and the key of the last row looked at, unless that was the last of all.
pub(crate) struct Part<T, K> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<K>,
}

/// Where a page begins, and how many rows would tell that there is another: one more than fit.
pub(crate) struct Place<K> {
    pub(crate) from: K,
    pub(crate) rows: i64,
}

/// Reads a page of what is in reach. `read` gives rows after a key, `keep` says which of them are in it.
pub(crate) fn read<T, K: Clone>(
    conn: &mut DbConn,
    reach: &Reach,
    place: Place<K>,
    key: impl Fn(&T) -> K,
    read: impl Fn(&mut DbConn, K, i64) -> Result<Vec<T>>,
    mut keep: impl FnMut(&mut DbConn, &[T]) -> Result<Vec<bool>>,
) -> Result<Part<T, K>> {
    let Place { mut from, rows } = place;
    let limit = usize::try_from(rows - 1).unwrap_or(0);
    if reach.is_everything() {
        let mut items = read(conn, from, rows)?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        return Ok(Part { items, next });
    }
    let (mut items, mut looked) = (Vec::new(), 0);
    loop {
        let page = read(conn, from.clone(), STEP)?;
        let end = i64::try_from(page.len()).is_ok_and(|read| read < STEP);
        looked += page.len();
        let kept = keep(conn, &page)?;
        for (item, kept) in page.into_iter().zip(kept) {
            if !kept {
                from = key(&item);
            } else if items.len() < limit {
                from = key(&item);
                items.push(item);
            } else {
                return Ok(Part { items, next: Some(from) });
            }
        }
        if end {
            return Ok(Part { items, next: None });
        }
        if looked >= LOOKED_THROUGH {
            return Ok(Part { items, next: Some(from) });
        }
    }
}

/// Which of these devices are in reach; `None` is no device.
pub(crate) fn devices(
    conn: &mut DbConn,
    reach: &Reach,
    context: &Context,
    numbers: impl Iterator<Item = Option<i64>> + Clone,
) -> Result<Vec<bool>> {
    let asked: HashSet<i64> = numbers.clone().flatten().collect();
    let asked: Vec<i64> = asked.into_iter().collect();
    let found = db::selector::among(conn, &reach.selector(), context, &asked)?;
    Ok(numbers.map(|number| number.is_some_and(|number| found.contains(&number))).collect())
}

/// Which of these events are about devices in reach, or about no device and rollouts in reach.
pub(crate) fn events(
    conn: &mut DbConn,
    reach: &Reach,
    context: &Context,
    events: &[db::events::Event],
) -> Result<Vec<bool>> {
    let mut kept = devices(conn, reach, context, events.iter().map(|event| event.number))?;
    let mut known: HashMap<&str, bool> = HashMap::new();
    for (event, kept) in events.iter().zip(&mut kept).filter(|(event, _)| event.number.is_none()) {
        let Some(name) = event.rollout.as_deref() else { continue };
        *kept = match known.get(name) {
            Some(within) => *within,
            None => {
                let record = rollouts::resolve(conn, name)?;
                let within = rollouts::is_within(conn, reach, &record)?;
                known.insert(name, within);
                within
            }
        };
    }
    Ok(kept)
}
