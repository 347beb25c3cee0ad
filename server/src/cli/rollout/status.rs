//! How a rollout stands, in words and counts.

use std::fmt::Write as _;

use callboard_proto::admin::{Counts, PhaseProgress, Rollout};

use crate::cli::table;

/// Everything about one rollout.
pub(super) fn details(rollout: &Rollout) -> String {
    let spec = &rollout.spec;
    let state = match &rollout.state_reason {
        Some(reason) => format!("{}: {reason}", table::word(&rollout.state)),
        None => table::word(&rollout.state),
    };
    let mut text = table::fields([
        ("rollout", spec.name.to_string()),
        ("id", rollout.id.to_string()),
        ("state", state),
        ("release", format!("{} ({})", spec.release, rollout.release.short())),
        ("policy", table::word(&spec.policy)),
        ("devices", spec.selector.clone().unwrap_or_else(|| "all".to_owned())),
        ("created", rollout.created_at.to_string()),
        ("started", table::or_empty(rollout.started_at)),
        ("ended", table::or_empty(rollout.ended_at)),
    ]);
    let rows = rollout.phases.iter().map(|phase| {
        let gate = phase.gate.as_ref().map(|gate| gate.text.clone()).unwrap_or_default();
        [phase.name.clone(), bar(&phase.counts), sentence(&phase.counts), gate]
    });
    // Writing to a String cannot fail.
    let _ = write!(text, "\n\n{}", table::list(["PHASE", "DONE", "DEVICES", "GATE"], rows));
    text
}

/// Devices that the phase waits for or waited for.
pub(super) fn wanted(counts: &Counts) -> u32 {
    counts.size.saturating_sub(counts.excluded)
}

/// Devices from which nothing more is expected.
pub(super) fn done(counts: &Counts) -> u32 {
    [counts.succeeded, counts.rolled_back, counts.failed, counts.timed_out, counts.cancelled]
        .into_iter()
        .fold(0, u32::saturating_add)
}

/// One phase as a line of text.
pub(super) fn line(phase: &PhaseProgress) -> String {
    let gate = phase.gate.as_ref().map(|gate| format!("; {}", gate.text)).unwrap_or_default();
    let counts = &phase.counts;
    table::plain(&format!("{}: {}/{} done ({}){gate}", phase.name, done(counts), wanted(counts), sentence(counts)))
}

/// The counts that are not zero, in the order in which devices pass through them.
pub(super) fn sentence(counts: &Counts) -> String {
    let named = [
        (counts.unreached, "unreached"),
        (counts.queued, "queued"),
        (counts.downloading, "downloading"),
        (counts.staged, "staged"),
        (counts.activating, "activating"),
        (counts.verifying, "verifying"),
        (counts.succeeded, "succeeded"),
        (counts.rolled_back, "rolled back"),
        (counts.failed, "failed"),
        (counts.timed_out, "timed out"),
        (counts.cancelled, "cancelled"),
        (counts.excluded, "excluded"),
    ];
    let shown: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if shown.is_empty() { "no devices".to_owned() } else { shown.join(", ") }
}

/// Ten characters and the numbers.
fn bar(counts: &Counts) -> String {
    const WIDTH: u32 = 10;
    let (done, wanted) = (done(counts), wanted(counts));
    let filled = (done.saturating_mul(WIDTH)).checked_div(wanted).unwrap_or(WIDTH).min(WIDTH);
    let mut bar = String::from("[");
    for n in 0..WIDTH {
        bar.push(if n < filled { '#' } else { '.' });
    }
    let _ = write!(bar, "] {done}/{wanted}");
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_a_line_and_a_bar() {
        let counts = Counts { size: 10, excluded: 2, succeeded: 3, rolled_back: 1, staged: 4, ..Counts::default() };
        let phase = PhaseProgress { name: "canary".to_owned(), opened_at: None, gate: None, counts };
        assert_eq!(line(&phase), "canary: 4/8 done (4 staged, 3 succeeded, 1 rolled back, 2 excluded)");
        assert_eq!(bar(&counts), "[#####.....] 4/8");
        assert_eq!(bar(&Counts::default()), "[##########] 0/0");
        assert_eq!(sentence(&Counts::default()), "no devices");
    }
}
