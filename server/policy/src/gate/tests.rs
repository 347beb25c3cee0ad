use std::time::Duration;

use callboard_proto::state::AssignmentState;
use proptest::prelude::*;

use super::*;
use crate::{
    fixture::{at, rollout_id, spec},
    rollout::{PhaseSpec, PolicyKind, Share, Spec},
};

fn phase() -> Phase {
    Phase {
        name: "canary".to_owned(),
        share: Share::Percent(10),
        success_percent: 90,
        completed_percent: 80,
        min_completed: 2,
        max_wait: Some(Duration::from_secs(3600)),
    }
}

fn counts(size: u64, succeeded: u64, failed: u64) -> PhaseCounts {
    PhaseCounts { size, succeeded, failed, ..PhaseCounts::default() }
}

fn say(counts: PhaseCounts, minutes: u64) -> String {
    let opened = at("2026-11-23T00:00:00Z");
    match evaluate(&phase(), &counts, opened, opened + Duration::from_secs(minutes * 60)) {
        GateVerdict::Met(reason) => format!("met: {}", reason.text),
        GateVerdict::Waiting(reason) => format!("waiting: {}", reason.text),
        GateVerdict::Impossible(reason) => format!("impossible: {}", reason.text),
    }
}

#[test]
fn a_gate_waits_for_enough_completed_devices() {
    assert_eq!(say(counts(10, 0, 0), 0), "waiting: phase canary: 0 of 10 completed, 8 are needed");
    assert_eq!(say(counts(10, 7, 0), 59), "waiting: phase canary: 7 of 10 completed, 8 are needed");
    assert_eq!(say(counts(10, 8, 0), 0), "met: phase canary: 8 of 8 completed devices succeeded");
    assert_eq!(say(counts(1, 0, 0), 0), "waiting: phase canary: 0 of 1 completed, 1 are needed");
    assert_eq!(say(counts(1, 1, 0), 0), "met: phase canary: 1 of 1 completed devices succeeded");
}

#[test]
fn after_the_longest_wait_offline_devices_do_not_hold_it() {
    assert_eq!(say(counts(10, 2, 0), 60), "met: phase canary: 2 of 2 completed devices succeeded");
    assert_eq!(say(counts(10, 1, 0), 600), "waiting: phase canary: 1 of 10 completed, 2 are needed");
}

#[test]
fn failures_keep_it_closed_and_at_last_for_good() {
    assert_eq!(say(counts(10, 7, 1), 0), "waiting: phase canary: 7 of 8 completed devices succeeded, 90 % are needed");
    assert_eq!(say(counts(10, 9, 1), 0), "met: phase canary: 9 of 10 completed devices succeeded");
    assert_eq!(
        say(counts(10, 3, 2), 0),
        "impossible: phase canary: 2 of 10 failed, so 90 % success cannot be reached any more"
    );
    let timed_out = PhaseCounts { timed_out: 2, ..counts(10, 8, 0) };
    assert_eq!(
        say(timed_out, 0),
        "waiting: phase canary: 8 of 10 completed devices succeeded, 90 % are needed",
        "a late success may still come"
    );
}

#[test]
fn acknowledged_failures_and_cancelled_devices_are_not_looked_at() {
    let acknowledged = PhaseCounts { acknowledged: 2, ..counts(10, 8, 2) };
    assert_eq!(say(acknowledged, 0), "met: phase canary: 8 of 8 completed devices succeeded");
    let cancelled = PhaseCounts { cancelled: 9, ..counts(10, 1, 0) };
    assert_eq!(say(cancelled, 0), "met: phase canary: 1 of 1 completed devices succeeded");
    assert_eq!(say(counts(0, 0, 0), 0), "met: phase canary has no device to wait for");
}

fn rollout(audience: Membership, open_phase: usize) -> Rollout {
    let phase = |name: &str, percent| PhaseSpec {
        name: name.to_owned(),
        percent: Some(percent),
        selector: None,
        success_percent: 90,
        completed_percent: 80,
        min_completed: 1,
        max_wait_min: None,
    };
    let phases = vec![phase("canary", 10), phase("all", 100)];
    let plan = Spec { policy: PolicyKind::Progressive, phases, audience, ..spec() }.plan().expect("a plan");
    Rollout { state: RolloutState::Running, open_phase, ..Rollout::draft(rollout_id(1), plan) }
}

fn next(rollout: &Rollout, counts: [PhaseCounts; 2]) -> String {
    let now = at("2026-11-23T00:00:00Z");
    match advance(rollout, &counts, now, now) {
        Advance::Stay(reason) => format!("stay: {}", reason.code),
        Advance::Open { phase, .. } => format!("open {phase}"),
        Advance::Pause(reason) => format!("pause: {}", reason.code),
        Advance::Complete(reason) => format!("complete: {}", reason.code),
    }
}

#[test]
fn a_rollout_advances_phase_by_phase() {
    let mut running = rollout(Membership::Frozen, 0);
    assert_eq!(next(&running, [counts(1, 0, 0), counts(9, 0, 0)]), "stay: gate_waiting");
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 0, 0)]), "open 1");
    assert_eq!(next(&running, [counts(1, 0, 1), counts(9, 0, 0)]), "pause: gate_impossible");
    running.open_phase = 1;
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 8, 0)]), "stay: gate_met");
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 0, 1)]), "pause: gate_impossible");
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 7, 2)]), "complete: rollout_completed");
    running.state = RolloutState::Paused;
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 1, 0)]), "stay: paused");
    running.state = RolloutState::Cancelled;
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 9, 0)]), "stay: not_active");
}

#[test]
fn a_baseline_never_completes_and_an_ended_rollout_waits_for_activations() {
    let mut live = rollout(Membership::Live, 1);
    assert_eq!(next(&live, [counts(1, 1, 0), counts(9, 9, 0)]), "stay: gate_met");
    live.plan.ends_at = Some(at("2026-11-23T00:00:00Z"));
    assert_eq!(next(&live, [counts(1, 1, 0), counts(9, 2, 0)]), "complete: rollout_ended");
    let busy = PhaseCounts { verifying: 1, ..counts(9, 2, 0) };
    assert_eq!(next(&live, [counts(1, 1, 0), busy]), "stay: gate_waiting");
}

#[test]
fn counters_follow_the_assignments() {
    let mut counts = PhaseCounts { size: 3, ..PhaseCounts::default() };
    counts.move_one(None, AssignmentState::Downloading);
    counts.move_one(None, AssignmentState::Downloading);
    counts.move_one(Some(AssignmentState::Downloading), AssignmentState::Succeeded);
    assert_eq!((counts.downloading, counts.succeeded, counts.open(), counts.untouched()), (1, 1, 2, 1));
    let twice: PhaseCounts = [counts, counts].into_iter().sum();
    assert_eq!((twice.size, twice.downloading, twice.succeeded), (6, 2, 2));
}

proptest! {
    /// An impossible gate stays so whatever the open devices do, and one that is not can still be met.
    #[test]
    fn impossible_means_impossible(succeeded in 0u64..30, failed in 0u64..30, open in 0u64..30, percent in 0u32..=100) {
        let size = succeeded + failed + open;
        let phase = Phase { success_percent: percent, max_wait: None, ..phase() };
        let now = at("2026-11-23T00:00:00Z");
        let at_end = |more: u64| {
            let rest = size - succeeded - failed;
            evaluate(&phase, &counts(size, succeeded + more, failed + rest - more), now, now)
        };
        let impossible = matches!(evaluate(&phase, &counts(size, succeeded, failed), now, now), GateVerdict::Impossible(_));
        let best = at_end(size - succeeded - failed);
        prop_assert_eq!(impossible, !matches!(best, GateVerdict::Met(_)));
    }
}
