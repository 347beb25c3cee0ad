//! What waits for the server, and what does not.

use callboard_proto::instruction::Instruction;

use super::*;
use crate::verify;

/// An agent that has staged a release, and may activate it if it cannot ask.
async fn staged(fs: &SimFs) -> Runner {
    let server = Server { way: Way::Alone(ActivateOn::Now), ..Server::ordering(2) };
    let agent = start::open(settings(Health::Good), Rc::new(SimFs::shared(fs)), identity().0, testing::process())
        .expect("an agent");
    let mut runner = Runner::new(Rc::new(agent), false);
    runner.apply(Event::Started);
    let order = server.order(&runner, fs).expect("an order");
    runner.apply(order);
    while let Some(work) = runner.work.take() {
        let fetching = matches!(runner.agent.state().task().map(|task| &task.phase), Some(Phase::Downloading));
        let event = if fetching { server.deliver(fs).map(|()| Event::Fetched).expect("delivered") } else { work.await };
        runner.apply(event);
    }
    runner
}

fn on_staged(test: impl FnOnce(&mut Runner)) {
    let fs = shop(Before::Release);
    let runtime = runtime();
    runtime.block_on(async { test(&mut staged(&fs).await) });
}

fn is_staged(runner: &Runner) -> bool {
    runner.agent.state().task().is_some_and(|task| matches!(task.phase, Phase::Staged { .. }))
}

#[test]
fn a_wait_that_is_cut_off_is_no_reason_to_activate_without_asking() {
    let cut_off = CheckInError::Client(ClientError::Slow("the server"));
    on_staged(|runner| {
        runner.heard = true;
        runner.unanswered(&cut_off, true);
        assert!(is_staged(runner) && !runner.waits(), "the next question does not wait, and will tell");
        runner.unanswered(&cut_off, false);
        assert!(!is_staged(runner));
    });
}

#[test]
fn what_there_is_to_tell_does_not_wait_for_an_answer() {
    on_staged(|runner| {
        (runner.heard, runner.check_in_now, runner.report_now) = (true, true, false);
        runner.begin_talk();
        assert!(runner.talking.as_ref().is_some_and(|talking| talking.waits));
        runner.begin_talk();
        assert!(runner.talking.as_ref().is_some_and(|talking| talking.waits), "nothing else is to be said");
        runner.report_now = true;
        runner.next = Duration::ZERO;
        runner.begin_talk();
        assert!(runner.talking.as_ref().is_some_and(|talking| !talking.waits), "the server may not know any more");
    });
}

/// The server says that there is nothing to do, and names the interval.
fn told(runner: &mut Runner, waited: bool) {
    let nonce = dice::nonce().expect("a nonce");
    let asked = verify::Asked { device_id: identity().0.device_id, nonce, request_sha256: Digest::of(b"question") };
    let instruction = Instruction { next_checkin_s: 300, ..testing::instruction(nonce, asked.request_sha256) };
    let bytes = testing::signed(&instruction, &[&Keys::fixed().online]);
    let instruction = verify::instruction(&bytes, &runner.agent.trust.root(), &asked).expect("an answer");
    let answer = Some(Ok(Answer { instruction, release: None, distrust: None }));
    runner.talked(Talk { asked: boottime(), waited, answer, reported: Ok(()) });
}

/// Until the next question, after an answer.
fn next_s(runner: &mut Runner, waited: bool) -> u64 {
    let asked = boottime();
    told(runner, waited);
    runner.next.saturating_sub(asked).as_secs()
}

fn with_defaults(runner: &mut Runner) {
    let polling = Settings::parse("").expect("settings").polling;
    Rc::get_mut(&mut runner.agent).expect("nothing is under way").settings.polling = polling;
}

#[test]
fn a_device_is_not_deaf_for_the_interval_after_an_answer_that_could_not_wait() {
    on_staged(|runner| {
        with_defaults(runner);
        // A start, a check-in that failed, and a wait that was given up have the same consequence.
        for _ in 0..2 {
            runner.heard = false;
            assert!((9..=11).contains(&next_s(runner, false)), "soon, and then it waits");
            assert!(runner.waits());
            assert!((270..=330).contains(&next_s(runner, true)), "there was no place for it");
            runner.unanswered(&CheckInError::Client(ClientError::Slow("the server")), false);
        }
    });
}

#[test]
fn a_device_that_may_not_wait_keeps_to_the_interval() {
    on_staged(|runner| {
        with_defaults(runner);
        Rc::get_mut(&mut runner.agent).expect("nothing is under way").settings.polling.wait_s = 0;
        assert!((270..=330).contains(&next_s(runner, false)));
    });
}

#[test]
fn the_last_error_of_one_update_is_not_that_of_the_next() {
    on_staged(|runner| {
        let failure = machine::permanent(Code::HealthCheck, "not well");
        runner.apply(Event::Failed(failure));
        runner.agent.update_coarsely(|record| record.last_error = Some(Code::HealthCheck.as_str().to_owned()));
        let order = testing::order(3, 1);
        runner.apply(Event::Ordered { order, activate: false, right: None });
        assert_eq!(runner.agent.record().last_error, None);
        assert!(runner.agent.state().task().is_some_and(|task| task.phase == Phase::Accepted));
    });
}

#[test]
fn the_first_question_after_a_start_does_not_wait() {
    on_staged(|runner| {
        runner.check_in_now = true;
        runner.begin_talk();
        assert!(runner.talking.as_ref().is_some_and(|talking| !talking.waits));
    });
}

#[test]
fn a_right_that_changes_does_not_stop_what_is_under_way() {
    let fs = shop(Before::Release);
    let server = Server { way: Way::Alone(ActivateOn::Now), ..Server::ordering(2) };
    let runtime = runtime();
    runtime.block_on(async {
        let agent = start::open(settings(Health::Good), Rc::new(SimFs::shared(&fs)), identity().0, testing::process())
            .expect("an agent");
        let mut runner = Runner::new(Rc::new(agent), false);
        runner.apply(server.order(&runner, &fs).expect("an order"));
        assert!(runner.work.is_some());
        let before = runner.agent.state();
        runner.apply(Event::Withdrawn);
        assert_ne!(runner.agent.state(), before);
        assert!(runner.work.is_some(), "the right is gone, and the download goes on");
    });
}
