//! Hooks with an agent whose outside is written down.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use callboard_proto::release::Hook;

use super::*;
use crate::{
    fs::Disk,
    machine::{Course, Deferral, Order, Phase, Previous, State},
    testing::{self, World},
};

/// Answers of programs, and what was asked of them.
#[derive(Default)]
struct Script {
    exits: RefCell<VecDeque<Exit>>,
    calls: RefCell<Vec<Call>>,
    local: Vec<PathBuf>,
    inhibitors: RefCell<Vec<Inhibitor>>,
}

impl Outside for Script {
    fn run(&self, call: Call) -> Run<'_> {
        self.calls.borrow_mut().push(call);
        let exit = self.exits.borrow_mut().pop_front().unwrap_or(Exit::Code(0));
        Box::pin(std::future::ready(Done { exit, output: "one\nsale 4711 is open\n".to_owned() }))
    }

    fn local(&self, _stage: Stage) -> Result<Vec<PathBuf>, String> {
        Ok(self.local.clone())
    }

    fn inhibitors(&self) -> Vec<Inhibitor> {
        self.inhibitors.borrow().clone()
    }

    fn reboot(&self) -> Pin<Box<dyn Future<Output = Failure> + '_>> {
        Box::pin(std::future::pending())
    }
}

struct Scene {
    world: World,
    agent: Agent,
    outside: Rc<Script>,
    task: Task,
}

impl Scene {
    fn new(script: Script) -> Self {
        let world = World::new();
        let outside = Rc::new(script);
        let mut agent = testing::agent(&world);
        agent.outside = outside.clone();
        agent.fs = Rc::new(Disk);
        let hooks = [(Stage::PreActivate, 30), (Stage::Health, 7)];
        let hooks = hooks.map(|(stage, timeout_s)| Hook { stage, path: format!("hooks/{stage}"), timeout_s }).to_vec();
        let order = Order { hooks: hooks.clone(), ..testing::order(2, 1) };
        let tree = world.dirs.version(&order.dir);
        std::fs::create_dir_all(tree.join("hooks")).expect("made");
        for hook in &hooks {
            std::fs::write(tree.join(&hook.path), hook.path.as_bytes()).expect("written");
        }
        let programs = hooks.iter().map(|hook| Digest::of(hook.path.as_bytes())).collect();
        let phase = Phase::Preparing { tree: Digest::of(b"tree"), previous: Previous::Nothing };
        let course = Course { programs, prepared: true, ..Course::default() };
        let task = Task { order, transitions: 0, phase, right: None, course };
        agent.update(|record| record.state = State::Busy(Box::new(task.clone()))).expect("written");
        Self { world, agent, outside, task }
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks::new(&self.agent, &self.task, self.world.dirs.clone())
    }

    fn answering(exits: impl IntoIterator<Item = Exit>) -> Self {
        Self::new(Script { exits: RefCell::new(exits.into_iter().collect()), ..Script::default() })
    }

    /// It is put off already, since so many seconds.
    fn put_off_for(mut self, seconds: u64, max_postpone_s: Option<u32>) -> Self {
        let since = self.agent.clock.trusted_now() - Duration::from_secs(seconds);
        let failure = transient(Code::HookDeferred, "a sale is open");
        self.task.course.deferral = Some(Deferral { since, times: 1, failure });
        self.task.order.max_postpone_s = max_postpone_s;
        self
    }
}

#[tokio::test]
async fn a_program_gets_its_stage_and_attempt_and_an_environment_that_is_an_allow_list() {
    let scene = Scene::new(Script { local: vec!["/etc/hooks/10-a".into()], ..Script::default() });
    assert_eq!(scene.hooks().run(Stage::PreActivate).await, Ok(Ran::Done));
    let calls = scene.outside.calls.borrow();
    let programs: Vec<_> = calls.iter().map(|call| call.program.clone()).collect();
    let tree = scene.world.dirs.version(&scene.task.order.dir);
    assert_eq!(programs, [PathBuf::from("/etc/hooks/10-a"), tree.join("hooks/pre-activate")], "the owner's first");
    let own = &calls[1];
    assert_eq!(own.arguments, ["pre-activate", "1"]);
    assert_eq!(own.directory, tree);
    assert!(own.timeout <= Duration::from_secs(30), "what is left of its time");
    let names: Vec<_> = own.environment.iter().map(|(name, _)| *name).collect();
    let wanted = "PATH LANG CALLBOARD_STAGE CALLBOARD_PRODUCT CALLBOARD_RELEASE CALLBOARD_FROM CALLBOARD_TO_DIR \
                  CALLBOARD_DEADLINE";
    assert_eq!(names.join(" "), wanted);
}

#[tokio::test]
async fn a_program_that_is_not_the_verified_one_is_not_run() {
    let scene = Scene::answering([]);
    let path = scene.world.dirs.version(&scene.task.order.dir).join("hooks/pre-activate");
    std::fs::write(&path, "another").expect("written");
    let failure = scene.hooks().run(Stage::PreActivate).await.expect_err("refused");
    assert_eq!(failure.code, "hook_unsafe");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(scene.hooks().run(Stage::PreActivate).await.expect_err("refused").code, "storage");
    assert!(scene.outside.calls.borrow().is_empty());
}

#[tokio::test]
async fn how_a_program_ends_decides() {
    for (exit, code, class) in [
        (Exit::Code(1), "hook_failed", FailureClass::Permanent),
        (Exit::Code(63), "hook_failed", FailureClass::Permanent),
        (Exit::Code(64), "hook_failed", FailureClass::Transient),
        (Exit::Code(127), "hook_failed", FailureClass::Transient),
        (Exit::Signal(9), "hook_failed", FailureClass::Transient),
        (Exit::TimedOut, "hook_timeout", FailureClass::Transient),
        (Exit::NotStarted("no".to_owned()), "hook_failed", FailureClass::Transient),
    ] {
        let scene = Scene::answering([exit.clone()]);
        let failure = scene.hooks().prepare().await.expect_err("failed");
        assert_eq!((failure.code.as_str(), failure.class), (code, class), "{exit:?}");
        assert!(failure.text.contains("hooks/pre-activate") && failure.text.contains("sale 4711"), "{}", failure.text);
        let said = said(&scene.agent, scene.task.order.attempt).expect("kept");
        assert_eq!(said, "one\nsale 4711 is open\n");
        let scene = Scene::answering([exit]);
        assert!(scene.hooks().try_run(Stage::PreActivate).await.is_some());
        assert_eq!(super::said(&scene.agent, scene.task.order.attempt), None, "the report is about something else");
    }
}

#[tokio::test]
async fn later_puts_the_switch_off_and_nothing_else() {
    let scene = Scene::answering([Exit::Code(75)]);
    let Ok(Event::Deferred { failure, .. }) = scene.hooks().prepare().await else { panic!("not put off") };
    assert_eq!(failure.code, "hook_deferred");
    assert_eq!(failure.text, "hook hooks/pre-activate: sale 4711 is open", "the last line says why");
    // Where there is no better moment, it is asked again until its time is over.
    let scene = Scene::answering([Exit::Code(75), Exit::Code(0)]);
    assert_eq!(scene.hooks().run(Stage::Health).await, Ok(Ran::Done));
    assert_eq!(scene.outside.calls.borrow().len(), 2);
}

#[tokio::test]
async fn only_what_was_signed_or_the_owner_ends_the_waiting() {
    let ready = |event: Result<Event, Failure>| matches!(event, Ok(Event::Ready { .. }));
    let later = || Scene::answering([Exit::Code(75)]);
    assert!(!ready(later().put_off_for(1_000_000, None).hooks().prepare().await), "without a limit");
    assert!(!ready(later().put_off_for(100, Some(200)).hooks().prepare().await));
    assert!(ready(later().put_off_for(300, Some(200)).hooks().prepare().await));
    let mut scene = later().put_off_for(300, Some(2000));
    scene.agent.settings.hooks.max_postpone = Some(Duration::from_secs(60));
    assert!(ready(scene.hooks().prepare().await), "the owner's own limit");
    // A release that may not be put off at all.
    let mut scene = later();
    scene.task.order.max_postpone_s = Some(0);
    assert!(ready(scene.hooks().prepare().await));
}

#[tokio::test]
async fn a_file_puts_the_switch_off_and_says_whether_a_person_did() {
    let scene = Scene::answering([]);
    assert_eq!(scene.hooks().inhibited(), None);
    let file = |name: &str| Inhibitor { name: name.to_owned(), reason: "receipt 4711".to_owned() };
    for (names, code, text) in [
        (vec!["sale"], "inhibited", "sale: receipt 4711"),
        (vec!["sale", "settlement"], "inhibited", "sale: receipt 4711 and 1 more"),
        (vec!["aaa", "postponed"], "postponed", "postponed: receipt 4711 and 1 more"),
    ] {
        *scene.outside.inhibitors.borrow_mut() = names.into_iter().map(file).collect();
        let Some(Event::Deferred { failure, .. }) = scene.hooks().inhibited() else { panic!("not put off") };
        assert_eq!((failure.code.as_str(), failure.text.as_str()), (code, text));
    }
    let scene = Scene::answering([]).put_off_for(300, Some(200));
    *scene.outside.inhibitors.borrow_mut() = vec![file("sale")];
    assert_eq!(scene.hooks().inhibited(), None, "for as long as it may be");
}
