//! The walk over the catalog that makes a decision.

use std::time::Duration;

use callboard_proto::{ids::AssignmentId, instruction::Reason, state::AssignmentState};

use super::{
    CancelWhy, Considered, Decision, MAX_SPREAD, Right, SITE_RETRY, SOON, Step, admission,
    judge::{self, Case, Claims},
    stones,
    verdict::Verdict,
    words::{self, Subject},
};
use crate::{
    audience::Exclusion,
    bucket,
    device::{Assignment, Deferral, Device},
    rollout::{Policy, Rollout},
    site::Withheld,
    window::Span,
};

/// What has been decided, or would be if nothing better comes.
struct Choice<'a> {
    step: Step,
    cause: Cause<'a>,
}

enum Cause<'a> {
    Rollout(&'a Rollout, Verdict),
    Other(&'static str, String),
}

pub(super) fn walk(case: &Case<'_>, mut considered: Option<&mut Vec<Considered>>) -> Decision {
    let mut chosen = before_rollouts(case);
    // Who is at something is not asked what else it could be offered.
    let busy = chosen.as_ref().is_some_and(|choice| !matches!(choice.step, Step::Nothing | Step::Hold { .. }));
    let mut passive: Option<Choice<'_>> = None;
    let mut wait = case.contact.poll_interval;
    let mut owes_offer = busy;
    let mut claims = Claims::none(case.catalog.rollouts.len());
    for rollout in &case.catalog.rollouts {
        if chosen.is_some() && considered.is_none() {
            break;
        }
        let verdict = judge::judge(case, rollout, &mut claims);
        if let Some(list) = considered.as_deref_mut() {
            list.push(Considered { rollout: rollout.id, verdict, reason: in_words(case, rollout, &verdict) });
        }
        if chosen.is_some() {
            continue;
        }
        chosen = active(case, rollout, verdict);
        owes_offer |= chosen.is_some() || puts_off(case, rollout, verdict);
        if chosen.is_none() {
            wait = until_it_changes(case, rollout, &verdict, wait);
            // Devices are not told about rollouts that are not theirs; that they have left is written down.
            if verdict.concerns_device() || leaves(case, rollout, verdict) {
                passive = better(case, passive, quiet(case, rollout, verdict));
            }
        }
    }
    let choice = chosen.or(passive).unwrap_or_else(|| Choice {
        step: Step::Nothing,
        cause: Cause::Other("nothing_pending", "no active rollout is for this device".to_owned()),
    });
    let next_check_in = match choice.step {
        Step::Cancel { .. }
        | Step::Recall { .. }
        | Step::CloseAsInstalled { .. }
        | Step::Regress { .. }
        | Step::TryAgain { .. }
        | Step::Hear { .. }
        | Step::Defer { .. }
        | Step::Exclude { .. } => SOON.min(case.contact.poll_interval),
        Step::Nothing | Step::Hold { .. } => wait,
        _ => case.contact.poll_interval,
    };
    let right = right(case, &choice);
    let mut reason = match choice.cause {
        Cause::Rollout(rollout, verdict) => in_words(case, rollout, &verdict),
        Cause::Other(code, text) => Reason { code: code.to_owned(), text },
    };
    if let Some(right) = right {
        reason.text = format!("{}; {right}", reason.text);
    }
    Decision { step: choice.step, reason, next_check_in, right, owes_offer, considered: Vec::new() }
}

/// Whether the device has left a rollout in which it still counts.
fn leaves(case: &Case<'_>, rollout: &Rollout, verdict: Verdict) -> bool {
    verdict == Verdict::LeftAudience && rollout.member(case.device).is_some_and(|member| member.excluded.is_none())
}

/// Whether the offer that a connecting device would get is made later.
fn puts_off(case: &Case<'_>, rollout: &Rollout, verdict: Verdict) -> bool {
    let on_connect = matches!(rollout.plan.policy, Policy::OnConnect { .. });
    on_connect && verdict.puts_off() && case.device.assignment(rollout.id).is_none()
}

/// What the device may do by itself later: where only time is in the way of an activation.
fn right(case: &Case<'_>, choice: &Choice<'_>) -> Option<Right> {
    match (&choice.step, &choice.cause) {
        (Step::GrantDownload { .. } | Step::ContinueDownload { .. }, Cause::Rollout(rollout, _)) => {
            admission::right(case, rollout)
        }
        (Step::Hold { assignment: Some(_) }, Cause::Rollout(rollout, verdict)) if verdict.waits_for_time() => {
            admission::right(case, rollout)
        }
        _ => None,
    }
}

/// What does not depend on the order of rollouts.
fn before_rollouts<'a>(case: &Case<'a>) -> Option<Choice<'a>> {
    let device = case.device;
    if device.decommissioned {
        let cause = Cause::Other("decommissioned", "the device was taken out of service".to_owned());
        return Some(Choice { step: Step::Nothing, cause });
    }
    let unfinished = |state: AssignmentState| {
        !state.is_final() || matches!(state, AssignmentState::TimedOut | AssignmentState::Failed)
    };
    if let Some(done) = device.assignments.iter().find(|one| unfinished(one.state) && device.runs(one.release)) {
        let cause = Cause::Other("installed", "the device runs the release of this assignment".to_owned());
        return Some(Choice { step: Step::CloseAsInstalled { assignment: done.id }, cause });
    }
    if let Some(gone) = regressed(case) {
        let text = match device.installed(&gone.product) {
            Some(_) => "the device runs something older than what was installed here".to_owned(),
            None => format!("the device has no {} any more, which was installed here", gone.product),
        };
        let cause = Cause::Other("regressed", text);
        return Some(Choice { step: Step::Regress { assignment: gone.id }, cause });
    }
    let called_off = |state| matches!(state, AssignmentState::Cancelled | AssignmentState::Expired);
    let mut at = device.assignments.iter().filter(|one| case.contact.works_on == Some(one.id));
    if let Some(over) = at.find(|one| called_off(one.state)) {
        let cause = Cause::Other("cancelled", "what the device is at was called off".to_owned());
        return Some(Choice { step: Step::Recall { assignment: over.id }, cause });
    }
    if let Some(assignment) = device.assignments.iter().find(|one| judge::is_activating(one.state)) {
        if assignment.silent && case.contact.works_on == Some(assignment.id) {
            let cause = Cause::Other("heard", "the device was silent, and is at it".to_owned());
            return Some(Choice { step: Step::Hear { assignment: assignment.id }, cause });
        }
        let rollout = case.catalog.rollout(assignment.rollout);
        let not_after = rollout.and_then(|rollout| admission::activation_ends(case, rollout));
        let cause = match rollout {
            Some(rollout) => Cause::Rollout(rollout, Verdict::Activating),
            None => Cause::Other("activating", "a release is being installed".to_owned()),
        };
        return Some(Choice { step: Step::ContinueActivation { assignment: assignment.id, not_after }, cause });
    }
    if let Some(why) = Withheld::of(device, case.now) {
        let kept = device.assignments.iter().find(|one| one.is_on_device());
        let step = Step::Hold { assignment: kept.map(|one| one.id) };
        return Some(Choice { step, cause: Cause::Other(why.code(), why.text(device)) });
    }
    if let Some(stop) = case.catalog.trust.stop(case.now) {
        let kept = device.assignments.iter().find(|one| one.is_on_device());
        let step = Step::Hold { assignment: kept.map(|one| one.id) };
        return Some(Choice { step, cause: Cause::Other(stop.code(), stop.text()) });
    }
    device.assignments.iter().find_map(|assignment| {
        let rollout = case.catalog.rollout(assignment.rollout)?;
        match judge::over(case, rollout, Some(assignment)) {
            Some(verdict @ Verdict::Drop { why, .. }) => {
                let step = Step::Cancel { assignment: assignment.id, why };
                Some(Choice { step, cause: Cause::Rollout(rollout, verdict) })
            }
            _ => None,
        }
    })
}

/// The success that the device has lost: the last one of a product of which it has something older now, or nothing. What was
/// installed by hand, or by a rollout that came later, and is not older is nobody's failure. A check-in that was sent
/// while the agent was still at it does not know of the success yet.
fn regressed<'a>(case: &Case<'a>) -> Option<&'a Assignment> {
    let device = case.device;
    let succeeded = || device.assignments.iter().filter(|one| one.state == AssignmentState::Succeeded);
    succeeded().find(|one| {
        // Of two in the same moment the one that was made later.
        let last = succeeded().filter(|other| other.product == one.product).max_by_key(|other| other.granted_at);
        let last = last.is_some_and(|last| last.id == one.id);
        let older = device.installed(&one.product).is_none_or(|now| (now.epoch, now.counter) < one.order);
        last && older && !device.runs(one.release) && device.has_reported() && case.contact.works_on != Some(one.id)
    })
}

/// The choice that a verdict makes, if it calls for an answer now.
fn active<'a>(case: &Case<'a>, rollout: &'a Rollout, verdict: Verdict) -> Option<Choice<'a>> {
    let step = match verdict {
        Verdict::Offer { phase, admission, .. } => match in_the_way(case, rollout) {
            Some(choice) => return Some(choice),
            None => Step::GrantDownload { rollout: rollout.id, phase, admission },
        },
        Verdict::Downloading { assignment } if !takes_up(case, rollout, verdict) => {
            Step::ContinueDownload { assignment }
        }
        Verdict::Activate { assignment, not_after, .. } => Step::GrantActivation { assignment, not_after },
        Verdict::Drop { assignment, why } => Step::Cancel { assignment, why },
        Verdict::TriedAgain { assignment } => Step::TryAgain { assignment },
        _ => return None,
    };
    Some(Choice { step, cause: Cause::Rollout(rollout, verdict) })
}

/// Whether the device is to take up again what it has ready, when there is nothing else to do.
fn takes_up(case: &Case<'_>, rollout: &Rollout, verdict: Verdict) -> bool {
    let staged = |one: &Assignment| one.state == AssignmentState::Staged;
    matches!(verdict, Verdict::Downloading { .. }) && case.device.assignment(rollout.id).is_some_and(staged)
}

/// What the device has of the same product from a rollout that comes later: that goes first.
fn in_the_way<'a>(case: &Case<'a>, rollout: &Rollout) -> Option<Choice<'a>> {
    let product = &case.catalog.releases.get(&rollout.plan.release)?.product;
    let mut kept = case.device.assignments.iter().filter(|one| one.is_on_device());
    let old = kept.find(|one| one.rollout != rollout.id && judge::product_of(case, one) == Some(product))?;
    let why = CancelWhy::Superseded { by: rollout.id };
    let verdict = Verdict::Drop { assignment: old.id, why };
    let cause = Cause::Rollout(case.catalog.rollout(old.rollout)?, verdict);
    Some(Choice { step: Step::Cancel { assignment: old.id, why }, cause })
}

/// The choice that a verdict makes if nothing else is to be done.
fn quiet<'a>(case: &Case<'a>, rollout: &'a Rollout, verdict: Verdict) -> Choice<'a> {
    let device = case.device;
    let assignment = device.assignment(rollout.id);
    let step = match (verdict, assignment) {
        (Verdict::AlreadyInstalled, None) => exclusion(device, rollout, Exclusion::AlreadyInstalled),
        (Verdict::DoesNotFit(misfit), None) => exclusion(device, rollout, Exclusion::DoesNotFit(misfit)),
        (Verdict::LeftAudience, None) => exclusion(device, rollout, Exclusion::LeftAudience),
        (Verdict::Downloading { assignment }, _) => Some(Step::ContinueDownload { assignment }),
        (_, Some(assignment)) => defer(assignment, verdict).or_else(|| {
            let kept = Step::Hold { assignment: Some(assignment.id) };
            assignment.is_on_device().then_some(kept)
        }),
        _ => None,
    };
    Choice { step: step.unwrap_or(Step::Nothing), cause: Cause::Rollout(rollout, verdict) }
}

/// What keeps the device from going on, if that is not written down yet. What the device itself said stays until
/// something else is in the way.
fn defer(assignment: &Assignment, verdict: Verdict) -> Option<Step> {
    let why = verdict.defers();
    let own = matches!(assignment.deferred, Some(Deferral::Inhibitor | Deferral::User));
    let told = why == assignment.deferred || (why.is_none() && own);
    (!told && !assignment.state.is_final()).then_some(Step::Defer { assignment: assignment.id, why })
}

fn exclusion(device: &Device, rollout: &Rollout, why: Exclusion) -> Option<Step> {
    let member = rollout.member(device).filter(|member| member.excluded.is_none())?;
    Some(Step::Exclude { rollout: rollout.id, phase: member.phase, why })
}

/// Of two choices that give the device nothing new: bookkeeping first, then what it is to take up again, then to keep what
/// it is at, for what it may do with that by itself is taken back by any other answer; then the one that says more, then
/// the earlier.
fn better<'a>(case: &Case<'a>, old: Option<Choice<'a>>, new: Choice<'a>) -> Option<Choice<'a>> {
    let at_it = |assignment: Option<AssignmentId>| assignment.is_some() && assignment == case.contact.works_on;
    let weight = |choice: &Choice<'_>| match (&choice.step, &choice.cause) {
        (Step::Exclude { .. } | Step::Defer { .. }, _) => 9,
        (Step::ContinueDownload { .. }, _) => 8,
        (Step::Hold { assignment }, _) if at_it(*assignment) => 7,
        (Step::Hold { .. }, _) => 6,
        (_, Cause::Rollout(_, verdict)) => verdict.weight(),
        (_, Cause::Other(..)) => 0,
    };
    match old {
        Some(old) if weight(&old) >= weight(&new) => Some(old),
        _ => Some(new),
    }
}

/// Until the device may be told something else, if that is before `wait` is over.
fn until_it_changes(case: &Case<'_>, rollout: &Rollout, verdict: &Verdict, wait: Duration) -> Duration {
    let change = match verdict {
        Verdict::Full(full) if full.at_site => SITE_RETRY,
        // Many devices wait for each minute.
        Verdict::Paced(paced) => {
            let spread = bucket::bucket(rollout.id, case.device.id.as_bytes()).spread(MAX_SPREAD);
            paced.until.since(case.now).saturating_add(spread).max(SOON)
        }
        _ => match verdict.changes_at() {
            // Its share of the spread comes on top, and need not be known.
            Some(span) if span.start.since(case.now) >= wait => wait,
            Some(span) => until(case, rollout, span),
            None => wait,
        },
    };
    change.min(wait)
}

/// Until a change that many devices wait for: each comes a little later than the one before.
fn until(case: &Case<'_>, rollout: &Rollout, span: Span) -> Duration {
    let range = (span.end.since(span.start) / 4).min(MAX_SPREAD);
    let bucket = bucket::bucket(rollout.id, case.device.id.as_bytes());
    span.start.since(case.now).saturating_add(bucket.spread(range)).max(Duration::from_secs(1))
}

fn in_words(case: &Case<'_>, rollout: &Rollout, verdict: &Verdict) -> Reason {
    let other = match *verdict {
        Verdict::Superseded { by }
        | Verdict::Behind { by }
        | Verdict::Drop { why: CancelWhy::Superseded { by }, .. } => case.catalog.rollout(by),
        _ => None,
    };
    let release = case.catalog.releases.get(&rollout.plan.release);
    let (device, contact, freezes) = (case.device, case.contact, &case.catalog.freezes);
    let subject = Subject { now: case.now, rollout, release, device, contact, other, freezes };
    let mut reason = words::reason(verdict, &subject);
    if let (Verdict::DoesNotFit(why), Some(release)) = (verdict, release) {
        reason.text += &stones::hint(case.now, case.catalog, device, release, *why);
    }
    reason
}
