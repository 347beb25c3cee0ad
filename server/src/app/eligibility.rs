//! Which rollouts an edit of labels or sites makes devices eligible for: such an edit must not start an install
//! silently.
//!
//! A device is eligible when nothing but time, pace or a gate keeps an active rollout from it: it is in service at an
//! open site, fits, is no freeze's, and is a member that is not through with it or would become one.

use std::collections::{BTreeMap, HashMap};

use callboard_policy::{
    device::{Connectivity, Device},
    release::{self, Fit, Release},
    rollout::{Membership, Rollout},
    selector::Seen,
    site::SiteState,
    window::{self, WindowTz},
};
use callboard_proto::{admin::Eligible, state::AssignmentState, time::Timestamp};

use super::{Result, catalog::Snapshot, devices, rollouts::rolled_back::RolledBack};
use crate::db::{self, DbConn, assignments::Standing, sites::Site};

/// A device before and after an edit; one that the edit makes was not there before.
pub(crate) struct Change {
    pub(crate) before: Option<Device>,
    pub(crate) after: Device,
}

/// One rollout, with what is asked of every device.
struct Case<'a> {
    snapshot: &'a Snapshot,
    rollout: &'a Rollout,
    release: &'a Release,
    rolled_back: RolledBack,
    standings: HashMap<u32, Standing>,
    seen: Seen,
}

/// For devices before and after an edit.
pub(crate) fn of_devices(
    conn: &mut DbConn,
    snapshot: &Snapshot,
    changes: &[Change],
    now: Timestamp,
) -> Result<Vec<Eligible>> {
    // Selectors of live rollouts and freezes cannot ask for presence.
    let seen = Seen { last_seen: None, status: Connectivity::Unknown, now };
    let numbers: Vec<u32> = changes.iter().map(|change| change.after.number).collect();
    let mut counts = BTreeMap::new();
    for rollout in &snapshot.catalog.rollouts {
        let goes_on = rollout.state.is_active() && rollout.plan.ends_at.is_none_or(|end| end > now);
        let Some(release) = snapshot.catalog.releases.get(&rollout.plan.release).filter(|_| goes_on) else {
            continue;
        };
        let rolled_back = RolledBack::of(conn, release.digest)?;
        let standings = db::assignments::standings(conn, rollout.id, &numbers)?;
        let case = Case { snapshot, rollout, release, rolled_back, standings, seen };
        let newly = changes.iter().filter(|change| {
            case.reaches(&change.after) && !change.before.as_ref().is_some_and(|one| case.reaches(one))
        });
        let devices = u64::try_from(newly.count()).unwrap_or(u64::MAX);
        if devices > 0 {
            counts.insert(rollout.plan.name.clone(), devices);
        }
    }
    Ok(counts.into_iter().map(|(rollout, devices)| Eligible { rollout, devices }).collect())
}

/// For the devices of sites before and after an edit.
pub(crate) fn of_sites(
    conn: &mut DbConn,
    snapshot: &Snapshot,
    changed: &[(Site, Site)],
    now: Timestamp,
) -> Result<Vec<Eligible>> {
    let mut changes = Vec::new();
    let concerns = |(old, new): &&(Site, Site)| (&old.labels, old.tz, old.state) != (&new.labels, new.tz, new.state);
    for (old, new) in changed.iter().filter(concerns) {
        for id in db::devices::of_site(conn, old)? {
            let Some(record) = db::devices::get(conn, id)? else {
                continue;
            };
            let before = devices::standing_at(record.device.clone(), &record.own_labels, Some(old))?;
            let after = devices::standing_at(record.device, &record.own_labels, Some(new))?;
            changes.push(Change { before: Some(before), after });
        }
    }
    of_devices(conn, snapshot, &changes, now)
}

impl Case<'_> {
    /// Whether the device will get the release if nothing else changes.
    fn reaches(&self, device: &Device) -> bool {
        self.is_open_to(device) && self.is_for(device)
    }

    fn is_open_to(&self, device: &Device) -> bool {
        let fit = release::fit(self.release, device, self.rollout.plan.allow_downgrade, self.seen.now);
        !device.decommissioned
            && device.site_rules.state == SiteState::Active
            && matches!(fit, Fit::Fits | Fit::Unreported)
            && !self.rolled_back.has(device.id)
            && !self.is_frozen(device)
    }

    fn is_frozen(&self, device: &Device) -> bool {
        let Seen { now, .. } = self.seen;
        let zone = window::zone_of(WindowTz::Site, device, self.rollout.plan.default_tz, now).tz;
        let mut freezes = self.snapshot.catalog.freezes.iter();
        !self.rollout.passes_freezes()
            && freezes.any(|freeze| {
                let days = freeze.span(zone).is_some_and(|span| span.start <= now && now < span.end);
                days && freeze.selector.matches(device, &self.seen)
            })
    }

    fn is_for(&self, device: &Device) -> bool {
        match self.standings.get(&device.number) {
            // What was cancelled because it had left begins anew when it is back.
            Some(Standing { state, departed: false }) => !state.is_final() || *state == AssignmentState::TimedOut,
            Some(Standing { departed: true, .. }) | None => match self.rollout.plan.audience {
                Membership::Live => self.rollout.plan.selector.matches(device, &self.seen),
                Membership::Frozen => self.rollout.member(device).is_some(),
            },
        }
    }
}
