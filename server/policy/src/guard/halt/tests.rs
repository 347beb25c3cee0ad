use callboard_proto::state::AssignmentState as S;

use super::*;
use crate::fixture::{assignment, at, installed, release, rollout_id, spec, till};

fn rule(action: HaltAction) -> HaltRule {
    HaltRule { share: None, max_failures: None, consecutive_failures: None, max_silent: None, action }
}

fn totals(succeeded: u64, rolled_back: u64, timed_out: u64) -> PhaseCounts {
    PhaseCounts { size: 100, succeeded, rolled_back, timed_out, ..PhaseCounts::default() }
}

fn says(rule: &HaltRule, totals: PhaseCounts, streak: usize) -> String {
    let streak = Streak((0..streak).filter_map(|n| AssignmentId::from_slice(&[u8::try_from(n).ok()?; 16])).collect());
    let found = tripped(std::slice::from_ref(rule), RolloutState::Running, &totals, &streak);
    found.map_or_else(String::new, |(_, reason)| reason.text)
}

#[test]
fn a_share_of_failures_says_nothing_before_enough_devices_are_through() {
    let share = Some(FailureShare { percent: 20, min_completed: 5 });
    let rule = HaltRule { share, ..rule(HaltAction::Pause) };
    assert_eq!(says(&rule, totals(0, 4, 0), 0), "");
    assert_eq!(says(&rule, totals(5, 1, 0), 0), "", "one of six is less than a fifth");
    let tripped = "halt: 1 of 5 completed devices failed, which is 20 % or more";
    assert_eq!(says(&rule, totals(4, 1, 0), 0), tripped);
    assert_eq!(says(&rule, totals(4, 0, 1), 0), tripped, "one that timed out has failed until it says otherwise");
    assert_eq!(says(&rule, PhaseCounts { acknowledged: 1, ..totals(4, 1, 0) }, 0), "");
    let one = Some(FailureShare { percent: 1, min_completed: 1 });
    assert_eq!(says(&HaltRule { share: one, ..rule }, totals(900, 0, 0), 0), "", "no failure is no share of them");
}

#[test]
fn so_many_failures_are_borne_and_not_one_more() {
    let rule = HaltRule { max_failures: Some(2), ..rule(HaltAction::Pause) };
    assert_eq!(says(&rule, totals(0, 1, 1), 0), "");
    assert_eq!(says(&rule, totals(90, 2, 1), 0), "halt: 3 devices failed (at most 2 may)");
    let none = HaltRule { max_failures: Some(0), ..rule };
    assert_eq!(says(&none, totals(0, 0, 0), 0), "");
    assert_eq!(says(&none, totals(0, 1, 0), 0), "halt: 1 device failed (at most 0 may)");
}

#[test]
fn failures_in_a_row_and_silent_devices_halt_too() {
    let row = HaltRule { consecutive_failures: Some(3), ..rule(HaltAction::Pause) };
    assert_eq!(says(&row, totals(0, 9, 0), 2), "");
    assert_eq!(says(&row, totals(0, 9, 0), 3), "halt: 3 devices failed one after the other (3 halt it)");
    let silent = HaltRule { max_silent: Some(1), ..rule(HaltAction::Pause) };
    assert_eq!(says(&silent, PhaseCounts { silent: 1, ..totals(0, 0, 0) }, 0), "");
    assert_eq!(
        says(&silent, PhaseCounts { silent: 2, ..totals(0, 0, 0) }, 0),
        "halt: 2 devices are silent (at most 1 may be)"
    );
}

#[test]
fn the_hardest_action_wins_and_a_pause_does_not_stop_the_harder_ones() {
    let borne = |n, action| HaltRule { max_failures: Some(n), ..rule(action) };
    let back = || HaltAction::RollBackTo("pos-app@2.1.0".to_owned());
    let rules = [borne(0, HaltAction::Pause), borne(2, back()), borne(1, HaltAction::Cancel)];
    let action =
        |state, failures| tripped(&rules, state, &totals(0, failures, 0), &Streak::default()).map(|(action, _)| action);
    assert_eq!(action(RolloutState::Running, 0), None);
    assert_eq!(action(RolloutState::Running, 1), Some(HaltAction::Pause));
    assert_eq!(action(RolloutState::Paused, 1), None, "it is done already");
    assert_eq!(action(RolloutState::Paused, 2), Some(HaltAction::Cancel));
    assert_eq!(action(RolloutState::Running, 3), Some(back()));
    assert_eq!(action(RolloutState::Cancelled, 3), None);
    assert_eq!(action(RolloutState::Completed, 3), None);
}

#[test]
fn a_streak_is_of_devices_and_ends_with_a_success() {
    let one = |n: u8, state| {
        let id = AssignmentId::from_slice(&[n; 16]).expect("16 bytes");
        let attention_since = is_failure(state).then(|| at("2026-11-23T12:00:00Z"));
        Assignment { id, attention_since, ..assignment(rollout_id(1), &release("2.2.0", 22), state) }
    };
    let mut streak = Streak::default();
    assert!(streak.note(Some(S::Verifying), &one(1, S::RolledBack)));
    assert!(streak.note(Some(S::Verifying), &one(2, S::TimedOut)));
    assert!(!streak.note(Some(S::TimedOut), &one(2, S::Failed)), "the same device");
    assert_eq!(streak.0.len(), 2);
    assert!(streak.note(Some(S::RolledBack), &one(1, S::Queued)), "it is tried again");
    let acknowledged = Assignment { attention_since: None, ..one(2, S::Failed) };
    assert!(streak.note(Some(S::Failed), &acknowledged));
    assert_eq!(streak, Streak::default());
    streak.note(Some(S::Downloading), &one(3, S::Failed));
    assert!(!streak.note(Some(S::Succeeded), &one(4, S::Succeeded)), "an old success ends nothing");
    assert!(streak.note(Some(S::Verifying), &one(4, S::Succeeded)));
    assert_eq!(streak, Streak::default());
}

#[test]
fn a_device_that_begins_anew_is_not_counted_twice() {
    let mut streak = Streak((1..4).filter_map(|n| AssignmentId::from_slice(&[n; 16])).collect());
    let [_, second, _] = streak.0[..] else { panic!("three") };
    assert!(streak.forget(second));
    assert!(!streak.forget(second));
    assert_eq!((streak.0.len(), streak.0.contains(&second)), (2, false));
}

#[test]
fn a_release_can_be_taken_back_to_an_older_one_that_devices_still_accept() {
    let new = Release { min_floor: 20, ..release("2.2.0", 22) };
    let check = |target: &Release| check_target(&new, target).err().unwrap_or_default();
    assert_eq!(check(&release("2.1.0", 21)), "");
    assert_eq!(check(&release("2.0.0", 20)), "");
    assert_eq!(
        check(&release("1.9.0", 19)),
        "pos-app 1.9.0 has counter 19, and devices that got pos-app 2.2.0 refuse everything below 20; \
         name a release at or above it"
    );
    assert_eq!(check(&release("2.3.0", 23)), "pos-app 2.3.0 is not older than pos-app 2.2.0; name an older release");
    assert_eq!(check(&new), "pos-app 2.2.0 is not older than pos-app 2.2.0; name an older release");
    assert!(check(&Release { epoch: 0, ..release("2.1.0", 99) }).contains("below epoch 1"));
    let other = Release { product: "os".parse().expect("a name"), ..release("2.1.0", 21) };
    assert!(check(&other).contains("another product"));
}

#[test]
fn a_device_with_a_higher_floor_could_not_go_back() {
    let (new, target) = (release("2.2.0", 22), release("2.0.0", 20));
    let plan = spec().plan().expect("a plan");
    let stranded = |device: &Device| stranded(&new, &target, &plan, device, at("2026-11-23T12:00:00Z"));
    assert_eq!(stranded(&till(1)), None);
    let mut cautious = till(2);
    cautious.installed[0].floor = 21;
    assert_eq!(stranded(&cautious).as_deref(), Some("release counter 1.20 is below the device's floor 1.21"));
    let mut newer = till(3);
    newer.installed = vec![installed("2.3.0", 23)];
    assert_eq!(stranded(&newer), None, "it never gets the release");
}
