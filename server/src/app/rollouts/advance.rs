//! What follows for a rollout from what happened to one of its devices: a phase opens, it pauses, it completes.
//!
//! Runs in the transaction in which it happened, so that no grant can slip in between.

use std::sync::Arc;

use callboard_policy::{
    gate::{self, Advance, PhaseTimes},
    guard::HALTED,
    rollout::RolloutState,
};
use callboard_proto::{ids::RolloutId, time::Timestamp};

use super::{all_counts, take_back};
use crate::{
    app::{App, Error, Result, catalog},
    db::{
        self, DbConn,
        events::NewEvent,
        phases::{Approval, Phase},
        rollouts::Record,
    },
};

/// Looks at the gates of a rollout; says whether the catalog has changed.
pub(crate) fn advance(conn: &mut DbConn, id: RolloutId, now: Timestamp) -> Result<bool> {
    let Some(mut record) = db::rollouts::get(conn, id)? else {
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
    let counts = all_counts(record);
    let times = record.phases.get(record.open_phase).map(Phase::times).unwrap_or_default();
    let rollout = catalog::active(record.clone(), Arc::default())?;
    let event = match gate::advance(&rollout, &counts, &record.streak, times, now) {
        Advance::Stay(_) => return Ok(false),
        Advance::Meet(reason) => {
            let name = note(conn, record, times.met(now), None, now)?;
            NewEvent::rollout(
                "rollout.gate_met",
                record.id,
                format!("the gate of phase {name} is met: {}", reason.text),
            )
        }
        Advance::Unmeet(reason) => {
            let name = note(conn, record, times.unmet(), None, now)?;
            let text = format!("the gate of phase {name} is no longer met: {}", reason.text);
            NewEvent::rollout("rollout.gate_lost", record.id, text)
        }
        Advance::Open { phase, reason } => {
            let name = open(conn, record, phase, now)?;
            NewEvent::rollout("rollout.phase_opened", record.id, format!("phase {name} opened: {}", reason.text))
        }
        Advance::Pause(reason) => {
            record.state = RolloutState::Paused;
            record.state_reason = Some(reason.text.clone());
            db::rollouts::update(conn, record)?;
            NewEvent::rollout(
                if reason.code == HALTED { "rollout.halted" } else { "rollout.paused" },
                record.id,
                reason.text,
            )
        }
        Advance::Cancel(reason) => cancel(conn, record, reason.text, now)?,
        Advance::RollBack { to, reason } => {
            let made = take_back::begin(conn, record, &to, &format!("halt of {}", record.spec.name), now)?;
            let text = format!("{}; rollout {made} brings {to} to the devices that got it", reason.text);
            cancel(conn, record, text, now)?
        }
        Advance::Complete(reason) => {
            record.state = RolloutState::Completed;
            record.state_reason = Some(reason.text.clone());
            record.ended_at = Some(now);
            db::rollouts::update(conn, record)?;
            NewEvent::rollout("rollout.completed", record.id, reason.text)
        }
    };
    db::events::insert(conn, now, &event)?;
    Ok(true)
}

/// Calls the rollout off because of a halt rule.
fn cancel(conn: &mut DbConn, record: &mut Record, text: String, now: Timestamp) -> Result<NewEvent> {
    record.state = RolloutState::Cancelled;
    record.state_reason = Some(text.clone());
    record.ended_at = Some(now);
    db::rollouts::update(conn, record)?;
    Ok(NewEvent::rollout("rollout.halted", record.id, text))
}

/// Opens a phase; gives its name.
pub(super) fn open(conn: &mut DbConn, record: &mut Record, phase: usize, now: Timestamp) -> Result<String> {
    record.open_phase = phase;
    let opened = record.phases.get_mut(phase);
    let opened = opened.ok_or_else(|| Error::Unexpected(format!("rollout {} has no phase {phase}", record.id)))?;
    opened.opened_at = Some(now);
    let name = opened.name.clone();
    db::phases::open(conn, record.id, phase, now)?;
    db::rollouts::update(conn, record)?;
    Ok(name)
}

/// Writes the times of the open phase, with who approved it if it is approved; gives its name.
pub(super) fn note(
    conn: &mut DbConn,
    record: &mut Record,
    times: PhaseTimes,
    by: Option<&str>,
    now: Timestamp,
) -> Result<String> {
    let (id, idx) = (record.id, record.open_phase);
    let phase = record.phases.get_mut(idx);
    let phase = phase.ok_or_else(|| Error::Unexpected(format!("rollout {id} has no phase {idx}")))?;
    phase.met_at = times.met_at;
    phase.soak_skipped_at = times.soak_skipped.then(|| phase.soak_skipped_at.unwrap_or(now));
    let approval = phase.approval.take().or_else(|| by.map(|by| Approval { at: now, by: by.to_owned() }));
    phase.approval = approval.filter(|_| times.approved);
    db::phases::set_times(conn, id, idx, phase)?;
    Ok(phase.name.clone())
}

/// Looks at the gates that time alone can move: those with a `max_wait` or a soak, and rollouts with an end.
pub(crate) async fn advance_by_time(app: &App) -> Result<()> {
    let now = app.clock.now();
    let snapshot = app.catalog();
    let timed = snapshot.catalog.rollouts.iter().filter(|rollout| gate::moves_with_time(rollout, now));
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
