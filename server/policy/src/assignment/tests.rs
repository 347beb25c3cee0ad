use Reported as R;

use super::*;
use crate::{
    device::{Assignment, Deferral},
    fixture::{assignment, at, release, rollout_id, till},
};

fn short(state: State) -> &'static str {
    match state {
        State::Queued => "Q",
        State::Downloading => "D",
        State::Staged => "S",
        State::Activating => "A",
        State::Verifying => "V",
        State::Succeeded => "ok",
        State::RolledBack => "rb",
        State::Failed => "F",
        State::TimedOut => "T",
        State::Cancelled => "C",
        State::Expired => "X",
    }
}

/// One line an event, one column a state; `=` changes nothing, and what is not in capitals but for `ok` and `rb` is the
/// name of a refusal.
#[test]
fn the_whole_table() {
    let mut table = format!("{:22}", "");
    for state in State::ALL {
        table += &format!("{:>14}", short(state));
    }
    for event in Event::ALL {
        table += &format!("\n{:22}", format!("{event:?}"));
        for state in State::ALL {
            let cell = match transition(state, event) {
                Ok(next) if next == state => "=".to_owned(),
                Ok(next) => short(next).to_owned(),
                Err(illegal) => {
                    assert_eq!((illegal.state, illegal.event), (state, event));
                    format!("{:?}", illegal.refusal).to_lowercase()
                }
            };
            table += &format!("{cell:>14}");
        }
    }
    insta::assert_snapshot!(table);
}

/// Fails to compile when there is an event that the list does not have.
const fn place(event: Event) -> usize {
    match event {
        Event::DownloadGranted => 0,
        Event::ActivationGranted => 1,
        Event::Reported(reported) => match reported {
            R::Downloading => 2,
            R::Staged => 3,
            R::Deferred => 4,
            R::Activating => 5,
            R::Verifying => 6,
            R::Succeeded => 7,
            R::RolledBack => 8,
            R::Failed => 9,
            R::Cancelled => 10,
        },
        Event::FailedForNow => 11,
        Event::ActivatedAlone => 12,
        Event::SeenInstalled => 13,
        Event::Regressed => 14,
        Event::Requeued => 15,
        Event::Lapsed => 16,
        Event::Cancelled => 17,
        Event::Expired => 18,
        Event::Left => 19,
        Event::TimedOut => 20,
        Event::Retried => 21,
        Event::Skipped => 22,
    }
}

#[test]
fn the_list_of_events_is_complete() {
    let places: Vec<usize> = Event::ALL.into_iter().map(place).collect();
    assert_eq!(places, (0..Event::ALL.len()).collect::<Vec<_>>());
}

#[test]
fn from_activating_on_a_device_is_left_alone() {
    for state in [State::Activating, State::Verifying] {
        for event in [Event::Cancelled, Event::Expired, Event::Requeued] {
            let refusal = transition(state, event).expect_err("left alone").refusal;
            assert_eq!(refusal, Refusal::LeftAlone);
        }
    }
    let error = transition(State::Activating, Event::Cancelled).expect_err("left alone");
    let text = "an assignment that is activating does not allow Cancelled: it is left alone until it has finished";
    assert_eq!(error.to_string(), text);
}

#[test]
fn only_passing_failures_with_a_try_left_are_tried_again() {
    let event = |class, failures| Event::from_report(R::Failed, class, failures, 3);
    assert_eq!(event(Some(FailureClass::Transient), 1), Event::FailedForNow);
    assert_eq!(event(Some(FailureClass::Transient), 2), Event::Reported(R::Failed));
    assert_eq!(event(Some(FailureClass::Permanent), 0), Event::Reported(R::Failed));
    assert_eq!(event(None, 0), Event::Reported(R::Failed));
    let rolled_back = Event::from_report(R::RolledBack, Some(FailureClass::Transient), 0, 3);
    assert_eq!(rolled_back, Event::Reported(R::RolledBack));
    assert!(Event::FailedForNow.raises_attempt() && !rolled_back.raises_attempt());
}

#[test]
fn only_a_switch_that_nobody_granted_was_done_alone() {
    let mut alone = Vec::new();
    for event in Event::ALL {
        let Event::Reported(reported) = event else { continue };
        for state in State::ALL.into_iter().filter(|state| activated_alone(*state, reported)) {
            alone.push(format!("{reported:?} {}", short(state)));
        }
    }
    let wanted = ["Activating", "Verifying", "Succeeded", "RolledBack"]
        .map(|reported| ["Q", "D", "S", "C", "X"].map(|state| format!("{reported} {state}")).join(", "));
    assert_eq!(alone.join(", "), wanted.join(", "));
}

fn play(one: &mut Assignment, events: &[Event]) {
    for event in events {
        happen(one, till(1).id, *event, at("2026-11-23T12:00:00Z")).expect("a transition");
    }
}

fn one(state: State) -> Assignment {
    assignment(rollout_id(1), &release("2.2.0", 22), state)
}

#[test]
fn what_lapsed_goes_on_in_the_same_attempt_and_is_no_failure() {
    let mut it = one(State::Downloading);
    play(&mut it, &[Event::Lapsed]);
    assert_eq!((it.state, it.attempt, it.failures, it.lapsed), (State::Queued, 1, 0, true));
    assert!(it.is_on_device(), "its device may still be at it");
    play(&mut it, &[Event::Reported(R::Downloading), Event::DownloadGranted, Event::Reported(R::Staged)]);
    play(&mut it, &[Event::ActivationGranted, Event::Lapsed]);
    assert_eq!((it.state, it.attempt, it.failures, it.lapsed), (State::Staged, 1, 0, true));
    play(&mut it, &[Event::ActivatedAlone, Event::Reported(R::Succeeded)]);
    assert_eq!((it.state, it.attention_since), (State::Succeeded, None));
}

#[test]
fn tries_are_counted_by_failures_and_a_retry_begins_anew() {
    let mut it = one(State::Downloading);
    // Being superseded costs no try.
    play(&mut it, &[Event::Requeued, Event::DownloadGranted, Event::FailedForNow]);
    assert_eq!((it.attempt, it.failures, it.attention_since), (3, 1, None));
    play(&mut it, &[Event::DownloadGranted, Event::Reported(R::Failed)]);
    assert_eq!(it.attention_since, Some(at("2026-11-23T12:00:00Z")));
    play(&mut it, &[Event::Retried]);
    assert_eq!((it.state, it.attempt, it.failures, it.attention_since), (State::Queued, 4, 0, None));
}

#[test]
fn a_failure_is_acknowledged_once_somebody_has_looked_at_it() {
    let mut it = one(State::Verifying);
    play(&mut it, &[Event::TimedOut]);
    assert!(it.attention_since.is_some() && !it.is_acknowledged());
    play(&mut it, &[Event::Skipped]);
    assert!(it.state == State::Failed && it.is_acknowledged());
    // The late truth wins even then.
    play(&mut it, &[Event::SeenInstalled]);
    assert!(it.state == State::Succeeded && !it.is_acknowledged());
    play(&mut it, &[Event::Regressed]);
    assert!(it.state == State::Failed && it.attention_since.is_some());
}

#[test]
fn whoever_is_heard_of_is_not_silent_and_whoever_moves_is_not_deferred() {
    let mut it = Assignment { silent: true, begun: true, ..one(State::Activating) };
    play(&mut it, &[Event::Reported(R::Activating)]);
    assert!(!it.silent && it.begun);
    it = Assignment { deferred: Some(Deferral::Window), ..one(State::Staged) };
    play(&mut it, &[Event::ActivationGranted]);
    assert_eq!((it.deferred, it.begun), (None, false));
    // What is heard late is no beginning.
    play(&mut it, &[Event::Reported(R::Staged)]);
    assert_eq!((it.state, it.begun), (State::Activating, false));
    play(&mut it, &[Event::Reported(R::Activating)]);
    assert!(it.begun);
}

#[test]
fn who_activated_alone_has_begun_now() {
    let before = at("2026-11-20T00:00:00Z");
    let mut it = Assignment { granted_at: before, heard_at: before, lapsed: true, ..one(State::Staged) };
    play(&mut it, &[Event::ActivatedAlone]);
    let now = at("2026-11-23T12:00:00Z");
    assert_eq!((it.state, it.begun, it.lapsed), (State::Activating, true, false));
    assert_eq!((it.granted_at, it.heard_at), (now, now));
}
