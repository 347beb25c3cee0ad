//! What follows for a rollout from what happened to one of its devices: a phase opens, it pauses, it completes.
//!
//! Runs in the transaction in which it happened, so that no grant can slip in between.

use callboard_policy::{
    gate::{self, Advance},
    rollout::RolloutState,
};
use callboard_proto::{ids::RolloutId, time::Timestamp};

use super::gate_counts;
use crate::{
    app::{App, Error, Result, catalog},
    db::{self, DbConn, events::NewEvent, rollouts::Record},
};

/// Looks at the gates of a rollout; says whether the catalog has changed.
pub(crate) fn advance(conn: &mut DbConn, id: RolloutId, now: Timestamp) -> Result<bool> {
    let Some(mut record) = db::rollouts::lean(conn, id)? else {
        return Ok(false);
    };
    let mut changed = false;
    while step(conn, &mut record, now)? {
        changed = true;
    }
    if changed {
        db::counters::bump_generation(conn)?;
    }
    Ok(changed)
}

/// One move; says whether there was one. After a phase has opened the next one may open at once, if it is empty.
fn step(conn: &mut DbConn, record: &mut Record, now: Timestamp) -> Result<bool> {
    let counts: Vec<_> = record.phases.iter().map(|phase| gate_counts(&phase.counts)).collect();
    let opened_at = record.phases.get(record.open_phase).and_then(|phase| phase.opened_at).unwrap_or(now);
    let rollout = catalog::active(record.clone())?;
    let event = match gate::advance(&rollout, &counts, opened_at, now) {
        Advance::Stay(_) => return Ok(false),
        Advance::Open { phase, reason } => {
            record.open_phase = phase;
            let name = record.phases.get_mut(phase).map(|phase| {
                phase.opened_at = Some(now);
                phase.name.clone()
            });
            db::rollouts::open_phase(conn, record.id, phase, now)?;
            let text = format!("phase {} opened: {}", name.unwrap_or_default(), reason.text);
            NewEvent::rollout("rollout.phase_opened", record.id, text)
        }
        Advance::Pause(reason) => {
            record.state = RolloutState::Paused;
            record.state_reason = Some(reason.text.clone());
            NewEvent::rollout("rollout.paused", record.id, reason.text)
        }
        Advance::Complete(reason) => {
            record.state = RolloutState::Completed;
            record.ended_at = Some(now);
            NewEvent::rollout("rollout.completed", record.id, reason.text)
        }
    };
    db::rollouts::update(conn, record)?;
    db::events::insert(conn, now, &event)?;
    Ok(true)
}

/// Looks at the gates that time alone can move: those with a `max_wait`, and rollouts with an end.
pub(crate) async fn advance_by_time(app: &App) -> Result<()> {
    let now = app.clock.now();
    let snapshot = app.catalog();
    let timed = snapshot.catalog.rollouts.iter().filter(|rollout| {
        let waits = rollout.plan.phases.iter().any(|phase| phase.max_wait.is_some());
        rollout.state.is_active() && (waits || rollout.plan.ends_at.is_some_and(|end| now >= end))
    });
    let ids: Vec<RolloutId> = timed.map(|rollout| rollout.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let changed = app
        .db
        .write(move |conn| {
            let mut changed = false;
            for id in ids {
                changed |= advance(conn, id, now)?;
            }
            Ok::<_, Error>(changed)
        })
        .await?;
    if changed {
        app.reload_catalog().await?;
    }
    Ok(())
}
