//! What follows for a rollout from how its gates and its counters stand.

use callboard_proto::{instruction::Reason, time::Timestamp};

use super::{GateVerdict, PhaseCounts, PhaseTimes, evaluate, reason};
use crate::{
    guard::{self, HaltAction, ReleaseName, Streak},
    rollout::{Membership, Plan, Rollout, RolloutState},
};

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
    /// Pause, because the gate of the open phase can no longer be met, or a halt rule says so.
    Pause(Reason),
    /// Cancel: a halt rule says so.
    Cancel(Reason),
    /// Cancel, and bring this release to the devices that got the rollout's: a halt rule says so.
    RollBack {
        /// As the rule names it.
        to: ReleaseName,
        /// Why.
        reason: Reason,
    },
    /// Complete: nothing is left to be done.
    Complete(Reason),
}

/// What to do after a report, a grant, an exclusion, an operator's word, or because time has passed. `counts` holds one
/// entry a phase; `times` is about the last open phase. Halt rules come before everything else.
///
/// Repeat it after every step but [`Advance::Stay`]: the phase that opened may be empty.
pub fn advance(
    rollout: &Rollout,
    counts: &[PhaseCounts],
    streak: &Streak,
    times: PhaseTimes,
    now: Timestamp,
) -> Advance {
    if !rollout.state.is_active() {
        return Advance::Stay(reason("not_active", format!("the rollout is {}", rollout.state.as_str())));
    }
    let totals: PhaseCounts = counts.iter().copied().sum();
    match guard::tripped(&rollout.plan.halt, rollout.state, &totals, streak) {
        Some((HaltAction::Pause, reason)) => return Advance::Pause(reason),
        Some((HaltAction::Cancel, reason)) => return Advance::Cancel(reason),
        Some((HaltAction::RollBackTo(to), reason)) => return Advance::RollBack { to, reason },
        None => {}
    }
    if let Some(reason) = ended(rollout, &totals, now) {
        return Advance::Complete(reason);
    }
    let Some(verdict) = evaluate(&rollout.plan, rollout.open_phase, counts, times, now) else {
        return Advance::Stay(reason("no_phase", "the open phase has no counts".to_owned()));
    };
    let done = rollout.plan.audience == Membership::Frozen && totals.open() == 0;
    match verdict {
        GateVerdict::Waiting(reason) | GateVerdict::Impossible(reason) if times.met_at.is_some() => {
            Advance::Unmeet(reason)
        }
        GateVerdict::Soaking { reason, .. } | GateVerdict::Unapproved(reason) if times.met_at.is_none() => {
            Advance::Meet(reason)
        }
        GateVerdict::Met(_) if done => Advance::Complete(reason("rollout_completed", totals.outcome())),
        _ if rollout.state == RolloutState::Paused => {
            Advance::Stay(reason("paused", "the rollout is paused".to_owned()))
        }
        GateVerdict::Impossible(reason) => Advance::Pause(reason),
        // Nobody is left who could meet it.
        GateVerdict::Waiting(reason) if done => Advance::Pause(reason),
        GateVerdict::Met(reason) if rollout.open_phase + 1 < rollout.plan.phases.len() => {
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

/// The times of an open phase whose gate was changed to ask for other numbers of devices. A gate that was met stays met when
/// more devices join, but not when somebody asks for more of them.
pub fn after_edit(plan: &Plan, idx: usize, counts: &[PhaseCounts], times: PhaseTimes, now: Timestamp) -> PhaseTimes {
    let anew = times.unmet();
    match evaluate(plan, idx, counts, anew, now) {
        Some(GateVerdict::Waiting(_) | GateVerdict::Impossible(_)) => anew,
        _ => times,
    }
}

/// When time alone moves a rollout on, as it stands after `now`.
pub fn next_look(rollout: &Rollout, times: PhaseTimes, now: Timestamp) -> Option<Timestamp> {
    let open = rollout.plan.phases.get(rollout.open_phase).filter(|_| rollout.state.is_active())?;
    let patience = open.max_wait.map(|wait| times.opened_at + wait);
    let soaked = times.met_at.map(|met| met + open.soak);
    [patience, soaked, rollout.plan.ends_at].into_iter().flatten().filter(|at| *at > now).min()
}

/// Whether the end of the rollout has passed and nobody is in the middle of it. `totals` is the sum over all phases.
fn ended(rollout: &Rollout, totals: &PhaseCounts, now: Timestamp) -> Option<Reason> {
    let end = rollout.plan.ends_at.filter(|end| now >= *end)?;
    let text = || format!("it ended at {end}; {}", totals.outcome());
    (totals.in_activation() == 0).then(|| reason("rollout_ended", text()))
}
