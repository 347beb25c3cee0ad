//! When the devices of a rollout that does not exist yet could first install, zone by zone.

use std::collections::BTreeMap;

use callboard_proto::time::Timestamp;

use crate::{
    catalog::Catalog,
    decide::first_stretch,
    device::Device,
    forecast::LOOK_AHEAD,
    rollout::{Plan, Rollout, RolloutState},
    window::{Span, WindowTz, Zone, ZoneSource, zone_of},
};

/// The devices of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneOpening {
    /// The zone, and where it comes from.
    pub zone: Zone,
    /// How many devices follow it.
    pub devices: usize,
    /// The first time at which one of them could install, until when.
    pub first: Option<Span>,
    /// When the last of them could for the first time: their sites may trade at other hours.
    pub last_opens_at: Option<Timestamp>,
    /// Devices for which there is no such time in the next four weeks.
    pub never: usize,
}

/// Of `plan`, if it is started at `now`. Gates, limits and other rollouts are not looked at.
pub(super) fn openings<'a>(
    now: Timestamp,
    draft: Rollout,
    devices: impl Iterator<Item = &'a Device>,
    others: &Catalog,
) -> Vec<ZoneOpening> {
    let rollout = Rollout { state: RolloutState::Running, started_at: Some(now), ..draft };
    let mut found: BTreeMap<(&str, ZoneSource), ZoneOpening> = BTreeMap::new();
    for device in devices {
        let zone = zone(&rollout.plan, device, now);
        let entry = found.entry((zone.tz.name(), zone.source));
        let of_zone = entry.or_insert(ZoneOpening { zone, devices: 0, first: None, last_opens_at: None, never: 0 });
        of_zone.devices += 1;
        match first_stretch(others, &rollout, device, now, now + LOOK_AHEAD) {
            Some(span) => {
                of_zone.first = Some(of_zone.first.filter(|first| first.start <= span.start).unwrap_or(span));
                of_zone.last_opens_at = of_zone.last_opens_at.max(Some(span.start));
            }
            None => of_zone.never += 1,
        }
    }
    found.into_values().collect()
}

/// The zone of the first window, or of the site where there is none: trading hours and freezes follow that.
fn zone(plan: &Plan, device: &Device, now: Timestamp) -> Zone {
    let window = plan.windows.first().map_or(WindowTz::Site, |window| window.tz);
    Zone { mismatch: None, ..zone_of(window, device, plan.default_tz, now) }
}
