//! The gate behind a phase: does what happened so far allow more devices to be touched?
//!
//! ```text
//! waiting -> met: soaking -> (manual: waiting for approval) -> the next phase opens
//!    ^___________|_______________________|  success fell below what is asked for: the soak begins anew
//! ```
//!
//! A phase opens the next one only after something was learned. At least one device must have succeeded, and as many
//! as `min_completed` asks for must be through; failures that somebody acknowledged count for neither. A phase in
//! which there is nobody to learn from opens nothing by itself:
//!
//! * If its selector takes no device, that is most likely a mistake, and the gate is impossible.
//! * A phase of percents may be empty because the fleet is small. If a phase before it had a success it is passed
//!   over, without its soak, since there is nothing to watch; else the gate is impossible too.
//! * If the whole audience of a live rollout is empty, the first device that matches is waited for.
//!
//! The gate behind the last phase opens nothing, but a rollout is completed only by passing it.
//!
//! All arithmetic is in whole numbers.

mod advance;
mod by_hand;
mod counts;
mod words;

pub use advance::{Advance, advance, after_edit, moves_with_time, next_look};
pub use by_hand::{Deed, Word, by_hand};
use callboard_proto::{instruction::Reason, time::Timestamp};
pub use counts::{Deferrals, PhaseCounts};

use crate::rollout::{Approval, Membership, Phase, Plan, Share};

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

/// One gate at one time.
pub(crate) struct Gate<'a> {
    pub(crate) phase: &'a Phase,
    /// What opens; `None` behind the last phase.
    pub(crate) next: Option<&'a Phase>,
    pub(crate) counts: &'a PhaseCounts,
    /// Whether a device of a phase before has succeeded.
    pub(crate) proven: bool,
    /// Whether the rollout has devices at all.
    pub(crate) somebody: bool,
    pub(crate) audience: Membership,
    pub(crate) times: PhaseTimes,
    pub(crate) now: Timestamp,
}

/// Judges the gate behind phase `idx` of `plan`; `counts` holds one entry a phase. `None` if there is no such phase.
pub fn evaluate(
    plan: &Plan,
    idx: usize,
    counts: &[PhaseCounts],
    times: PhaseTimes,
    now: Timestamp,
) -> Option<GateVerdict> {
    let gate = Gate {
        phase: plan.phases.get(idx)?,
        next: plan.phases.get(idx + 1),
        counts: counts.get(idx)?,
        proven: counts.iter().take(idx).any(|before| before.succeeded > 0),
        somebody: counts.iter().any(|counts| counts.asked() > 0),
        audience: plan.audience,
        times,
        now,
    };
    Some(gate.verdict())
}

impl Gate<'_> {
    fn verdict(&self) -> GateVerdict {
        if self.counts.asked() == 0 {
            return self.without_devices();
        }
        let size = self.counts.counted_size();
        // The best that can still come: everything that has not failed for good succeeds.
        if !enough(size.saturating_sub(self.counts.final_failures()), size, self.phase.success_percent) {
            return GateVerdict::Impossible(reason("gate_impossible", self.impossible_text()));
        }
        if size < self.least() {
            return GateVerdict::Impossible(reason("gate_impossible", self.acknowledged_text()));
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

    /// Nobody is there to learn from.
    fn without_devices(&self) -> GateVerdict {
        let name = &self.phase.name;
        let small_fleet = self.proven && matches!(self.phase.share, Share::Percent(_));
        let nothing_to_do = !self.somebody && self.audience == Membership::Frozen;
        if self.next.is_none() || small_fleet || nothing_to_do {
            let text = format!("phase {name} has no device to wait for");
            return if self.wants_approval() {
                GateVerdict::Unapproved(reason("gate_approval", self.approval_text(&text)))
            } else {
                GateVerdict::Met(reason("phase_empty", text))
            };
        }
        if !self.somebody {
            let text = format!("phase {name} waits for the first device that matches");
            return GateVerdict::Waiting(reason("phase_empty", text));
        }
        GateVerdict::Impossible(reason("phase_empty", self.empty_text()))
    }

    /// Completed devices that it takes at this time.
    fn needed(&self) -> u64 {
        let share = share_of(self.counts.counted_size(), self.phase.completed_percent);
        let patient = self.patient_until().is_none_or(|until| self.now < until);
        if patient { self.least().max(share) } else { self.least() }
    }

    /// Completed devices that it always takes. Failures that somebody acknowledged make no healthy devices, so they
    /// do not make the number smaller; behind the last phase there is nothing that they could open.
    fn least(&self) -> u64 {
        let size = if self.next.is_some() { self.counts.asked() } else { self.counts.counted_size() };
        u64::from(self.phase.min_completed).min(size)
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
