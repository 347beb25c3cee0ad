//! Importing devices: all of a list, or none of it.
//!
//! Rows are judged by the registry as it was before the import, so their order says nothing and a dry run finds what
//! the run finds. A name says which device is meant. A serial number never moves from one device to another here, and
//! one that has enrolled never gets another: who holds the machine may not be who is meant.

use std::{collections::BTreeSet, fmt::Write as _};

use callboard_policy::{device::Device, site::SiteState};
use callboard_proto::{
    admin::{ImportDevice, ImportDevices, Imported, MAX_IMPORT},
    check_in::Installed,
    ids::DeviceId,
    problem::Code,
    time::Timestamp,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    edited,
    reach::{check_after, unheard_of},
    serial, standing_at,
};
use crate::{
    app::{
        Actor, App, Error, Result, assignments,
        eligibility::{self, Change},
    },
    db::{
        self, DbConn,
        devices::{NewDevice, Record},
        events::NewEvent,
    },
};

/// Refused rows that are told one by one; whoever has more has one mistake in all of them.
const TOLD: usize = 5;

/// What an import comes to.
#[derive(Default)]
struct Plan {
    new: Vec<NewDevice>,
    updated: Vec<Update>,
    unchanged: u64,
}

/// A known device as it is to be.
struct Update {
    wanted: NewDevice,
    before: Device,
    after: Device,
}

impl Update {
    /// Whether it moves away from a closed site.
    fn reopens(&self) -> bool {
        let closed = |device: &Device| device.site_rules.state == SiteState::Closed;
        closed(&self.before) && !closed(&self.after)
    }
}

/// Takes all devices of the list, or none.
pub(crate) async fn import(app: &App, actor: Actor, import: ImportDevices) -> Result<Imported> {
    check(&import)?;
    let (now, dry_run, catalog) = (app.clock.now(), import.dry_run, app.catalog());
    let (outcome, changed) = app
        .db
        .write(move |conn| {
            let plan = plan(conn, &actor, import.devices, now)?;
            let created_ones = plan.new.iter().map(|new| made(conn, new)).collect::<Result<Vec<_>>>()?;
            plan.check(&actor, &created_ones, now)?;
            let count = |devices: usize| u64::try_from(devices).unwrap_or(u64::MAX);
            let (created, updated) = (count(plan.new.len()), count(plan.updated.len()));
            let mut changed = Vec::new();
            let (was, is) = facts(&plan);
            if !dry_run && created + updated > 0 {
                db::devices::insert(conn, &plan.new, now)?;
                for update in &plan.updated {
                    db::devices::update_imported(conn, update.wanted.id, &update.wanted, now)?;
                    if update.reopens() {
                        assignments::come_back(conn, update.wanted.id, now)?;
                    }
                    changed.push(update.wanted.id);
                }
                let text = format!("imported {}, and changed {updated}", callboard_policy::counted(created, "device"));
                db::events::insert(conn, now, &actor.did(NewEvent::general("device.imported", text), &was, &is))?;
            }
            let updated_ones = plan.updated.into_iter();
            let changes: Vec<Change> = updated_ones
                .map(|update| Change { before: Some(update.before), after: update.after })
                .chain(created_ones)
                .collect();
            let eligible = eligibility::of_devices(conn, &catalog, &changes, now)?;
            Ok::<_, Error>((Imported { created, updated, unchanged: plan.unchanged, dry_run, eligible }, changed))
        })
        .await?;
    if !changed.is_empty() {
        changed.into_iter().for_each(|id| app.forget_device(id));
        app.refresh_catalog().await?;
    }
    Ok(outcome)
}

/// What the audit says of an import: those that were changed as they were, and all as they are.
fn facts(plan: &Plan) -> (Value, Value) {
    let before = |update: &Update| json!({ "name": update.before.name, "site": update.before.site, "labels": update.before.labels });
    let after = |new: &NewDevice| {
        let NewDevice { name, site, serial, labels, .. } = new;
        json!({ "name": name, "site": site, "serial": serial, "labels": labels })
    };
    let updated = plan.updated.iter().map(|update| &update.wanted);
    (plan.updated.iter().map(before).collect(), plan.new.iter().chain(updated).map(after).collect())
}

/// What can be said of a list without the registry.
fn check(import: &ImportDevices) -> Result<()> {
    if import.devices.len() > MAX_IMPORT {
        return Err(Error::invalid(format!("{} devices; at most {MAX_IMPORT} at a time", import.devices.len())));
    }
    let (mut names, mut serials) = (BTreeSet::new(), BTreeSet::new());
    for device in &import.devices {
        if !names.insert(&device.name) {
            return Err(Error::invalid(format!("device {} stands twice in the list", device.name)));
        }
        if let Some(serial) = &device.serial
            && !serials.insert(serial)
        {
            return Err(Error::invalid(format!("serial number {serial:?} stands twice in the list")));
        }
    }
    Ok(())
}

fn plan(conn: &mut DbConn, actor: &Actor, devices: Vec<ImportDevice>, now: Timestamp) -> Result<Plan> {
    let (mut plan, mut conflicts) = (Plan::default(), Vec::new());
    for device in devices {
        let known = db::devices::by_name(conn, &device.name)?;
        // A name that is taken elsewhere cannot be kept a secret from whoever wants to give it, but all else of that one.
        if known.as_ref().is_some_and(|known| !actor.sees.covers(&known.device, now)) {
            return Err(Error::not_found("device", &device.name));
        }
        let sees = |other: &Record| actor.sees.covers(&other.device, now);
        match conflict(conn, sees, &device, known.as_ref())? {
            Some(what) => conflicts.push(format!("device {}: {what}", device.name)),
            None => plan.add(conn, device, known)?,
        }
    }
    if conflicts.is_empty() { Ok(plan) } else { Err(Error::refused(Code::Conflict, told(&conflicts))) }
}

fn told(conflicts: &[String]) -> String {
    let mut text = conflicts.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    if conflicts.len() > TOLD {
        // Writing to a String cannot fail.
        let _ = write!(text, "; and {} more like these", conflicts.len() - TOLD);
    }
    text
}

/// Why the serial number of a row cannot be taken.
fn conflict(
    conn: &mut DbConn,
    sees: impl Fn(&Record) -> bool,
    device: &ImportDevice,
    known: Option<&Record>,
) -> Result<Option<String>> {
    let Some(wanted) = &device.serial else {
        return Ok(None);
    };
    if let Some(other) = serial::held_by_another(conn, wanted, known.map(|known| known.device.id))? {
        return Ok(Some(serial::taken(wanted, Some(other).filter(sees).as_ref())));
    }
    let Some(known) = known.filter(|known| known.spki.is_some() && known.serial.as_ref() != Some(wanted)) else {
        return Ok(None);
    };
    let own = known.serial.as_ref().map_or("without a serial number".to_owned(), |own| format!("as {own:?}"));
    let name = &known.device.name;
    Ok(Some(format!(
        "it has enrolled {own}, and the list says {wanted:?}; leave that out, or if it is the same machine: callboard \
         device serial {name} --set {wanted:?}"
    )))
}

impl Plan {
    /// Refuses devices outside of where the permission holds, as they are and as they would be.
    fn check(&self, actor: &Actor, new: &[Change], now: Timestamp) -> Result<()> {
        for Update { before, .. } in &self.updated {
            if !actor.may.covers(before, now) {
                return Err(actor.outside(format!("device {}", before.name)));
            }
        }
        let after = self.updated.iter().map(|update| &update.after).chain(new.iter().map(|change| &change.after));
        after.into_iter().try_for_each(|device| check_after(actor, device, now))
    }

    fn add(&mut self, conn: &mut DbConn, device: ImportDevice, known: Option<Record>) -> Result<()> {
        let mut wanted = wanted(conn, device)?;
        let Some(old) = known else {
            self.new.push(wanted);
            return Ok(());
        };
        wanted.id = old.device.id;
        if old.device.has_reported() {
            // What a device says of itself is the truth.
            wanted.installed = old.device.installed.clone();
        }
        if old.spki.is_some() {
            wanted.serial = wanted.serial.or_else(|| old.serial.clone());
        }
        let same = old.device.site == wanted.site
            && old.description == wanted.description
            && old.serial == wanted.serial
            && old.own_labels == wanted.labels
            && old.device.installed == wanted.installed;
        if same {
            self.unchanged += 1;
            return Ok(());
        }
        let after = edited(conn, &old, &wanted.labels, wanted.site.as_ref())?;
        self.updated.push(Update { wanted, before: old.device, after });
        Ok(())
    }
}

/// A device that is new, as it will stand there before it has said anything.
fn made(conn: &mut DbConn, new: &NewDevice) -> Result<Change> {
    let site = match &new.site {
        Some(id) => db::sites::get(conn, id)?,
        None => None,
    };
    let device = Device { installed: new.installed.clone(), ..unheard_of(new.id, new.name.clone()) };
    Ok(Change { before: None, after: standing_at(device, &new.labels, site.as_ref())? })
}

fn wanted(conn: &mut DbConn, device: ImportDevice) -> Result<NewDevice> {
    let name = &device.name;
    if let Some(site) = &device.site {
        db::sites::get(conn, site)?
            .ok_or_else(|| Error::invalid(format!("device {name}: there is no site {site}; import sites first")))?;
    }
    let installed = device.installed.into_iter();
    let installed = installed.map(|(product, version)| Installed {
        product,
        version,
        release: None,
        epoch: 0,
        counter: 0,
        floor: 0,
    });
    Ok(NewDevice {
        id: DeviceId::from_uuid(Uuid::now_v7()),
        name: device.name,
        site: device.site,
        description: device.description,
        serial: device.serial,
        labels: device.labels,
        installed: installed.collect(),
    })
}
