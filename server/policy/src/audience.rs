//! Who is in which phase, fixed when a rollout starts.
//!
//! 1. A unit (a device, or a site with all its devices) belongs to the first phase whose selector takes one of its
//!    devices. A phase with a selector has no other members. Only if the first phase goes by percents does the label
//!    `canary=true` on one of its devices come before the selectors of later phases.
//! 2. All other units are ranked by [`Draw`], those with the label first. With `n` of them, a phase of
//!    `p` percent reaches up to rank `ceil(p * n / 100)`, so 10 % of 10 devices is exactly one device. Only where more
//!    units than that carry the label does the first phase of percents grow.
//! 3. Units that have nothing to get (all their devices run the release already or cannot take it) would make a
//!    canary phase say nothing, so they are not counted in `n`: they are members of the last phase.
//! 4. Devices that have nothing to get are in the excluded set besides.
//!
//! So each device is in exactly one phase, and with [`Unit::Site`] so is each site: what joins it later joins its phase.
//! What happens afterwards (devices that join late, that turn out to need nothing, that come back) is kept with each
//! device, so that it costs the same in a fleet of any size.

use std::collections::BTreeMap;

use callboard_proto::ids::{DeviceId, SiteId};
use roaring::RoaringBitmap;

use crate::{
    bucket::{Bucket, Draw},
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
    /// The one whose word this is.
    pub fn from_code(code: &str) -> Option<Self> {
        let misfits = Misfit::ALL.into_iter().map(Self::DoesNotFit);
        misfits.chain([Self::AlreadyInstalled, Self::OutOfService, Self::LeftAudience]).find(|one| one.code() == code)
    }

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

/// Membership of a rollout as its start fixed it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audience {
    /// Device numbers of each phase.
    pub phases: Vec<RoaringBitmap>,
    /// Members that do not count, by why. Each stands in one of these sets.
    pub excluded: BTreeMap<Exclusion, RoaringBitmap>,
    /// The phase of each site that moves as a whole.
    pub sites: BTreeMap<SiteId, usize>,
}

impl Audience {
    /// Everybody counts.
    pub fn of(phases: Vec<RoaringBitmap>) -> Self {
        Self { phases, ..Self::default() }
    }

    /// The phase that has `number` as a member.
    pub fn phase_of(&self, number: u32) -> Option<usize> {
        self.phases.iter().position(|members| members.contains(number))
    }

    /// Why `number` does not count, if so.
    pub fn why_excluded(&self, number: u32) -> Option<Exclusion> {
        self.excluded.iter().find(|(_, members)| members.contains(number)).map(|(why, _)| *why)
    }

    /// All members that do not count.
    pub fn uncounted(&self) -> RoaringBitmap {
        self.excluded.values().fold(RoaringBitmap::new(), |all, members| all | members)
    }
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

    /// The bytes that buckets are made of.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Device(id) => id.as_bytes(),
            Self::Site(site) => site.as_str().as_bytes(),
        }
    }
}

/// A unit with something to get, as it is ranked: whether it follows the canaries, its bucket, its devices.
type Ranked<'a> = (bool, Bucket, &'a [Candidate]);

/// Puts every candidate into one phase. The order of the candidates does not matter.
pub fn assign(draw: Draw, phases: &[Phase], candidates: impl IntoIterator<Item = Candidate>) -> Audience {
    let mut candidates: Vec<Candidate> = candidates.into_iter().collect();
    candidates.sort_unstable_by(|a, b| (&a.unit, a.number).cmp(&(&b.unit, b.number)));
    let canaries_lead = phases.first().is_some_and(|first| matches!(first.share, Share::Percent(_)));
    let last = phases.len().saturating_sub(1);
    let mut numbers: Vec<Vec<u32>> = vec![Vec::new(); phases.len()];
    let mut ranked: Vec<Ranked<'_>> = Vec::new();
    for unit in candidates.chunk_by(|a, b| a.unit == b.unit) {
        let canary = unit.iter().any(|one| one.canary);
        let fixed = match (unit.iter().any(|one| one.excluded.is_none()), canary) {
            (false, _) => Some(last),
            (true, true) if canaries_lead => None,
            (true, _) => unit.iter().filter_map(|one| one.taken_by).min(),
        };
        match (fixed.and_then(|phase| numbers.get_mut(phase)), unit.first()) {
            (Some(members), _) => members.extend(unit.iter().map(|one| one.number)),
            // False sorts first: canaries lead.
            (None, Some(first)) => ranked.push((!canary, draw.bucket(first.unit.as_bytes()), unit)),
            (None, None) => {}
        }
    }
    ranked.sort_by_key(|unit| (unit.0, unit.1));
    deal(phases, &ranked, &mut numbers);
    let mut excluded: BTreeMap<Exclusion, Vec<u32>> = BTreeMap::new();
    for one in &candidates {
        if let Some(why) = one.excluded {
            excluded.entry(why).or_default().push(one.number);
        }
    }
    let phases: Vec<RoaringBitmap> = numbers.into_iter().map(set).collect();
    Audience {
        sites: sites(&candidates, &phases),
        phases,
        excluded: excluded.into_iter().map(|(why, numbers)| (why, set(numbers))).collect(),
    }
}

/// The phase of each site that moves as a whole; `candidates` are in the order of their units.
fn sites(candidates: &[Candidate], phases: &[RoaringBitmap]) -> BTreeMap<SiteId, usize> {
    let of_unit = |unit: &[Candidate]| {
        let first = unit.first()?;
        let UnitKey::Site(site) = &first.unit else { return None };
        Some((site.clone(), phases.iter().position(|members| members.contains(first.number))?))
    };
    candidates.chunk_by(|a, b| a.unit == b.unit).filter_map(of_unit).collect()
}

/// Deals ranked units out to the phases that have a percent.
fn deal(phases: &[Phase], ranked: &[Ranked<'_>], numbers: &mut [Vec<u32>]) {
    let total = u64::try_from(ranked.len()).unwrap_or(u64::MAX);
    let canaries = ranked.iter().filter(|(follows, ..)| !follows).count();
    let mut units = ranked.iter().map(|(.., unit)| unit);
    let mut dealt = 0;
    for (phase, members) in phases.iter().zip(numbers) {
        let Share::Percent(percent) = phase.share else {
            continue;
        };
        let share = usize::try_from(share_of(total, percent)).unwrap_or(usize::MAX);
        // All canaries are in the first of them, so that this changes nothing for the others.
        for unit in units.by_ref().take(share.max(canaries).saturating_sub(dealt)) {
            members.extend(unit.iter().map(|one| one.number));
            dealt += 1;
        }
    }
}

/// Sorted first: of a million numbers in any order each would be looked for a place.
fn set(mut numbers: Vec<u32>) -> RoaringBitmap {
    numbers.sort_unstable();
    numbers.into_iter().collect()
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
    let uncounted = audience.uncounted();
    let gated = phases.split_last().map_or(&[][..], |(_, gated)| gated);
    // The label puts a device into the first phase that goes by percents.
    let labelled = phases.iter().position(|phase| matches!(phase.share, Share::Percent(_)));
    let waits = gated.iter().zip(&audience.phases).enumerate().filter_map(|(at, (phase, members))| {
        let counting = members - &uncounted;
        (!counting.is_empty() && counting.is_subset(away)).then(|| {
            let (n, name) = (counting.len(), &phase.name);
            let (who, them, these) = match n {
                1 => (format!("the one device of phase {name} has not"), "it", "this one"),
                _ => (format!("none of the {n} devices of phase {name} has"), "them", "these"),
            };
            let label = match labelled {
                Some(labelled) if labelled == at => format!("label devices that are there {CANARY_LABEL}=true, or "),
                _ => String::new(),
            };
            format!(
                "{who} been seen lately, and the next phase waits for {them}; {label}leave {these} out by the selector"
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
