//! Guards as they were typed.

use super::{Errors, HaltKind, HaltSpec, MAX_PARTS};
use crate::guard::{Cap, Caps, FailureShare, HaltAction, HaltRule, MAX_CONSECUTIVE, Pace};

pub(super) fn check_caps(caps: &Caps, errors: &mut Errors) {
    check_cap("caps.downloads", caps.downloads, errors);
    check_cap("caps.activations", caps.activations, errors);
}

fn check_cap(path: &str, cap: Cap, errors: &mut Errors) {
    let numbers = [("max_in_flight", cap.max_in_flight), ("max_in_flight_per_site", cap.max_in_flight_per_site)];
    for (field, _) in numbers.iter().filter(|(_, number)| *number == Some(0)) {
        let message = "is 0, which lets no device through; leave it out for no cap, or pause the rollout";
        errors.add(format!("{path}.{field}"), message);
    }
    if let (Some(overall), Some(site)) = (cap.max_in_flight, cap.max_in_flight_per_site)
        && site > overall
        && overall > 0
    {
        let message = format!("is {site}, more than max_in_flight ({overall}) ever lets through");
        errors.add(format!("{path}.max_in_flight_per_site"), message);
    }
}

pub(super) fn check_pace(pace: Option<Pace>, errors: &mut Errors) {
    let Some(pace) = pace else {
        return;
    };
    if pace.max_offers_per_minute == 0 {
        let message = "is 0, which lets no device through; leave out pace for none, or pause the rollout";
        errors.add("pace.max_offers_per_minute", message);
    }
    if pace.doubles_every == Some(0) {
        errors.add("pace.doubles_every", "is 0; 1 or more is wanted, or leave it out for a pace that stays");
    }
}

pub(super) fn read_halt(rules: &[HaltSpec], errors: &mut Errors) -> Vec<HaltRule> {
    if rules.len() > MAX_PARTS {
        errors.add("halt", format!("has {} rules; at most {MAX_PARTS} are allowed", rules.len()));
    }
    let read = |(n, rule): (usize, &HaltSpec)| read_rule(rule, &format!("halt[{n}]"), errors);
    rules.iter().take(MAX_PARTS).enumerate().map(read).collect()
}

fn read_rule(rule: &HaltSpec, path: &str, errors: &mut Errors) -> HaltRule {
    let limits = [rule.failure_percent, rule.max_failures, rule.consecutive_failures, rule.max_silent];
    if limits.iter().all(Option::is_none) {
        let message = "has no limit; give failure_percent, max_failures, consecutive_failures or max_silent";
        errors.add(path, message);
    }
    if let Some(limit) = rule.consecutive_failures.filter(|limit| !(1..=MAX_CONSECUTIVE).contains(limit)) {
        let message = format!("is {limit}; 1 to {MAX_CONSECUTIVE} is allowed");
        errors.add(format!("{path}.consecutive_failures"), message);
    }
    HaltRule {
        share: read_share(rule, path, errors),
        max_failures: rule.max_failures,
        consecutive_failures: rule.consecutive_failures,
        max_silent: rule.max_silent,
        action: read_action(rule, path, errors),
    }
}

fn read_share(rule: &HaltSpec, path: &str, errors: &mut Errors) -> Option<FailureShare> {
    if let Some(percent) = rule.failure_percent.filter(|percent| !(1..=100).contains(percent)) {
        errors.add(format!("{path}.failure_percent"), format!("is {percent}; 1 to 100 is allowed"));
    }
    let field = format!("{path}.min_completed");
    match (rule.failure_percent, rule.min_completed) {
        (Some(_), None) => errors.add(
            field,
            "is missing, and failure_percent needs it: of few completed devices one is a large share; such as 20",
        ),
        (None, Some(_)) => errors.add(field, "only means something with failure_percent; leave it out"),
        (Some(_), Some(0)) => errors.add(field, "is 0; 1 or more is wanted"),
        (Some(percent), Some(min_completed)) => return Some(FailureShare { percent, min_completed }),
        (None, None) => {}
    }
    None
}

fn read_action(rule: &HaltSpec, path: &str, errors: &mut Errors) -> HaltAction {
    match (rule.action, &rule.rollback_to) {
        (HaltKind::RollBackTo, Some(to)) => return HaltAction::RollBackTo(to.clone()),
        (HaltKind::RollBackTo, None) => {
            errors.add(format!("{path}.rollback_to"), "is missing; name the release that devices go back to");
        }
        (HaltKind::Pause | HaltKind::Cancel, Some(_)) => {
            let message = "only means something with the action rollback_to; leave it out, or choose that action";
            errors.add(format!("{path}.rollback_to"), message);
        }
        (HaltKind::Cancel, None) => return HaltAction::Cancel,
        (HaltKind::Pause, None) => {}
    }
    HaltAction::Pause
}
