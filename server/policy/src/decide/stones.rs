//! Stepping stones: releases that have to come before another one, of the same product or of others.
//!
//! A release that a device cannot step to does not claim it, so that an active rollout of a stone gets its turn in the
//! ordinary walk, whatever its priority; of a chain of stones the lowest is the only one that fits. When the device runs
//! the last stone, the release fits.

use callboard_proto::{release::Requirement, time::Timestamp};

use crate::{
    catalog::Catalog,
    device::{Connectivity, Device},
    release::{self, Fit, Misfit, Release},
    rollout::{Membership, Rollout},
    selector::Seen,
};

/// Which rollout brings the device nearer to `release`, or that none does: the end of a sentence about why the device
/// cannot take it, if anything could change that.
pub(crate) fn hint(now: Timestamp, catalog: &Catalog, device: &Device, release: &Release, why: Misfit) -> String {
    match why {
        Misfit::SteppingStone => stone(now, catalog, device, release),
        Misfit::Product => {
            release.unmet(device).map(|needed| product(now, catalog, device, needed)).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Which rollout brings the other product that is needed.
fn product(now: Timestamp, catalog: &Catalog, device: &Device, needed: &Requirement) -> String {
    let brings = |rollout: &&Rollout| {
        let release = catalog.releases.get(&rollout.plan.release)?;
        let helps = release.product == needed.product && release.version >= needed.at_least;
        let fits =
            matches!(release::fit(release, device, rollout.plan.allow_downgrade, now), Fit::Fits | Fit::Unreported);
        (helps && fits && reaches(rollout, device, now)).then_some(release)
    };
    match catalog.rollouts.iter().find_map(|rollout| Some((rollout, brings(&rollout)?))) {
        Some((rollout, release)) => {
            format!("; rollout {} brings {} {} first", rollout.plan.name, release.product, release.version)
        }
        None => format!("; no active rollout brings this device {needed}"),
    }
}

fn stone(now: Timestamp, catalog: &Catalog, device: &Device, release: &Release) -> String {
    let stone = |rollout: &&Rollout| {
        let stone = catalog.releases.get(&rollout.plan.release)?;
        let before =
            stone.product == release.product && (stone.epoch, stone.counter) < (release.epoch, release.counter);
        let fits =
            matches!(release::fit(stone, device, rollout.plan.allow_downgrade, now), Fit::Fits | Fit::Unreported);
        (before && fits && reaches(rollout, device, now)).then_some(stone)
    };
    let found = catalog.rollouts.iter().filter_map(|rollout| Some((rollout, stone(&rollout)?)));
    match found.min_by_key(|(_, stone)| (stone.epoch, stone.counter)) {
        Some((rollout, stone)) => {
            format!("; rollout {} brings {} {} first", rollout.plan.name, stone.product, stone.version)
        }
        None => {
            format!("; no active rollout brings this device a release of {} that it could step on", release.product)
        }
    }
}

fn reaches(rollout: &Rollout, device: &Device, now: Timestamp) -> bool {
    // Whoever checks in is online.
    let seen = Seen { last_seen: Some(now), status: Connectivity::Online, now };
    rollout.state.is_active()
        && match rollout.plan.audience {
            Membership::Frozen => rollout.member(device).is_some(),
            Membership::Live => rollout.plan.selector.matches(device, &seen),
        }
}
