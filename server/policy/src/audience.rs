//! Who is in which phase, fixed when a rollout starts.
//!
//! 1. A unit (a device, or a site with all its devices) belongs to the first phase whose selector takes one of its
//!    devices. A phase with a selector has no other members. Only if the first phase goes by percents does the label
//!    `canary=true` on one of its devices come before the selectors of later phases.
//! 2. All other units are ranked by [`crate::bucket`], those with the label first. With `n` of them, a phase of
//!    `p` percent reaches up to rank `ceil(p * n / 100)`, so 10 % of 10 devices is exactly one device. Only where more
//!    units than that carry the label does the first phase of percents grow.
//! 3. Units that have nothing to get (all their devices run the release already or cannot take it) would make a
//!    canary phase say nothing, so they are not counted in `n`: they are members of the last phase.
//! 4. Devices that have nothing to get are in the excluded set besides.
//!
//! So each device is in exactly one phase, and with [`Unit::Site`] so is each site: what joins it later joins its phase.

use std::collections::{BTreeMap, HashMap};

use callboard_proto::ids::{DeviceId, RolloutId, SiteId};
use roaring::RoaringBitmap;

use crate::{
    bucket::{Bucket, bucket},
    device::{Connectivity, Device},
    gate::share_of,
    release::{self, Fit, Misfit, Release},
    rollout::{Membership, Phase, Plan, Rollout, Share, Unit},
    selector::Seen,
    site::SiteState,
};

/// The label that puts a device into the first phase that goes by percents, with the value `true`.
pub const CANARY_LABEL: &str = "canary";

/// One matching device, as far as phases need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its dense number.
    pub number: u32,
    /// What it moves with.
    pub unit: UnitKey,
    /// The first phase whose selector takes it.
    pub taken_by: Option<usize>,
    /// Whether it carries the label `canary=true`.
    pub canary: bool,
    /// Why it has nothing to get, if so.
    pub excluded: Option<Exclusion>,
    /// Whether it was never seen, or not for long.
    pub away: bool,
}

/// Why a member does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exclusion {
    /// It runs the release.
    AlreadyInstalled,
    /// It cannot take the release.
    DoesNotFit(Misfit),
    /// It was taken out of service.
    OutOfService,
    /// The selector does not match it any more, and it was given nothing while it did.
    LeftAudience,
}

impl Exclusion {
    /// A stable word for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::AlreadyInstalled => "already_installed",
            Self::DoesNotFit(misfit) => misfit.code(),
            Self::OutOfService => "out_of_service",
            Self::LeftAudience => "left_audience",
        }
    }
}

/// What is ranked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKey {
    /// A device by itself.
    Device(DeviceId),
    /// A whole site.
    Site(SiteId),
}

/// Membership of a rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audience {
    /// Device numbers of each phase.
    pub phases: Vec<RoaringBitmap>,
    /// Members that do not count.
    pub excluded: RoaringBitmap,
    /// The same by why.
    pub excluded_for: BTreeMap<Exclusion, RoaringBitmap>,
    /// The phase of each site that moves as a whole.
    pub sites: BTreeMap<SiteId, usize>,
}

impl Candidate {
    /// What phases need of a device that the plan's selector matches.
    pub fn of(plan: &Plan, release: &Release, device: &Device, seen: &Seen) -> Self {
        let takes = |phase: &Phase| match &phase.share {
            Share::Selector(selector) => selector.matches(device, seen),
            Share::Percent(_) => false,
        };
        let fit = release::fit(release, device, plan.allow_downgrade, seen.now);
        Self {
            number: device.number,
            unit: UnitKey::of(plan.unit, device),
            taken_by: plan.phases.iter().position(takes),
            canary: device.labels.get(CANARY_LABEL).is_some_and(|value| value == "true"),
            excluded: match fit {
                Fit::Fits | Fit::Unreported => None,
                Fit::AlreadyInstalled => Some(Exclusion::AlreadyInstalled),
                Fit::Incompatible(misfit) => Some(Exclusion::DoesNotFit(misfit)),
            },
            away: matches!(seen.status, Connectivity::Unknown | Connectivity::Abandoned),
        }
    }
}

impl UnitKey {
    /// What `device` moves with.
    pub fn of(unit: Unit, device: &Device) -> Self {
        match (unit, &device.site) {
            (Unit::Site, Some(site)) => Self::Site(site.clone()),
            _ => Self::Device(device.id),
        }
    }

    /// The site, if it is one.
    fn site(self) -> Option<SiteId> {
        match self {
            Self::Site(site) => Some(site),
            Self::Device(_) => None,
        }
    }

    /// The bytes that buckets are made of.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Device(id) => id.as_bytes(),
            Self::Site(site) => site.as_str().as_bytes(),
        }
    }
}

/// A unit and what its devices say together.
#[derive(Default)]
struct Moving {
    numbers: Vec<u32>,
    taken_by: Option<usize>,
    canary: bool,
    eligible: bool,
}

/// Puts every candidate into one phase. The order of the candidates does not matter.
pub fn assign(rollout: RolloutId, phases: &[Phase], candidates: impl IntoIterator<Item = Candidate>) -> Audience {
    let mut audience = Audience { phases: vec![RoaringBitmap::new(); phases.len()], ..Audience::default() };
    let mut units: HashMap<UnitKey, Moving> = HashMap::new();
    for candidate in candidates {
        if let Some(why) = candidate.excluded {
            audience.excluded.insert(candidate.number);
            audience.excluded_for.entry(why).or_default().insert(candidate.number);
        }
        let unit = units.entry(candidate.unit).or_default();
        unit.numbers.push(candidate.number);
        unit.taken_by = [unit.taken_by, candidate.taken_by].into_iter().flatten().min();
        unit.canary |= candidate.canary;
        unit.eligible |= candidate.excluded.is_none();
    }
    let canaries_lead = phases.first().is_some_and(|first| matches!(first.share, Share::Percent(_)));
    let last = phases.len().saturating_sub(1);
    // False sorts first: canaries lead.
    let mut ranked: Vec<(bool, Bucket, UnitKey, Vec<u32>)> = Vec::new();
    for (key, unit) in units {
        let fixed = match (unit.eligible, unit.canary, unit.taken_by) {
            (false, ..) => Some(last),
            (true, true, _) if canaries_lead => None,
            (true, _, taken_by) => taken_by,
        };
        match fixed.and_then(|phase| Some((phase, audience.phases.get_mut(phase)?))) {
            Some((phase, members)) => {
                members.extend(unit.numbers);
                audience.sites.extend(key.site().map(|site| (site, phase)));
            }
            None => ranked.push((!unit.canary, bucket(rollout, key.as_bytes()), key, unit.numbers)),
        }
    }
    ranked.sort_unstable();
    deal(phases, ranked, &mut audience);
    audience
}

/// Deals ranked units out to the phases that have a percent.
fn deal(phases: &[Phase], ranked: Vec<(bool, Bucket, UnitKey, Vec<u32>)>, audience: &mut Audience) {
    let total = u64::try_from(ranked.len()).unwrap_or(u64::MAX);
    let canaries = ranked.iter().filter(|(follows, ..)| !follows).count();
    let mut units = ranked.into_iter().map(|(.., key, numbers)| (key, numbers));
    let mut dealt = 0;
    for (idx, (phase, members)) in phases.iter().zip(&mut audience.phases).enumerate() {
        let Share::Percent(percent) = phase.share else {
            continue;
        };
        let share = usize::try_from(share_of(total, percent)).unwrap_or(usize::MAX);
        // All canaries are in the first of them, so that this changes nothing for the others.
        for (key, numbers) in units.by_ref().take(share.max(canaries).saturating_sub(dealt)) {
            members.extend(numbers);
            audience.sites.extend(key.site().map(|site| (site, idx)));
            dealt += 1;
        }
    }
}

/// Whether there is anybody for whom a rollout could start. A frozen one for nobody, or for devices of which none can
/// have the release, would be completed at once, which looks like success.
///
/// # Errors
/// Says why not, and what would be possible.
pub fn check_somebody(plan: &Plan, candidates: &[Candidate]) -> Result<(), String> {
    if plan.audience == Membership::Live {
        return Ok(());
    }
    if candidates.is_empty() {
        return Err(format!(
            "selector: {} matches no device, and a frozen audience has nobody join later; correct it in another rollout, \
             or let devices join with a live audience",
            plan.selector
        ));
    }
    let mut misfits: BTreeMap<&str, usize> = BTreeMap::new();
    for candidate in candidates {
        match candidate.excluded {
            Some(why @ Exclusion::DoesNotFit(_)) => *misfits.entry(why.code()).or_default() += 1,
            _ => return Ok(()),
        }
    }
    let counts: Vec<String> = misfits.iter().map(|(why, count)| format!("{count} {why}")).collect();
    Err(format!(
        "release: no device that {} matches can have it ({}), and a frozen audience has nobody join later; the preview \
         says of each device why",
        plan.selector,
        counts.join(", ")
    ))
}

/// Phases that nobody may ever finish: what looks like a mistake when the rollout is made. `away` are the candidates that
/// were never seen, or not for long.
pub fn doubts(phases: &[Phase], audience: &Audience, away: &RoaringBitmap) -> Vec<String> {
    let gated = phases.split_last().map_or(&[][..], |(_, gated)| gated);
    let waits = gated.iter().zip(&audience.phases).filter_map(|(phase, members)| {
        let counting = members - &audience.excluded;
        (!counting.is_empty() && counting.is_subset(away)).then(|| {
            format!(
                "none of the {} devices of phase {} has been seen lately, and the next phase waits for them; label devices \
                 that are there {CANARY_LABEL}=true, or leave these out by the selector",
                counting.len(),
                phase.name
            )
        })
    });
    waits.collect()
}

/// The phase that a device joins which matches late: the last open one that may have it, else the next one. A phase with
/// a selector has only members that it takes. Where whole sites move, it is the phase of the site, if that has one.
pub fn joins(rollout: &Rollout, device: &Device, seen: &Seen) -> usize {
    if let Some(phase) = device.site.as_ref().and_then(|site| rollout.sites.get(site)) {
        return *phase;
    }
    let may_have = |idx: &usize| match rollout.plan.phases.get(*idx).map(|phase| &phase.share) {
        Some(Share::Selector(selector)) => selector.matches(device, seen),
        Some(Share::Percent(_)) | None => true,
    };
    let open = (0..=rollout.open_phase).rev().find(may_have);
    open.or_else(|| (rollout.open_phase + 1..rollout.plan.phases.len()).find(may_have)).unwrap_or(rollout.open_phase)
}

/// Who matches a plan, out of devices in memory. Decommissioned devices and those of closed sites never do.
pub fn matching<'a>(
    plan: &Plan,
    devices: impl IntoIterator<Item = (&'a Device, Seen)>,
) -> impl Iterator<Item = (&'a Device, Seen)> {
    let there = |device: &Device| !device.decommissioned && device.site_rules.state != SiteState::Closed;
    devices.into_iter().filter(move |(device, seen)| there(device) && plan.selector.matches(device, seen))
}

#[cfg(test)]
mod tests;
