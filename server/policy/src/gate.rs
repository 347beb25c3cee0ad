//! The gate behind a phase: does what happened so far allow more devices to be touched?
//!
//! ```text
//! waiting -> met: soaking -> (manual: waiting for approval) -> the next phase opens
//!    ^___________|_______________________|  success fell below what is asked for: the soak begins anew
//! ```
//!
//! All arithmetic is in whole numbers.

mod by_hand;
mod counts;
mod words;

pub use by_hand::{Deed, Word, by_hand};
use callboard_proto::{instruction::Reason, time::Timestamp};
pub use counts::{Deferrals, PhaseCounts};

use crate::rollout::{Approval, Membership, Phase, Rollout, RolloutState};

/// When things happened to a phase that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseTimes {
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Since when its gate is met without a break; the soak runs from then on.
    pub met_at: Option<Timestamp>,
    /// Whether an operator ended the soak.
    pub soak_skipped: bool,
    /// Whether somebody approved.
    pub approved: bool,
}

impl PhaseTimes {
    /// The phase was opened just now.
    pub fn opened(now: Timestamp) -> Self {
        Self { opened_at: now, ..Self::default() }
    }

    /// Its gate is met since now.
    pub fn met(self, now: Timestamp) -> Self {
        Self { met_at: Some(now), ..self }
    }

    /// Its gate is met no longer: soak and approval begin anew.
    pub fn unmet(self) -> Self {
        Self::opened(self.opened_at)
    }
}

/// Where a gate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateVerdict {
    /// The next phase may open.
    Met(Reason),
    /// It is met, but must stay so for some time.
    Soaking {
        /// How long.
        until: Timestamp,
        /// In words.
        reason: Reason,
    },
    /// It is met and soaked, and somebody has to approve.
    Unapproved(Reason),
    /// Not yet.
    Waiting(Reason),
    /// Never, as things are: somebody has to look.
    Impossible(Reason),
}

impl GateVerdict {
    /// In words.
    pub fn into_reason(self) -> Reason {
        match self {
            Self::Met(reason)
            | Self::Soaking { reason, .. }
            | Self::Unapproved(reason)
            | Self::Waiting(reason)
            | Self::Impossible(reason) => reason,
        }
    }
}

/// What a rollout is to do after something happened in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Nothing.
    Stay(Reason),
    /// Write down that the gate of the open phase is met since now.
    Meet(Reason),
    /// Forget that it was met, and that it was approved: too many devices have failed since.
    Unmeet(Reason),
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

/// One gate at one time.
pub(crate) struct Gate<'a> {
    pub(crate) phase: &'a Phase,
    /// What opens; `None` behind the last phase.
    pub(crate) next: Option<&'a Phase>,
    pub(crate) counts: &'a PhaseCounts,
    pub(crate) times: PhaseTimes,
    pub(crate) now: Timestamp,
}

/// Judges the gate behind phase `idx` of `phases`; `None` if there is no such phase.
pub fn evaluate(
    phases: &[Phase],
    idx: usize,
    counts: &PhaseCounts,
    times: PhaseTimes,
    now: Timestamp,
) -> Option<GateVerdict> {
    Some(Gate { phase: phases.get(idx)?, next: phases.get(idx + 1), counts, times, now }.verdict())
}

impl Gate<'_> {
    fn verdict(&self) -> GateVerdict {
        let size = self.counts.counted_size();
        if size == 0 {
            // Nothing was learned, so there is nothing to soak. A person who wants to be asked is asked all the same.
            let text = format!("phase {} has no device to wait for", self.phase.name);
            return if self.wants_approval() {
                GateVerdict::Unapproved(reason("gate_approval", self.approval_text(&text)))
            } else {
                GateVerdict::Met(reason("phase_empty", text))
            };
        }
        // The best that can still come: everything that has not failed for good succeeds.
        if !enough(size.saturating_sub(self.counts.final_failures()), size, self.phase.success_percent) {
            return GateVerdict::Impossible(reason("gate_impossible", self.impossible_text()));
        }
        let complete = self.times.met_at.is_some() || self.counts.completed() >= self.needed();
        if !complete || !self.is_healthy() {
            return GateVerdict::Waiting(reason("gate_waiting", self.waiting_text()));
        }
        if let Some(until) = self.soaks_until() {
            return GateVerdict::Soaking { until, reason: reason("gate_soaking", self.soaking_text(until)) };
        }
        if self.wants_approval() {
            return GateVerdict::Unapproved(reason("gate_approval", self.approval_text(&self.success_text())));
        }
        GateVerdict::Met(reason("gate_met", self.success_text()))
    }

    /// Completed devices that it takes at this time.
    fn needed(&self) -> u64 {
        let size = self.counts.counted_size();
        let least = u64::from(self.phase.min_completed).min(size);
        let share = share_of(size, self.phase.completed_percent);
        let patient = self.patient_until().is_none_or(|until| self.now < until);
        if patient { least.max(share) } else { least }
    }

    /// From when on the least number of completed devices is enough.
    fn patient_until(&self) -> Option<Timestamp> {
        self.phase.max_wait.map(|wait| self.times.opened_at + wait)
    }

    fn successes(&self) -> u64 {
        self.counts.completed().saturating_sub(self.counts.failures())
    }

    /// Whether enough of the completed devices have succeeded.
    fn is_healthy(&self) -> bool {
        enough(self.successes(), self.counts.completed(), self.phase.success_percent)
    }

    /// Until when it must stay healthy, if that is not over.
    fn soaks_until(&self) -> Option<Timestamp> {
        let until = self.times.met_at.unwrap_or(self.now) + self.phase.soak;
        (!self.times.soak_skipped && self.now < until).then_some(until)
    }

    fn wants_approval(&self) -> bool {
        self.phase.approval == Approval::Manual && !self.times.approved
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

/// What to do after a report, a grant, an exclusion, an operator's word, or because time has passed. `counts` holds one
/// entry a phase; `times` is about the last open phase.
///
/// Repeat it after every step but [`Advance::Stay`]: the phase that opened may be empty.
pub fn advance(rollout: &Rollout, counts: &[PhaseCounts], times: PhaseTimes, now: Timestamp) -> Advance {
    if !rollout.state.is_active() {
        return Advance::Stay(reason("not_active", format!("the rollout is {}", rollout.state.as_str())));
    }
    let phases = &rollout.plan.phases;
    let judged = counts.get(rollout.open_phase).and_then(|open| evaluate(phases, rollout.open_phase, open, times, now));
    let totals = counts.iter().copied().sum();
    let done = finished(rollout, &totals, now);
    // The last phase may have a soak too: then the rollout is not over before that.
    let soaks = done.as_ref().is_some_and(|done| done.code == "rollout_completed")
        && phases.last().is_some_and(|last| !last.soak.is_zero())
        && !matches!(judged, Some(GateVerdict::Met(_)));
    if let Some(reason) = done.filter(|_| !soaks) {
        return Advance::Complete(reason);
    }
    let Some(verdict) = judged else {
        return Advance::Stay(reason("no_phase", "the open phase has no counts".to_owned()));
    };
    match verdict {
        GateVerdict::Waiting(reason) | GateVerdict::Impossible(reason) if times.met_at.is_some() => {
            Advance::Unmeet(reason)
        }
        GateVerdict::Soaking { reason, .. } | GateVerdict::Unapproved(reason) if times.met_at.is_none() => {
            Advance::Meet(reason)
        }
        _ if rollout.state == RolloutState::Paused => {
            Advance::Stay(reason("paused", "the rollout is paused".to_owned()))
        }
        GateVerdict::Impossible(reason) => Advance::Pause(reason),
        GateVerdict::Met(reason) if rollout.open_phase + 1 < phases.len() => {
            Advance::Open { phase: rollout.open_phase + 1, reason }
        }
        verdict => Advance::Stay(verdict.into_reason()),
    }
}

/// Whether time alone can move a rollout on at `now`: it has a phase that does not wait for ever, or that soaks, or its
/// end has passed.
pub fn moves_with_time(rollout: &Rollout, now: Timestamp) -> bool {
    let waits = rollout.plan.phases.iter().any(|phase| phase.max_wait.is_some() || !phase.soak.is_zero());
    rollout.state.is_active() && (waits || rollout.plan.ends_at.is_some_and(|end| now >= end))
}

/// When time alone moves a rollout on, as it stands after `now`.
pub fn next_look(rollout: &Rollout, times: PhaseTimes, now: Timestamp) -> Option<Timestamp> {
    let open = rollout.plan.phases.get(rollout.open_phase).filter(|_| rollout.state.is_active())?;
    let patience = open.max_wait.map(|wait| times.opened_at + wait);
    let soaked = times.met_at.map(|met| met + open.soak);
    [patience, soaked, rollout.plan.ends_at].into_iter().flatten().filter(|at| *at > now).min()
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
