//! Timers that have run down: places of devices that fell silent become free, and some have timed out.
//!
//! What each silence leads to is decided in `policy::timer`; here it is carried out, in batches. A sign of life is a
//! grant, a report, or a check-in of an agent that is at work, which the database knows a second later. Silence counts
//! only while this server could hear: it begins anew when the server starts, and when its database comes back.

use std::{collections::BTreeSet, sync::Arc};

use callboard_policy::timer::{self, Due};
use callboard_proto::{ids::RolloutId, time::Timestamp};

use super::{
    App, Error, Result, assignments,
    devices::{Changing, Remembered},
    presence,
    rollouts::advance::advance,
};
use crate::db::{self, DbConn, Purpose, assignments::Rung};

/// Assignments in one transaction, so that no request waits long behind it.
const BATCH: i64 = 200;

/// What came of one batch.
#[derive(Default)]
struct Rang {
    looked_at: i64,
    changes: Vec<Changing>,
    catalog_changed: bool,
}

/// Carries out what is due. `hears_since` is since when this server has heard devices without a break.
pub(crate) async fn ring(app: &App, hears_since: Timestamp) -> Result<()> {
    loop {
        let now = app.clock.now();
        if !app.db.read(move |conn| Purpose::Jobs.of(|| Ok::<_, Error>(db::assignments::rings(conn, now)?))).await? {
            return Ok(());
        }
        // What devices have said so far counts.
        presence::flush(app).await?;
        let devices = app.devices.clone();
        let rang = app.db.write(move |conn| Purpose::Jobs.of(|| batch(conn, &devices, hears_since, now))).await?;
        rang.changes.into_iter().for_each(|change| app.changed(change));
        if rang.catalog_changed {
            app.reload_catalog().await?;
        }
        if rang.looked_at < BATCH {
            return Ok(());
        }
    }
}

/// Whoever checks in once it is committed is answered by it: a device may go on with what it has no place for any more.
fn batch(conn: &mut DbConn, devices: &Arc<Remembered>, hears_since: Timestamp, now: Timestamp) -> Result<Rang> {
    let mut rang = Rang::default();
    let mut rollouts: BTreeSet<RolloutId> = BTreeSet::new();
    for rung in db::assignments::rung(conn, now, BATCH)? {
        rang.looked_at += 1;
        let (rollout, device) = (rung.record.assignment.rollout, rung.record.device);
        if one(conn, rung, hears_since, now)? {
            rollouts.insert(rollout);
            rang.changes.push(devices.change(device));
            db::devices::touch(conn, device, now)?;
        }
    }
    for rollout in rollouts {
        rang.catalog_changed |= advance(conn, rollout, now)?;
    }
    Ok(rang)
}

/// Looks at one assignment whose timer went off; says whether anything came of it.
fn one(conn: &mut DbConn, rung: Rung, hears_since: Timestamp, now: Timestamp) -> Result<bool> {
    let Rung { mut record, busy_at } = rung;
    let was = record.assignment.clone();
    if let Some(at) = busy_at.filter(|at| *at > was.heard_at) {
        record.assignment.heard(at);
    }
    let heard_at = record.assignment.heard_at.max(hears_since);
    record.assignment.heard_at = heard_at;
    let due =
        timer::next(&record.assignment, heard_at, &record.rhythm).filter(|(at, _)| *at <= now).map(|(_, due)| due);
    match due {
        None => {
            assignments::save(conn, &mut record, &was, now)?;
        }
        Some(Due::Silence) => {
            record.assignment.silent = true;
            assignments::save(conn, &mut record, &was, now)?;
            let text = format!("has begun to switch, and was not heard of since {heard_at}");
            assignments::log(conn, &record, "assignment.silent", text, now)?;
        }
        Some(due @ (Due::Lapse | Due::TimeOut)) => {
            let event = due.event().ok_or_else(|| Error::Unexpected("a timer without an event".to_owned()))?;
            assignments::happen(conn, &mut record, event, now)?;
            let kind = if due == Due::Lapse { "assignment.lapsed" } else { "assignment.timed_out" };
            let (before, after) = (was.state.as_str(), record.assignment.state.as_str());
            let text = format!("{after} ({before} before): it was not heard of since {heard_at}");
            assignments::log(conn, &record, kind, text, now)?;
        }
    }
    Ok(due.is_some() || was.silent != record.assignment.silent)
}
