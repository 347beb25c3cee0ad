//! What an operator may do to the open phase: approve it, end its soak, open the next one whatever the gate says.

use callboard_proto::time::Timestamp;

use super::{GateVerdict, PhaseCounts, PhaseTimes, evaluate};
use crate::rollout::{Approval, Phase, Rollout};

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The gate is met and soaked, and the next phase is to open.
    Approve,
    /// The gate is met, and that is enough.
    SkipSoak,
    /// This phase is to open now.
    Open(usize),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing: it is so already.
    Nothing,
    /// Write these times to the open phase, then look at the gate.
    Note(PhaseTimes),
    /// Open the phase, although the gate stood like this.
    Open {
        /// Its index.
        phase: usize,
        /// How the gate stood.
        stood: String,
    },
}

/// Whether an operator's word is good now. `counts` holds one entry a phase; `times` is about the open phase.
///
/// # Errors
/// Says why not, and what would be possible.
pub fn by_hand(
    rollout: &Rollout,
    counts: &[PhaseCounts],
    times: PhaseTimes,
    now: Timestamp,
    word: Word,
) -> Result<Deed, String> {
    let (phases, open) = (&rollout.plan.phases, rollout.open_phase);
    let name = &rollout.plan.name;
    if !rollout.state.is_active() {
        return Err(format!(
            "rollout {name} is {}; only a running or paused one has an open phase",
            rollout.state.as_str()
        ));
    }
    let (Some(phase), Some(verdict)) = (phases.get(open), evaluate(&rollout.plan, open, counts, times, now)) else {
        return Err(format!("rollout {name} has no open phase"));
    };
    match word {
        Word::Approve => approve(phase, verdict, times),
        Word::SkipSoak => skip_soak(phase, verdict, times),
        Word::Open(wanted) if wanted <= open => Ok(Deed::Nothing),
        Word::Open(wanted) if wanted == open + 1 => Ok(Deed::Open { phase: wanted, stood: verdict.into_reason().text }),
        Word::Open(_) => {
            let next = phases.get(open + 1).map_or("?", |next| next.name.as_str());
            Err(format!("phases open in their order, and phase {next} comes first; open that one"))
        }
    }
}

fn approve(phase: &Phase, verdict: GateVerdict, times: PhaseTimes) -> Result<Deed, String> {
    if phase.approval == Approval::Auto {
        let name = &phase.name;
        return Err(format!("phase {name} needs no approval; the next phase opens by itself or by open-phase"));
    }
    match verdict {
        GateVerdict::Unapproved(_) => Ok(Deed::Note(PhaseTimes { approved: true, ..times })),
        GateVerdict::Met(_) => Ok(Deed::Nothing),
        GateVerdict::Soaking { reason, .. } => {
            Err(format!("{}; wait for the soak, or end it by skip-soak, and approve then", reason.text))
        }
        GateVerdict::Waiting(reason) | GateVerdict::Impossible(reason) => {
            Err(format!("{}; there is nothing to approve yet, and open-phase opens it regardless", reason.text))
        }
    }
}

fn skip_soak(phase: &Phase, verdict: GateVerdict, times: PhaseTimes) -> Result<Deed, String> {
    match verdict {
        GateVerdict::Soaking { .. } => Ok(Deed::Note(PhaseTimes { soak_skipped: true, ..times })),
        _ if phase.soak.is_zero() => Err(format!("phase {} has no soak", phase.name)),
        GateVerdict::Met(_) | GateVerdict::Unapproved(_) => Ok(Deed::Nothing),
        GateVerdict::Waiting(reason) | GateVerdict::Impossible(reason) => {
            Err(format!("the soak of phase {} has not begun: {}", phase.name, reason.text))
        }
    }
}
