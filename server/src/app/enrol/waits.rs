//! Enrolments that an operator decides on: what waits is written down, within bounds, and what was said of it is
//! remembered until the device asks again.

use callboard_proto::{
    admin::{AcceptEnrolment, EnrolmentState, WaitingEnrolment},
    ids::{DeviceId, EnrolmentId},
    problem::Code,
    time::Timestamp,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{Actor, App, Error, Reach, Result, devices, part, tokens},
    Request, alive,
};
use crate::db::{
    self, DbConn,
    enrolments::{self, Enrolment},
    events::NewEvent,
    tokens::EnrolToken,
};

/// Waiting enrolments of one token: whoever got hold of it cannot fill the list without end.
const MAX_OF_TOKEN: i64 = 1000;
/// Waiting enrolments from one address, which a shop's tills share.
const MAX_FROM_SOURCE: i64 = 200;
/// How exactly it is known when a device asked last: not each time costs a write.
const ASKED_TO_THE_MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// Writes down that an enrolment waits, and why.
pub(super) fn record(
    conn: &mut DbConn,
    request: &Request,
    token: &EnrolToken,
    known: Option<Enrolment>,
    device: Option<DeviceId>,
    why: &str,
) -> Result<()> {
    let now = request.now;
    let fresh = match known {
        Some(known) if is_the_same(&known, request, why, device) => {
            if now.since(known.last_at) < ASKED_TO_THE_MINUTE {
                return Ok(());
            }
            return Ok(enrolments::set(conn, &Enrolment { last_at: now, source: request.source.clone(), ..known })?);
        }
        Some(known) => known.first_at,
        None => {
            match bounded(conn, request, token) {
                // A conflict is told all the same, and is no news to the operator.
                Err(Error::Refused { .. }) if !token.waits => return Ok(()),
                other => other?,
            }
            let text = format!("an enrolment with token {} waits for an operator: {why}", token.id);
            let event = match device {
                Some(device) => NewEvent::device("enrolment.waiting", device, text),
                None => NewEvent::general("enrolment.waiting", text),
            };
            db::events::insert(conn, now, &event)?;
            now
        }
    };
    let body = &request.body;
    let one = Enrolment {
        id: EnrolmentId::from_uuid(Uuid::now_v7()),
        spki: request.spki,
        token: token.id,
        state: EnrolmentState::Waiting,
        why: why.to_owned(),
        device,
        name: body.name.clone(),
        serial: body.serial.clone(),
        hw: body.hw.clone(),
        arch: body.arch.clone(),
        source: request.source.clone(),
        first_at: fresh,
        last_at: now,
        decided_by: None,
    };
    Ok(enrolments::set(conn, &one)?)
}

/// Whether nothing has changed since it was written down.
fn is_the_same(known: &Enrolment, request: &Request, why: &str, device: Option<DeviceId>) -> bool {
    let body = &request.body;
    known.state == EnrolmentState::Waiting
        && (known.token, known.device, known.why.as_str()) == (request.token.0, device, why)
        && (&known.name, &known.serial, &known.hw, &known.arch) == (&body.name, &body.serial, &body.hw, &body.arch)
}

fn bounded(conn: &mut DbConn, request: &Request, token: &EnrolToken) -> Result<()> {
    let (of_token, from_source) = enrolments::waiting(conn, token.id, request.source.as_deref())?;
    let uses = i64::from(token.max_uses.saturating_sub(token.uses));
    if of_token >= uses.min(MAX_OF_TOKEN) {
        let detail =
            format!("{of_token} enrolments with this token wait already; somebody has to decide on them first");
        return Err(Error::refused(Code::TooManyRequests, detail));
    }
    if from_source >= MAX_FROM_SOURCE {
        let detail = format!("{from_source} enrolments from this address wait already; somebody has to decide first");
        return Err(Error::refused(Code::TooManyRequests, detail));
    }
    Ok(())
}

/// The key becomes a device the next time that it asks.
pub(crate) async fn accept(app: &App, actor: Actor, id: EnrolmentId, how: AcceptEnrolment) -> Result<WaitingEnrolment> {
    if how.device.is_some() && how.name.is_some() {
        return Err(Error::invalid("device and name are both given; it becomes one that exists, or a new one"));
    }
    let (by, at) = (actor.clone(), app.clock.now());
    decide(app, actor, id, move |conn, one| {
        let device = match (&how.device, &how.name) {
            (Some(reference), _) => Some(alive(devices::resolve_for(conn, &by, reference, at)?)?.device.id),
            (None, Some(name)) => {
                if db::devices::by_name(conn, name)?.is_some() {
                    let detail = format!("device {name} exists; --as {name} makes it that one");
                    return Err(Error::refused(Code::Conflict, detail));
                }
                None
            }
            (None, None) => one.device,
        };
        one.name = how.name.clone().or(one.name.take());
        (one.state, one.device) = (EnrolmentState::Accepted, device);
        let text =
            format!("the enrolment of key {} was accepted by {}", one.spki, one.decided_by.as_deref().unwrap_or(""));
        Ok(event("enrolment.accepted", one.device, text))
    })
    .await
}

/// The key is refused each time that it asks.
pub(crate) async fn reject(app: &App, actor: Actor, id: EnrolmentId) -> Result<WaitingEnrolment> {
    decide(app, actor, id, |_, one| {
        one.state = EnrolmentState::Rejected;
        let text =
            format!("the enrolment of key {} was rejected by {}", one.spki, one.decided_by.as_deref().unwrap_or(""));
        Ok(event("enrolment.rejected", one.device, text))
    })
    .await
}

/// What the audit says of an enrolment.
fn facts(one: &Enrolment) -> Value {
    let Enrolment { id, spki, state, device, name, .. } = one;
    json!({ "id": id, "key": spki, "state": state, "device": device, "name": name })
}

fn event(kind: &'static str, device: Option<DeviceId>, text: String) -> NewEvent {
    match device {
        Some(device) => NewEvent::device(kind, device, text),
        None => NewEvent::general(kind, text),
    }
}

async fn decide(
    app: &App,
    actor: Actor,
    id: EnrolmentId,
    how: impl FnOnce(&mut DbConn, &mut Enrolment) -> Result<NewEvent> + Send + 'static,
) -> Result<WaitingEnrolment> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let mut one = enrolments::get(conn, id)?.ok_or_else(|| Error::not_found("enrolment", id))?;
            let (may, sees) = (is_within(conn, &actor.may, &one, now)?, is_within(conn, &actor.sees, &one, now)?);
            actor.check("enrolment", &id.to_string(), may, sees)?;
            let before = facts(&one);
            one.decided_by = Some(actor.name.clone());
            let event = how(conn, &mut one)?;
            enrolments::set(conn, &one)?;
            db::events::insert(conn, now, &actor.did(event, &before, &facts(&one)))?;
            let name = match one.device {
                Some(device) => db::devices::get(conn, device)?.map(|record| record.device.name.to_string()),
                None => None,
            };
            Ok(show(one, name))
        })
        .await
}

/// Whether an enrolment is in reach: the device that it claims to be, or else what its token makes of it.
pub(crate) fn is_within(conn: &mut DbConn, reach: &Reach, one: &Enrolment, now: Timestamp) -> Result<bool> {
    if reach.is_everything() {
        return Ok(true);
    }
    if let Some(device) = one.device {
        return Ok(db::devices::get(conn, device)?.is_some_and(|record| reach.covers(&record.device, now)));
    }
    let token = db::tokens::get(conn, one.token)?;
    token.map_or(Ok(false), |token| tokens::is_within(conn, reach, &token, now))
}

/// A page of enrolments in reach, newest first, each with the name of its device.
pub(crate) fn list(
    conn: &mut DbConn,
    reach: &Reach,
    place: part::Place<EnrolmentId>,
    now: Timestamp,
) -> Result<part::Part<(Enrolment, Option<String>), EnrolmentId>> {
    let keep = |conn: &mut DbConn, page: &[(Enrolment, Option<String>)]| {
        page.iter().map(|(one, _)| is_within(conn, reach, one, now)).collect()
    };
    let read = |conn: &mut DbConn, before, rows| Ok(enrolments::list(conn, before, rows)?);
    part::read(conn, reach, place, |(one, _)| one.id, read, keep)
}

/// An enrolment as operators see it, and the name of its device.
pub(crate) fn show(one: Enrolment, device: Option<String>) -> WaitingEnrolment {
    WaitingEnrolment {
        id: one.id,
        key: one.spki,
        state: one.state,
        why: one.why,
        device: device.and_then(|name| name.parse().ok()),
        name: one.name,
        serial: one.serial,
        hw: one.hw,
        arch: one.arch,
        source: one.source,
        token: one.token,
        first_at: one.first_at,
        last_at: one.last_at,
        decided_by: one.decided_by,
    }
}
