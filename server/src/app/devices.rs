//! Devices: the registry's use cases, and the cache that keeps idle check-ins off the database.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use callboard_policy::{
    device::{self, Absence, Connection, Connectivity, Device, Hold},
    rhythm::Rhythm,
    selector::{Seen, Selector},
    window::{self, WindowTz},
};
use callboard_proto::{
    admin::{self, EditLabels, Imported, check_labels},
    check_in::Progress,
    digest::Digest,
    ids::{AssignmentId, DeviceId},
    problem::Code,
    state::AgentState,
    time::Timestamp,
};
use chrono_tz::Tz;
use governor::{DefaultDirectRateLimiter, RateLimiter};
use serde_json::{Value, json};

use super::{
    Actor, App, Error, Result, attacks,
    check_in::Told,
    edition::Edition,
    eligibility::{self, Change},
};
pub(crate) mod bulk;
mod import;
mod reach;
mod remembered;
mod serial;

pub(crate) use import::import;
use reach::check_after;
pub(crate) use reach::{resolve_for, would_cover};
pub(crate) use remembered::{Changing, Remembered};
pub(crate) use serial::set_serial;

use crate::db::{
    self, DbConn,
    devices::{Record, Trace},
    events::NewEvent,
    selector::{Slice, Whom},
};

/// Devices read at a time while going through all of them.
const STEP: i64 = 1000;

/// A device as it is remembered between check-ins.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) record: Record,
    pub(crate) contact: Mutex<LastContact>,
    /// How often it asks; with whoever remembers the device, so that there is no other map to grow.
    pub(crate) pace: Arc<DefaultDirectRateLimiter>,
    /// A key that was shown in its name and is not its own: whoever shows it again costs no look at the database.
    stranger: Mutex<Option<Digest>>,
}

/// What a device said last; not in the database but for the first four.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastContact {
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) absence: Option<Absence>,
    /// The connection that is still owed an offer.
    pub(crate) owed: Option<Connection>,
    pub(crate) boot_id: Option<String>,
    pub(crate) state: Option<AgentState>,
    pub(crate) progress: Option<Progress>,
    pub(crate) last_error: Option<String>,
    /// What its agent was at.
    pub(crate) works_on: Option<AssignmentId>,
    /// Bytes that it has free for releases.
    pub(crate) free_bytes: Option<u64>,
    /// What it was told.
    pub(crate) told: Option<Told>,
    /// And when it is to ask again; a server that has not told it so knows nothing of that.
    pub(crate) asks_again: Option<Timestamp>,
    /// When it is usually there; `None` before its first check-in. In the database too.
    pub(crate) rhythm: Option<Rhythm>,
    /// What it told of attacks; `None` if it did not check in since it is remembered.
    pub(crate) attacks: Option<db::devices::attacks::Told>,
    /// By what a copy of it is found out. In the database too.
    pub(crate) trace: Option<Trace>,
}

impl Known {
    /// Whether this key was found not to be the device's.
    pub(crate) fn is_stranger(&self, spki: Digest) -> bool {
        *self.stranger.lock().unwrap_or_else(PoisonError::into_inner) == Some(spki)
    }

    /// This key is not the device's.
    pub(crate) fn estrange(&self, spki: Digest) {
        *self.stranger.lock().unwrap_or_else(PoisonError::into_inner) = Some(spki);
    }

    pub(crate) fn contact(&self) -> LastContact {
        self.locked().clone()
    }

    pub(crate) fn set_contact(&self, contact: LastContact) {
        *self.locked() = contact;
    }

    /// What it was told last.
    pub(crate) fn told(&self) -> Option<Told> {
        self.locked().told
    }

    pub(crate) fn set_told(&self, told: Told, asks_again: Timestamp) {
        let mut contact = self.locked();
        (contact.told, contact.asks_again) = (Some(told), Some(asks_again));
    }

    /// Says what is owed to it after another look at its last check-in.
    pub(crate) fn owe(&self, owed: Option<Connection>) {
        self.locked().owed = owed;
    }

    fn locked(&self) -> MutexGuard<'_, LastContact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device from the cache, or from the database by one indexed read.
pub(crate) async fn known(app: &App, id: DeviceId) -> Result<Option<Arc<Known>>> {
    if let Some(known) = app.devices.get(id) {
        return Ok(Some(known));
    }
    let read = app.devices.look(id);
    let Some(record) = app.db.read(move |conn| Ok::<_, Error>(db::devices::get(conn, id)?)).await? else {
        return Ok(None);
    };
    let pace = Arc::new(RateLimiter::direct(app.requests_of_a_device));
    let known = Arc::new(remember(app, record, LastContact::default(), pace));
    app.devices.keep(id, known.clone(), read);
    Ok(Some(known))
}

/// The same device, read anew; what it said last is kept, and how often.
pub(crate) async fn reread(app: &App, old: &Known) -> Result<Arc<Known>> {
    let id = old.record.device.id;
    let read = app.devices.look(id);
    let record = app.db.read(move |conn| Ok::<_, Error>(db::devices::get(conn, id)?)).await?;
    let record = record.ok_or_else(|| Error::not_found("device", id))?;
    let known = Arc::new(remember(app, record, old.contact(), old.pace.clone()));
    app.devices.keep(id, known.clone(), read);
    Ok(known)
}

/// What a device said last, before a check-in now under this boot. If it seems to have been away or to have booted, it may
/// have been at another server meanwhile, and only the database knows.
pub(crate) async fn last_contact(app: &App, known: &Known, boot_id: &str, now: Timestamp) -> Result<LastContact> {
    let own = known.contact();
    let online_for = device::online_for(app.poll_interval);
    let away = own.last_seen.is_none_or(|seen| now.since(seen) > online_for);
    if !away && own.boot_id.as_deref() == Some(boot_id) {
        return Ok(own);
    }
    last_contact_anywhere(app, known).await
}

/// What a device said last, to whichever server.
pub(crate) async fn last_contact_anywhere(app: &App, known: &Known) -> Result<LastContact> {
    let (own, id) = (known.contact(), known.record.device.id);
    let stored = app.db.read(move |conn| Ok::<_, Error>(db::devices::last_seen(conn, id)?)).await?;
    let newer = stored.last_seen > own.last_seen;
    let db::devices::LastSeen { last_seen, absence, owed, boot_id, rhythm, trace } = stored;
    if !newer {
        return Ok(own);
    }
    Ok(LastContact { last_seen, absence, owed, boot_id, rhythm, trace, asks_again: None, ..own })
}

fn remember(app: &App, mut record: Record, mut contact: LastContact, pace: Arc<DefaultDirectRateLimiter>) -> Known {
    // The larger part of a kilobyte, and only enrolment asks for it: it reads the row.
    record.certificate = None;
    match app.presence.pending_for(record.device.id) {
        Some(seen) => {
            contact.last_seen = Some(seen.at);
            contact.absence = seen.absence;
            contact.owed = seen.owed;
            contact.boot_id = Some(seen.boot_id);
            contact.rhythm = Some(seen.rhythm);
            contact.trace = Some(seen.trace);
        }
        None => {
            // What was heard of it since it is remembered is newer than the row.
            if contact.last_seen.is_none() {
                contact.owed = record.owed;
            }
            contact.last_seen = contact.last_seen.or(record.last_seen);
            contact.absence = contact.absence.or(record.absence);
            contact.boot_id = contact.boot_id.or_else(|| record.boot_id.clone());
            contact.rhythm = contact.rhythm.or(record.rhythm);
            contact.trace = contact.trace.or_else(|| record.trace.clone());
        }
    }
    Known { record, contact: Mutex::new(contact), pace, stranger: Mutex::new(None) }
}

/// A device by its id or its name.
pub(crate) fn resolve(conn: &mut DbConn, reference: &str) -> Result<Record> {
    let found = match (reference.parse::<DeviceId>(), reference.parse()) {
        (Ok(id), _) => db::devices::get(conn, id)?,
        (_, Ok(name)) => db::devices::by_name(conn, &name)?,
        _ => None,
    };
    found.ok_or_else(|| Error::not_found("device", reference))
}

/// Reads a selector; none means every device.
pub(crate) fn parse_selector(text: Option<&str>) -> Result<Selector> {
    match text.map(str::trim) {
        None | Some("") => Ok(Selector::all()),
        Some(text) => {
            Selector::parse(text).map_err(|source| Error::refused(Code::BadSelector, format!("selector: {source}")))
        }
    }
}

/// When a device was seen last: the database may be a second behind.
pub(crate) fn last_seen(app: &App, record: &Record) -> Option<Timestamp> {
    app.presence.pending_for(record.device.id).map(|seen| seen.at).or(record.last_seen)
}

/// What selectors need to know of a device's presence.
pub(crate) fn seen(app: &App, record: &Record) -> Seen {
    let now = app.clock.now();
    let last_seen = last_seen(app, record);
    let suspension = record.device.site_rules.suspension;
    let status = Connectivity::of(now, last_seen, app.poll_interval, app.abandoned_after, suspension);
    Seen { last_seen, status, now }
}

/// A page of devices in the order of their numbers.
pub(crate) async fn list(app: &App, selector: Selector, after: i64, limit: i64) -> Result<Vec<Record>> {
    let context = app.selector_context();
    app.db
        .read(move |conn| {
            let slice = Slice { after, limit, whom: Whom::Everybody };
            let numbers = db::selector::select(conn, &selector, &context, slice)?;
            Ok(db::devices::numbered(conn, numbers)?)
        })
        .await
}

/// Every device of `whom` that `selector` selects, step by step.
pub(crate) fn each(
    conn: &mut DbConn,
    selector: &Selector,
    context: &db::selector::Context,
    whom: Whom,
    mut f: impl FnMut(&mut DbConn, Vec<Record>) -> Result<()>,
) -> Result<()> {
    let mut after = -1;
    loop {
        let slice = Slice { after, limit: STEP, whom };
        let numbers = db::selector::select(conn, selector, context, slice)?;
        let Some(last) = numbers.last().copied() else {
            return Ok(());
        };
        after = last;
        let records = db::devices::numbered(conn, numbers)?;
        f(conn, records)?;
    }
}

/// The device as it will be with other labels and at another site.
fn edited(
    conn: &mut DbConn,
    old: &Record,
    own: &BTreeMap<String, String>,
    site: Option<&callboard_proto::ids::SiteId>,
) -> Result<Device> {
    let site = match site {
        Some(id) => db::sites::get(conn, id)?,
        None => None,
    };
    standing_at(old.device.clone(), own, site.as_ref())
}

/// The device as it is with these labels and at this site.
pub(crate) fn standing_at(
    device: Device,
    own: &BTreeMap<String, String>,
    site: Option<&db::sites::Site>,
) -> Result<Device> {
    let mut labels = site.map(|site| site.labels.clone()).unwrap_or_default();
    labels.extend(own.clone());
    let site_tz = site.map(|site| site.tz);
    let site_rules = site.map(|site| site.rules().map_err(Error::Unexpected)).transpose()?.unwrap_or_default();
    Ok(Device { labels, site: site.map(|site| site.id.clone()), site_tz, site_rules, ..device })
}

/// Sets and removes labels of every device that the selector selects.
pub(crate) async fn edit_labels(app: &App, actor: Actor, edit: EditLabels) -> Result<Imported> {
    if edit.selector.trim().is_empty() {
        return Err(Error::invalid("selector is empty; say which devices, or all for every one"));
    }
    let selector = actor.may.narrow(parse_selector(Some(&edit.selector))?);
    let (now, dry_run, context, catalog) = (app.clock.now(), edit.dry_run, app.selector_context(), app.catalog());
    let (outcome, changed) = app
        .db
        .write(move |conn| {
            let mut outcome = Imported { created: 0, updated: 0, unchanged: 0, dry_run, eligible: Vec::new() };
            let (mut changes, mut edits) = (Vec::new(), Vec::new());
            let (mut was, mut is) = (Vec::new(), Vec::new());
            each(conn, &selector, &context, Whom::InService, |conn, records| {
                for old in records {
                    let mut own = old.own_labels.clone();
                    own.extend(edit.set.clone());
                    edit.remove.iter().for_each(|key| drop(own.remove(key)));
                    check_labels(&own).map_err(|what| Error::invalid(format!("device {}: {what}", old.device.name)))?;
                    if own == old.own_labels {
                        outcome.unchanged += 1;
                        continue;
                    }
                    outcome.updated += 1;
                    was.push(json!({ "device": old.device.name, "labels": old.own_labels }));
                    is.push(json!({ "device": old.device.name, "labels": own }));
                    let after = edited(conn, &old, &own, old.device.site.as_ref())?;
                    check_after(&actor, &after, now)?;
                    edits.push((old.device.id, own));
                    changes.push(Change { before: Some(old.device), after });
                }
                Ok(())
            })?;
            outcome.eligible = eligibility::of_devices(conn, &catalog, &changes, now)?;
            if dry_run {
                return Ok((outcome, Vec::new()));
            }
            for (id, own) in &edits {
                db::devices::set_labels(conn, *id, own, now)?;
            }
            let text = format!("edited the labels of {}", callboard_policy::counted(outcome.updated, "device"));
            let event = NewEvent::general("device.labels", text);
            db::events::insert(conn, now, &actor.did(event, &was.into(), &is.into()))?;
            Ok::<_, Error>((outcome, edits))
        })
        .await?;
    changed.into_iter().for_each(|(id, _)| app.forget_device(id));
    Ok(outcome)
}

/// Holds a device, or lifts the hold.
pub(crate) async fn hold(app: &App, actor: Actor, reference: String, hold: Option<Hold>) -> Result<Record> {
    let now = app.clock.now();
    check_hold(hold.as_ref(), now)?;
    change(app, actor, reference, move |conn, id| {
        db::devices::set_hold(conn, id, hold.as_ref(), now)?;
        Ok(match &hold {
            Some(hold) => NewEvent::device("device.held", id, hold.reason.clone()),
            None => NewEvent::device("device.unheld", id, "the hold was lifted"),
        })
    })
    .await
}

/// Refuses holds that say nothing or are over.
pub(crate) fn check_hold(hold: Option<&Hold>, now: Timestamp) -> Result<()> {
    if hold.is_some_and(|hold| hold.reason.trim().is_empty()) {
        return Err(Error::invalid("reason is empty; say what the hold is for"));
    }
    match hold.and_then(|hold| hold.until) {
        Some(until) if until <= now => Err(Error::invalid(format!("until is {until}, which is past; it is {now}"))),
        _ => Ok(()),
    }
}

/// Takes a device out of service for good.
pub(crate) async fn decommission(app: &App, actor: Actor, reference: String, reason: String) -> Result<Record> {
    let now = app.clock.now();
    change(app, actor, reference, move |conn, id| {
        db::devices::decommission(conn, id, now)?;
        super::rollouts::members::leave(conn, &[id], now)?;
        Ok(NewEvent::device("device.decommissioned", id, reason))
    })
    .await
}

pub(super) async fn change(
    app: &App,
    actor: Actor,
    reference: String,
    f: impl FnOnce(&mut DbConn, DeviceId) -> Result<NewEvent> + Send + 'static,
) -> Result<Record> {
    let now = app.clock.now();
    let record = app
        .db
        .write(move |conn| {
            let before = resolve_for(conn, &actor, &reference, now)?;
            actor.expected.check(|| facts(&before))?;
            let id = before.device.id;
            let event = f(conn, id)?;
            let after = resolve(conn, &id.to_string())?;
            db::events::insert(conn, now, &actor.did(event, &facts(&before), &facts(&after)))?;
            Ok::<_, Error>(after)
        })
        .await?;
    app.forget_device(record.device.id);
    app.refresh_catalog().await?;
    Ok(record)
}

/// What the audit says of a device: what operators can change of it.
fn facts(record: &Record) -> Value {
    let device = &record.device;
    json!({
        "name": device.name,
        "site": device.site,
        "description": record.description,
        "serial": record.serial,
        "labels": record.own_labels,
        "hold": device.held.as_ref().map(|hold| json!({ "reason": hold.reason, "until": hold.until })),
        "decommissioned": device.decommissioned,
        "possible_clone": record.possible_clone.as_ref().map(|clone| &clone.text),
        "reenrol_until": record.reenrol_until,
    })
}

/// Which edition of a device this is.
pub(crate) fn edition(record: &Record) -> Edition {
    Edition::of(&facts(record))
}

/// A device as operators see it.
pub(crate) fn show(app: &App, record: Record) -> admin::Device {
    let seen = seen(app, &record);
    let pending = app.presence.pending_for(record.device.id);
    let address = pending.map_or(record.address, |seen| seen.address);
    let device = record.device;
    let hold = device.hold_at(seen.now).cloned();
    let zone = window::zone_of(WindowTz::Site, &device, Tz::UTC, seen.now);
    admin::Device {
        id: device.id,
        name: device.name,
        site: device.site,
        description: record.description,
        status: match seen.status {
            Connectivity::Unknown => admin::DeviceStatus::Unknown,
            Connectivity::Online => admin::DeviceStatus::Online,
            Connectivity::Offline => admin::DeviceStatus::Offline,
            Connectivity::Abandoned => admin::DeviceStatus::Abandoned,
        },
        last_seen: seen.last_seen,
        address,
        enrolled_at: device.enrolled_at,
        serial: record.serial,
        labels: device.labels,
        installed: device.installed,
        hw: device.hw,
        arch: device.arch,
        agent: device.agent,
        tz: device.tz.map(|tz| tz.name().to_owned()),
        tz_mismatch: zone.mismatch.is_some(),
        attributes: device.attributes,
        possible_clone: record.possible_clone,
        reenrol_until: record.reenrol_until.filter(|until| seen.now < *until),
        hold: hold.map(|hold| admin::Hold { reason: hold.reason, until: hold.until }),
        decommissioned: device.decommissioned,
        attacks: attacks::shown(&record.attacks),
    }
}
