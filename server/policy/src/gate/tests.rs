use std::time::Duration;

use callboard_proto::state::AssignmentState;
use proptest::prelude::*;

use super::*;
use crate::{
    device::{Assignment, Deferral},
    fixture::{assignment, at, release, rollout_id, spec},
    guard::{HaltAction, HaltRule, Streak},
    rollout::{PhaseSpec, PolicyKind, Rollout, RolloutState, Spec},
    selector::Selector,
};

fn phase() -> Phase {
    Phase {
        name: "canary".to_owned(),
        share: Share::Percent(10),
        success_percent: 90,
        completed_percent: 80,
        min_completed: 2,
        max_wait: Some(Duration::from_secs(3600)),
        soak: Duration::ZERO,
        approval: Approval::Auto,
    }
}

fn half() -> Phase {
    Phase { name: "half".to_owned(), share: Share::Percent(50), ..phase() }
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

fn opened() -> PhaseTimes {
    PhaseTimes { opened_at: at("2026-11-23T00:00:00Z"), ..PhaseTimes::default() }
}

fn counts(size: u64, succeeded: u64, failed: u64) -> PhaseCounts {
    PhaseCounts { size, succeeded, failed, ..PhaseCounts::default() }
}

fn plan(phases: Vec<Phase>) -> Plan {
    Plan { phases, ..spec().plan().expect("a plan") }
}

fn judge(phase: Phase, counts: PhaseCounts, times: PhaseTimes, after: u64) -> String {
    let rest = PhaseCounts { size: 10, ..PhaseCounts::default() };
    told(&plan(vec![phase, half()]), 0, &[counts, rest], times, after)
}

fn told(plan: &Plan, idx: usize, counts: &[PhaseCounts], times: PhaseTimes, after: u64) -> String {
    match evaluate(plan, idx, counts, times, times.opened_at + minutes(after)).expect("a verdict") {
        GateVerdict::Met(reason) => format!("met: {}", reason.text),
        GateVerdict::Soaking { reason, .. } => format!("soaking: {}", reason.text),
        GateVerdict::Unapproved(reason) => format!("unapproved: {}", reason.text),
        GateVerdict::Waiting(reason) => format!("waiting: {}", reason.text),
        GateVerdict::Impossible(reason) => format!("impossible: {}", reason.text),
    }
}

fn say(counts: PhaseCounts, after: u64) -> String {
    judge(phase(), counts, opened(), after)
}

#[test]
fn a_gate_waits_for_enough_completed_devices() {
    insta::assert_snapshot!(
        [
            say(counts(10, 0, 0), 0),
            say(counts(10, 7, 0), 59),
            say(counts(10, 8, 0), 0),
            say(counts(1, 0, 0), 0),
            say(counts(1, 1, 0), 0),
        ]
        .join("\n"),
        @"
        waiting: phase half opens when 8 more devices of phase canary succeed (0 of 10 completed, 8 are needed); from 2026-11-23T01:00:00Z on 2 are enough
        waiting: phase half opens when 1 more device of phase canary succeeds (7 of 10 completed, 8 are needed); from 2026-11-23T01:00:00Z on 2 are enough
        met: phase canary: 8 of 8 completed devices succeeded
        waiting: phase half opens when 1 more device of phase canary succeeds (0 of 1 completed, 1 is needed)
        met: phase canary: 1 of 1 completed devices succeeded
        "
    );
}

#[test]
fn a_gate_that_is_met_no_longer_forgets_all_but_when_its_phase_opened() {
    let met = PhaseTimes { soak_skipped: true, approved: true, ..opened().met(at("2026-11-23T03:00:00Z")) };
    assert_eq!(met.met_at, Some(at("2026-11-23T03:00:00Z")));
    assert_eq!(met.unmet(), opened());
}

#[test]
fn after_the_longest_wait_offline_devices_do_not_hold_it() {
    assert_eq!(say(counts(10, 2, 0), 60), "met: phase canary: 2 of 2 completed devices succeeded");
    assert_eq!(
        say(counts(10, 1, 0), 600),
        "waiting: phase half opens when 1 more device of phase canary succeeds (1 of 10 completed, 2 are needed)"
    );
}

#[test]
fn failures_keep_it_closed_and_at_last_for_good() {
    assert_eq!(say(counts(10, 9, 1), 0), "met: phase canary: 9 of 10 completed devices succeeded");
    let late = |timed_out, succeeded| PhaseCounts { timed_out, ..counts(10, succeeded, 0) };
    insta::assert_snapshot!(
        [
            say(counts(10, 7, 1), 0),
            say(counts(10, 3, 2), 0),
            // A late success may still come.
            say(late(2, 8), 0),
            say(late(2, 7), 0),
        ]
        .join("\n"),
        @"
        waiting: phase half opens when 2 more devices of phase canary succeed (7 of 8 completed devices succeeded, 90 % are needed)
        impossible: phase canary: 2 of 10 failed, so 90 % success cannot be reached any more
        waiting: phase half opens when some of the 2 devices of phase canary that timed out succeed after all (8 of 10 completed devices succeeded, 90 % are needed)
        waiting: phase half opens when 1 more device of phase canary succeeds, and some of the 2 that timed out after all (7 of 9 completed devices succeeded, 90 % are needed)
        "
    );
}

#[test]
fn acknowledged_failures_and_cancelled_devices_are_not_looked_at() {
    let acknowledged = PhaseCounts { acknowledged: 2, ..counts(10, 8, 2) };
    assert_eq!(say(acknowledged, 0), "met: phase canary: 8 of 8 completed devices succeeded");
    let cancelled = PhaseCounts { cancelled: 9, ..counts(10, 1, 0) };
    assert_eq!(say(cancelled, 0), "met: phase canary: 1 of 1 completed devices succeeded");
}

#[test]
fn acknowledging_failures_makes_no_successes() {
    let acknowledged =
        |size, succeeded, failed| PhaseCounts { acknowledged: failed, ..counts(size, succeeded, failed) };
    insta::assert_snapshot!(
        [
            say(acknowledged(2, 0, 2), 600),
            say(acknowledged(3, 0, 2), 0),
            say(acknowledged(3, 1, 1), 0),
            say(acknowledged(3, 2, 1), 0),
        ]
        .join("\n"),
        @"
        impossible: phase canary: acknowledged failures (2) are no successes, and its other devices (0) are fewer than must be through (2); open-phase opens phase half regardless
        impossible: phase canary: acknowledged failures (2) are no successes, and its other devices (1) are fewer than must be through (2); open-phase opens phase half regardless
        waiting: phase half opens when 1 more device of phase canary succeeds (1 of 2 completed, 2 are needed)
        met: phase canary: 2 of 2 completed devices succeeded
        "
    );
    // Behind the last phase there is nothing that they could open.
    let last = plan(vec![phase()]);
    let said = told(&last, 0, &[acknowledged(2, 0, 2)], opened(), 0);
    assert_eq!(said, "met: phase canary: 0 of 0 completed devices succeeded");
}

#[test]
fn a_phase_without_devices_opens_nothing_that_was_not_proven_before() {
    let pilot = Selector::parse("site = NYC-01").expect("a selector");
    let pilot = Phase { name: "pilot".to_owned(), share: Share::Selector(pilot), soak: minutes(60), ..phase() };
    let (none, some, good) = (counts(0, 0, 0), counts(3, 0, 0), counts(3, 3, 0));
    let gone = PhaseCounts { cancelled: 2, ..counts(2, 0, 0) };
    let say = |phases: &[&Phase], audience, idx, counts: &[PhaseCounts]| {
        let phases = phases.iter().map(|one| (*one).clone()).collect();
        told(&Plan { audience, ..plan(phases) }, idx, counts, opened(), 0)
    };
    let (frozen, live) = (Membership::Frozen, Membership::Live);
    let (canary, half) = (&Phase { soak: minutes(60), ..phase() }, &half());
    let manual = &Phase { approval: Approval::Manual, ..canary.clone() };
    insta::assert_snapshot!(
        [
            // A mistake in a selector, or nobody needs the release.
            say(&[&pilot, half], frozen, 0, &[none, some]),
            say(&[&pilot, half], live, 0, &[none, some]),
            say(&[canary, &pilot, half], frozen, 1, &[good, none, some]),
            // Nobody is left of the first phase.
            say(&[canary, half], frozen, 0, &[gone, some]),
            // A small fleet: the canary was the only one of its half.
            say(&[half, canary, half], frozen, 1, &[good, none, some]),
            say(&[half, manual, half], frozen, 1, &[good, none, some]),
            say(&[half, canary, half], frozen, 1, &[counts(3, 0, 3), none, some]),
            // Nobody needs anything, or nobody is there yet.
            say(&[&pilot, half], frozen, 0, &[none, none]),
            say(&[&pilot, half], live, 0, &[none, none]),
            // Nothing opens after the last one.
            say(&[canary, half], live, 1, &[some, none]),
        ]
        .join("\n"),
        @"
        impossible: the selector of phase pilot takes no device that needs the release, so nothing can be learned from it; open-phase opens phase half regardless
        impossible: the selector of phase pilot takes no device that needs the release, so nothing can be learned from it; open-phase opens phase half regardless
        impossible: the selector of phase pilot takes no device that needs the release, so nothing can be learned from it; open-phase opens phase half regardless
        impossible: phase canary has no device, and none has succeeded before it, so nothing can be learned from it; open-phase opens phase half regardless
        met: phase canary has no device to wait for
        unapproved: phase half opens when somebody approves phase canary (phase canary has no device to wait for)
        impossible: phase canary has no device, and none has succeeded before it, so nothing can be learned from it; open-phase opens phase half regardless
        met: phase pilot has no device to wait for
        waiting: phase pilot waits for the first device that matches
        met: phase half has no device to wait for
        "
    );
}

#[test]
fn a_gate_that_is_changed_to_ask_for_more_devices_is_not_met_before_it_has_them() {
    let met = opened().met(at("2026-11-23T00:30:00Z"));
    let stays = |min_completed, completed_percent, counts| {
        let asks = Phase { min_completed, completed_percent, max_wait: None, soak: minutes(60), ..phase() };
        let rest = PhaseCounts { size: 10, ..PhaseCounts::default() };
        let after = after_edit(&plan(vec![asks, half()]), 0, &[counts, rest], met, at("2026-11-23T00:40:00Z"));
        assert!(after == met || after == opened(), "{after:?}");
        after == met
    };
    assert!(stays(2, 80, counts(10, 8, 0)) && stays(2, 50, counts(10, 8, 0)), "it has them");
    assert!(!stays(2, 81, counts(10, 8, 0)) && !stays(9, 80, counts(10, 8, 0)), "it has not");
}

#[test]
fn a_soak_follows_the_gate_and_an_approval_follows_the_soak() {
    let soaked = || Phase { soak: minutes(180), approval: Approval::Manual, ..phase() };
    let met = PhaseTimes { met_at: Some(opened().opened_at + minutes(30)), ..opened() };
    let say = |counts, times, after| judge(soaked(), counts, times, after);
    let late = PhaseCounts { size: 20, ..counts(10, 8, 0) };
    insta::assert_snapshot!(
        [
            say(counts(10, 1, 0), opened(), 0),
            say(counts(10, 8, 0), opened(), 30),
            say(counts(10, 8, 0), met, 200),
            // Late joiners do not take back that it was met.
            say(late, met, 209),
            say(counts(10, 8, 0), met, 210),
            say(counts(10, 8, 0), PhaseTimes { approved: true, ..met }, 210),
            say(counts(10, 8, 0), PhaseTimes { soak_skipped: true, ..met }, 31),
            // Too many have failed since.
            say(PhaseCounts { timed_out: 1, ..counts(10, 8, 0) }, met, 100),
        ]
        .join("\n"),
        @"
        waiting: phase half opens when 7 more devices of phase canary succeed, 3 h of soak have passed and somebody approves phase canary (1 of 10 completed, 8 are needed); from 2026-11-23T01:00:00Z on 2 are enough
        soaking: phase half opens when the soak has run 3 h more (until 2026-11-23T03:30:00Z) and somebody approves phase canary (phase canary: 8 of 8 completed devices succeeded)
        soaking: phase half opens when the soak has run 10 min more (until 2026-11-23T03:30:00Z) and somebody approves phase canary (phase canary: 8 of 8 completed devices succeeded)
        soaking: phase half opens when the soak has run 1 min more (until 2026-11-23T03:30:00Z) and somebody approves phase canary (phase canary: 8 of 8 completed devices succeeded)
        unapproved: phase half opens when somebody approves phase canary (phase canary: 8 of 8 completed devices succeeded)
        met: phase canary: 8 of 8 completed devices succeeded
        unapproved: phase half opens when somebody approves phase canary (phase canary: 8 of 8 completed devices succeeded)
        waiting: phase half opens when 1 more device of phase canary succeeds, 3 h of soak have passed and somebody approves phase canary (8 of 9 completed devices succeeded, 90 % are needed)
        "
    );
}

#[test]
fn operators_approve_skip_and_open_when_there_is_something_to() {
    let mut running = rollout(Membership::Frozen, 0);
    running.plan.phases[0].soak = minutes(180);
    running.plan.phases[0].approval = Approval::Manual;
    let soaking = PhaseTimes { met_at: Some(opened().opened_at), ..opened() };
    let say = |rollout: &Rollout, counts: PhaseCounts, times, after, word| match by_hand(
        rollout,
        &[counts, counts],
        times,
        opened().opened_at + minutes(after),
        word,
    ) {
        Ok(Deed::Nothing) => "nothing".to_owned(),
        Ok(Deed::Note(times)) => format!("skipped {}, approved {}", times.soak_skipped, times.approved),
        Ok(Deed::Open { phase, stood }) => format!("opens {phase}: {stood}"),
        Err(why) => format!("refused: {why}"),
    };
    let good = counts(2, 2, 0);
    let mut said = vec![];
    for (counts, times, after) in [(counts(2, 0, 0), opened(), 0), (good, soaking, 10), (good, soaking, 180)] {
        for word in [Word::Approve, Word::SkipSoak, Word::Open(0), Word::Open(1), Word::Open(2)] {
            said.push(format!("{word:?} after {after} min: {}", say(&running, counts, times, after, word)));
        }
    }
    running.plan.phases[0].approval = Approval::Auto;
    running.plan.phases[0].soak = Duration::ZERO;
    said.push(say(&running, counts(2, 0, 0), opened(), 0, Word::Approve));
    said.push(say(&running, counts(2, 0, 0), opened(), 0, Word::SkipSoak));
    running.state = RolloutState::Cancelled;
    said.push(say(&running, counts(2, 0, 0), opened(), 0, Word::Open(1)));
    insta::assert_snapshot!(said.join("\n"), @"
    Approve after 0 min: refused: phase all opens when 2 more devices of phase canary succeed, 3 h of soak have passed and somebody approves phase canary (0 of 2 completed, 2 are needed); there is nothing to approve yet, and open-phase opens it regardless
    SkipSoak after 0 min: refused: the soak of phase canary has not begun: phase all opens when 2 more devices of phase canary succeed, 3 h of soak have passed and somebody approves phase canary (0 of 2 completed, 2 are needed)
    Open(0) after 0 min: nothing
    Open(1) after 0 min: opens 1: phase all opens when 2 more devices of phase canary succeed, 3 h of soak have passed and somebody approves phase canary (0 of 2 completed, 2 are needed)
    Open(2) after 0 min: refused: phases open in their order, and phase all comes first; open that one
    Approve after 10 min: refused: phase all opens when the soak has run 2 h 50 min more (until 2026-11-23T03:00:00Z) and somebody approves phase canary (phase canary: 2 of 2 completed devices succeeded); wait for the soak, or end it by skip-soak, and approve then
    SkipSoak after 10 min: skipped true, approved false
    Open(0) after 10 min: nothing
    Open(1) after 10 min: opens 1: phase all opens when the soak has run 2 h 50 min more (until 2026-11-23T03:00:00Z) and somebody approves phase canary (phase canary: 2 of 2 completed devices succeeded)
    Open(2) after 10 min: refused: phases open in their order, and phase all comes first; open that one
    Approve after 180 min: skipped false, approved true
    SkipSoak after 180 min: nothing
    Open(0) after 180 min: nothing
    Open(1) after 180 min: opens 1: phase all opens when somebody approves phase canary (phase canary: 2 of 2 completed devices succeeded)
    Open(2) after 180 min: refused: phases open in their order, and phase all comes first; open that one
    refused: phase canary needs no approval; the next phase opens by itself or by open-phase
    refused: phase canary has no soak
    refused: rollout spring is cancelled; only a running or paused one has an open phase
    ");
}

#[test]
fn lengths_of_time_are_told_in_two_units() {
    let told = |seconds| words::span(Duration::from_secs(seconds));
    assert_eq!(
        [0, 59, 60, 3600, 7800, 7829, 90_060].map(told),
        ["0 s", "59 s", "1 min", "1 h", "2 h 10 min", "2 h 10 min", "1 d 1 h"]
    );
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
        soak_min: 0,
        approval: Approval::Auto,
    };
    let phases = vec![phase("canary", 10), phase("all", 100)];
    let plan = Spec { policy: PolicyKind::Progressive, phases, audience, ..spec() }.plan().expect("a plan");
    Rollout { state: RolloutState::Running, open_phase, ..Rollout::draft(rollout_id(1), plan) }
}

fn next(rollout: &Rollout, counts: [PhaseCounts; 2]) -> String {
    then(rollout, counts, opened(), 0)
}

fn then(rollout: &Rollout, counts: [PhaseCounts; 2], times: PhaseTimes, after: u64) -> String {
    match advance(rollout, &counts, &Streak::default(), times, opened().opened_at + minutes(after)) {
        Advance::Stay(reason) => format!("stay: {}", reason.code),
        Advance::Meet(reason) => format!("meet: {}", reason.code),
        Advance::Unmeet(reason) => format!("unmeet: {}", reason.code),
        Advance::Open { phase, .. } => format!("open {phase}"),
        Advance::Pause(reason) => format!("pause: {}", reason.code),
        Advance::Cancel(reason) => format!("cancel: {}", reason.code),
        Advance::RollBack { to, reason } => format!("back to {to}: {}", reason.code),
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
    assert_eq!(
        next(&running, [counts(1, 1, 0), counts(9, 7, 2)]),
        "pause: gate_impossible",
        "the last gate counts too"
    );
    let late = PhaseCounts { timed_out: 1, ..counts(9, 8, 0) };
    assert_eq!(next(&running, [counts(1, 1, 0), late]), "pause: gate_waiting", "nobody is left to wait for");
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 9, 0)]), "complete: rollout_completed");
    running.state = RolloutState::Paused;
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 1, 0)]), "stay: paused");
    running.state = RolloutState::Cancelled;
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 9, 0)]), "stay: not_active");
}

#[test]
fn a_halt_comes_before_everything_else() {
    let mut running = rollout(Membership::Frozen, 1);
    let rule = |max_failures, action| HaltRule {
        share: None,
        max_failures: Some(max_failures),
        consecutive_failures: None,
        max_silent: None,
        action,
    };
    running.plan.halt = vec![rule(0, HaltAction::Pause)];
    // The last device fails, after which the rollout would be complete.
    let done = [counts(1, 1, 0), counts(9, 8, 1)];
    assert_eq!(next(&running, done), "pause: halted");
    running.state = RolloutState::Paused;
    assert_eq!(next(&running, done), "stay: paused");
    running.plan.halt.push(rule(0, HaltAction::Cancel));
    assert_eq!(next(&running, done), "cancel: halted");
    running.plan.halt.push(rule(0, HaltAction::RollBackTo("pos-app@2.1.0".to_owned())));
    assert_eq!(next(&running, done), "back to pos-app@2.1.0: halted");
    assert_eq!(next(&running, [counts(1, 1, 0), counts(9, 8, 0)]), "stay: paused");
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
fn a_soak_begins_once_and_anew_only_when_success_falls_below() {
    let mut running = rollout(Membership::Frozen, 0);
    running.plan.phases[0].soak = minutes(60);
    let (good, rest) = (counts(10, 10, 0), counts(9, 0, 0));
    let met = PhaseTimes { met_at: Some(opened().opened_at), ..opened() };
    assert_eq!(then(&running, [good, rest], opened(), 0), "meet: gate_soaking");
    assert_eq!(then(&running, [good, rest], met, 59), "stay: gate_soaking");
    assert_eq!(then(&running, [good, rest], met, 60), "open 1");
    // 9 of 10 is enough, 8 of 9 is not, and 8 of 10 can never be again.
    assert_eq!(then(&running, [counts(10, 9, 1), rest], met, 59), "stay: gate_soaking");
    assert_eq!(then(&running, [counts(10, 8, 1), rest], met, 59), "unmeet: gate_waiting");
    assert_eq!(then(&running, [counts(10, 8, 2), rest], met, 59), "unmeet: gate_impossible");
    assert_eq!(then(&running, [counts(10, 8, 2), rest], opened(), 59), "pause: gate_impossible");
    running.state = RolloutState::Paused;
    assert_eq!(then(&running, [good, rest], opened(), 0), "meet: gate_soaking", "the clock runs while it is paused");
    assert_eq!(then(&running, [good, rest], met, 60), "stay: paused");
}

#[test]
fn the_soak_of_the_last_phase_comes_before_the_end() {
    let mut running = rollout(Membership::Frozen, 1);
    running.plan.phases[1].soak = minutes(60);
    let met = PhaseTimes { met_at: Some(opened().opened_at), ..opened() };
    let (first, all) = (counts(1, 1, 0), counts(9, 9, 0));
    assert_eq!(then(&running, [first, all], opened(), 0), "meet: gate_soaking");
    assert_eq!(then(&running, [first, all], met, 59), "stay: gate_soaking");
    assert_eq!(then(&running, [first, all], met, 60), "complete: rollout_completed");
    assert_eq!(then(&running, [first, counts(9, 8, 1)], opened(), 0), "pause: gate_impossible");
    running.plan.ends_at = Some(opened().opened_at);
    assert_eq!(then(&running, [first, all], met, 1), "complete: rollout_ended");
}

#[test]
fn counters_follow_the_assignments() {
    let mut counts = PhaseCounts { size: 3, ..PhaseCounts::default() };
    let one = |state| assignment(rollout_id(1), &release("2.2.0", 22), state);
    let mut waits = one(AssignmentState::Staged);
    counts.recount(None, Some(&one(AssignmentState::Downloading)));
    counts.recount(None, Some(&waits));
    counts.recount(Some(&one(AssignmentState::Downloading)), Some(&one(AssignmentState::Succeeded)));
    assert_eq!((counts.staged, counts.succeeded, counts.open(), counts.untouched()), (1, 1, 2, 1));
    let was = waits.clone();
    waits.deferred = Some(Deferral::Window);
    counts.recount(Some(&was), Some(&waits));
    let twice: PhaseCounts = [counts, counts].into_iter().sum();
    assert_eq!((twice.size, twice.staged, twice.deferred.window, twice.succeeded), (6, 2, 2, 2));
    let silent = Assignment { silent: true, ..one(AssignmentState::Verifying) };
    counts.recount(Some(&waits), Some(&silent));
    assert_eq!((counts.staged, counts.deferred.total(), counts.verifying, counts.silent), (0, 0, 1, 1));
    // A failure that nobody has looked at yet needs attention, else it is acknowledged.
    let failed = Assignment { attention_since: Some(opened().opened_at), ..one(AssignmentState::Failed) };
    counts.recount(Some(&silent), Some(&failed));
    assert_eq!((counts.silent, counts.failed, counts.acknowledged), (0, 1, 0));
    counts.recount(Some(&failed), Some(&Assignment { attention_since: None, ..failed.clone() }));
    assert_eq!((counts.failed, counts.acknowledged), (1, 1));
}

proptest! {
    /// An impossible gate stays so whatever the open devices do, and one that is not can still be met.
    #[test]
    fn impossible_means_impossible(succeeded in 0u64..30, failed in 0u64..30, open in 0u64..30, percent in 0u32..=100) {
        let size = succeeded + failed + open;
        let phase = Phase { success_percent: percent, max_wait: None, ..phase() };
        let judge = |counts| evaluate(&plan(vec![phase.clone()]), 0, &[counts], opened(), opened().opened_at);
        let impossible = matches!(judge(counts(size, succeeded, failed)), Some(GateVerdict::Impossible(_)));
        let best = judge(counts(size, size - failed, failed));
        prop_assert_eq!(impossible, !matches!(best, Some(GateVerdict::Met(_))));
    }

    /// The number of devices that is told to be missing is right: with that many more successes it is met, and with
    /// one less it is not.
    #[test]
    fn the_missing_successes_are_what_is_missing(
        succeeded in 0u64..30, failed in 0u64..30, open in 0u64..30, percent in 1u32..=100, min in 1u32..10,
    ) {
        let phase = Phase { success_percent: percent, min_completed: min, max_wait: None, ..phase() };
        let judge = |more: u64| {
            let counts = counts(succeeded + failed + open, succeeded + more, failed);
            evaluate(&plan(vec![phase.clone(), half()]), 0, &[counts, counts], opened(), opened().opened_at).expect("a verdict")
        };
        if let GateVerdict::Waiting(reason) = judge(0) {
            let told = reason.text.split(" when ").nth(1).and_then(|rest| rest.split(' ').next());
            let more: u64 = told.and_then(|word| word.parse().ok()).expect("a number");
            prop_assert!(matches!(judge(more), GateVerdict::Met(_)), "{}", reason.text);
            prop_assert!(matches!(judge(more - 1), GateVerdict::Waiting(_)), "{}", reason.text);
        }
    }
}
