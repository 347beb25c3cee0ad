//! One rollout, one device: the checks in their order.

use callboard_proto::{
    ids::{Product, RolloutId},
    instruction::ActivateOn,
    state::AssignmentState,
    time::Timestamp,
};

use super::{
    CancelWhy,
    admission::{Admitted, admitted, connects, right},
    verdict::{Admission, Verdict},
};
use crate::{
    assignment::try_left,
    audience,
    catalog::Catalog,
    device::{Assignment, Connectivity, Contact, Device},
    guard::{self, Denied, Grant, Loads},
    release::{self, Fit, Release},
    rollout::{Membership, Rollout, RolloutState},
    selector::Seen,
    site::Withheld,
    window::{Clock, Gate},
};

/// Everything a judgement looks at.
pub(super) struct Case<'a> {
    pub(super) now: Timestamp,
    pub(super) catalog: &'a Catalog,
    pub(super) device: &'a Device,
    pub(super) contact: &'a Contact,
    pub(super) loads: &'a Loads,
    pub(super) clock: Clock,
}

impl<'a> Case<'a> {
    pub(super) fn of(
        now: Timestamp,
        catalog: &'a Catalog,
        device: &'a Device,
        contact: &'a Contact,
        loads: &'a Loads,
    ) -> Self {
        Self { now, catalog, device, contact, loads, clock: Clock::of(device, now) }
    }
}

/// What rollouts have claimed of this device, in the order of the walk.
pub(super) struct Claims<'a> {
    products: Vec<Claim<'a>>,
    /// The device has something ready of this one, and is to install it by itself.
    ready: Option<RolloutId>,
}

struct Claim<'a> {
    rollout: &'a Rollout,
    release: &'a Release,
    /// The device runs the release: only something older is kept away.
    satisfied: bool,
}

impl<'a> Claims<'a> {
    /// None yet; there may be one for each of so many rollouts.
    pub(super) fn none(rollouts: usize) -> Self {
        Self { products: Vec::with_capacity(rollouts), ready: None }
    }

    fn against(&self, release: &Release) -> Option<&'a Rollout> {
        let older = |a: &Release, b: &Release| (a.epoch, a.counter) < (b.epoch, b.counter);
        let mut same = self.products.iter().filter(|claim| is_same(&claim.release.product, &release.product));
        same.find(|claim| !claim.satisfied || older(release, claim.release)).map(|claim| claim.rollout)
    }
}

/// Each rollout asks this about each one before it. Names of products begin alike, if anything, so their ends are looked at
/// first.
fn is_same(one: &Product, other: &Product) -> bool {
    let last = |product: &Product| product.as_str().as_bytes().last().copied();
    last(one) == last(other) && one == other
}

/// Where a device belongs in a rollout.
struct Place {
    phase: usize,
    admission: Admission,
    /// It is a member that was given nothing, and the selector does not match it any more.
    left: bool,
}

pub(super) fn judge<'a>(case: &Case<'a>, rollout: &'a Rollout, claims: &mut Claims<'a>) -> Verdict {
    let assignment = case.device.assignment(rollout.id);
    if let Some(verdict) = over(case, rollout, assignment) {
        return verdict;
    }
    let Some(release) = case.catalog.releases.get(&rollout.plan.release) else {
        return Verdict::ReleaseUnknown;
    };
    let Some(place) = place(case, rollout, assignment) else {
        return Verdict::NotInAudience;
    };
    let fit = release::fit(release, case.device, rollout.plan.allow_downgrade, case.now);
    if place.left {
        return if fit == Fit::AlreadyInstalled { Verdict::AlreadyInstalled } else { Verdict::LeftAudience };
    }
    if fit == Fit::AlreadyInstalled {
        claims.products.push(Claim { rollout, release, satisfied: true });
    }
    if let Some(verdict) = settled(fit, assignment) {
        return verdict;
    }
    match rollout.begins_at() {
        Some(at) if at <= case.now => {}
        Some(at) => return Verdict::NotBegun { at },
        None => return Verdict::NotActive,
    }
    if let Some(other) = claims.against(release) {
        return superseded(other, assignment);
    }
    claims.products.push(Claim { rollout, release, satisfied: false });
    if let Some(verdict) = waits(case, rollout, &place, assignment) {
        return verdict;
    }
    match claims.ready {
        Some(by) if rollout.plan.activate_on != ActivateOn::Now => Verdict::Behind { by },
        _ => next(case, (rollout, release), &place, assignment, claims),
    }
}

/// The rollout is not active any more, or the device is in the hands of its activation.
pub(super) fn over(case: &Case<'_>, rollout: &Rollout, assignment: Option<&Assignment>) -> Option<Verdict> {
    let open = assignment.filter(|assignment| is_droppable(assignment.state));
    if assignment.is_some_and(|assignment| is_activating(assignment.state)) {
        return Some(Verdict::Activating);
    }
    let ended = rollout.plan.ends_at.is_some_and(|end| case.now >= end);
    let why = match rollout.state {
        RolloutState::Cancelled => CancelWhy::RolloutCancelled,
        // It may have completed by its end before every device was told.
        RolloutState::Running | RolloutState::Paused | RolloutState::Completed if ended => CancelWhy::RolloutEnded,
        RolloutState::Running | RolloutState::Paused => return None,
        RolloutState::Draft | RolloutState::Completed => return Some(Verdict::NotActive),
    };
    Some(match open {
        Some(assignment) => Verdict::Drop { assignment: assignment.id, why },
        None if why == CancelWhy::RolloutEnded => Verdict::Ended,
        None => Verdict::NotActive,
    })
}

pub(super) const fn is_activating(state: AssignmentState) -> bool {
    matches!(state, AssignmentState::Activating | AssignmentState::Verifying)
}

const fn is_droppable(state: AssignmentState) -> bool {
    matches!(state, AssignmentState::Queued | AssignmentState::Downloading | AssignmentState::Staged)
}

fn place(case: &Case<'_>, rollout: &Rollout, assignment: Option<&Assignment>) -> Option<Place> {
    if let Some(assignment) = assignment {
        // The update itself may have made the selector untrue.
        return Some(Place { phase: assignment.phase, admission: Admission::Member, left: false });
    }
    let live = rollout.plan.audience == Membership::Live;
    // Whoever checks in is online; selectors that could tell the difference are not allowed in live audiences.
    let seen = Seen { last_seen: case.contact.last_seen, status: Connectivity::Online, now: case.now };
    let matches = || rollout.plan.selector.matches(case.device, &seen);
    if let Some(member) = rollout.member(case.device) {
        let admission = member.excluded.map_or(Admission::Member, |was| Admission::Returns { was });
        return Some(Place { phase: member.phase, admission, left: live && !matches() });
    }
    let joins =
        || Place { phase: audience::joins(rollout, case.device, &seen), admission: Admission::Joins, left: false };
    (live && matches()).then(joins)
}

/// The device has the release, cannot have it, or is through with it.
fn settled(fit: Fit, assignment: Option<&Assignment>) -> Option<Verdict> {
    let Some(assignment) = assignment else {
        return match fit {
            Fit::AlreadyInstalled => Some(Verdict::AlreadyInstalled),
            Fit::Incompatible(misfit) => Some(Verdict::DoesNotFit(misfit)),
            Fit::Fits | Fit::Unreported => None,
        };
    };
    match (assignment.state, fit) {
        (AssignmentState::Succeeded, Fit::Fits | Fit::Unreported) => Some(Verdict::Regressed),
        (AssignmentState::TimedOut, _) => None,
        (state, _) if state.is_final() => Some(Verdict::Finished(state)),
        (_, Fit::AlreadyInstalled) => Some(Verdict::AlreadyInstalled),
        (_, Fit::Incompatible(misfit)) => {
            Some(Verdict::Drop { assignment: assignment.id, why: CancelWhy::NoLongerFits(misfit) })
        }
        (_, Fit::Fits | Fit::Unreported) => None,
    }
}

fn superseded(other: &Rollout, assignment: Option<&Assignment>) -> Verdict {
    match assignment {
        Some(assignment) if assignment.is_on_device() => {
            Verdict::Drop { assignment: assignment.id, why: CancelWhy::Superseded { by: other.id } }
        }
        _ => Verdict::Superseded { by: other.id },
    }
}

/// What keeps back every grant, of either kind.
fn waits(case: &Case<'_>, rollout: &Rollout, place: &Place, assignment: Option<&Assignment>) -> Option<Verdict> {
    if let Some(one) = assignment.filter(|one| one.state == AssignmentState::TimedOut) {
        let forgotten = case.contact.works_on != Some(one.id);
        let again = forgotten && try_left(one.failures, rollout.plan.max_attempts);
        return Some(if again { Verdict::TriedAgain { assignment: one.id } } else { Verdict::TimedOut });
    }
    if place.phase > rollout.open_phase {
        return Some(Verdict::PhaseNotOpen { phase: place.phase });
    }
    if rollout.state == RolloutState::Paused {
        return Some(Verdict::Paused);
    }
    Withheld::of(case.device, case.now).map(Verdict::Withheld)
}

/// The next grant, or what this kind of grant waits for.
fn next(
    case: &Case<'_>,
    (rollout, release): (&Rollout, &Release),
    place: &Place,
    assignment: Option<&Assignment>,
    claims: &mut Claims<'_>,
) -> Verdict {
    let Some(assignment) = assignment else {
        if !connects(case, rollout) {
            return Verdict::InSession;
        }
        return no_space(case, release).unwrap_or_else(|| offer(case, rollout, place));
    };
    match assignment.state {
        AssignmentState::Downloading => match admitted(case, rollout, Gate::Download) {
            Ok(_) => Verdict::Downloading { assignment: assignment.id },
            Err(closed) => closed,
        },
        AssignmentState::Staged if rollout.plan.activate_on != ActivateOn::Now => {
            by_itself(case, rollout, assignment, claims)
        }
        AssignmentState::Staged => match admitted(case, rollout, Gate::Install) {
            Ok(Admitted { until, grounds }) => denied(case, rollout, Grant::Activation).unwrap_or_else(|| {
                let not_after = until.map(|until| until - rollout.plan.expected_install);
                Verdict::Activate { assignment: assignment.id, not_after, grounds }
            }),
            Err(closed) => closed,
        },
        _ => match assignment.not_before {
            Some(at) if at > case.now => Verdict::RetryLater { at, attempt: assignment.failures + 1 },
            _ => offer(case, rollout, place),
        },
    }
}

/// A device installs by itself only what it is at. So it keeps to that until it has done it, though what is to be installed
/// at a word may come in between: that it takes this up again after it, and before the time for it comes.
fn by_itself(case: &Case<'_>, rollout: &Rollout, assignment: &Assignment, claims: &mut Claims<'_>) -> Verdict {
    let may = right(case, rollout).is_some();
    claims.ready = may.then_some(rollout.id);
    let elsewhere = may && case.contact.works_on != Some(assignment.id);
    match admitted(case, rollout, Gate::Install) {
        Ok(_) if elsewhere => Verdict::Downloading { assignment: assignment.id },
        Ok(Admitted { grounds, .. }) => Verdict::Waits { on: rollout.plan.activate_on, grounds },
        Err(closed) if elsewhere && closed.waits_for_time() && admitted(case, rollout, Gate::Download).is_ok() => {
            Verdict::Downloading { assignment: assignment.id }
        }
        Err(closed) => closed,
    }
}

/// There is not enough room for the release. A device that has begun looks itself: what it has downloaded takes room too.
fn no_space(case: &Case<'_>, release: &Release) -> Option<Verdict> {
    let (free, needed) = (case.contact.free_bytes?, release.space_bytes);
    (free < needed).then_some(Verdict::NoSpace { free, needed })
}

fn offer(case: &Case<'_>, rollout: &Rollout, place: &Place) -> Verdict {
    match admitted(case, rollout, Gate::Download) {
        Ok(Admitted { grounds, .. }) => denied(case, rollout, Grant::Download).unwrap_or(Verdict::Offer {
            phase: place.phase,
            admission: place.admission,
            grounds,
        }),
        Err(closed) => closed,
    }
}

/// A limit of the rollout is reached, as far as is known.
fn denied(case: &Case<'_>, rollout: &Rollout, grant: Grant) -> Option<Verdict> {
    let load = case.loads.get(&rollout.id)?;
    match guard::admits(&rollout.plan.limits, grant, load, case.now).err()? {
        Denied::Full(full) => Some(Verdict::Full(full)),
        Denied::Paced(paced) => Some(Verdict::Paced(paced)),
    }
}

/// The product that an assignment is about, if its release is known.
pub(super) fn product_of<'a>(case: &Case<'a>, assignment: &Assignment) -> Option<&'a Product> {
    case.catalog.releases.get(&assignment.release).map(|release| &release.product)
}
