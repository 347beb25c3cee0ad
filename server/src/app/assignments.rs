//! Changing an assignment: its row, its phase's counters, and the device that it is about, in one transaction.

use callboard_policy::{
    assignment::{self, Event, IllegalTransition, is_failure},
    device::{Assignment, Device},
    release::Release,
    rhythm::Rhythm,
};
use callboard_proto::{
    ids::{AssignmentId, DeviceId, RolloutId},
    state::AssignmentState,
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Error, Result,
    rollouts::{advance::advance, take_back},
};
use crate::db::{self, DbConn, assignments::Record, events::NewEvent};

/// Lets something happen that only the server asks for, so that it is allowed.
pub(crate) fn happen(conn: &mut DbConn, record: &mut Record, event: Event, now: Timestamp) -> Result<()> {
    let was = record.assignment.clone();
    assignment::happen(&mut record.assignment, record.device, event, now).map_err(unexpected)?;
    save(conn, record, &was, now).map(drop)
}

/// A transition that was not to be refused.
pub(crate) fn unexpected(source: IllegalTransition) -> Error {
    Error::Unexpected(source.to_string())
}

/// Writes an assignment and counts it, as it was and as it is; says whether the catalog has changed.
pub(crate) fn save(conn: &mut DbConn, record: &mut Record, was: &Assignment, now: Timestamp) -> Result<bool> {
    // Reports of an attempt are numbered from 1.
    if record.assignment.attempt != was.attempt {
        record.seq = 0;
    }
    if record.assignment.state == AssignmentState::RolledBack && was.state != AssignmentState::RolledBack {
        db::penalties::put(conn, record.device, was.release, now)?;
    }
    db::assignments::update(conn, record, now)?;
    db::counts::change(conn, Some(was), Some(&record.assignment), now)?;
    if was.attention_since.is_none() && record.assignment.attention_since.is_some() {
        tell(conn, record, now)?;
    }
    take_note(conn, record, was, now)
}

/// Tells those outside that somebody has to look after a device.
fn tell(conn: &mut DbConn, record: &Record, now: Timestamp) -> Result<()> {
    let failure = record.failure.as_ref();
    let regressed = failure.is_some_and(|failure| failure.code == "regressed");
    let kind = if regressed { "device.regressed" } else { "device.attention" };
    let state = record.assignment.state.as_str().replace('_', " ");
    let text = match failure {
        Some(failure) if failure.text.is_empty() => format!("{state}: {}", failure.code),
        Some(failure) => format!("{state}: {}: {}", failure.code, failure.text),
        None => state,
    };
    Ok(db::notices::insert(conn, now, kind, Some(record.device), Some(record.assignment.rollout), &text)?)
}

/// Keeps the run of failures, and brings a device back on which a release has arrived that is being taken back; says
/// whether the catalog has changed.
fn take_note(conn: &mut DbConn, record: &Record, was: &Assignment, now: Timestamp) -> Result<bool> {
    let is = &record.assignment;
    let told = |one: &Assignment| (one.state, one.is_acknowledged());
    let ended = |one: &Assignment| one.state == AssignmentState::Succeeded || is_failure(one.state);
    if told(was) == told(is) || !(ended(was) || ended(is)) {
        return Ok(false);
    }
    let Some((rollout, mut streak)) = db::rollouts::streak(conn, is.rollout)? else {
        return Ok(false);
    };
    if streak.note(Some(was.state), is) {
        db::rollouts::set_streak(conn, is.rollout, &streak)?;
    }
    if is.state == AssignmentState::Succeeded && was.state != AssignmentState::Succeeded {
        return take_back::join(conn, &rollout, record.device, now);
    }
    Ok(false)
}

/// A new assignment, with a download grant.
pub(crate) fn granted(rollout: RolloutId, release: &Release, phase: usize, device: &Device, now: Timestamp) -> Record {
    let id = AssignmentId::from_uuid(Uuid::now_v7());
    Record {
        assignment: Assignment::granted(id, rollout, release, phase, now),
        device: device.id,
        seq: 0,
        failure: None,
        granted_site: device.site.clone(),
        departed: false,
        updated_at: now,
        rhythm: Rhythm::ALWAYS,
    }
}

/// Writes a new assignment and counts it.
pub(crate) fn insert(conn: &mut DbConn, record: &Record, now: Timestamp) -> Result<()> {
    db::assignments::insert(conn, record, now)?;
    Ok(db::counts::change(conn, None, Some(&record.assignment), now)?)
}

/// Forgets an assignment of a device's former life.
pub(crate) fn forget(conn: &mut DbConn, record: &Record, now: Timestamp) -> Result<()> {
    db::counts::change(conn, Some(&record.assignment), None, now)?;
    if is_failure(record.assignment.state)
        && let Some((_, mut streak)) = db::rollouts::streak(conn, record.assignment.rollout)?
        && streak.forget(record.assignment.id)
    {
        db::rollouts::set_streak(conn, record.assignment.rollout, &streak)?;
    }
    Ok(db::assignments::delete(conn, record.assignment.id)?)
}

/// Says what happened to an assignment.
pub(crate) fn log(
    conn: &mut DbConn,
    record: &Record,
    kind: &'static str,
    text: impl Into<String>,
    now: Timestamp,
) -> Result<()> {
    let event =
        NewEvent { rollout: Some(record.assignment.rollout), ..NewEvent::device(kind, record.device, text.into()) };
    Ok(db::events::insert(conn, now, &event)?)
}

/// The device begins anew. What it had under way of a rollout that takes a release back begins anew with it: it may still
/// run what is to go.
pub(crate) fn begin_anew(conn: &mut DbConn, device: DeviceId, now: Timestamp) -> Result<()> {
    for record in db::assignments::unsettled(conn, device)? {
        let id = record.assignment.rollout;
        let goes_back = |rollout: db::rollouts::Record| rollout.state.is_active() && rollout.takes_back.is_some();
        if db::rollouts::get(conn, id)?.is_some_and(goes_back) {
            forget(conn, &record, now)?;
            log(conn, &record, "assignment", "begins anew with its device", now)?;
            advance(conn, id, now)?;
        }
    }
    leave(conn, device, now)
}

/// The device is not the one that it was: what it had under way is nobody's any more, and what failed on it counts no
/// longer.
pub(crate) fn leave(conn: &mut DbConn, device: DeviceId, now: Timestamp) -> Result<()> {
    for mut record in db::assignments::unsettled(conn, device)? {
        let (id, before) = (record.assignment.rollout, record.assignment.state);
        if matches!(before, AssignmentState::Failed | AssignmentState::RolledBack) && !is_active(conn, id)? {
            // What became of a rollout that is over is not written anew; but nobody has to look at it any more.
            if !record.assignment.is_acknowledged() {
                happen(conn, &mut record, Event::Skipped, now)?;
            }
            continue;
        }
        record.departed = true;
        happen(conn, &mut record, Event::Left, now)?;
        log(conn, &record, "assignment", format!("cancelled ({} before)", before.as_str()), now)?;
        advance(conn, id, now)?;
    }
    Ok(())
}

/// A device that had left is back as it was: rollouts that go on begin with it anew. The caller tells it of that.
pub(crate) fn come_back(conn: &mut DbConn, device: DeviceId, now: Timestamp) -> Result<()> {
    for record in db::assignments::departed(conn, device)? {
        let id = record.assignment.rollout;
        if is_active(conn, id)? {
            forget(conn, &record, now)?;
            log(conn, &record, "assignment", "begins anew: its site is open again", now)?;
            advance(conn, id, now)?;
        }
    }
    Ok(())
}

fn is_active(conn: &mut DbConn, rollout: RolloutId) -> Result<bool> {
    Ok(db::rollouts::get(conn, rollout)?.is_some_and(|record| record.state.is_active()))
}

/// Whether an assignment has come to an end that it had not before.
pub(crate) fn ends(was: &Assignment, is: &Assignment) -> bool {
    is.state.is_final() && (!was.state.is_final() || is_failure(was.state) != is_failure(is.state))
}
