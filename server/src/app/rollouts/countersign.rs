//! A second person's approval of a rollout as a whole. A rollout for many devices does not start without it, and freezes let
//! a security rollout pass only with it.

use callboard_policy::rollout::RolloutState;
use callboard_proto::{admin::Audience, ids::RolloutId, problem::Code, time::Timestamp};
use serde_json::{Value, json};

use super::resolve_for;
use crate::{
    app::{Actor, App, Because, Error, Result, devices::parse_selector},
    db::{
        self, DbConn,
        events::NewEvent,
        phases::Approval,
        rollouts::Record,
        selector::{Context, Slice, Whom},
    },
};

/// Approves a rollout that others have made and changed. A second approval changes nothing.
pub(crate) async fn countersign(app: &App, reference: String, because: Because) -> Result<Record> {
    let now = app.clock.now();
    let record = app
        .db
        .write(move |conn| {
            let mut record = resolve_for(conn, &because.by, &reference)?;
            let name = &record.spec.name;
            if let RolloutState::Completed | RolloutState::Cancelled = record.state {
                let detail = format!("rollout {name} is {}; there is nothing to approve", record.state.as_str());
                return Err(Error::refused(Code::WrongState, detail));
            }
            let own = |by: Option<&String>| by == Some(&because.by.name);
            let did = if own(Some(&record.created_by)) { "made" } else { "changed" };
            if did == "made" || own(record.edited_by.as_ref()) {
                let detail = format!(
                    "rollout {name} was {did} by {}; a second person has to approve it, with an API token of another name",
                    because.by.name
                );
                return Err(Error::refused(Code::WrongState, detail));
            }
            if record.countersigned.is_some() {
                return Ok(record);
            }
            check_person(conn, &record, &because.by)?;
            record.countersigned = Some(Approval { at: now, by: because.by.name.clone() });
            db::rollouts::update(conn, &record)?;
            db::counters::bump_generation(conn)?;
            let text = format!("approved by a second person: {because}");
            let event = NewEvent::rollout("rollout.countersigned", record.id, text);
            let after = json!({ "countersigned_by": because.by.name });
            db::events::insert(conn, now, &because.by.did(event, &Value::Null, &after))?;
            Ok::<_, Error>(record)
        })
        .await?;
    app.reload_catalog().await?;
    Ok(record)
}

/// Where people are known, the second person is one: nobody approves with a token what the same person made with another.
fn check_person(conn: &mut DbConn, record: &Record, by: &Actor) -> Result<()> {
    if db::users::enabled(conn)?.is_empty() {
        return Ok(());
    }
    let name = &record.spec.name;
    let Some(person) = &by.person else {
        let detail = format!(
            "{} is a token behind which no person stands; rollout {name} takes a person who logs in, or whose token it is",
            by.name
        );
        return Err(Error::refused(Code::Forbidden, detail));
    };
    for maker in [Some(&record.created_by), record.edited_by.as_ref()].into_iter().flatten() {
        if maker == person || db::api_tokens::persons(conn, maker)?.contains(person) {
            let detail = format!(
                "{person} is behind {maker}, who made or changed rollout {name}; another person has to approve it"
            );
            return Err(Error::refused(Code::WrongState, detail));
        }
    }
    Ok(())
}

/// Refuses a rollout for `devices` that needs a second person's approval and has none. What a halt has made was approved
/// with the rollout that it takes back.
pub(super) fn check(record: &Record, devices: u64, above: Option<u64>) -> Result<()> {
    let Some(above) = above.filter(|above| devices > *above) else {
        return Ok(());
    };
    if record.countersigned.is_some() || record.takes_back.is_some() {
        return Ok(());
    }
    let name = &record.spec.name;
    let detail = format!(
        "rollout {name} is for {}, and more than {above} need a second person's approval: \
         somebody other than {} has to countersign it first (callboard rollout countersign {name})",
        callboard_policy::counted(devices, "device"),
        record.edited_by.as_ref().unwrap_or(&record.created_by)
    );
    Err(Error::refused(Code::WrongState, detail))
}

/// Whether a rollout waits for a second person: it is too large to start or to go on without, or for freezes to let pass.
pub(crate) fn is_wanted(conn: &mut DbConn, record: &Record, above: Option<u64>, context: &Context) -> Result<bool> {
    let ended = matches!(record.state, RolloutState::Completed | RolloutState::Cancelled);
    if ended || record.countersigned.is_some() {
        return Ok(false);
    }
    let Some(above) = above.filter(|_| record.takes_back.is_none() && record.state != RolloutState::Running) else {
        return Ok(record.spec.security);
    };
    let more = above.saturating_add(1);
    let size = if record.state == RolloutState::Draft {
        let selector = parse_selector(record.spec.selector.as_deref())?;
        let limit = i64::try_from(more).unwrap_or(i64::MAX);
        let slice = Slice { after: -1, limit, whom: Whom::AtOpenSites };
        u64::try_from(db::selector::select(conn, &selector, context, slice)?.len()).unwrap_or(u64::MAX)
    } else {
        // One that devices join was paused because one more wanted to: see `outgrows`.
        record.size().saturating_add(u64::from(record.spec.audience == Audience::Live))
    };
    Ok(record.spec.security || size >= more)
}

/// Pauses a live rollout that would have more devices with one that wants to join than it may have without a second
/// person's approval; says whether it did.
pub(crate) fn outgrows(conn: &mut DbConn, id: RolloutId, above: u64, now: Timestamp) -> Result<bool> {
    let Some(mut record) = db::rollouts::get(conn, id)? else {
        return Ok(false);
    };
    let size = record.size();
    if record.countersigned.is_some() || size < above {
        return Ok(false);
    }
    let text = format!(
        "another device wants to join its {size}, and more than {above} need a second person's approval: it goes on when \
         it is countersigned and resumed"
    );
    record.state = RolloutState::Paused;
    record.state_reason = Some(text.clone());
    db::rollouts::update(conn, &record)?;
    db::counters::bump_generation(conn)?;
    db::events::insert(conn, now, &NewEvent::rollout("rollout.paused", id, text))?;
    Ok(true)
}
