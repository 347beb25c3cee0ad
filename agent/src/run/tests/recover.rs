//! What `recover` does before the products start, and the restart of the machine that belongs to an update.

use std::{cell::Cell, pin::Pin, task::Poll};

use callboard_proto::{release::Stage, report::Failure};

use super::*;
use crate::{
    agent::Agent,
    hooks::{Call, Done, Exit, Inhibitor, Outside, Run},
    machine::Course,
    run::recover::recover_with,
};

/// A machine of which only the power button is of interest.
#[derive(Default)]
struct Button {
    pressed: Cell<u32>,
    health: Cell<i32>,
}

impl Outside for Button {
    fn run(&self, _call: Call) -> Run<'_> {
        Box::pin(std::future::ready(Done { exit: Exit::Code(self.health.get()), output: String::new() }))
    }

    fn local(&self, _stage: Stage) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn inhibitors(&self) -> Vec<Inhibitor> {
        Vec::new()
    }

    fn reboot(&self) -> Pin<Box<dyn Future<Output = Failure> + '_>> {
        self.pressed.set(self.pressed.get() + 1);
        Box::pin(std::future::pending())
    }
}

/// The agent as it starts in one boot of the machine.
fn boot(fs: &SimFs, id: &str) -> Agent {
    let mut agent = start::open(settings(Health::Bad), Rc::new(SimFs::shared(fs)), identity().0, testing::process())
        .expect("an agent");
    agent.boot_id = id.to_owned();
    agent
}

/// Carries out what there is to do, until nothing is left or the machine goes down.
async fn go_on(runner: &mut Runner, server: &mut Server, fs: &SimFs, button: &Button) {
    for _ in 0..100 {
        let fetching = matches!(runner.agent.state().task().map(|task| &task.phase), Some(Phase::Downloading));
        let Some(mut work) = runner.work.take() else {
            server.collect(runner);
            if runner.work.is_some() {
                continue;
            }
            match server.order(runner, fs) {
                Some(event) => runner.apply(event),
                None => return,
            }
            continue;
        };
        let done = match fetching && server.deliver(fs).is_ok() {
            true => Some(Event::Fetched),
            false => {
                std::future::poll_fn(|context| match work.as_mut().poll(context) {
                    Poll::Ready(event) => Poll::Ready(Some(event)),
                    Poll::Pending if button.pressed.get() > 0 => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                })
                .await
            }
        };
        let Some(event) = done else { return };
        runner.apply(event);
    }
    panic!("it does not come to an end: {:?}", runner.agent.state());
}

/// Release 2, after which the machine is restarted.
fn ordering() -> Server {
    Server { reboots: true, ..Server::ordering(2) }
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    runtime().block_on(test)
}

/// One boot: `recover`, then the agent as far as it comes. Says how often it restarted the machine.
async fn run_in(id: &str, fs: &SimFs, server: &mut Server, health: i32, recovers: bool) -> u32 {
    if recovers {
        recover_with(boot(fs, id));
        recover_with(boot(fs, id));
    }
    let button = Rc::new(Button { health: Cell::new(health), ..Button::default() });
    let agent = Agent { outside: button.clone(), ..boot(fs, id) };
    let mut runner = Runner::new(Rc::new(agent), false);
    runner.apply(Event::Started);
    go_on(&mut runner, server, fs, &button).await;
    button.pressed.get()
}

#[test]
fn an_update_that_restarts_the_machine_is_on_trial_after_it_and_goes_back_by_another() {
    for recovers in [true, false] {
        for (health, restarts, ended) in
            [(0, vec![1, 0], report::Event::Succeeded), (1, vec![1, 1, 0], report::Event::RolledBack)]
        {
            let fs = shop(Before::Release);
            let mut server = ordering();
            let pressed: Vec<u32> = block_on(async {
                let mut pressed = Vec::new();
                for (n, _) in restarts.iter().enumerate() {
                    pressed.push(run_in(&format!("boot {n}"), &fs, &mut server, health, recovers).await);
                }
                pressed
            });
            assert_eq!((pressed, server.ended()), (restarts, Some(ended)), "recovers: {recovers}");
            let wanted = if health == 0 { contents_of(2) } else { contents_of(1) };
            assert_eq!(running(&fs), Some(wanted));
        }
    }
}

/// The phase in the journal, with the link at one of the versions.
fn in_phase(phase: Phase, linked: u64) -> SimFs {
    let fs = shop(Before::Release);
    let dirs = product_dir();
    let order = Order { release: signed(2).digest, dir: signed(2).digest.short(), ..testing::order(2, 1) };
    let agent = boot(&fs, "before");
    let task = machine::Task { order: order.clone(), transitions: 0, phase, right: None, course: Course::default() };
    agent.update(|record| record.state = machine::State::Busy(Box::new(task))).expect("written");
    fs.create_dir(&dirs.version(&order.dir)).expect("made");
    for (payload, bytes) in &signed(2).contents {
        write(&fs, &dirs.version(&order.dir).join(&payload.name), bytes);
    }
    let target = crate::layout::link_target(&signed(linked).digest.short());
    crate::fs::replace_link(&fs, &dirs.current(), &target).expect("linked");
    fs.sync_all(Path::new("/")).expect("synced");
    fs
}

#[test]
fn no_product_starts_from_a_switch_that_is_half_done() {
    let (tree, old) = (Digest::of(b"tree"), machine::Previous::Link(format!("versions/{}", signed(1).digest.short())));
    let failure = machine::permanent(Code::HealthCheck, "not well");
    let trial = |tries_left| Phase::Trial { tree, previous: old.clone(), tries_left, restarted: true };
    for (phase, wanted) in [
        (Phase::Switching { tree, previous: old.clone() }, 1),
        (trial(2), 2),
        (trial(0), 1),
        (Phase::RollingBack { previous: old.clone(), tries: 0, failure: failure.clone() }, 1),
        (Phase::Committing { tree, previous: old.clone(), tries: 0 }, 2),
    ] {
        for linked in [1, 2] {
            // What is committed has its link already.
            if linked == 1 && matches!(phase, Phase::Committing { .. }) {
                continue;
            }
            let fs = in_phase(phase.clone(), linked);
            let mut calls = 0;
            for cut in 0.. {
                let fs = SimFs::clone(&fs);
                fs.cut_power_at(cut);
                if let Ok(agent) =
                    start::open(settings(Health::Good), Rc::new(SimFs::shared(&fs)), identity().0, testing::process())
                {
                    recover_with(agent);
                }
                if !fs.is_off() {
                    assert_eq!(running(&fs), Some(contents_of(wanted)), "{phase:?} {linked}");
                    break;
                }
                // Cut short anywhere, and once more.
                let fs = fs.reboot(Keeps::Some(u64::from(cut)));
                recover_with(boot(&fs, "third"));
                assert_eq!(running(&fs), Some(contents_of(wanted)), "{phase:?} {linked}, cut before call {cut}");
                calls += 1;
            }
            assert!(calls > 0 || running(&fs) == Some(contents_of(wanted)), "{phase:?} {linked}");
        }
    }
}

#[test]
fn a_version_that_stops_the_machine_every_time_is_left_after_its_tries() {
    let old = machine::Previous::Link(format!("versions/{}", signed(1).digest.short()));
    let phase = Phase::Trial { tree: Digest::of(b"tree"), previous: old, tries_left: 2, restarted: true };
    let fs = in_phase(phase, 2);
    // The agent never comes to run.
    for (id, wanted) in [("one", 2), ("one", 2), ("two", 2), ("three", 1), ("four", 1)] {
        recover_with(boot(&fs, id));
        assert_eq!(running(&fs), Some(contents_of(wanted)), "in boot {id}");
    }
}
