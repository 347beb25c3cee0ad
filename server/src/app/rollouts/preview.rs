//! What a rollout would do now; made of the same parts as its start.

use std::collections::HashMap;

use callboard_policy::{device::Device, forecast::LOOK_AHEAD, preview, rollout::RolloutState, selector::Seen};
use callboard_proto::{
    admin::{Eligible, Incompatible, Preview, PreviewPhase, PreviewZone, RolloutSpec},
    digest::Digest,
    ids::{DeviceId, DeviceName, RolloutId},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    check_times, doubts, resolve,
    rolled_back::RolledBack,
    start::seen,
    targets::{self, Checked},
};
use crate::{
    app::{App, Result, devices::each, releases},
    db::{self, DbConn, selector::Whom},
};

/// Device names and reasons shown at most; the counts are exact.
const SHOWN: usize = 1000;

/// Of a rollout that does not exist yet. Phases of percents are drawn anew when it is made: the counts stand, the
/// devices may be others.
pub(crate) async fn of_spec(app: &App, wanted: RolloutSpec) -> Result<Preview> {
    preview(app, move |conn| {
        let release = releases::resolve(conn, &wanted.release)?.sha256;
        Ok((RolloutId::from_uuid(Uuid::now_v7()), wanted, release, RolloutState::Draft))
    })
    .await
}

/// Of a draft: starting it now gives exactly these phases.
pub(crate) async fn of_rollout(app: &App, reference: String) -> Result<Preview> {
    preview(app, move |conn| {
        let record = resolve(conn, &reference)?;
        Ok((record.id, record.spec, record.release, record.state))
    })
    .await
}

async fn preview(
    app: &App,
    subject: impl FnOnce(&mut DbConn) -> Result<(RolloutId, RolloutSpec, Digest, RolloutState)> + Send + 'static,
) -> Result<Preview> {
    let (context, snapshot, above) = (app.selector_context(), app.catalog(), app.second_person_above);
    let root = targets::root(app)?;
    crate::app::presence::flush(app).await?;
    app.db
        .read(move |conn| {
            let (id, wanted, digest, state) = subject(conn)?;
            let mut checked = targets::check(conn, &root, &wanted, digest)?;
            if state == RolloutState::Draft {
                check_times(&checked.plan, context.now)?;
            }
            let selector = checked.plan.selector.clone();
            let mut fleet: Vec<(Device, Seen)> = Vec::new();
            let rolled_back = RolledBack::of(conn, digest)?;
            each(conn, &selector, &context, Whom::AtOpenSites, |_, records| {
                let seen = |mut one: db::devices::Record| {
                    let seen = seen(&one, &context);
                    rolled_back.note(&mut one.device);
                    checked.look(&one.device, context.now);
                    (one.device, seen)
                };
                fleet.extend(records.into_iter().map(seen));
                Ok(())
            })?;
            checked.refuse_stranded()?;
            let Checked { plan, release, .. } = checked;
            let borrowed: Vec<(&Device, Seen)> = fleet.iter().map(|(device, seen)| (device, *seen)).collect();
            let found = preview::preview(context.now, id, &plan, &release, &borrowed, &snapshot.catalog);
            let names: HashMap<DeviceId, &DeviceName> =
                fleet.iter().map(|(device, _)| (device.id, &device.name)).collect();
            let named = |id: &DeviceId| names.get(id).map(|name| (*name).clone());
            let mut warnings = doubts::of(conn, &plan, &context)?;
            warnings.extend(found.doubts.iter().cloned());
            warnings.extend(above.and_then(|above| second_person(found.matching, above)));
            let conflicts = found.conflicts.iter().filter_map(|conflict| {
                let rollout = snapshot.catalog.rollout(conflict.rollout)?.plan.name.clone();
                Some(Eligible { rollout, devices: u64::try_from(conflict.devices.len()).ok()? })
            });
            Ok(Preview {
                at: context.now,
                release: digest,
                devices: count(found.matching),
                online: count(found.online),
                unreported: count(found.unreported.len()),
                unreported_devices: found.unreported.iter().filter_map(named).take(SHOWN).collect(),
                warnings,
                already_installed: count(found.already_installed.len()),
                conflicts: conflicts.collect(),
                incompatible: count(found.incompatible.len()),
                incompatible_devices: incompatible(&found, &names),
                zones: found.openings.iter().map(|one| zone(one, context.now)).collect(),
                phases: found.phases.iter().map(|phase| show_phase(phase, &names)).collect(),
            })
        })
        .await
}

/// What the start will ask for.
fn second_person(devices: usize, above: u64) -> Option<String> {
    let many = u64::try_from(devices).is_ok_and(|devices| devices > above);
    many.then(|| {
        format!("{devices} devices are more than {above}: a second person has to countersign it before it starts")
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn incompatible(found: &preview::Preview, names: &HashMap<DeviceId, &DeviceName>) -> Vec<Incompatible> {
    let named = found
        .incompatible
        .iter()
        .filter_map(|(id, reason)| Some(Incompatible { device: (*names.get(id)?).clone(), reason: reason.clone() }));
    named.take(SHOWN).collect()
}

fn zone(one: &preview::ZoneOpening, now: Timestamp) -> PreviewZone {
    PreviewZone {
        zone: one.zone.tz.name().to_owned(),
        source: one.zone.source.to_string(),
        devices: count(one.devices),
        first_opens_at: one.first.map(|span| span.start),
        first_closes_at: one.first.map(|span| span.end).filter(|end| *end < now + LOOK_AHEAD),
        last_opens_at: one.last_opens_at,
        never: count(one.never),
    }
}

fn show_phase(phase: &preview::PhasePreview, names: &HashMap<DeviceId, &DeviceName>) -> PreviewPhase {
    let devices = phase.devices.iter().filter_map(|id| names.get(id).map(|name| (*name).clone()));
    PreviewPhase { name: phase.name.clone(), size: count(phase.devices.len()), devices: devices.take(SHOWN).collect() }
}
