//! Rollouts: made as drafts, started, paused, resumed and cancelled by operators; advanced by what devices report.

pub(crate) mod advance;
pub(crate) mod by_hand;
pub(crate) mod countersign;
mod doubts;
pub(crate) mod edit;
pub(crate) mod forecast;
pub(crate) mod list;
pub(crate) mod members;
pub(crate) mod preview;
pub(crate) mod rolled_back;
mod show;
pub(crate) mod simulate;
pub(crate) mod spec;
mod start;
pub(crate) mod take_back;
mod targets;
pub(crate) mod unreached;

use callboard_policy::{
    guard::Streak,
    rollout::{Plan, RolloutState},
};
use callboard_proto::{
    admin::{Counts, RolloutSpec},
    digest::Digest,
    ids::RolloutId,
    problem::Code,
    time::Timestamp,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Actor, App, Because, Error, Reach, Result,
    devices::{each, parse_selector},
    edition::Edition,
    releases,
    trust::PublishedRoot,
};
use crate::db::{
    self, DbConn,
    events::NewEvent,
    rollouts::Record,
    selector::{Context, Whom},
};
pub(crate) use show::{all_counts, show, show_assignment, waits_for};
pub(crate) use start::{seen, start};
use targets::Checked;

/// A rollout by its id or its name.
pub(crate) fn resolve(conn: &mut DbConn, reference: &str) -> Result<Record> {
    let found = match (reference.parse::<RolloutId>(), reference.parse()) {
        (Ok(id), _) => db::rollouts::get(conn, id)?,
        (_, Ok(name)) => db::rollouts::by_name(conn, &name)?,
        _ => None,
    };
    found.ok_or_else(|| Error::not_found("rollout", reference))
}

/// A rollout by its id or its name, for somebody whose permission holds for every device that it may be about.
pub(crate) fn resolve_for(conn: &mut DbConn, actor: &Actor, reference: &str) -> Result<Record> {
    let record = resolve(conn, reference)?;
    let (may, sees) = (is_within(conn, &actor.may, &record)?, is_within(conn, &actor.sees, &record)?);
    actor.check("rollout", reference, may, sees)?;
    check_edition(actor, &record)?;
    Ok(record)
}

/// What people edit of a rollout.
fn facts(record: &Record) -> Value {
    json!(record.spec)
}

/// Refuses a change of a rollout that was edited since the actor has seen it.
pub(crate) fn check_edition(actor: &Actor, record: &Record) -> Result<()> {
    actor.expected.check(|| facts(record))
}

/// Which edition of a rollout this is.
pub(crate) fn edition(record: &Record) -> Edition {
    Edition::of(&facts(record))
}

/// Whether every device that a rollout may be about is in reach. One that takes another back is about the same devices.
pub(crate) fn is_within(conn: &mut DbConn, reach: &Reach, record: &Record) -> Result<bool> {
    let selector = parse_selector(record.spec.selector.as_deref())?;
    if reach.holds(&selector) {
        return Ok(true);
    }
    let mut bad = record.takes_back.clone();
    while let Some(name) = bad {
        let Some(known) = db::rollouts::by_name(conn, &name)? else {
            return Ok(false);
        };
        if reach.holds(&parse_selector(known.spec.selector.as_deref())?) {
            return Ok(true);
        }
        bad = known.takes_back;
    }
    Ok(false)
}

/// Makes a rollout, as a draft, and says what looks like a mistake in it. The same spec under the same name is the same
/// rollout.
pub(crate) async fn create(app: &App, actor: Actor, wanted: RolloutSpec) -> Result<(Record, Vec<String>)> {
    let (now, context) = (app.clock.now(), app.selector_context());
    let wanted = RolloutSpec { selector: actor.confine(wanted.selector)?, ..wanted };
    let root = targets::root(app)?;
    let (checked, wanted) =
        app.db.read(move |conn| Ok::<_, Error>((check(conn, &root, &wanted, &context)?, wanted))).await?;
    let (release, plan) = (checked.release.digest, checked.plan.clone());
    let record = app
        .db
        .write(move |conn| {
            if let Some(known) = db::rollouts::by_name(conn, &wanted.name)? {
                return again(known, wanted, release);
            }
            check_times(&plan, now)?;
            let record = Record {
                id: RolloutId::from_uuid(Uuid::now_v7()),
                release,
                spec: wanted,
                state: RolloutState::Draft,
                state_reason: None,
                created_at: now,
                started_at: None,
                ended_at: None,
                open_phase: 0,
                streak: Streak::default(),
                takes_back: None,
                created_by: actor.name.clone(),
                edited_by: None,
                countersigned: None,
                phases: Vec::new(),
            };
            db::rollouts::insert(conn, &record)?;
            let text = format!("rollout of {} was created by {}", record.spec.release, record.created_by);
            let event = NewEvent::rollout("rollout.created", record.id, text);
            db::events::insert(conn, now, &actor.did(event, &Value::Null, &json!(record.spec)))?;
            Ok::<_, Error>(record)
        })
        .await?;
    let doubts = app.db.read(move |conn| doubts::of(conn, &checked.plan, &context)).await?;
    Ok((record, doubts))
}

/// Checks everything about a rollout that is to be made but its times; looks at every device if it could have to be taken back.
fn check(conn: &mut DbConn, root: &PublishedRoot, wanted: &RolloutSpec, context: &Context) -> Result<Checked> {
    let release = releases::resolve(conn, &wanted.release)?.sha256;
    let mut checked = targets::check(conn, root, wanted, release)?;
    if checked.asks() {
        let selector = checked.plan.selector.clone();
        each(conn, &selector, context, Whom::AtOpenSites, |_, records| {
            records.iter().for_each(|one| checked.look(&one.device, context.now));
            Ok(())
        })?;
        checked.refuse_stranded()?;
    }
    Ok(checked)
}

/// What is asked for a second time is the first one, as long as it can still be used.
fn again(known: Record, wanted: RolloutSpec, release: Digest) -> Result<Record> {
    // The release may be named by its version or by its digest.
    let same = RolloutSpec { release: known.spec.release.clone(), ..wanted } == known.spec && known.release == release;
    let name = &known.spec.name;
    let what = match known.state {
        RolloutState::Completed | RolloutState::Cancelled => format!("and is {}; choose", known.state.as_str()),
        _ if same => return Ok(known),
        _ => "with another specification; edit it, or choose".to_owned(),
    };
    Err(Error::refused(Code::Conflict, format!("rollout {name} exists {what} another name")))
}

/// Refuses times that have passed. Past its deadline a rollout asks for no window, so that one which was copied from last
/// year would install at once.
fn check_times(plan: &Plan, now: Timestamp) -> Result<()> {
    let late = plan.too_late(now);
    if late.is_empty() { Ok(()) } else { Err(spec::refusal(&late)) }
}

/// Pauses, resumes or cancels a rollout. When it is resumed, gates may be made to look past the failures so far.
pub(crate) async fn change_state(
    app: &App,
    reference: String,
    to: RolloutState,
    because: Because,
    acknowledge_failures: bool,
) -> Result<Record> {
    let (now, second_person_above) = (app.clock.now(), app.second_person_above);
    let record = app
        .db
        .write(move |conn| {
            let mut record = resolve_for(conn, &because.by, &reference)?;
            // Resuming is not starting: a draft has no members yet.
            let allowed =
                record.state.allows(to) && !(record.state == RolloutState::Draft && to == RolloutState::Running);
            if record.state == to {
                return Ok(record);
            }
            if !allowed {
                let detail = format!(
                    "rollout {} is {}, so it cannot become {}",
                    record.spec.name,
                    record.state.as_str(),
                    to.as_str()
                );
                return Err(Error::refused(Code::WrongState, detail));
            }
            if to == RolloutState::Running {
                countersign::check(&record, record.size(), second_person_above)?;
            }
            let before = json!({ "state": record.state.as_str() });
            record.state = to;
            record.state_reason = (to != RolloutState::Running).then(|| because.to_string());
            record.ended_at = (to == RolloutState::Cancelled).then_some(now);
            db::rollouts::update(conn, &record)?;
            if to == RolloutState::Running {
                if acknowledge_failures {
                    db::phases::acknowledge_failures(conn, record.id)?;
                }
                refuse_to_pause_again(conn, record.id, now, acknowledge_failures)?;
            }
            db::counters::bump_generation(conn)?;
            let kind = match to {
                RolloutState::Paused => "rollout.paused",
                RolloutState::Running => "rollout.resumed",
                _ => "rollout.cancelled",
            };
            let event = NewEvent::rollout(kind, record.id, because.to_string());
            let after = json!({ "state": to.as_str(), "acknowledge_failures": acknowledge_failures });
            db::events::insert(conn, now, &because.by.did(event, &before, &after))?;
            resolve(conn, &record.id.to_string())
        })
        .await?;
    app.reload_catalog().await?;
    Ok(record)
}

/// A rollout whose gate can no longer be met, or that a halt rule holds, would pause again at the next report.
fn refuse_to_pause_again(conn: &mut DbConn, id: RolloutId, now: Timestamp, acknowledged: bool) -> Result<()> {
    advance::advance(conn, id, now)?;
    let Some(record) = db::rollouts::get(conn, id)?.filter(|record| record.state == RolloutState::Paused) else {
        return Ok(());
    };
    let count = |of: fn(&Counts) -> u32| record.phases.iter().map(|phase| of(&phase.counts)).any(|n| n > 0);
    let mut detail = record.state_reason.clone().unwrap_or_default();
    if count(|counts| counts.rolled_back + counts.failed - counts.acknowledged) && !acknowledged {
        detail += "; resume with acknowledge_failures to look past the failures so far";
    } else if count(|counts| counts.timed_out) {
        detail += "; devices that timed out may still succeed: skip them to look past them";
    }
    Err(Error::refused(Code::WrongState, detail))
}
