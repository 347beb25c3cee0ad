//! Starting a rollout: who is in which phase is found out beforehand and fixed in one transaction.

use std::collections::BTreeMap;

use callboard_policy::{
    audience::{self, Candidate},
    device::Connectivity,
    rollout::{Plan, RolloutState, Unit},
    selector::Seen,
};
use callboard_proto::{
    admin::RolloutSpec,
    digest::Digest,
    ids::{RolloutId, SiteId},
    problem::Code,
    time::Timestamp,
};
use serde_json::json;

use super::{advance::advance, countersign, resolve_for, rolled_back::RolledBack, targets};
use crate::{
    app::{App, Because, Error, Result, devices::each, presence, trust::PublishedRoot},
    db::{
        self, DbConn, devices,
        events::NewEvent,
        phases::Stored,
        rollouts::Record,
        selector::{Context, Whom},
    },
};

/// Looks at the fleet before an operator is asked to try again: each look takes seconds in a fleet of a million.
const LOOKS: usize = 3;

/// What a look at the fleet has found.
struct Found {
    id: RolloutId,
    /// What was looked for.
    spec: RolloutSpec,
    release: Digest,
    /// Devices that had left by then.
    departures: u64,
    plan: Plan,
    members: Stored,
    /// Where whole sites move, the phase of each.
    sites: BTreeMap<SiteId, usize>,
    doubts: Vec<String>,
}

/// Starts a draft. The fleet is looked at beforehand, while others write; what is written then is small. What happens to
/// devices in between happens after the start, but for those that leave: then it looks again.
pub(crate) async fn start(app: &App, reference: String, because: Because) -> Result<(Record, Vec<String>)> {
    let (now, above, context) = (app.clock.now(), app.second_person_above, app.selector_context());
    let root = targets::root(app)?;
    // Frozen audiences may ask for presence, so the database has to know all of it.
    presence::flush(app).await?;
    for _ in 0..LOOKS {
        let (reference, root, because) = (reference.clone(), root.clone(), because.clone());
        let by = because.by.clone();
        let looked = app.db.read(move |conn| {
            let record = resolve_for(conn, &by, &reference)?;
            Ok::<_, Error>(if is_draft(&record)? { Ok(look(conn, &root, record, &context)?) } else { Err(record) })
        });
        let found = match looked.await? {
            Ok(found) => found,
            Err(running) => return Ok((running, Vec::new())),
        };
        let begun = app.db.write(move |conn| {
            let record = begin(conn, &found, &because, above, now)?;
            Ok::<_, Error>(record.map(|record| (record, found.doubts)))
        });
        if let Some(started) = begun.await? {
            app.reload_catalog().await?;
            return Ok(started);
        }
    }
    Err(Error::refused(
        Code::Unavailable,
        "devices are leaving, or the draft is being edited, again and again; try again",
    ))
}

/// Whether it can be started; or it is running already.
fn is_draft(record: &Record) -> Result<bool> {
    match record.state {
        RolloutState::Draft => Ok(true),
        RolloutState::Running => Ok(false),
        state => {
            let detail = format!("rollout {} is {}; only a draft can be started", record.spec.name, state.as_str());
            Err(Error::refused(Code::WrongState, detail))
        }
    }
}

/// Finds out who would be in which phase.
fn look(conn: &mut DbConn, root: &PublishedRoot, record: Record, context: &Context) -> Result<Found> {
    // First: who leaves while the others are looked at has to be noticed.
    let departures = db::counters::departures(conn)?;
    let mut checked = targets::check(conn, root, &record.spec, record.release)?;
    super::check_times(&checked.plan, context.now)?;
    let selector = checked.plan.selector.clone();
    let mut candidates = Vec::new();
    let rolled_back = RolledBack::of(conn, record.release)?;
    each(conn, &selector, context, Whom::AtOpenSites, |_, mut records| {
        for one in &mut records {
            rolled_back.note(&mut one.device);
            let seen = seen(one, context);
            candidates.push(Candidate::of(&checked.plan, &checked.release, &one.device, &seen));
            checked.look(&one.device, context.now);
        }
        Ok(())
    })?;
    checked.refuse_stranded()?;
    let plan = checked.plan;
    audience::check_somebody(&plan, &candidates).map_err(Error::invalid)?;
    let away = candidates.iter().filter(|one| one.away).map(|one| one.number).collect();
    let audience = audience::assign(plan.draw(), &plan.phases, candidates);
    let doubts = audience::doubts(&plan.phases, &audience, &away);
    let members = Stored::of(&audience)?;
    let (id, release, sites) = (record.id, record.release, audience.sites);
    Ok(Found { id, spec: record.spec, release, departures, plan, members, sites, doubts })
}

/// What the selector language needs to know of a device's presence.
pub(crate) fn seen(record: &devices::Record, context: &Context) -> Seen {
    let (last_seen, suspension) = (record.last_seen, record.device.site_rules.suspension);
    let status = Connectivity::of(context.now, last_seen, context.poll_interval, context.abandoned_after, suspension);
    Seen { last_seen, status, now: context.now }
}

/// Starts the rollout as it was found; `None` if something has happened since that the look does not know of.
fn begin(
    conn: &mut DbConn,
    found: &Found,
    because: &Because,
    above: Option<u64>,
    now: Timestamp,
) -> Result<Option<Record>> {
    let id = found.id;
    let mut record = db::rollouts::get(conn, id)?.ok_or_else(|| Error::not_found("rollout", id))?;
    if !is_draft(&record)? {
        return Ok(Some(record));
    }
    let known = (&found.spec, found.release, found.departures);
    if (&record.spec, record.release, db::counters::departures(conn)?) != known {
        return Ok(None);
    }
    let members = &found.members;
    countersign::check(&record, members.devices, above)?;
    record.state = RolloutState::Running;
    record.started_at = Some(now);
    db::rollouts::update(conn, &record)?;
    db::phases::insert(conn, id, found.plan.phases.iter().map(|phase| phase.name.as_str()), members, now)?;
    if found.plan.unit == Unit::Site {
        db::rollouts::set_sites(conn, id, &found.sites)?;
    }
    db::counters::bump_generation(conn)?;
    let text = format!(
        "started for {}, {} of which need nothing or can have nothing, {because}",
        callboard_policy::counted(members.devices, "device"),
        members.uncounted
    );
    let event = NewEvent::rollout("rollout.started", id, text);
    let (before, after) = (json!({ "state": "draft" }), json!({ "state": "running", "devices": members.devices }));
    db::events::insert(conn, now, &because.by.did(event, &before, &after))?;
    advance(conn, id, now)?;
    Ok(db::rollouts::get(conn, id)?)
}
