//! Putting off, ways back, and restarts of the machine.

use super::*;

fn with(order: Order, phase: Phase, course: Course) -> State {
    State::Busy(Box::new(Task { order, transitions: 0, phase, right: None, course }))
}

fn old() -> Previous {
    Previous::Link("versions/old".to_owned())
}

fn preparing() -> State {
    let course = Course { prepared: true, programs: vec![Digest::of(b"hook")], ..Course::default() };
    with(order(1), Phase::Preparing { tree: tree(), previous: old() }, course)
}

fn task(state: &State) -> &Task {
    state.task().expect("a task")
}

fn says(effects: &[Effect]) -> Vec<report::Event> {
    let said = effects.iter().filter_map(|effect| match effect {
        Effect::Report { event, .. } => Some(*event),
        _ => None,
    });
    said.collect()
}

fn allow() -> Event {
    Event::Ordered { order: order(1), activate: true, right: None }
}

#[test]
fn a_device_that_puts_it_off_waits_and_says_why_and_since_when() {
    let (state, effects) = step(&preparing(), deferred(1));
    assert_eq!(task(&state).phase, Phase::Waiting { tree: Some(tree()) });
    assert_eq!(says(&effects), [report::Event::Deferred]);
    assert!(!effects.contains(&Effect::Work(Work::Undo)), "a hook that says \"later\" has undone what it did");
    // Allowed again, and put off again: the time counts from the first.
    let mut state = step(&state, allow()).0;
    state = step(&state, Event::Inspected { previous: old(), programs: Vec::new() }).0;
    state = step(&state, deferred(9)).0;
    let deferral = task(&state).course.deferral.clone().expect("put off");
    assert_eq!((deferral.times, deferral.since.millis()), (2, 1_795_000_060_000));
    // At last.
    state = step(&state, allow()).0;
    state = step(&state, Event::Inspected { previous: old(), programs: Vec::new() }).0;
    state = step(&state, Event::Ready { backup_at: None }).0;
    assert_eq!((task(&state).course.deferral.clone(), task(&state).course.prepared), (None, false));
}

#[test]
fn being_put_off_all_day_is_no_loop() {
    let mut state = preparing();
    for minutes in 0..1000 {
        state = step(&state, deferred(minutes)).0;
        state = step(&state, allow()).0;
        state = step(&state, Event::Inspected { previous: old(), programs: Vec::new() }).0;
    }
    assert!(matches!(task(&state).phase, Phase::Preparing { .. }), "{state:?}");
}

#[test]
fn a_preparation_that_was_cut_short_is_undone_and_asked_for_again() {
    let (state, effects) = step(&preparing(), Event::Started);
    assert_eq!(task(&state).phase, Phase::Waiting { tree: Some(tree()) });
    assert_eq!(effects, [Effect::Work(Work::Undo)]);
    // Another order waits for that, the same one does not need it.
    let other = Event::Ordered { order: order(2), activate: true, right: None };
    assert_eq!(step(&state, other), (state.clone(), Vec::new()));
    assert!(matches!(task(&step(&state, allow()).0).phase, Phase::Pre { .. }));
    let (undone, effects) = step(&state, Event::Undone);
    assert!(effects.is_empty() && !task(&undone).course.prepared);
    // An inhibitor that has appeared since does not undo what the hooks had begun.
    let inhibited = step(&step(&state, allow()).0, deferred(1));
    assert!(inhibited.1.contains(&Effect::Work(Work::Undo)));
}

#[test]
fn a_release_without_a_way_back_stops_where_it_is() {
    let order = Order { rollback: Rollback::Forbidden, ..order(1) };
    let of = |phase| with(order.clone(), phase, Course::default());
    let broken = || Event::Failed(permanent(Code::HealthCheck, "not well"));
    let trial = |tries_left| Phase::Trial { tree: tree(), previous: old(), tries_left, restarted: true };
    for (phase, event) in [(trial(1), broken()), (trial(0), Event::Started)] {
        let (state, effects) = step(&of(phase), event);
        assert!(matches!(task(&state).phase, Phase::Inconsistent { .. }));
        assert_eq!(says(&effects), [report::Event::Failed]);
        // A person decides.
        let keep = step(&state, Event::Resolved { keep: true }).0;
        assert_eq!(task(&keep).phase, Phase::Committing { tree: tree(), previous: old(), tries: 0 });
        let (back, effects) = step(&state, Event::Resolved { keep: false });
        assert!(matches!(task(&back).phase, Phase::RollingBack { .. }));
        assert_eq!(effects, [Effect::Work(Work::Revert { tries: 0 })]);
    }
    // It has not run yet.
    let (state, _) = step(&of(Phase::Switching { tree: tree(), previous: old() }), broken());
    assert!(matches!(task(&state).phase, Phase::RollingBack { .. }));
}

fn reboots() -> Order {
    Order { reboot: true, trial_tries: 1, ..order(1) }
}

fn flipped() -> State {
    let state = with(reboots(), Phase::Switching { tree: tree(), previous: old() }, Course::default());
    step(&state, Event::Flipped { boot: "first".to_owned() }).0
}

fn tries(state: &State) -> (u8, bool) {
    match &task(state).phase {
        Phase::Trial { tries_left, restarted, .. } => (*tries_left, *restarted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_restart_of_the_machine_that_belongs_to_the_update_is_no_interrupted_trial() {
    let state = flipped();
    assert_eq!(task(&state).course.turned.as_deref(), Some("first"));
    // The agent looks at the boot id itself, where nothing has run before it.
    assert_eq!(tries(&step(&state, Event::Started).0), (0, false));
    // With `recover` before the product.
    let state = step(&state, Event::Recovered { boot: "second".to_owned() }).0;
    assert_eq!(tries(&state), (0, true));
    let state = step(&state, Event::Started).0;
    assert_eq!(tries(&state), (0, true), "counted already");
    let state = step(&state, Event::Started).0;
    assert!(matches!(task(&state).phase, Phase::RollingBack { .. }), "the next one counts");
    // Going back takes a restart of its own.
    assert_eq!(task(&state).course.turned, None);
    let state = step(&state, Event::Turned { boot: "second".to_owned() }).0;
    assert_eq!(task(&state).course.turned.as_deref(), Some("second"));
}

#[test]
fn a_start_of_the_machine_is_counted_once_by_whoever_sees_it_first() {
    let trial = Phase::Trial { tree: tree(), previous: old(), tries_left: 2, restarted: true };
    let state = with(order(1), trial, Course::default());
    let recovered = step(&state, Event::Recovered { boot: "second".to_owned() }).0;
    assert_eq!(tries(&recovered), (1, true));
    assert_eq!(step(&recovered, Event::Recovered { boot: "second".to_owned() }), (recovered.clone(), Vec::new()));
    let hung = step(&recovered, Event::Recovered { boot: "third".to_owned() }).0;
    assert_eq!(tries(&hung), (0, true), "a start that does not come to the agent counts");
    let started = step(&recovered, Event::Started).0;
    assert_eq!(tries(&started), (1, true));
    assert_eq!(tries(&step(&started, Event::Started).0), (0, true), "a crash of the agent counts");
}

#[test]
fn a_switch_before_the_machine_goes_down_takes_no_try() {
    let order = Order { trial_tries: 1, ..order(1) };
    let state = with(order, Phase::Switching { tree: tree(), previous: old() }, Course::default());
    let state = step(&state, Event::Flipped { boot: "first".to_owned() }).0;
    let state = step(&state, Event::GoesDown).0;
    let state = step(&state, Event::Recovered { boot: "second".to_owned() }).0;
    assert_eq!(tries(&step(&state, Event::Started).0), (0, false));
}

#[test]
fn a_journal_from_before_hooks_is_read() {
    let text = serde_json::to_string(&busy(Phase::Staged { tree: tree() })).expect("JSON");
    assert!(!text.contains("course") && !text.contains("hooks"), "{text}");
    let before = text.replace(r#""reboot":false,"rollback":"safe","needs_contact":false,"#, "");
    assert_ne!(before, text);
    assert_eq!(serde_json::from_str::<State>(&before).expect("a state"), busy(Phase::Staged { tree: tree() }));
}
