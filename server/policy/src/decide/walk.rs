//! The walk over the catalog that makes a decision.

use std::time::Duration;

use callboard_proto::{instruction::Reason, state::AssignmentState};

use super::{
    CancelWhy, Considered, Decision, MAX_SPREAD, Right, SITE_RETRY, SOON, Step, admission,
    judge::{self, Case, Claims},
    verdict::{self, Subject, Verdict},
};
use crate::{bucket, device::Device, rollout::Rollout, site::Withheld, window::Span};

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
    let mut passive: Option<Choice<'_>> = None;
    let mut wait = case.contact.poll_interval;
    let mut claims = Claims::default();
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
        if chosen.is_none() {
            wait = wait.min(until_it_changes(case, rollout, &verdict));
            // Devices are not told about rollouts that are not theirs.
            if verdict.concerns_device() {
                passive = better(passive, quiet(case, rollout, verdict));
            }
        }
    }
    let choice = chosen.or(passive).unwrap_or_else(|| Choice {
        step: Step::Nothing,
        cause: Cause::Other("nothing_pending", "no active rollout is for this device".to_owned()),
    });
    let next_check_in = match choice.step {
        Step::Cancel { .. } | Step::CloseAsInstalled { .. } | Step::Exclude { .. } => {
            SOON.min(case.contact.poll_interval)
        }
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
    Decision { step: choice.step, reason, next_check_in, right, considered: Vec::new() }
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
    let undecided = |state: AssignmentState| !state.is_final() || state == AssignmentState::TimedOut;
    let mut open = device.assignments.iter().filter(|one| undecided(one.state));
    if let Some(done) = open.clone().find(|one| device.runs(one.release)) {
        let cause = Cause::Other("installed", "the device runs the release of this assignment".to_owned());
        return Some(Choice { step: Step::CloseAsInstalled { assignment: done.id }, cause });
    }
    if let Some(assignment) = open.find(|one| judge::is_activating(one.state)) {
        let rollout = case.catalog.rollout(assignment.rollout);
        let not_after = rollout.and_then(|rollout| admission::activation_ends(case, rollout));
        let cause = match rollout {
            Some(rollout) => Cause::Rollout(rollout, Verdict::Activating),
            None => Cause::Other("activating", "a release is being installed".to_owned()),
        };
        return Some(Choice { step: Step::ContinueActivation { assignment: assignment.id, not_after }, cause });
    }
    if let Some(why) = Withheld::of(device, case.now) {
        let kept = device.assignments.iter().find(|one| judge::is_on_device(one.state));
        let step = Step::Hold { assignment: kept.map(|one| one.id) };
        return Some(Choice { step, cause: Cause::Other(why.code(), why.text(device)) });
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

/// The choice that a verdict makes, if it calls for an answer now.
fn active<'a>(case: &Case<'a>, rollout: &'a Rollout, verdict: Verdict) -> Option<Choice<'a>> {
    let step = match verdict {
        Verdict::Offer { phase, admission, .. } => match in_the_way(case, rollout) {
            Some(choice) => return Some(choice),
            None => Step::GrantDownload { rollout: rollout.id, phase, admission },
        },
        Verdict::Downloading { assignment } => Step::ContinueDownload { assignment },
        Verdict::Activate { assignment, not_after, .. } => Step::GrantActivation { assignment, not_after },
        Verdict::Drop { assignment, why } => Step::Cancel { assignment, why },
        _ => return None,
    };
    Some(Choice { step, cause: Cause::Rollout(rollout, verdict) })
}

/// What the device has of the same product from a rollout that comes later: that goes first.
fn in_the_way<'a>(case: &Case<'a>, rollout: &Rollout) -> Option<Choice<'a>> {
    let product = &case.catalog.releases.get(&rollout.plan.release)?.product;
    let mut kept = case.device.assignments.iter().filter(|one| judge::is_on_device(one.state));
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
        (Verdict::AlreadyInstalled, None) => exclusion(device, rollout, None),
        (Verdict::DoesNotFit(misfit), None) => exclusion(device, rollout, Some(misfit)),
        (_, Some(assignment)) if judge::is_on_device(assignment.state) => {
            Some(Step::Hold { assignment: Some(assignment.id) })
        }
        _ => None,
    };
    Choice { step: step.unwrap_or(Step::Nothing), cause: Cause::Rollout(rollout, verdict) }
}

fn exclusion(device: &Device, rollout: &Rollout, misfit: Option<crate::release::Misfit>) -> Option<Step> {
    let phase = rollout.phase_of(device.number)?;
    let known = rollout.excluded.contains(device.number);
    (!known).then_some(Step::Exclude { rollout: rollout.id, phase, misfit })
}

/// Of two choices that do not touch the device: bookkeeping first, then the one that says more, then the earlier.
fn better<'a>(old: Option<Choice<'a>>, new: Choice<'a>) -> Option<Choice<'a>> {
    let weight = |choice: &Choice<'_>| match (&choice.step, &choice.cause) {
        (Step::Exclude { .. }, _) => 7,
        (Step::Hold { .. }, _) => 6,
        (_, Cause::Rollout(_, verdict)) => verdict.weight(),
        (_, Cause::Other(..)) => 0,
    };
    match old {
        Some(old) if weight(&old) >= weight(&new) => Some(old),
        _ => Some(new),
    }
}

/// Until the device may be told something else.
fn until_it_changes(case: &Case<'_>, rollout: &Rollout, verdict: &Verdict) -> Duration {
    match verdict {
        Verdict::Full(full) if full.at_site => SITE_RETRY,
        _ => verdict.changes_at().map_or(Duration::MAX, |span| until(case, rollout, span)),
    }
}

/// Until a change that many devices wait for: each comes a little later than the one before.
fn until(case: &Case<'_>, rollout: &Rollout, span: Span) -> Duration {
    let range = (span.end.since(span.start) / 4).min(MAX_SPREAD);
    let bucket = bucket::bucket(rollout.id, case.device.id.as_bytes());
    span.start.since(case.now).saturating_add(bucket.spread(range)).max(Duration::from_secs(1))
}

fn in_words(case: &Case<'_>, rollout: &Rollout, verdict: &Verdict) -> Reason {
    let other = match *verdict {
        Verdict::Superseded { by } | Verdict::Drop { why: CancelWhy::Superseded { by }, .. } => {
            case.catalog.rollout(by)
        }
        _ => None,
    };
    let release = case.catalog.releases.get(&rollout.plan.release);
    let (device, contact, freezes) = (case.device, case.contact, &case.catalog.freezes);
    let subject = Subject { now: case.now, rollout, release, device, contact, other, freezes };
    verdict::reason(verdict, &subject)
}
