//! What a rollout would do now; made of the same parts as its start.

use std::collections::HashMap;

use callboard_policy::{
    device::Device,
    forecast::LOOK_AHEAD,
    preview,
    release::Release,
    rollout::{Rollout, RolloutState},
    selector::Seen,
};
use callboard_proto::{
    admin::{ComesFirst, Incompatible, Preview, PreviewConflict, PreviewPhase, PreviewZone, RolloutSpec},
    digest::Digest,
    ids::{DeviceId, DeviceName, RolloutId},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    check_times, doubts, resolve_for,
    rolled_back::RolledBack,
    start::seen,
    targets::{self, Checked},
};
use crate::{
    app::{Actor, App, Error, Result, devices::each, releases},
    db::{self, DbConn, selector::Whom},
};

/// Device names and reasons shown at most; the counts are exact.
const SHOWN: usize = 1000;

/// Of a rollout that does not exist yet. Its phases are drawn by its name and its release, so they are those of its start.
pub(crate) async fn of_spec(app: &App, actor: Actor, wanted: RolloutSpec) -> Result<Preview> {
    let wanted = RolloutSpec { selector: actor.confine(wanted.selector)?, ..wanted };
    preview(app, move |conn| {
        let release = releases::resolve(conn, &wanted.release)?.sha256;
        Ok(Subject { id: RolloutId::from_uuid(Uuid::now_v7()), spec: wanted, release, state: RolloutState::Draft })
    })
    .await
}

/// Of a draft: starting it now gives exactly these phases. One that was started has phases already, and says so.
pub(crate) async fn of_rollout(app: &App, actor: Actor, reference: String) -> Result<Preview> {
    preview(app, move |conn| {
        let record = resolve_for(conn, &actor, &reference)?;
        Ok(Subject { id: record.id, spec: record.spec, release: record.release, state: record.state })
    })
    .await
}

/// What is previewed.
struct Subject {
    id: RolloutId,
    spec: RolloutSpec,
    release: Digest,
    state: RolloutState,
}

impl Subject {
    /// That this is not what became of it.
    fn doubt(&self) -> Option<String> {
        let Self { spec: RolloutSpec { name, .. }, state, .. } = self;
        let started = *state != RolloutState::Draft;
        started.then(|| {
            format!(
                "rollout {name} is {}: this is what would come of it if it was started now; its own phases were fixed \
                 when it started",
                state.as_str()
            )
        })
    }
}

async fn preview(app: &App, subject: impl FnOnce(&mut DbConn) -> Result<Subject> + Send + 'static) -> Result<Preview> {
    let (context, snapshot, above) = (app.selector_context(), app.catalog(), app.second_person_above);
    let root = targets::root(app)?;
    crate::app::presence::flush(app).await?;
    app.db
        .read(move |conn| {
            let subject = subject(conn)?;
            let (id, digest) = (subject.id, subject.release);
            let mut checked = targets::check(conn, &root, &subject.spec, digest)?;
            if subject.state == RolloutState::Draft {
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
            attach_assignments(conn, &mut fleet, preview::rivals(id, &release, &snapshot.catalog))?;
            let borrowed: Vec<(&Device, Seen)> = fleet.iter().map(|(device, seen)| (device, *seen)).collect();
            let found = preview::preview(context.now, id, &plan, &release, &borrowed, &snapshot.catalog);
            let names: HashMap<DeviceId, &DeviceName> =
                fleet.iter().map(|(device, _)| (device.id, &device.name)).collect();
            let named = |id: &DeviceId| names.get(id).map(|name| (*name).clone());
            let mut warnings = doubts::of(conn, &plan, &context)?;
            warnings.extend(subject.doubt());
            warnings.extend(found.doubts.iter().cloned());
            warnings.extend(above.and_then(|above| second_person(found.matching, above)));
            let conflicts = found.conflicts.iter().filter_map(|conflict| {
                let rollout = snapshot.catalog.rollout(conflict.rollout)?.plan.name.clone();
                let comes_first = if conflict.superseded_by_this { ComesFirst::This } else { ComesFirst::Other };
                Some(PreviewConflict { rollout, devices: count(conflict.devices.len()), comes_first })
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

/// Reads what devices have of other rollouts into them.
fn attach_assignments<'a>(
    conn: &mut DbConn,
    fleet: &mut [(Device, Seen)],
    rivals: impl Iterator<Item = (&'a Rollout, &'a Release)>,
) -> Result<()> {
    let places: HashMap<DeviceId, usize> =
        fleet.iter().enumerate().map(|(place, (device, _))| (device.id, place)).collect();
    for (other, _) in rivals {
        db::assignments::each_own(conn, other.id, |page| {
            for record in page {
                let place = places.get(&record.device).and_then(|place| fleet.get_mut(*place));
                if let Some((device, _)) = place {
                    device.assignments.push(record.assignment);
                }
            }
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
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
    PreviewPhase {
        name: phase.name.clone(),
        size: count(phase.devices.len()),
        online: count(phase.online),
        devices: devices.take(SHOWN).collect(),
    }
}
