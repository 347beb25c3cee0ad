//! The state machine: a successful update, every state with every event, and random walks.

use proptest::prelude::*;

use super::*;

fn order(n: u8) -> Order {
    Order {
        attempt: attempt(n),
        release: Digest::of(&[n]),
        product: "pos-app".parse().expect("a name"),
        version: "1.0".parse().expect("a version"),
        epoch: 1,
        counter: u64::from(n),
        min_floor: 0,
        restart: true,
        reboot: false,
        hooks: Vec::new(),
        rollback: Rollback::Safe,
        needs_contact: false,
        max_postpone_s: None,
        dir: Digest::of(&[n]).short(),
        bytes_total: 10,
        trial_tries: 3,
    }
}

fn attempt(n: u8) -> Attempt {
    let id = format!("0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c{n:02x}");
    Attempt { assignment_id: id.parse().expect("an id"), attempt: 1 }
}

fn tree() -> Digest {
    Digest::of(b"tree")
}

fn busy(phase: Phase) -> State {
    State::Busy(Box::new(Task { order: order(1), transitions: 0, phase, right: None, course: Course::default() }))
}

fn every_phase() -> Vec<Phase> {
    let tree = tree();
    let previous = Previous::Link("versions/old".to_owned());
    let failure = permanent(Code::Internal, "y");
    vec![
        Phase::Accepted,
        Phase::Downloading,
        Phase::Staging,
        Phase::Staged { tree },
        Phase::Waiting { tree: None },
        Phase::Waiting { tree: Some(tree) },
        Phase::Pre { tree },
        Phase::Preparing { tree, previous: previous.clone() },
        Phase::Switching { tree, previous: previous.clone() },
        Phase::Trial { tree, previous: previous.clone(), tries_left: 2, restarted: false },
        Phase::Trial { tree, previous: previous.clone(), tries_left: 0, restarted: true },
        Phase::Committing { tree, previous: previous.clone(), tries: 0 },
        Phase::Committing { tree, previous: previous.clone(), tries: MAX_TRIES },
        Phase::Committed,
        Phase::RollingBack { previous: previous.clone(), tries: 0, failure: failure.clone() },
        Phase::RollingBack { previous, tries: MAX_TRIES, failure: failure.clone() },
        Phase::RolledBack { failure: failure.clone() },
        Phase::Cleanup { end: End::Reported },
        Phase::Cleanup { end: End::Cancelled },
        Phase::Cleanup { end: End::Failed(failure.clone()) },
        Phase::Inconsistent { failure, stuck: None },
    ]
}

fn every_event() -> Vec<Event> {
    vec![
        Event::Started,
        Event::Ordered { order: order(1), activate: false, right: None },
        Event::Ordered { order: order(1), activate: true, right: None },
        Event::Ordered { order: order(2), activate: true, right: None },
        Event::Held { right: None },
        Event::Withdrawn,
        alone(),
        Event::Cancelled { attempt: attempt(1), release: Digest::of(&[1]) },
        Event::Cancelled { attempt: attempt(2), release: Digest::of(&[2]) },
        Event::Prepared,
        Event::Fetched,
        Event::Unpacked { tree: tree() },
        Event::Inspected { previous: Previous::Nothing, programs: Vec::new() },
        deferred(1),
        Event::Ready { backup_at: None },
        Event::Undone,
        Event::Damaged,
        Event::Flipped { boot: "first".to_owned() },
        Event::Turned { boot: "first".to_owned() },
        Event::Recovered { boot: "second".to_owned() },
        Event::GoesDown,
        Event::Resolved { keep: true },
        Event::Resolved { keep: false },
        Event::Restarted,
        Event::Healthy,
        Event::Recorded,
        Event::Reverted,
        Event::Cleaned,
        Event::Acknowledged,
        settled(),
        Event::Failed(transient(Code::Internal, "it broke")),
    ]
}

fn deferred(minutes: i64) -> Event {
    let at = Timestamp::from_millis(1_795_000_000_000 + minutes * 60_000);
    Event::Deferred { failure: transient(Code::HookDeferred, "a sale is open"), at, backup_at: None }
}

/// An occasion, whether or not there is a right for it.
fn alone() -> Event {
    let now = callboard_proto::time::Timestamp::from_millis(1_795_000_900_000);
    Event::Alone(Occasion { on: ActivateOn::Now, now, boot: "first".to_owned() })
}

fn settled() -> Event {
    let event = report::Event::Failed;
    Event::Settled {
        attempt: attempt(3),
        release: Digest::of(&[3]),
        event,
        failure: Some(permanent(Code::WrongHardware, "")),
    }
}

fn name(state: &State) -> String {
    format!("{:?}", state.wire())
}

/// Runs `events` from idle and returns the names of the states passed and everything said.
fn story(events: &[Event]) -> (Vec<String>, Vec<report::Event>) {
    let (mut state, mut names, mut said) = (State::Idle, Vec::new(), Vec::new());
    for event in events {
        let (next, effects) = step(&state, event.clone());
        names.push(name(&next));
        said.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Report { event, .. } => Some(*event),
            _ => None,
        }));
        state = next;
    }
    (names, said)
}

fn until_trial() -> Vec<Event> {
    vec![
        Event::Ordered { order: order(1), activate: true, right: None },
        Event::Prepared,
        Event::Fetched,
        Event::Unpacked { tree: tree() },
        Event::Ordered { order: order(1), activate: true, right: None },
        Event::Inspected { previous: Previous::Nothing, programs: Vec::new() },
        Event::Ready { backup_at: None },
        Event::Flipped { boot: "first".to_owned() },
        Event::Restarted,
    ]
}

#[test]
fn a_healthy_update_passes_every_state_and_reports_each_step_once() {
    let mut events = until_trial();
    events.extend([Event::Healthy, Event::Recorded, Event::Acknowledged, Event::Cleaned]);
    let (names, said) = story(&events);
    let wanted = "Accepted Downloading Staging Staged Pre Pre Switching Trial Trial Committing Committed Cleanup Idle";
    assert_eq!(names.join(" "), wanted);
    use report::Event::{Activating, Downloading, Staged, Succeeded, Verifying};
    assert_eq!(said, [Downloading, Staged, Activating, Verifying, Succeeded]);
}

#[test]
fn the_switch_needs_the_grant_and_waits_for_nobody_to_hear_that_it_begins() {
    let pre = until_trial()[..6].iter().fold(State::Idle, |state, event| step(&state, event.clone()).0);
    let (_, effects) = step(&pre, until_trial()[6].clone());
    let says = |effect: &Effect| matches!(effect, Effect::Report { event: report::Event::Activating, .. });
    assert!(says(&effects[0]) && effects[1..] == [Effect::Work(Work::Flip)], "{effects:?}");
}

#[test]
fn an_unhealthy_version_is_rolled_back_and_says_why() {
    let mut events = until_trial();
    events.extend([Event::Failed(permanent(Code::HealthCheck, "exit 1")), Event::Reverted, Event::Acknowledged]);
    let (names, said) = story(&events);
    assert_eq!(names[9..].join(" "), "RollingBack RolledBack Cleanup");
    assert_eq!(said.last(), Some(&report::Event::RolledBack));
}

#[test]
fn the_third_interrupted_trial_is_the_last() {
    let mut events = until_trial();
    events.extend([Event::Started, Event::Started, Event::Started]);
    let (names, _) = story(&events);
    assert_eq!(names[9..].join(" "), "Trial Trial RollingBack");
}

#[test]
fn an_activation_that_was_granted_is_asked_for_again_after_a_restart() {
    let mut events = until_trial();
    events.truncate(5);
    events.extend([Event::Started, Event::Ordered { order: order(1), activate: true, right: None }]);
    let (names, _) = story(&events);
    assert_eq!(names[4..].join(" "), "Pre Waiting Pre");
}

#[test]
fn an_activation_that_began_is_neither_cancelled_nor_held_nor_replaced() {
    for phase in every_phase().into_iter().filter(|phase| !phase.is_before_switch() && !busy(phase.clone()).is_ended())
    {
        for event in [
            Event::Held { right: None },
            Event::Cancelled { attempt: attempt(1), release: Digest::of(&[1]) },
            Event::Ordered { order: order(2), activate: true, right: None },
        ] {
            let state = busy(phase.clone());
            assert_eq!(step(&state, event.clone()), (state.clone(), Vec::new()), "{phase:?} {event:?}");
        }
    }
}

#[test]
fn every_state_takes_every_event_and_keeps_the_rules() {
    for phase in every_phase() {
        for event in every_event() {
            let before = busy(phase.clone());
            let (after, effects) = step(&before, event.clone());
            let context = format!("{phase:?} + {event:?} -> {after:?}");
            let works = effects.iter().filter(|effect| matches!(effect, Effect::Work(_))).count();
            assert!(works <= 1, "one work at a time: {context}");
            let repeated = matches!(event, Event::Started | Event::Settled { .. });
            assert!(after != before || repeated || effects.is_empty(), "no effect without a change: {context}");
            if !phase.is_before_switch() && !before.is_ended() {
                let kept = after.task().is_some_and(|task| !task.phase.is_before_switch());
                assert!(kept, "no way out of an activation but through its end: {context}");
            }
            if matches!(phase, Phase::Committing { .. }) {
                let back = after.task().is_some_and(|task| matches!(task.phase, Phase::RollingBack { .. }));
                assert!(!back, "no way back after health was found good: {context}");
            }
            if after.is_ended() && !before.is_ended() {
                let reports = effects.iter().filter(|effect| matches!(effect, Effect::Report { .. })).count();
                assert_eq!(reports, 1, "an end is reported: {context}");
            }
        }
    }
}

#[test]
fn what_a_crash_may_have_cut_short_is_repeated_at_the_start() {
    for phase in every_phase() {
        let state = busy(phase.clone());
        let (after, effects) = step(&state, Event::Started);
        if after.wire() == state.wire() && !matches!(phase, Phase::Waiting { .. }) {
            assert!(!effects.is_empty(), "{phase:?}");
        }
    }
}

#[test]
fn a_cancel_for_an_unknown_attempt_is_confirmed_when_idle() {
    let (state, effects) = step(&State::Idle, Event::Cancelled { attempt: attempt(5), release: Digest::of(&[5]) });
    assert_eq!(state, State::Idle);
    assert!(matches!(effects[..], [Effect::Report { event: report::Event::Cancelled, .. }]));
}

#[test]
fn what_is_staged_is_taken_over_by_another_assignment_for_the_same_release() {
    let again = |activate| {
        let order = Order { attempt: attempt(7), dir: "another".to_owned(), ..order(1) };
        Event::Ordered { order, activate, right: None }
    };
    for phase in [Phase::Staged { tree: tree() }, Phase::Waiting { tree: Some(tree()) }] {
        for activate in [false, true] {
            let (state, effects) = step(&busy(phase.clone()), again(activate));
            let task = state.task().expect("a task");
            assert_eq!((task.order.attempt, &task.order.dir), (attempt(7), &order(1).dir));
            let wanted = if activate { Phase::Pre { tree: tree() } } else { Phase::Staged { tree: tree() } };
            assert_eq!(task.phase, wanted);
            assert!(!effects.contains(&Effect::Work(Work::Prepare)));
            assert_ne!(state.has_staged(order(1).release), activate);
            assert!(!state.has_staged(order(2).release));
        }
    }
}

#[test]
fn a_settled_order_is_reported_and_changes_nothing() {
    for phase in every_phase() {
        let state = busy(phase);
        let (after, effects) = step(&state, settled());
        assert_eq!(after, state);
        assert!(matches!(effects[..], [Effect::Report { event: report::Event::Failed, .. }, Effect::CheckIn]));
    }
}

#[test]
fn waiting_for_weeks_with_daily_restarts_is_not_a_loop() {
    let mut state = busy(Phase::Staged { tree: tree() });
    for _ in 0..1000 {
        state = step(&state, Event::Started).0;
        state = step(&state, Event::Held { right: None }).0;
    }
    assert_eq!(
        step(&state, Event::Ordered { order: order(1), activate: true, right: None }).0.wire().assignment_state(),
        Some(callboard_proto::state::AssignmentState::Activating)
    );
}

proptest! {
    #[test]
    fn no_sequence_of_our_own_events_runs_longer_than_the_cap(picks in prop::collection::vec(any::<u8>(), 1000)) {
        // A hostile world: any event of ours at any time, but never a word from the server.
        let own: Vec<Event> = every_event().into_iter().filter(|event| {
            !matches!(event, Event::Ordered { .. } | Event::Held { .. } | Event::Cancelled { .. })
        }).collect();
        let (mut state, mut changes) = (busy(Phase::Pre { tree: tree() }), 0_u32);
        for pick in picks {
            let (next, _) = step(&state, own[usize::from(pick) % own.len()].clone());
            if next != state {
                changes += 1;
            }
            state = next;
        }
        prop_assert!(changes <= 3 * u32::from(MAX_TRANSITIONS), "{changes} changes, now {state:?}");
    }
}

mod course;

mod rights {
    use super::*;

    fn time(minutes: i64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + minutes * 60_000)
    }

    /// From 10 to 20.
    fn right(on: ActivateOn) -> Right {
        Right { not_before: time(10), not_after: time(20), on, boot: "first".to_owned() }
    }

    fn staged(right: Option<Right>) -> State {
        let phase = Phase::Waiting { tree: Some(tree()) };
        State::Busy(Box::new(Task { order: order(1), transitions: 0, phase, right, course: Course::default() }))
    }

    fn occasion(on: ActivateOn, minutes: i64, boot: &str) -> Event {
        Event::Alone(Occasion { on, now: time(minutes), boot: boot.to_owned() })
    }

    fn activates(state: &State, event: Event) -> bool {
        matches!(step(state, event).0.task().map(|task| &task.phase), Some(Phase::Pre { .. }))
    }

    #[test]
    fn without_a_right_nothing_is_activated_without_asking() {
        for on in [ActivateOn::Now, ActivateOn::Shutdown, ActivateOn::Boot] {
            assert_eq!(step(&staged(None), occasion(on, 15, "second")), (staged(None), Vec::new()));
        }
    }

    #[test]
    fn a_right_is_good_from_its_first_to_its_last_instant() {
        for (on, boot) in [(ActivateOn::Now, "first"), (ActivateOn::Shutdown, "first"), (ActivateOn::Boot, "second")] {
            let state = staged(Some(right(on)));
            let at = |minutes| activates(&state, occasion(on, minutes, boot));
            assert_eq!([at(9), at(10), at(20), at(21)], [false, true, true, false], "{on:?}");
        }
    }

    #[test]
    fn a_right_is_good_for_its_own_occasion() {
        let all = [ActivateOn::Now, ActivateOn::Shutdown, ActivateOn::Boot];
        for given in all {
            for found in all {
                let used = activates(&staged(Some(right(given))), occasion(found, 15, "second"));
                assert_eq!(used, given == found, "{given:?} {found:?}");
            }
        }
    }

    #[test]
    fn a_release_without_a_way_back_is_not_activated_without_asking() {
        let State::Busy(mut task) = staged(Some(right(ActivateOn::Now))) else { panic!("idle") };
        task.order.rollback = Rollback::Forbidden;
        let state = State::Busy(task);
        assert!(!activates(&state, occasion(ActivateOn::Now, 15, "first")));
        let order = Order { rollback: Rollback::Forbidden, ..order(1) };
        assert!(activates(&state, Event::Ordered { order, activate: true, right: None }));
    }

    #[test]
    fn a_right_for_the_next_boot_is_good_at_the_next_boot_alone() {
        let state = staged(Some(right(ActivateOn::Boot)));
        assert!(!activates(&state, occasion(ActivateOn::Boot, 15, "first")), "the boot in which it was given");
        // Renewed by the check-in that follows the start.
        let renewed = Right { boot: "second".to_owned(), ..right(ActivateOn::Boot) };
        let (state, effects) = step(&state, Event::Held { right: Some(renewed) });
        assert_eq!(effects, []);
        assert!(activates(&state, occasion(ActivateOn::Boot, 15, "second")));
        // Started at the wrong time: hours later is not at the start any more.
        let (state, _) = step(&state, occasion(ActivateOn::Boot, 5, "second"));
        assert!(!activates(&state, occasion(ActivateOn::Boot, 15, "second")));
        assert!(activates(&state, occasion(ActivateOn::Boot, 15, "third")));
    }

    #[test]
    fn every_answer_gives_a_right_anew_or_takes_it_back() {
        let state = staged(Some(right(ActivateOn::Now)));
        let later = Right { not_after: time(30), ..right(ActivateOn::Now) };
        let given = |event| step(&state, event).0.task().and_then(|task| task.right.clone());
        let ordered = |right| Event::Ordered { order: order(1), activate: false, right };
        assert_eq!(given(Event::Held { right: Some(later.clone()) }), Some(later.clone()));
        assert_eq!(given(ordered(Some(later.clone()))), Some(later));
        for event in [Event::Held { right: None }, ordered(None), Event::Withdrawn] {
            assert_eq!(given(event.clone()), None, "{event:?}");
        }
    }

    #[test]
    fn the_right_comes_with_the_download_and_waits_for_it() {
        let order = Event::Ordered { order: order(1), activate: false, right: Some(right(ActivateOn::Now)) };
        let mut state = step(&State::Idle, order).0;
        for event in [Event::Prepared, Event::Fetched, Event::Unpacked { tree: tree() }] {
            assert!(!activates(&state, occasion(ActivateOn::Now, 15, "first")), "{state:?}");
            state = step(&state, event).0;
        }
        state = step(&state, Event::Started).0;
        assert!(activates(&state, occasion(ActivateOn::Now, 15, "first")));
    }

    #[test]
    fn a_right_is_used_once() {
        let state = staged(Some(right(ActivateOn::Now)));
        let (state, effects) = step(&state, occasion(ActivateOn::Now, 15, "first"));
        assert_eq!(effects, [Effect::Work(Work::Inspect)]);
        // Cut off before it has switched, it goes on without asking.
        assert_eq!(step(&state, Event::Started).1, effects);
        let (ready, _) = step(&state, Event::Inspected { previous: Previous::Nothing, programs: Vec::new() });
        let (switching, _) = step(&ready, Event::Ready { backup_at: None });
        assert_eq!(switching.task().and_then(|task| task.right.clone()), None);
        // The tree was damaged: it is fetched again, and then the server is asked.
        let mut state = step(&state, Event::Damaged).0;
        for event in [Event::Prepared, Event::Fetched, Event::Unpacked { tree: tree() }] {
            state = step(&state, event).0;
        }
        assert!(!activates(&state, occasion(ActivateOn::Now, 15, "first")));
    }

    #[test]
    fn another_order_brings_its_own_right() {
        let state = staged(Some(right(ActivateOn::Now)));
        let (state, _) = step(&state, Event::Ordered { order: order(2), activate: false, right: None });
        assert_eq!(state.task().and_then(|task| task.right.clone()), None);
    }

    #[test]
    fn a_journal_from_before_rights_is_read() {
        let text = serde_json::to_string(&staged(None)).expect("JSON");
        assert!(!text.contains("right"), "{text}");
        assert_eq!(serde_json::from_str::<State>(&text).expect("a state"), staged(None));
    }
}
