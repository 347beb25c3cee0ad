//! Grants: what a decision proposes, done in one transaction that finds everything as the decision saw it.
//!
//! The catalog's generation and the device's revision are compared, so a pause, a cancel, a hold or an opened phase
//! that was committed in between makes the decision void, on any number of servers. Who holds the places under the
//! rollout's caps, and what it has offered in this minute, is counted in the same transaction, so that no burst takes one
//! twice.

use callboard_policy::{
    assignment::{self, Event},
    audience::Exclusion,
    decide::{Admission, Step},
    device::{Assignment, Device, Member},
    guard::{self, Grant, HaltAction, Limits, Load},
    release::Release,
    rollout::Plan,
};
use callboard_proto::{
    ids::{AssignmentId, RolloutId, SiteId},
    report::{Failure, FailureClass},
    time::Timestamp,
};

mod stranded;

use super::{
    App, Error, Result,
    assignments::{self, unexpected},
    loads::{self, Wanted},
    rollouts::{advance::advance, countersign, members},
};
use crate::db::{self, DbConn, assignments::Record, events::NewEvent};

/// What a decision was made of.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    pub(crate) generation: u64,
    pub(crate) revision: i64,
    pub(crate) device: Device,
    pub(crate) now: Timestamp,
}

/// What a grant needs to know of its rollout.
#[derive(Clone, Debug)]
struct Terms {
    rollout: RolloutId,
    release: Release,
    limits: Limits,
    grant: Grant,
    /// The site with which the device moves.
    moving: Option<SiteId>,
    /// If it may have to be taken back.
    undone: Option<Box<Plan>>,
}

/// Whether a step was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done {
        catalog_changed: bool,
    },
    /// Something had changed; decide again.
    Stale,
    /// Others took the last place, or the last offer, that the rollout's limits allow; decide again with this.
    Denied(RolloutId, Load),
}

/// Takes a step that writes; `wanted` is the grant that it makes.
pub(crate) async fn take(app: &App, basis: Basis, step: Step, wanted: Option<Wanted<'_>>) -> Result<Outcome> {
    let terms = wanted.map(|Wanted { rollout, release, grant }| Terms {
        rollout: rollout.id,
        release: release.clone(),
        limits: rollout.plan.limits,
        grant,
        moving: rollout.moving(&basis.device),
        undone: goes_back(&rollout.plan).then(|| Box::new(rollout.plan.clone())),
    });
    let root = app.newest_root();
    let above = app.second_person_above;
    app.db
        .write(move |conn| {
            let fresh = db::counters::generation(conn)? == basis.generation
                && db::devices::revision(conn, basis.device.id)? == Some(basis.revision);
            if !fresh {
                return Ok(Outcome::Stale);
            }
            if let (Step::GrantDownload { rollout, admission: Admission::Joins, .. }, Some(above)) = (step, above)
                && countersign::outgrows(conn, rollout, above, basis.now)?
            {
                return Ok(Outcome::Stale);
            }
            if let Some(denied) = terms.as_ref().map(|terms| denied(conn, &basis, terms)).transpose()?.flatten() {
                return Ok(denied);
            }
            if let (Step::GrantDownload { .. }, Some(terms), Some(root)) = (step, &terms, &root) {
                stranded::warn(conn, root, &basis, terms)?;
            }
            let catalog_changed = apply(conn, &basis, step, terms.as_ref())?;
            db::devices::touch(conn, basis.device.id, basis.now)?;
            Ok::<_, Error>(Outcome::Done { catalog_changed })
        })
        .await
}

/// Whether a halt brings devices back to something older.
fn goes_back(plan: &Plan) -> bool {
    plan.halt.iter().any(|rule| matches!(rule.action, HaltAction::RollBackTo(_)))
}

/// The last place may have been taken since the decision was made.
fn denied(conn: &mut DbConn, basis: &Basis, terms: &Terms) -> Result<Option<Outcome>> {
    if !terms.limits.concern(terms.grant) {
        return Ok(None);
    }
    let load = loads::of(conn, terms.rollout, &terms.limits, basis.device.site.as_ref())?;
    let admitted = guard::admits(&terms.limits, terms.grant, &load, basis.now).is_ok();
    Ok((!admitted).then_some(Outcome::Denied(terms.rollout, load)))
}

fn apply(conn: &mut DbConn, basis: &Basis, step: Step, terms: Option<&Terms>) -> Result<bool> {
    match step {
        Step::Nothing
        | Step::Hold { .. }
        | Step::ContinueDownload { .. }
        | Step::ContinueActivation { .. }
        | Step::Recall { .. } => Ok(false),
        Step::GrantDownload { rollout, phase, admission } => {
            let terms = terms.ok_or_else(|| Error::Unexpected("an offer without a rollout".to_owned()))?;
            admit(conn, basis, (rollout, phase), admission, terms.moving.as_ref())?;
            grant_download(conn, basis, rollout, phase, &terms.release)?;
            if terms.limits.pace.is_some() {
                let (offers, _) = db::loads::offers(conn, rollout)?;
                db::rollouts::set_offers(conn, rollout, offers.one_more(basis.now))?;
            }
            Ok(false)
        }
        Step::GrantActivation { assignment, .. } => decided(conn, basis, assignment, Event::ActivationGranted),
        Step::Cancel { assignment, why } => decided(conn, basis, assignment, why.event()),
        Step::CloseAsInstalled { assignment } => decided(conn, basis, assignment, Event::SeenInstalled),
        Step::Regress { assignment } => decided(conn, basis, assignment, Event::Regressed),
        Step::TryAgain { assignment } => decided(conn, basis, assignment, Event::FailedForNow),
        Step::Hear { assignment } => change(conn, basis, assignment, |record| {
            record.assignment.heard(basis.now);
            Ok(())
        }),
        Step::Defer { assignment, why } => change(conn, basis, assignment, |record| {
            record.assignment.deferred = why;
            Ok(())
        }),
        Step::Exclude { rollout, phase, why } => {
            forget_former(conn, basis, rollout)?;
            let is = Member { rollout, phase, excluded: Some(why) };
            members::exclude(conn, basis.device.number, None, &is)?;
            let why = match why {
                Exclusion::AlreadyInstalled => "it has the release already",
                Exclusion::LeftAudience => "the selector does not match it any more",
                why => why.code(),
            };
            let event = NewEvent {
                rollout: Some(rollout),
                ..NewEvent::device("rollout.excluded", basis.device.id, format!("does not count: {why}"))
            };
            db::events::insert(conn, basis.now, &event)?;
            advance(conn, rollout, basis.now)
        }
    }
}

fn admit(
    conn: &mut DbConn,
    basis: &Basis,
    (rollout, phase): (RolloutId, usize),
    admission: Admission,
    moving: Option<&SiteId>,
) -> Result<()> {
    match admission {
        Admission::Member => Ok(()),
        Admission::Joins => members::join(conn, rollout, phase, basis.device.number, moving),
        Admission::Returns { was } => {
            members::exclude(conn, basis.device.number, Some(was), &Member { rollout, phase, excluded: None })
        }
    }
}

fn grant_download(conn: &mut DbConn, basis: &Basis, rollout: RolloutId, phase: usize, release: &Release) -> Result<()> {
    if basis.device.assignment(rollout).is_some()
        && let Some(mut old) = db::assignments::of(conn, rollout, basis.device.id)?
    {
        old.granted_site = basis.device.site.clone();
        return assignments::happen(conn, &mut old, Event::DownloadGranted, basis.now);
    }
    forget_former(conn, basis, rollout)?;
    let new = assignments::granted(rollout, release, phase, &basis.device, basis.now);
    assignments::insert(conn, &new, basis.now)
}

/// What the rollout did on the device in its former life, before it enrolled anew, counts no longer.
fn forget_former(conn: &mut DbConn, basis: &Basis, rollout: RolloutId) -> Result<()> {
    if basis.device.assignment(rollout).is_none()
        && let Some(old) = db::assignments::of(conn, rollout, basis.device.id)?
    {
        assignments::forget(conn, &old, basis.now)?;
    }
    Ok(())
}

/// Changes an assignment by `change`; says whether the catalog has changed.
fn change(
    conn: &mut DbConn,
    basis: &Basis,
    id: AssignmentId,
    change: impl FnOnce(&mut Record) -> Result<()>,
) -> Result<bool> {
    let Some(mut record) = db::assignments::get(conn, id)? else {
        return Ok(false);
    };
    let was = record.assignment.clone();
    change(&mut record)?;
    let joined = assignments::save(conn, &mut record, &was, basis.now)?;
    if assignments::ends(&was, &record.assignment) {
        let text = format!("{} ({} before)", record.assignment.state.as_str(), was.state.as_str());
        assignments::log(conn, &record, "assignment", text, basis.now)?;
    }
    if record.assignment.state == was.state {
        return Ok(false);
    }
    Ok(advance(conn, record.assignment.rollout, basis.now)? || joined)
}

/// Lets something happen to an assignment that the device did not report; says whether the catalog has changed.
fn decided(conn: &mut DbConn, basis: &Basis, id: AssignmentId, event: Event) -> Result<bool> {
    change(conn, basis, id, |record| {
        assignment::happen(&mut record.assignment, record.device, event, basis.now).map_err(unexpected)?;
        match event {
            Event::ActivationGranted => record.granted_site = basis.device.site.clone(),
            Event::Regressed => record.failure = Some(regression(&basis.device, &record.assignment)),
            _ => {}
        }
        Ok(())
    })
}

fn regression(device: &Device, lost: &Assignment) -> Failure {
    let text = match device.installed(&lost.product) {
        Some(one) => format!("it runs {} {} again, after the release had been installed", lost.product, one.version),
        None => format!("it has no {} any more, after the release had been installed", lost.product),
    };
    Failure { class: FailureClass::Permanent, code: "regressed".to_owned(), text }
}
