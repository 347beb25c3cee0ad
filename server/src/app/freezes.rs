//! Freezes: made and called off by operators; part of the catalog, so that no grant slips past one.

use callboard_policy::freeze::{BadFreeze, Freeze, FreezeSpec, MAX_FREEZES};
use callboard_proto::{
    admin::{self, NewFreeze},
    problem::Code,
    time::Timestamp,
};
use serde_json::{Value, json};

use super::{Actor, App, Error, Result, devices};
use crate::db::{self, DbConn, events::NewEvent, freezes::Record};

/// Makes a freeze. The same one again is no error.
pub(crate) async fn create(app: &App, actor: Actor, wanted: NewFreeze) -> Result<Record> {
    let now = app.clock.now();
    let NewFreeze { name, reason, from, to, selector } = wanted;
    let selector = actor.confine(selector.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))?;
    let spec = FreezeSpec { name, reason: reason.trim().to_owned(), from, to, selector };
    check(&spec, now)?;
    let record = app
        .db
        .write(move |conn| {
            if let Some(known) = db::freezes::get(conn, &spec.name)? {
                if known.spec == spec {
                    return Ok(known);
                }
                let detail = format!("freeze {} exists with other words; delete it, or choose another name", spec.name);
                return Err(Error::refused(Code::Conflict, detail));
            }
            if db::freezes::count_since(conn, &yesterday(now))? >= i64::try_from(MAX_FREEZES).unwrap_or(i64::MAX) {
                return Err(Error::invalid(format!("there are {MAX_FREEZES} freezes that are not over; delete some")));
            }
            let record = Record { spec, created_by: actor.name.clone(), created_at: now };
            db::freezes::insert(conn, &record)?;
            db::counters::bump_generation(conn)?;
            let text = format!("{} by {}", in_words(&record.spec), record.created_by);
            let event = NewEvent::general("freeze.created", text);
            db::events::insert(conn, now, &actor.did(event, &Value::Null, &facts(&record.spec)))?;
            Ok::<_, Error>(record)
        })
        .await?;
    app.reload_catalog().await?;
    Ok(record)
}

/// What the audit says of a freeze.
fn facts(spec: &FreezeSpec) -> Value {
    let FreezeSpec { name, reason, from, to, selector } = spec;
    json!({ "name": name, "reason": reason, "from": from, "to": to, "selector": selector })
}

fn check(spec: &FreezeSpec, now: Timestamp) -> Result<()> {
    let freeze = spec.read().map_err(|error| match error {
        BadFreeze::Selector(_) => Error::refused(Code::BadSelector, error.to_string()),
        BadFreeze::Other(_) => Error::invalid(error.to_string()),
    })?;
    // Somewhere it is still yesterday.
    if freeze.to.to_string() < yesterday(now) {
        return Err(Error::invalid(format!("to: {} has passed; it is {now}", freeze.to)));
    }
    Ok(())
}

/// The earliest date that it is anywhere.
fn yesterday(now: Timestamp) -> String {
    let today = now.utc().date_naive();
    today.pred_opt().unwrap_or(today).to_string()
}

fn in_words(spec: &FreezeSpec) -> String {
    let whom = spec.selector.as_deref().unwrap_or("all");
    format!("freeze {} from {} to {} for {whom} ({})", spec.name, spec.from, spec.to, spec.reason)
}

/// Calls a freeze off.
pub(crate) async fn delete(app: &App, actor: Actor, name: String) -> Result<()> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let record = resolve(conn, &name)?;
            if !actor.may.holds(&devices::parse_selector(record.spec.selector.as_deref())?) {
                return Err(actor.outside(format!("freeze {name}")));
            }
            db::freezes::delete(conn, &record.spec.name)?;
            db::counters::bump_generation(conn)?;
            let text = format!("{} was deleted by {}", in_words(&record.spec), actor.name);
            let event = NewEvent::general("freeze.deleted", text);
            Ok::<_, Error>(db::events::insert(conn, now, &actor.did(event, &facts(&record.spec), &Value::Null))?)
        })
        .await?;
    app.reload_catalog().await
}

/// A freeze by its name.
pub(crate) fn resolve(conn: &mut DbConn, name: &str) -> Result<Record> {
    let found = match name.parse() {
        Ok(name) => db::freezes::get(conn, &name)?,
        Err(_) => None,
    };
    found.ok_or_else(|| Error::not_found("freeze", name))
}

/// The freezes that decisions look at.
pub(crate) fn for_policy(conn: &mut DbConn) -> Result<Vec<Freeze>> {
    let read = |record: Record| {
        let name = record.spec.name.clone();
        record.spec.read().map_err(|error| Error::Unexpected(format!("read freeze {name}: {error}")))
    };
    db::freezes::latest(conn)?.into_iter().map(read).collect()
}

/// A freeze as operators see it.
pub(crate) fn show(record: Record) -> admin::Freeze {
    let FreezeSpec { name, reason, from, to, selector } = record.spec;
    let Record { created_by, created_at, .. } = record;
    admin::Freeze { name, reason, from, to, selector, created_by, created_at }
}
