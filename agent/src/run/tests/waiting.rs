//! What waits for the server, and what does not.

use super::*;

/// An agent that has staged a release, and may activate it if it cannot ask.
async fn staged(fs: &SimFs) -> Runner {
    let server = Server { way: Way::Alone(ActivateOn::Now), ..Server::ordering(2) };
    let agent = start::open(settings(Health::Good), Rc::new(SimFs::shared(fs)), identity().0).expect("an agent");
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
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

#[test]
fn the_first_question_after_a_start_does_not_wait() {
    on_staged(|runner| {
        runner.check_in_now = true;
        runner.begin_talk();
        assert!(runner.talking.as_ref().is_some_and(|talking| !talking.waits));
    });
}
