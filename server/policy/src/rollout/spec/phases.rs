//! Phases as they were typed.

use std::time::Duration;

use super::{Errors, MAX_PARTS, MAX_PHASE_NAME, PhaseSpec, PolicyKind, Spec, minutes, selector};
use crate::rollout::{Approval, Membership, Phase, Share};

/// A soak that is longer is a mistake in the unit.
const MAX_SOAK_MIN: u32 = 90 * 24 * 60;

pub(super) fn read(spec: &Spec, errors: &mut Errors) -> Vec<Phase> {
    if spec.policy != PolicyKind::Progressive {
        if !spec.phases.is_empty() {
            errors.add("phases", "only the progressive policy has phases");
        }
        return vec![everyone()];
    }
    if spec.phases.is_empty() || spec.phases.len() > MAX_PARTS {
        errors.add("phases", format!("there are {}; 1 to {MAX_PARTS} are wanted", spec.phases.len()));
        return Vec::new();
    }
    let mut highest = 0;
    let mut phases = Vec::new();
    for (n, phase) in spec.phases.iter().enumerate() {
        let path = format!("phases[{n}]");
        name(phase, spec.phases.iter().take(n), &path, errors);
        if let Some(share) = share(phase, spec, &path, &mut highest, errors) {
            phases.push(read_one(phase, share, &path, errors));
        }
    }
    if spec.phases.last().is_some_and(|last| last.percent != Some(100)) {
        let last = spec.phases.len() - 1;
        let message = "the last phase must be 100 percent, or devices would be left out for ever";
        errors.add(format!("phases[{last}].percent"), message);
    }
    if let Some((last, phase)) = spec.phases.iter().enumerate().next_back()
        && phase.approval == Approval::Manual
    {
        let message = "nothing opens after the last phase, so there is nothing to approve; leave it out";
        errors.add(format!("phases[{last}].approval"), message);
    }
    phases
}

/// The only phase of the other policies.
pub(in crate::rollout) fn everyone() -> Phase {
    Phase {
        name: "all".to_owned(),
        share: Share::Percent(100),
        success_percent: 0,
        completed_percent: 100,
        min_completed: 0,
        max_wait: None,
        soak: Duration::ZERO,
        approval: Approval::Auto,
    }
}

fn name<'a>(phase: &PhaseSpec, mut before: impl Iterator<Item = &'a PhaseSpec>, path: &str, errors: &mut Errors) {
    let name = &phase.name;
    if name.is_empty() || name.len() > MAX_PHASE_NAME || name.chars().any(char::is_control) {
        errors.add(format!("{path}.name"), format!("1 to {MAX_PHASE_NAME} printable characters are wanted"));
    }
    if before.any(|other| other.name == *name) {
        errors.add(format!("{path}.name"), format!("{name:?} stands twice"));
    }
}

fn share(phase: &PhaseSpec, spec: &Spec, path: &str, highest: &mut u32, errors: &mut Errors) -> Option<Share> {
    match (phase.percent, &phase.selector) {
        (Some(percent), None) => {
            if !(1..=100).contains(&percent) {
                errors.add(format!("{path}.percent"), format!("is {percent}; 1 to 100 is allowed"));
            } else if percent <= *highest {
                let message = format!("is {percent}, after {highest}: percents are cumulative and must rise to 100");
                errors.add(format!("{path}.percent"), message);
            }
            *highest = percent.max(*highest);
            Some(Share::Percent(percent))
        }
        (None, Some(text)) => {
            let field = format!("{path}.selector");
            let selector = errors.keep(&field, selector(text))?;
            if let (Membership::Live, Some(changing)) = (spec.audience, selector.frozen_only()) {
                let message =
                    format!("{changing} changes with every check-in, so it is allowed only with a frozen audience");
                errors.add(field, message);
            }
            Some(Share::Selector(selector))
        }
        (None, None) | (Some(_), Some(_)) => {
            errors.add(path, "needs either a percent or a selector");
            None
        }
    }
}

fn read_one(phase: &PhaseSpec, share: Share, path: &str, errors: &mut Errors) -> Phase {
    let percents = [("success_percent", phase.success_percent), ("completed_percent", phase.completed_percent)];
    for (field, percent) in percents {
        if !(1..=100).contains(&percent) {
            errors.add(format!("{path}.{field}"), format!("is {percent}; 1 to 100 is allowed"));
        }
    }
    if phase.min_completed == 0 {
        let message = "is 0: a phase of which nothing is known would open the next one; 1 or more is wanted";
        errors.add(format!("{path}.min_completed"), message);
    }
    if phase.max_wait_min == Some(0) {
        errors.add(format!("{path}.max_wait_min"), "must be at least 1; leave it out to wait without limit");
    }
    if phase.soak_min > MAX_SOAK_MIN {
        let message = format!("is {}; at most {MAX_SOAK_MIN} (90 days) is allowed", phase.soak_min);
        errors.add(format!("{path}.soak_min"), message);
    }
    Phase {
        name: phase.name.clone(),
        share,
        success_percent: phase.success_percent,
        completed_percent: phase.completed_percent,
        min_completed: phase.min_completed,
        max_wait: phase.max_wait_min.map(minutes),
        soak: minutes(phase.soak_min),
        approval: phase.approval,
    }
}
