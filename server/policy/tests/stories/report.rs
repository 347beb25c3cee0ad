//! What commands print.

use callboard_policy::{
    decide::{Decision, Step},
    device::{DEFAULT_ABANDONED_AFTER, Deferral},
    gate::{self, PhaseCounts},
    preview::Preview,
    rollout::{Rollout, RolloutState},
};
use callboard_proto::state::AssignmentState;

use crate::world::{Actor, POLL, World};

pub(crate) fn decision(decision: &Decision) -> String {
    let what = match decision.step {
        Step::Nothing
        | Step::CloseAsInstalled { .. }
        | Step::Regress { .. }
        | Step::TryAgain { .. }
        | Step::Hear { .. }
        | Step::Exclude { .. } => "none",
        Step::Defer { .. } | Step::Hold { .. } => "hold",
        Step::GrantDownload { .. } | Step::ContinueDownload { .. } => "download",
        Step::GrantActivation { .. } | Step::ContinueActivation { .. } => "install",
        Step::Cancel { .. } | Step::Recall { .. } => "cancel",
    };
    let until = match decision.step {
        Step::GrantActivation { not_after: Some(at), .. } | Step::ContinueActivation { not_after: Some(at), .. } => {
            format!(" (begin before {at})")
        }
        _ => String::new(),
    };
    let reason = &decision.reason;
    let next = decision.next_check_in.as_secs();
    format!("{what}{until} [{}] {}; ask again in {next} s", reason.code, reason.text)
}

pub(crate) fn considered(decision: &Decision) -> Vec<String> {
    decision.considered.iter().map(|one| format!("[{}] {}", one.reason.code, one.reason.text)).collect()
}

/// An explanation adds what the phase that comes next waits for.
pub(crate) fn explained(world: &World, decision: &Decision) -> Vec<String> {
    let mut lines = vec![self::decision(decision)];
    for (one, line) in decision.considered.iter().zip(considered(decision)) {
        lines.push(format!("  {line}"));
        if one.reason.code == "phase_not_open" {
            lines.push(format!("    {}", waits_for(world, world.ledger.rollout(one.rollout).unwrap()).unwrap()));
        }
    }
    lines
}

/// What the next phase waits for.
fn waits_for(world: &World, rollout: &Rollout) -> Option<String> {
    let (plan, open) = (&rollout.plan, rollout.open_phase);
    let standing = world.ledger.standing(rollout.id)?;
    let last = open + 1 == plan.phases.len() && plan.phases[open].soak.is_zero();
    let verdict = gate::evaluate(plan, open, &standing.counts, standing.times, world.now)?;
    (!last && rollout.state.is_active()).then(|| verdict.into_reason().text)
}

pub(crate) fn status(world: &World, name: &str) -> Vec<String> {
    let rollout = world.rollout(name);
    let counts = world.ledger.standing(rollout.id).map(|standing| standing.counts.as_slice()).unwrap_or_default();
    let open = &rollout.plan.phases[rollout.open_phase].name;
    let mut lines = vec![match rollout.state {
        RolloutState::Running => format!("{name} is running, phase {open} is open"),
        state => format!("{name} is {}", state.as_str()),
    }];
    for (phase, counts) in rollout.plan.phases.iter().zip(counts) {
        let size = devices(usize::try_from(counts.size).unwrap());
        lines.push(format!("  {}: {size}: {}", phase.name, in_words(*counts)));
    }
    lines.extend(waits_for(world, rollout).map(|text| format!("  {text}")));
    lines
}

fn in_words(mut counts: PhaseCounts) -> String {
    let mut parts = vec![];
    for state in AssignmentState::ALL {
        let count = *counts.of(state);
        if count > 0 {
            parts.push(format!("{count} {}", state.as_str()));
        }
    }
    parts.extend((counts.silent > 0).then(|| format!("{} silent", counts.silent)));
    for why in Deferral::ALL {
        let n = *counts.deferred.of(why);
        parts.extend((n > 0).then(|| format!("{n} deferred ({})", why.as_str())));
    }
    if counts.untouched() > 0 || parts.is_empty() {
        parts.push(format!("{} untouched", counts.untouched()));
    }
    parts.join(", ")
}

pub(crate) fn fleet(world: &World) -> Vec<String> {
    let line = |(name, actor): (&String, &Actor)| {
        let (unit, seen) = (&actor.unit, actor.unit.seen(world.now, POLL, DEFAULT_ABANDONED_AFTER));
        let installed = unit.device.installed.iter().map(|one| format!("{} {}", one.product, one.version));
        format!("{name}: {}, {}", installed.collect::<Vec<_>>().join(", "), seen.status.as_str())
    };
    world.actors.iter().map(line).collect()
}

pub(crate) fn preview(world: &World, preview: &Preview) -> Vec<String> {
    let name =
        |id| world.actors.values().find(|actor| actor.unit.device.id == id).unwrap().unit.device.name.to_string();
    let names = |ids: &[_]| ids.iter().map(|id| name(*id)).collect::<Vec<_>>().join(" ");
    let mut lines = vec![format!("matching: {}, {} online", devices(preview.matching), preview.online)];
    for phase in &preview.phases {
        let (count, names) = (devices(phase.devices.len()), names(&phase.devices));
        lines.push(format!("  phase {}: {count}, {} online: {names}", phase.name, phase.online));
    }
    if !preview.unreported.is_empty() {
        lines.push(format!("  have not reported yet: {}", names(&preview.unreported)));
    }
    if !preview.already_installed.is_empty() {
        lines.push(format!("  have it already: {}", names(&preview.already_installed)));
    }
    for (device, reason) in &preview.incompatible {
        lines.push(format!("  cannot take it: {}: {}", name(*device), reason.text));
    }
    for one in &preview.openings {
        let when = match (one.first, one.last_opens_at) {
            (Some(span), Some(last)) if span.start > world.now || last > world.now => {
                let last = if last == span.start { String::new() } else { format!(", of the last one at {last}") };
                format!("first open from {} to {}{last}", span.start, span.end)
            }
            (Some(_), _) if one.never == 0 => continue,
            _ => "open now".to_owned(),
        };
        let never = if one.never == 0 { String::new() } else { format!(", never for {}", devices(one.never)) };
        lines.push(format!("  {} ({}): {when}{never}", one.zone, devices(one.devices)));
    }
    for conflict in &preview.conflicts {
        let other = world.name_of(conflict.rollout);
        let what = if conflict.superseded_by_this { "would supersede" } else { "would be superseded by" };
        lines.push(format!("  {what} {other} on {}", names(&conflict.devices)));
    }
    lines
}

fn devices(count: usize) -> String {
    format!("{count} device{}", if count == 1 { "" } else { "s" })
}
