//! Grants: what a decision proposes, done in one transaction that finds everything as the decision saw it.
//!
//! The catalog's generation and the device's revision are compared, so a pause, a cancel, a hold or an opened phase
//! that was committed in between makes the decision void, on any number of servers. Who holds the places under the
//! rollout's caps is counted in the same transaction, so that no burst takes one twice.

use callboard_policy::{
    assignment::{self, Event},
    decide::{Admission, Step},
    device::{Assignment, Device},
    guard::{self, Caps, Grant, Load},
    release::Misfit,
};
use callboard_proto::{
    digest::Digest,
    ids::{AssignmentId, RolloutId},
    state::AssignmentState,
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    App, Error, Result,
    loads::{self, Wanted},
    rollouts::{advance::advance, members},
};
use crate::db::{
    self, DbConn,
    assignments::{Granted, Record},
    events::NewEvent,
};

/// What a decision was made of.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    pub(crate) generation: u64,
    pub(crate) revision: i64,
    pub(crate) device: Device,
    pub(crate) now: Timestamp,
}

impl Basis {
    fn granted(&self) -> Granted {
        Granted { at: self.now, site: self.device.site.clone() }
    }
}

/// What a grant needs to know of its rollout.
#[derive(Clone, Copy, Debug)]
struct Terms {
    rollout: RolloutId,
    release: Digest,
    caps: Caps,
    grant: Grant,
}

/// Whether a step was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done {
        catalog_changed: bool,
    },
    /// Something had changed; decide again.
    Stale,
    /// Others took the last place under the rollout's caps; decide again with this.
    Full(RolloutId, Load),
}

/// Takes a step that writes; `wanted` is the grant that it makes.
pub(crate) async fn take(app: &App, basis: Basis, step: Step, wanted: Option<Wanted<'_>>) -> Result<Outcome> {
    let terms = wanted.map(|Wanted { rollout, grant }| Terms {
        rollout: rollout.id,
        release: rollout.plan.release,
        caps: rollout.plan.caps,
        grant,
    });
    app.db
        .write(move |conn| {
            let fresh = db::counters::generation(conn)? == basis.generation
                && db::devices::revision(conn, basis.device.id)? == Some(basis.revision);
            if !fresh {
                return Ok(Outcome::Stale);
            }
            if let Some(load) = terms.map(|terms| full(conn, &basis, terms)).transpose()?.flatten() {
                return Ok(load);
            }
            let catalog_changed = apply(conn, &basis, step, terms)?;
            db::devices::touch(conn, basis.device.id, basis.now)?;
            Ok::<_, Error>(Outcome::Done { catalog_changed })
        })
        .await
}

/// The last place may have been taken since the decision was made.
fn full(conn: &mut DbConn, basis: &Basis, terms: Terms) -> Result<Option<Outcome>> {
    if !terms.caps.of(terms.grant).is_set() {
        return Ok(None);
    }
    let load = loads::of(conn, terms.rollout, &terms.caps, basis.device.site.as_ref())?;
    let admitted = guard::admits(&terms.caps, terms.grant, &load).is_ok();
    Ok((!admitted).then_some(Outcome::Full(terms.rollout, load)))
}

fn apply(conn: &mut DbConn, basis: &Basis, step: Step, terms: Option<Terms>) -> Result<bool> {
    match step {
        Step::Nothing | Step::Hold { .. } | Step::ContinueDownload { .. } | Step::ContinueActivation { .. } => {
            Ok(false)
        }
        Step::GrantDownload { rollout, phase, admission } => {
            let terms = terms.ok_or_else(|| Error::Unexpected("an offer without a rollout".to_owned()))?;
            admit(conn, basis, rollout, phase, admission)?;
            grant_download(conn, basis, rollout, phase, terms.release)?;
            Ok(admission != Admission::Member)
        }
        Step::GrantActivation { assignment, .. } => decided(conn, basis, assignment, Event::ActivationGranted),
        Step::Cancel { assignment, why } => decided(conn, basis, assignment, why.event()),
        Step::CloseAsInstalled { assignment } => decided(conn, basis, assignment, Event::SeenInstalled),
        Step::Exclude { rollout, phase, misfit } => {
            members::exclude(conn, rollout, phase, basis.device.number, true)?;
            let why = misfit.map_or("it has the release already", Misfit::code);
            let event = NewEvent {
                rollout: Some(rollout),
                ..NewEvent::device("rollout.excluded", basis.device.id, format!("does not count: {why}"))
            };
            db::events::insert(conn, basis.now, &event)?;
            advance(conn, rollout, basis.now)?;
            Ok(true)
        }
    }
}

fn admit(conn: &mut DbConn, basis: &Basis, rollout: RolloutId, phase: usize, admission: Admission) -> Result<()> {
    match admission {
        Admission::Member => Ok(()),
        Admission::Joins => members::join(conn, rollout, phase, basis.device.number),
        Admission::Returns => members::exclude(conn, rollout, phase, basis.device.number, false),
    }
}

fn grant_download(conn: &mut DbConn, basis: &Basis, rollout: RolloutId, phase: usize, release: Digest) -> Result<()> {
    if let Some(mut old) = db::assignments::of(conn, rollout, basis.device.id)? {
        if basis.device.assignment(rollout).is_some() {
            old.granted = basis.granted();
            return happen(conn, &mut old, Event::DownloadGranted, basis.now).map(drop);
        }
        // Of the device's former life, before it enrolled anew.
        db::phases::count(conn, rollout, old.assignment.phase, Some(old.assignment.state), None)?;
        db::assignments::delete(conn, old.assignment.id)?;
    }
    let new = Assignment {
        id: AssignmentId::from_uuid(Uuid::now_v7()),
        rollout,
        release,
        phase,
        state: AssignmentState::Downloading,
        attempt: 1,
        not_before: None,
        offered_at: basis.now,
    };
    db::assignments::insert(conn, basis.device.id, &new, basis.device.site.as_ref(), basis.now)?;
    Ok(db::phases::count(conn, rollout, phase, None, Some(new.state))?)
}

/// Lets something happen to an assignment that the device did not report; says whether the catalog has changed.
fn decided(conn: &mut DbConn, basis: &Basis, id: AssignmentId, event: Event) -> Result<bool> {
    let Some(mut record) = db::assignments::get(conn, id)? else {
        return Ok(false);
    };
    if event == Event::ActivationGranted {
        record.granted = basis.granted();
    }
    let before = happen(conn, &mut record, event, basis.now)?;
    if record.assignment.state.is_final() {
        let text = format!("{} ({} before)", record.assignment.state.as_str(), before.as_str());
        let event = NewEvent {
            rollout: Some(record.assignment.rollout),
            ..NewEvent::device("assignment", record.device, text)
        };
        db::events::insert(conn, basis.now, &event)?;
    }
    advance(conn, record.assignment.rollout, basis.now)
}

/// Lets something happen to an assignment, writes it and counts it; gives the state before. What is not allowed is a
/// fault of the server: what devices report has been judged before.
pub(crate) fn happen(conn: &mut DbConn, record: &mut Record, event: Event, now: Timestamp) -> Result<AssignmentState> {
    let attempt = record.assignment.attempt;
    let before = assignment::happen(&mut record.assignment, record.device, event, now)
        .map_err(|source| Error::Unexpected(source.to_string()))?;
    if record.assignment.attempt != attempt {
        // The reports of an attempt are numbered from 1.
        record.seq = 0;
    }
    db::assignments::update(conn, record, now)?;
    let (rollout, phase, after) = (record.assignment.rollout, record.assignment.phase, record.assignment.state);
    db::phases::count(conn, rollout, phase, Some(before), Some(after))?;
    Ok(before)
}
