//! Which running rollouts an edit of labels or sites makes devices eligible for: such an edit must not start an
//! install silently.

use std::collections::BTreeMap;

use callboard_policy::{
    device::{Connectivity, Device},
    rollout::Membership,
    selector::Seen,
};
use callboard_proto::{admin::Eligible, time::Timestamp};

use super::{Result, catalog::Snapshot};
use crate::db::{self, DbConn, sites::Site};

/// For devices before and after an edit.
pub(crate) fn of_devices(snapshot: &Snapshot, pairs: &[(Device, Device)], now: Timestamp) -> Vec<Eligible> {
    // Live selectors cannot ask for presence.
    let seen = Seen { last_seen: None, status: Connectivity::Unknown, now };
    let mut counts = BTreeMap::new();
    for rollout in snapshot.catalog.rollouts.iter().filter(|rollout| rollout.plan.audience == Membership::Live) {
        let newly = pairs.iter().filter(|(before, after)| {
            !rollout.plan.selector.matches(before, &seen) && rollout.plan.selector.matches(after, &seen)
        });
        let devices = u64::try_from(newly.count()).unwrap_or(u64::MAX);
        if devices > 0 {
            counts.insert(rollout.plan.name.clone(), devices);
        }
    }
    counts.into_iter().map(|(rollout, devices)| Eligible { rollout, devices }).collect()
}

/// For the devices of sites before and after an edit.
pub(crate) fn of_sites(
    conn: &mut DbConn,
    snapshot: &Snapshot,
    changed: &[(Site, Site)],
    now: Timestamp,
) -> Result<Vec<Eligible>> {
    let mut pairs = Vec::new();
    for (old, new) in changed.iter().filter(|(old, new)| old.labels != new.labels || old.tz != new.tz) {
        for id in db::devices::of_site(conn, old)? {
            let Some(record) = db::devices::get(conn, id)? else {
                continue;
            };
            let at = |site: &Site| {
                let mut labels = site.labels.clone();
                labels.extend(record.own_labels.clone());
                Device { labels, site_tz: Some(site.tz), ..record.device.clone() }
            };
            pairs.push((at(old), at(new)));
        }
    }
    Ok(of_devices(snapshot, &pairs, now))
}
