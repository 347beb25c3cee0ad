//! Starting a rollout: who is in which phase is fixed, in one transaction.

use callboard_policy::{
    audience::{self, Candidate},
    device::Connectivity,
    rollout::{Plan, RolloutState, Unit},
    selector::Seen,
};
use callboard_proto::{admin::Counts, problem::Code, time::Timestamp};

use super::{advance::advance, countersign, resolve, rolled_back::RolledBack, targets};
use crate::{
    app::{App, Because, Error, Result, devices::each},
    db::{
        self, DbConn, devices,
        events::NewEvent,
        phases::Phase,
        rollouts::Record,
        selector::{Context, Whom},
    },
};

/// Starts a draft.
pub(crate) async fn start(app: &App, reference: String, because: Because) -> Result<(Record, Vec<String>)> {
    let (now, second_person_above) = (app.clock.now(), app.second_person_above);
    let context = app.selector_context();
    let root = targets::root(app)?;
    // Frozen audiences may ask for presence, so the database has to know all of it.
    super::super::presence::flush(app).await?;
    let started = app
        .db
        .write(move |conn| {
            let mut record = resolve(conn, &reference)?;
            if record.state == RolloutState::Running {
                return Ok((record, Vec::new()));
            }
            if record.state != RolloutState::Draft {
                let detail =
                    format!("rollout {} is {}; only a draft can be started", record.spec.name, record.state.as_str());
                return Err(Error::refused(Code::WrongState, detail));
            }
            let mut checked = targets::check(conn, &root, &record.spec, record.release)?;
            super::check_times(&checked.plan, now)?;
            let selector = checked.plan.selector.clone();
            let mut candidates = Vec::new();
            let rolled_back = RolledBack::of(conn, record.release)?;
            each(conn, &selector, &context, Whom::AtOpenSites, |_, mut records| {
                for one in &mut records {
                    rolled_back.note(&mut one.device);
                    let seen = seen(one, &context);
                    candidates.push(Candidate::of(&checked.plan, &checked.release, &one.device, &seen));
                    checked.look(&one.device, now);
                }
                Ok(())
            })?;
            checked.refuse_stranded()?;
            let plan = checked.plan;
            audience::check_somebody(&plan, &candidates).map_err(Error::invalid)?;
            let size = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
            countersign::check(&record, size, second_person_above)?;
            let away = candidates.iter().filter(|one| one.away).map(|one| one.number).collect();
            let audience = audience::assign(record.id, &plan.phases, candidates);
            let doubts = audience::doubts(&plan.phases, &audience, &away);
            store(conn, &mut record, &plan, audience, &because, now)?;
            advance(conn, record.id, now)?;
            Ok::<_, Error>((resolve(conn, &record.id.to_string())?, doubts))
        })
        .await?;
    app.reload_catalog().await?;
    Ok(started)
}

/// What the selector language needs to know of a device's presence.
pub(crate) fn seen(record: &devices::Record, context: &Context) -> Seen {
    let (last_seen, suspension) = (record.last_seen, record.device.site_rules.suspension);
    let status = Connectivity::of(context.now, last_seen, context.poll_interval, context.abandoned_after, suspension);
    Seen { last_seen, status, now: context.now }
}

fn store(
    conn: &mut DbConn,
    record: &mut Record,
    plan: &Plan,
    audience: audience::Audience,
    because: &Because,
    now: Timestamp,
) -> Result<()> {
    record.state = RolloutState::Running;
    record.started_at = Some(now);
    db::rollouts::update(conn, record)?;
    db::rollouts::set_excluded(conn, record.id, &audience.excluded)?;
    for (why, members) in &audience.excluded_for {
        db::exclusions::set(conn, record.id, why.code(), members)?;
    }
    if plan.unit == Unit::Site {
        db::rollouts::set_sites(conn, record.id, &audience.sites)?;
    }
    let mut devices = 0;
    for (idx, (planned, members)) in plan.phases.iter().zip(audience.phases).enumerate() {
        let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let excluded = count(members.intersection_len(&audience.excluded));
        let counts = Counts { size: count(members.len()), excluded, ..Counts::default() };
        devices += members.len();
        let opened_at = (idx == 0).then_some(now);
        let phase = Phase::new(planned.name.clone(), members, opened_at, counts);
        db::phases::insert(conn, record.id, idx, &phase)?;
    }
    db::counters::bump_generation(conn)?;
    let text = format!(
        "started for {devices} devices, {} of which need nothing or can have nothing, {because}",
        audience.excluded.len()
    );
    Ok(db::events::insert(conn, now, &NewEvent::rollout("rollout.started", record.id, text))?)
}
