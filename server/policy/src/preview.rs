//! A rollout before it exists: who would be in which phase, and what would come of it.
//!
//! It is made of the same parts as the real start, so with the same fleet and time both agree.

mod openings;

use std::collections::HashMap;

use callboard_proto::{
    ids::{DeviceId, RolloutId},
    instruction::Reason,
    state::AssignmentState,
    time::Timestamp,
};

pub use openings::ZoneOpening;

use crate::{
    audience::{self, Audience, Candidate},
    catalog::Catalog,
    decide,
    device::{Connectivity, Device},
    release::{self, Fit, Release},
    rollout::{Membership, Plan, Rollout},
    selector::Seen,
};

/// What a rollout would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Devices that the selector matches.
    pub matching: usize,
    /// Of these, online now.
    pub online: usize,
    /// One entry a phase.
    pub phases: Vec<PhasePreview>,
    /// Devices that have not said yet what they are and run. They are members, and some may turn out to need nothing
    /// or to be unable to take the release.
    pub unreported: Vec<DeviceId>,
    /// Devices that run the release already.
    pub already_installed: Vec<DeviceId>,
    /// Devices that cannot take the release, and why.
    pub incompatible: Vec<(DeviceId, Reason)>,
    /// Other rollouts of the same product that are for some of the same devices.
    pub conflicts: Vec<Conflict>,
    /// What looks like a mistake.
    pub doubts: Vec<String>,
    /// When its devices could first install, by zone.
    pub openings: Vec<ZoneOpening>,
    /// The membership sets that a start would store.
    pub audience: Audience,
}

/// One phase of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhasePreview {
    /// Its name.
    pub name: String,
    /// Devices that would get the release in it, by number.
    pub devices: Vec<DeviceId>,
    /// Of these, online now.
    pub online: usize,
}

/// Another rollout of the same product, for some of the same devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Which.
    pub rollout: RolloutId,
    /// Whether the previewed one, started now, would come first.
    pub superseded_by_this: bool,
    /// Devices in both.
    pub devices: Vec<DeviceId>,
}

/// Previews `plan` under the id that the rollout would have. `others` is the catalog of active rollouts; a rollout
/// that is in it under the same id is left out. The fleet comes with its assignments in [`rivals`].
pub fn preview(
    now: Timestamp,
    id: RolloutId,
    plan: &Plan,
    release: &Release,
    fleet: &[(&Device, Seen)],
    others: &Catalog,
) -> Preview {
    let mut matching: Vec<(&Device, Seen)> = audience::matching(plan, fleet.iter().copied()).collect();
    matching.sort_by_key(|(device, _)| device.number);
    let candidates: Vec<Candidate> =
        matching.iter().map(|(device, seen)| Candidate::of(plan, release, device, seen)).collect();
    let away = candidates.iter().filter(|one| one.away).map(|one| one.number).collect();
    let audience = audience::assign(plan.draw(), &plan.phases, candidates);
    let mut preview = Preview {
        matching: matching.len(),
        online: matching.iter().filter(|(_, seen)| is_online(seen)).count(),
        phases: Vec::new(),
        unreported: Vec::new(),
        already_installed: Vec::new(),
        incompatible: Vec::new(),
        conflicts: conflicts(now, id, plan, release, &matching, others),
        openings: Vec::new(),
        doubts: audience::doubts(&plan.phases, &audience, &away),
        audience,
    };
    for (device, seen) in &matching {
        match release::fit(release, device, plan.allow_downgrade, seen.now) {
            Fit::Fits => {}
            Fit::Unreported => preview.unreported.push(device.id),
            Fit::AlreadyInstalled => preview.already_installed.push(device.id),
            Fit::Incompatible(misfit) => {
                let mut text = misfit.text(release, device, &plan.name);
                text += &decide::hint(now, others, device, release, misfit);
                let reason = Reason { code: misfit.code().to_owned(), text };
                preview.incompatible.push((device.id, reason));
            }
        }
    }
    preview.phases = phases(plan, &preview.audience, &matching);
    let uncounted = preview.audience.uncounted();
    let counting = matching.iter().map(|(device, _)| *device).filter(|one| !uncounted.contains(one.number));
    preview.openings = openings::openings(now, Rollout::draft(id, plan.clone()), counting, others);
    preview
}

fn phases(plan: &Plan, audience: &Audience, matching: &[(&Device, Seen)]) -> Vec<PhasePreview> {
    let by_number: HashMap<u32, (&Device, &Seen)> =
        matching.iter().map(|(device, seen)| (device.number, (*device, seen))).collect();
    let uncounted = audience.uncounted();
    let named = plan.phases.iter().zip(&audience.phases);
    named
        .map(|(phase, members)| {
            let counting = members - &uncounted;
            let found: Vec<_> = counting.iter().filter_map(|number| by_number.get(&number)).collect();
            PhasePreview {
                name: phase.name.clone(),
                devices: found.iter().map(|(device, _)| device.id).collect(),
                online: found.iter().filter(|(_, seen)| is_online(seen)).count(),
            }
        })
        .collect()
}

fn is_online(seen: &Seen) -> bool {
    seen.status == Connectivity::Online
}

fn conflicts(
    now: Timestamp,
    id: RolloutId,
    plan: &Plan,
    release: &Release,
    matching: &[(&Device, Seen)],
    others: &Catalog,
) -> Vec<Conflict> {
    let found = rivals(id, release, others).map(|(other, theirs)| Conflict {
        rollout: other.id,
        // Of two with the same priority, the one that begins later comes first.
        superseded_by_this: (plan.priority, Some(plan.begins_at(now))) >= (other.plan.priority, other.begins_at()),
        devices: matching
            .iter()
            .filter(|(device, seen)| is_for(other, theirs, device, seen))
            .map(|(one, _)| one.id)
            .collect(),
    });
    found.filter(|conflict| !conflict.devices.is_empty()).collect()
}

/// Active rollouts of the same product, each with its release: whoever asks for a preview reads their assignments into
/// the fleet.
pub fn rivals<'a>(
    id: RolloutId,
    release: &'a Release,
    others: &'a Catalog,
) -> impl Iterator<Item = (&'a Rollout, &'a Release)> {
    let active = others.rollouts.iter().filter(move |other| other.id != id && other.state.is_active());
    let with_release = active.filter_map(|other| Some((other, others.releases.get(&other.plan.release)?)));
    with_release.filter(move |(_, theirs)| theirs.product == release.product)
}

/// Whether `device` still has to do with `other`.
fn is_for(other: &Rollout, theirs: &Release, device: &Device, seen: &Seen) -> bool {
    if let Some(one) = device.assignment(other.id)
        && one.state != AssignmentState::TimedOut
    {
        return !one.state.is_final();
    }
    if !matches!(release::fit(theirs, device, other.plan.allow_downgrade, seen.now), Fit::Fits | Fit::Unreported) {
        return false;
    }
    match device.assignment(other.id) {
        Some(_) => true,
        None => match other.member(device) {
            Some(member) => member.excluded.is_none(),
            None => other.plan.audience == Membership::Live && other.plan.selector.matches(device, seen),
        },
    }
}

#[cfg(test)]
mod tests;
