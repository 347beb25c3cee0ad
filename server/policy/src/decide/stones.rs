//! Stepping stones: releases that have to come before another one.
//!
//! A release that a device cannot step to does not claim it, so that an active rollout of a stone gets its turn in the
//! ordinary walk, whatever its priority; of a chain of stones the lowest is the only one that fits. When the device runs
//! the last stone, the release fits.

use callboard_proto::time::Timestamp;

use crate::{
    catalog::Catalog,
    device::{Connectivity, Device},
    release::{self, Fit, Release},
    rollout::{Membership, Rollout, RolloutState},
    selector::Seen,
};

/// Which rollout brings the device nearer to `release`, or that none does: the end of a sentence.
pub(crate) fn hint(now: Timestamp, catalog: &Catalog, device: &Device, release: &Release) -> String {
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
    let joins = || rollout.plan.audience == Membership::Live && rollout.plan.selector.matches(device, &seen);
    let active = matches!(rollout.state, RolloutState::Running | RolloutState::Paused);
    active && (rollout.member(device).is_some() || joins())
}
