//! Changing a rollout. A draft may become anything but another name. Of one that has started only that may change which
//! devices were neither chosen nor told by: it holds from the next decision on, on every server.

use callboard_policy::{
    gate,
    rollout::{Plan, RolloutState},
};
use callboard_proto::{admin::RolloutSpec, problem::Code, time::Timestamp};
use serde_json::json;

use super::{
    advance::{advance, note},
    all_counts, check, countersign, doubts, resolve, resolve_for, spec, targets,
};
use crate::{
    app::{App, Because, Error, Result},
    db::{self, DbConn, events::NewEvent, phases::Phase, rollouts::Record},
    differences::{Difference, between},
};

/// Longest list of changes in an event.
const MAX_TEXT: usize = 500;

/// Makes a rollout what `wanted` says, and says what looks like a mistake in it.
pub(crate) async fn edit(
    app: &App,
    reference: String,
    wanted: RolloutSpec,
    because: Because,
) -> Result<(Record, Vec<String>)> {
    let (now, context, above) = (app.clock.now(), app.selector_context(), app.second_person_above);
    let wanted = RolloutSpec { selector: because.by.confine(wanted.selector)?, ..wanted };
    let root = targets::root(app)?;
    let (checked, wanted) =
        app.db.read(move |conn| Ok::<_, Error>((check(conn, &root, &wanted, &context)?, wanted))).await?;
    let (release, plan) = (checked.release.digest, checked.plan.clone());
    let record = app
        .db
        .write(move |conn| {
            let mut record = resolve_for(conn, &because.by, &reference)?;
            let found = between(&record.spec, &wanted).map_err(|source| Error::Unexpected(source.to_string()))?;
            if found.is_empty() {
                return Ok(record);
            }
            refuse(&record, &found)?;
            refuse_past(&plan, &found, now)?;
            let (was, is) = (json!(record.spec), json!(wanted));
            (record.spec, record.release) = (wanted, release);
            record.edited_by = Some(because.by.name.clone());
            // Who approved it has not seen this.
            record.countersigned = None;
            if record.state == RolloutState::Running {
                countersign::check(&record, record.size(), above).map_err(paused_first)?;
            }
            db::rollouts::rewrite(conn, &record)?;
            if found.iter().any(|one| asks_for_others(&one.field, record.open_phase)) {
                look_at_gate_anew(conn, &mut record, &plan, now)?;
            }
            db::counters::bump_generation(conn)?;
            let text = format!("changed {because}; {}", in_words(&found));
            let event = NewEvent::rollout("rollout.edited", record.id, text);
            db::events::insert(conn, now, &because.by.did(event, &was, &is))?;
            let before = record.state;
            advance(conn, record.id, now)?;
            let after = resolve(conn, &record.id.to_string())?;
            refuse_to_stop(before, &after)?;
            Ok::<_, Error>(after)
        })
        .await?;
    app.reload_catalog().await?;
    let doubts = app.db.read(move |conn: &mut DbConn| doubts::of(conn, &checked.plan, &context)).await?;
    Ok((record, doubts))
}

/// Says of everything that cannot be changed any more why.
fn refuse(record: &Record, found: &[Difference]) -> Result<()> {
    let name = &record.spec.name;
    match record.state {
        RolloutState::Draft | RolloutState::Running | RolloutState::Paused => {}
        RolloutState::Completed | RolloutState::Cancelled => {
            let detail = format!("rollout {name} is {}; make another one", record.state.as_str());
            return Err(Error::refused(Code::WrongState, detail));
        }
    }
    let fixed = |one: &Difference| match fixed(&one.field) {
        Some((_, true)) if record.state == RolloutState::Draft => None,
        Some((why, _)) => Some(format!("{}: {why}", one.field)),
        None => None,
    };
    let refused: Vec<String> = found.iter().filter_map(fixed).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{}; {} be changed while rollout {name} is {}, so make another rollout for that",
        refused.join("; "),
        if refused.len() == 1 { "this cannot" } else { "these cannot" },
        record.state.as_str()
    );
    Err(Error::refused(Code::WrongState, detail))
}

/// Refuses times that are changed to ones that have passed. Those of a rollout that has been running for long may have.
fn refuse_past(plan: &Plan, found: &[Difference], now: Timestamp) -> Result<()> {
    let mut late = plan.too_late(now);
    late.retain(|error| found.iter().any(|one| one.field == error.field));
    if late.is_empty() { Ok(()) } else { Err(spec::refusal(&late)) }
}

/// Why a setting stays as it is once devices have been chosen by it or told of it, and whether that is a matter of having
/// started.
fn fixed(field: &str) -> Option<(&'static str, bool)> {
    let (top, rest) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
    Some(match top {
        "name" => ("a rollout keeps its name", false),
        "release" => ("devices have been offered it", true),
        "selector" | "audience" | "unit" => ("who is in it, and in which phase, was fixed when it started", true),
        "policy" | "start_at" | "min_absence_s" => ("when it offers was fixed when it started", true),
        "phases" if !is_of_a_gate(rest) => ("the phases were cut when it started; only their gates can change", true),
        "allow_downgrade" => ("which devices can take the release was found out when it started", true),
        "offline_activation" | "activate_on" => ("devices have been told when they may install by themselves", true),
        _ => return None,
    })
}

/// Whether this part of a phase is about the gate behind it.
fn is_of_a_gate(field: &str) -> bool {
    let gate = ["success_percent", "completed_percent", "min_completed", "max_wait_min", "soak_min", "approval"];
    field.rsplit_once('.').is_some_and(|(_, last)| gate.contains(&last))
}

/// Whether this says how many devices the gate of this phase waits for.
fn asks_for_others(field: &str, phase: usize) -> bool {
    let numbers = ["completed_percent", "min_completed", "max_wait_min"];
    numbers.iter().any(|number| field == format!("phases[{phase}].{number}"))
}

/// What the open phase has reached may not be enough any more.
fn look_at_gate_anew(conn: &mut DbConn, record: &mut Record, plan: &Plan, now: Timestamp) -> Result<()> {
    let open = record.open_phase;
    let Some(times) = record.phases.get(open).map(Phase::times) else {
        return Ok(());
    };
    let after = gate::after_edit(plan, open, &all_counts(record), times, now);
    if after != times {
        note(conn, record, after, None, now)?;
    }
    Ok(())
}

/// A change that stops the rollout in the same moment is most likely not meant.
fn refuse_to_stop(before: RolloutState, after: &Record) -> Result<()> {
    if after.state == before || after.state == RolloutState::Running {
        return Ok(());
    }
    let why = after.state_reason.as_deref().unwrap_or_default();
    let detail = format!("it would be {} at once ({why}); pause or cancel it, if that is meant", after.state.as_str());
    Err(Error::refused(Code::WrongState, detail))
}

fn paused_first(error: Error) -> Error {
    match error {
        Error::Refused { code, detail } => Error::refused(code, format!("{detail}; pause it first")),
        other => other,
    }
}

/// Which settings were changed, and how as long as that is short.
fn in_words(found: &[Difference]) -> String {
    let all: Vec<String> = found.iter().map(|one| format!("{}: {} -> {}", one.field, one.server, one.file)).collect();
    let text = all.join("; ");
    if text.len() <= MAX_TEXT {
        return text;
    }
    let fields: Vec<&str> = found.iter().map(|one| one.field.as_str()).collect();
    fields.join(", ").chars().take(MAX_TEXT).collect()
}
