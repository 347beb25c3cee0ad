//! What operators do to the open phase: approve it, end its soak, open the next one whatever the gate says.

use std::sync::Arc;

use callboard_policy::gate::{self, Deed, Word};
use callboard_proto::problem::Code;
use serde_json::json;

use super::{
    advance::{advance, note, open},
    all_counts, resolve, resolve_for,
};
use crate::{
    app::{App, Because, Error, Result, catalog},
    db::{self, events::NewEvent, phases::Phase, rollouts::Record},
};

/// Approves the open phase, whose gate is met and whose soak is over.
pub(crate) async fn approve(app: &App, reference: String, because: Because) -> Result<Record> {
    by_hand(app, reference, because, "rollout.phase_approved", "approved", |_| Ok(Word::Approve)).await
}

/// Ends the soak of the open phase.
pub(crate) async fn skip_soak(app: &App, reference: String, because: Because) -> Result<Record> {
    needs_reason(&because, "say why the soak is skipped")?;
    by_hand(app, reference, because, "rollout.soak_skipped", "its soak was skipped", |_| Ok(Word::SkipSoak)).await
}

/// Opens the phase after the open one, whatever the gate says.
pub(crate) async fn open_phase(app: &App, reference: String, phase: String, because: Because) -> Result<Record> {
    needs_reason(&because, "say why the phase is opened by hand")?;
    let word = move |record: &Record| {
        let found = record.phases.iter().position(|one| one.name == phase);
        found.map(Word::Open).ok_or_else(|| {
            let names: Vec<&str> = record.phases.iter().map(|one| one.name.as_str()).collect();
            let (name, names) = (&record.spec.name, names.join(", "));
            let detail = if names.is_empty() {
                format!("rollout {name} has no phases before it is started")
            } else {
                format!("rollout {name} has no phase {phase}; its phases are {names}")
            };
            Error::refused(Code::NotFound, detail)
        })
    };
    by_hand(app, reference, because, "rollout.phase_opened", "opened", word).await
}

fn needs_reason(because: &Because, what: &str) -> Result<()> {
    if because.reason.trim().is_empty() {
        return Err(Error::invalid(format!("reason is empty; {what}")));
    }
    Ok(())
}

async fn by_hand(
    app: &App,
    reference: String,
    because: Because,
    kind: &'static str,
    what: &'static str,
    word: impl FnOnce(&Record) -> Result<Word> + Send + 'static,
) -> Result<Record> {
    let now = app.clock.now();
    let record = app
        .db
        .write(move |conn| {
            let mut record = resolve_for(conn, &because.by, &reference)?;
            let before = json!({ "open_phase": record.open_phase });
            let word = word(&record)?;
            let counts = all_counts(&record);
            let times = record.phases.get(record.open_phase).map(Phase::times).unwrap_or_default();
            let done = gate::by_hand(&catalog::active(record.clone(), Arc::default())?, &counts, times, now, word);
            let text = match done.map_err(|why| Error::refused(Code::WrongState, why))? {
                Deed::Nothing => return Ok(record),
                Deed::Note(times) => {
                    let name = note(conn, &mut record, times, Some(&because.by.name), now)?;
                    format!("phase {name}: {what} {because}")
                }
                Deed::Open { phase, stood } => {
                    let name = open(conn, &mut record, phase, now)?;
                    format!("phase {name}: {what} {because}; otherwise: {stood}")
                }
            };
            db::counters::bump_generation(conn)?;
            let event = NewEvent::rollout(kind, record.id, text);
            let after = json!({ "open_phase": record.open_phase });
            db::events::insert(conn, now, &because.by.did(event, &before, &after))?;
            advance(conn, record.id, now)?;
            resolve(conn, &record.id.to_string())
        })
        .await?;
    app.reload_catalog().await?;
    Ok(record)
}
