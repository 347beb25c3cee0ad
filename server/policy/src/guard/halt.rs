//! Halt rules: when a rollout stops by itself because its release fails.
//!
//! Other than a gate, a halt rule looks at the whole rollout and at every moment: it is asked in the transaction that
//! writes a report, or that lets a timer go off, so that after it no device is granted anything any more.
//!
//! Devices are counted, not attempts. Completed are those that succeeded, failed, rolled back or timed out; those that
//! were excluded or called off, and those that were taken out of service, enrolled anew or imaged anew, are none of them.
//! Failures that somebody acknowledged count for nothing, as they do for gates.

use callboard_proto::{ids::AssignmentId, instruction::Reason, state::AssignmentState, time::Timestamp};

use crate::{
    assignment::is_failure,
    device::{Assignment, Device},
    gate::PhaseCounts,
    release::{self, Fit, Release},
    rollout::{Plan, RolloutState},
};

/// Longest run of failures that a rule can ask for, and that is kept.
pub const MAX_CONSECUTIVE: u32 = 100;

/// The code of a reason to halt.
pub const HALTED: &str = "halted";

/// When to halt, and how. It trips as soon as one of its limits is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaltRule {
    /// Failures among the completed devices.
    pub share: Option<FailureShare>,
    /// Failures that are borne.
    pub max_failures: Option<u32>,
    /// Failures without a success between them that trip it.
    pub consecutive_failures: Option<u32>,
    /// Silent devices that are borne.
    pub max_silent: Option<u32>,
    /// What it does.
    pub action: HaltAction,
}

/// A share of failures that trips a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureShare {
    /// Failures in a hundred completed devices.
    pub percent: u32,
    /// Completed devices before which the share says nothing.
    pub min_completed: u32,
}

/// What a halt does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HaltAction {
    /// Nothing is granted any more; an operator can resume it.
    Pause,
    /// It is called off.
    Cancel,
    /// It is called off, and the devices that got its release get this one.
    RollBackTo(ReleaseName),
}

/// A release as an operator named it.
pub type ReleaseName = String;

/// The devices that failed one after the other, oldest first: those whose last word was a failure since the last
/// success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streak(pub Vec<AssignmentId>);

impl Streak {
    /// Takes note of what became of an assignment; says whether that changed anything.
    pub fn note(&mut self, was: Option<AssignmentState>, is: &Assignment) -> bool {
        let before = self.0.len();
        if is.state == AssignmentState::Succeeded {
            if was != Some(AssignmentState::Succeeded) {
                self.0.clear();
            }
        } else if is_failure(is.state) && !is.is_acknowledged() {
            let room = self.0.len() < usize::try_from(MAX_CONSECUTIVE).unwrap_or(usize::MAX);
            if room && !self.0.contains(&is.id) {
                self.0.push(is.id);
            }
        } else {
            // Tried again, called off or acknowledged.
            self.0.retain(|one| *one != is.id);
        }
        self.0.len() != before
    }

    /// The device has begun anew, and what it did before counts no longer; says whether that changed anything.
    pub fn forget(&mut self, former: AssignmentId) -> bool {
        let before = self.0.len();
        self.0.retain(|one| *one != former);
        self.0.len() != before
    }

    fn len(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }
}

/// The hardest action that the rules ask for now and that is not done yet, with the numbers. `totals` is the sum over
/// all phases.
pub fn tripped(
    rules: &[HaltRule],
    state: RolloutState,
    totals: &PhaseCounts,
    streak: &Streak,
) -> Option<(HaltAction, Reason)> {
    let open = |rule: &&HaltRule| match rule.action {
        HaltAction::Pause => state == RolloutState::Running,
        HaltAction::Cancel | HaltAction::RollBackTo(_) => state.is_active(),
    };
    let found = rules.iter().filter(open).filter_map(|rule| Some((&rule.action, rule.why(totals, streak)?)));
    // Of equals the first one.
    let (action, text) = found.reduce(|one, other| if hardness(other.0) > hardness(one.0) { other } else { one })?;
    Some((action.clone(), Reason { code: HALTED.to_owned(), text }))
}

const fn hardness(action: &HaltAction) -> u8 {
    match action {
        HaltAction::Pause => 0,
        HaltAction::Cancel => 1,
        HaltAction::RollBackTo(_) => 2,
    }
}

impl HaltRule {
    /// Why it trips, if it does.
    fn why(&self, totals: &PhaseCounts, streak: &Streak) -> Option<String> {
        let (completed, failures) = (totals.completed(), totals.failures());
        if let Some(FailureShare { percent, min_completed }) = self.share
            && failures > 0
            && completed >= u64::from(min_completed)
            && u128::from(failures) * 100 >= u128::from(completed) * u128::from(percent)
        {
            return Some(format!(
                "halt: {failures} of {completed} completed devices failed, which is {percent} % or more"
            ));
        }
        if let Some(max) = self.max_failures.filter(|max| failures > u64::from(*max)) {
            return Some(format!("halt: {} (at most {max} may)", plural(failures, "device failed", "devices failed")));
        }
        if let Some(limit) = self.consecutive_failures.filter(|limit| streak.len() >= u64::from(*limit)) {
            let failed = plural(streak.len(), "device failed", "devices failed");
            return Some(format!("halt: {failed} one after the other ({limit} halt it)"));
        }
        let max = self.max_silent.filter(|max| totals.silent > u64::from(*max))?;
        let silent = plural(totals.silent, "device is silent", "devices are silent");
        Some(format!("halt: {silent} (at most {max} may be)"))
    }
}

fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Whether devices that got `release` can all be brought back to `target`, as far as the releases themselves say.
///
/// # Errors
/// Says why not, and what would be right.
pub fn check_target(release: &Release, target: &Release) -> Result<(), String> {
    let names = |one: &Release| format!("{} {}", one.product, one.version);
    if target.product != release.product {
        return Err(format!(
            "{} is another product than {}; name an older release of {}",
            names(target),
            names(release),
            release.product
        ));
    }
    if (target.epoch, target.counter) >= (release.epoch, release.counter) {
        return Err(format!("{} is not older than {}; name an older release", names(target), names(release)));
    }
    if target.epoch < release.epoch {
        return Err(format!(
            "{} is of epoch {}, and devices that got {} refuse everything below epoch {}; name a release of that epoch",
            names(target),
            target.epoch,
            names(release),
            release.epoch
        ));
    }
    if target.counter < release.min_floor {
        return Err(format!(
            "{} has counter {}, and devices that got {} refuse everything below {}; name a release at or above it",
            names(target),
            target.counter,
            names(release),
            release.min_floor
        ));
    }
    Ok(())
}

/// Why `device` could not be brought back to `target` after it got `release`; `None` if it could, or never gets it.
pub fn stranded(release: &Release, target: &Release, plan: &Plan, device: &Device, now: Timestamp) -> Option<String> {
    if !matches!(release::fit(release, device, plan.allow_downgrade, now), Fit::Fits) {
        return None;
    }
    let after = release.committed_on(device);
    match release::fit(target, &after, true, now) {
        Fit::Incompatible(misfit) => Some(misfit.text(target, &after, &plan.name)),
        Fit::Fits | Fit::AlreadyInstalled | Fit::Unreported => None,
    }
}

#[cfg(test)]
mod tests;
