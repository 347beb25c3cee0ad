//! The gate behind a phase: does what happened so far allow more devices to be touched?
//!
//! All arithmetic is in whole numbers. There is no soak time and no approval behind a gate that is met yet.

mod counts;

use callboard_proto::{instruction::Reason, time::Timestamp};
pub use counts::PhaseCounts;

use crate::rollout::{Membership, Phase, Rollout, RolloutState};

/// Where a gate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateVerdict {
    /// The next phase may open.
    Met(Reason),
    /// Not yet.
    Waiting(Reason),
    /// Never, as things are: somebody has to look.
    Impossible(Reason),
}

/// What a rollout is to do after something happened in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Nothing.
    Stay(Reason),
    /// Open this phase.
    Open {
        /// Its index.
        phase: usize,
        /// Why.
        reason: Reason,
    },
    /// Pause, because the gate of the open phase can no longer be met.
    Pause(Reason),
    /// Complete: nothing is left to be done.
    Complete(Reason),
}

/// Judges the gate behind `phase`, which was opened at `opened_at`.
pub fn evaluate(phase: &Phase, counts: &PhaseCounts, opened_at: Timestamp, now: Timestamp) -> GateVerdict {
    let size = counts.counted_size();
    let (completed, failures) = (counts.completed(), counts.failures());
    let name = &phase.name;
    if size == 0 {
        return GateVerdict::Met(reason("phase_empty", format!("phase {name} has no device to wait for")));
    }
    // The best that can still come: everything that has not failed for good succeeds.
    let best = size.saturating_sub(counts.final_failures());
    if !enough(best, size, phase.success_percent) {
        let text = format!(
            "phase {name}: {failures} of {size} failed, so {} % success cannot be reached any more",
            phase.success_percent
        );
        return GateVerdict::Impossible(reason("gate_impossible", text));
    }
    let least = u64::from(phase.min_completed).min(size);
    let share = share_of(size, phase.completed_percent);
    let patient = phase.max_wait.is_none_or(|wait| now < opened_at + wait);
    let needed = if patient { least.max(share) } else { least };
    if completed < needed {
        let text = format!("phase {name}: {completed} of {size} completed, {needed} are needed");
        return GateVerdict::Waiting(reason("gate_waiting", text));
    }
    let text = format!("phase {name}: {} of {completed} completed devices succeeded", completed - failures);
    if enough(completed - failures, completed, phase.success_percent) {
        GateVerdict::Met(reason("gate_met", text))
    } else {
        GateVerdict::Waiting(reason("gate_waiting", format!("{text}, {} % are needed", phase.success_percent)))
    }
}

/// Whether everything that can be done is done. `totals` is the sum over all phases.
pub fn finished(rollout: &Rollout, totals: &PhaseCounts, now: Timestamp) -> Option<Reason> {
    if rollout.plan.ends_at.is_some_and(|end| now >= end) {
        let busy = totals.in_activation();
        return (busy == 0).then(|| reason("rollout_ended", "the end of the rollout has passed".to_owned()));
    }
    let last_open = rollout.open_phase + 1 >= rollout.plan.phases.len();
    let done = totals.done() >= totals.size;
    (rollout.plan.audience == Membership::Frozen && last_open && done)
        .then(|| reason("rollout_completed", format!("{} of {} devices are done", totals.done(), totals.size)))
}

/// What to do after a report, a grant, an exclusion, or because time has passed. `counts` holds one entry a phase;
/// `opened_at` is when the last open phase was opened.
///
/// Repeat it after [`Advance::Open`]: the phase that opened may be empty.
pub fn advance(rollout: &Rollout, counts: &[PhaseCounts], opened_at: Timestamp, now: Timestamp) -> Advance {
    if !rollout.state.is_active() {
        return Advance::Stay(reason("not_active", format!("the rollout is {}", rollout.state.as_str())));
    }
    let totals = counts.iter().copied().sum();
    if let Some(reason) = finished(rollout, &totals, now) {
        return Advance::Complete(reason);
    }
    if rollout.state == RolloutState::Paused {
        return Advance::Stay(reason("paused", "the rollout is paused".to_owned()));
    }
    let (Some(phase), Some(open)) = (rollout.plan.phases.get(rollout.open_phase), counts.get(rollout.open_phase))
    else {
        return Advance::Stay(reason("no_phase", "the open phase has no counts".to_owned()));
    };
    match evaluate(phase, open, opened_at, now) {
        GateVerdict::Impossible(reason) => Advance::Pause(reason),
        GateVerdict::Met(reason) if rollout.open_phase + 1 < rollout.plan.phases.len() => {
            Advance::Open { phase: rollout.open_phase + 1, reason }
        }
        GateVerdict::Met(reason) | GateVerdict::Waiting(reason) => Advance::Stay(reason),
    }
}

/// Whether `part` of `whole` is at least `percent`.
fn enough(part: u64, whole: u64, percent: u32) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

/// `percent` of `whole`, rounded up.
pub(crate) fn share_of(whole: u64, percent: u32) -> u64 {
    let share = (u128::from(whole) * u128::from(percent)).div_ceil(100);
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn reason(code: &str, text: String) -> Reason {
    Reason { code: code.to_owned(), text }
}

#[cfg(test)]
mod tests;
