//! Needs attention: what failed for good is listed, and operators retry, skip or cancel it.

use callboard_proto::{
    admin::{Assignment, Attention, Counts, Dealt, Event as Logged, RolloutState},
    instruction::Action,
    problem::Code,
    report::{Event, FailureClass},
    state::{AgentState, AssignmentState as S},
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

/// Tills of New York that run 1.0.0, and a rollout of 2.0.0 to all of them.
fn tills<const N: usize>(server: &TestServer, more: &Value) -> [FakeDevice; N] {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let token = json!({ "labels": { "region": "northeast" } });
    let tills = std::array::from_fn(|n| {
        let request =
            callboard_tests::device::enrolment(&server.enrolment_token(&token), &callboard_tests::device::Key::new());
        FakeDevice::enrol_with(server, &request.named(&format!("till-{n}"))).runs("pos-app", "1.0.0")
    });
    server.roll_out(&rollout("r", "pos-app@2.0.0", more));
    tills
}

fn fails(till: &mut FakeDevice) {
    let offer = till.check_in();
    assert_eq!(offer.action, Action::Download);
    till.report_failure(&offer, Event::Failed, FailureClass::Permanent, "no_space");
}

fn counts(server: &TestServer) -> Counts {
    server.rollout("r").phases[0].counts
}

fn state(server: &TestServer, till: &FakeDevice) -> S {
    let all: Vec<Assignment> = server.api().list("rollouts/r/assignments");
    all.into_iter().find(|one| one.device == till.name).unwrap().state
}

fn listed(server: &TestServer) -> Vec<(String, S)> {
    let all: Vec<Attention> = server.api().list("attention?limit=1");
    all.into_iter().map(|one| (one.device.to_string(), one.state)).collect()
}

fn deal(server: &TestServer, verb: &str, whom: &Value) -> Dealt {
    let mut body = whom.clone();
    body["reason"] = json!("a new disk");
    server.api().post(&format!("rollouts/r/devices/{verb}"), &body)
}

fn names(dealt: &Dealt) -> Vec<&str> {
    dealt.devices.iter().map(|name| name.as_str()).collect()
}

#[test]
fn what_a_rollout_did_before_a_device_enrolled_anew_counts_no_longer() {
    on_both(|server| {
        let [mut bad, mut good] = tills(server, &json!({}));
        fails(&mut bad);
        good.settle(Health::Good);
        assert_eq!(listed(server), [("till-0".to_owned(), S::Failed)]);
        server.advance(std::time::Duration::from_secs(1));
        let _again = FakeDevice::enrol_imported(server, "till-0");
        assert_eq!(listed(server), []);
        let mut again = FakeDevice::enrol_imported(server, "till-1");
        again.facts = good.facts.clone();
        assert_eq!(again.check_in().action, Action::None);
        let counts = counts(server);
        assert_eq!((counts.size, counts.excluded, counts.succeeded), (2, 1, 0));
    });
}

#[test]
fn what_failed_for_good_is_listed_until_it_is_retried_and_who_and_why_is_in_the_log() {
    on_both(|server| {
        let [mut bad, mut full, mut good] = tills(server, &json!({}));
        bad.settle(Health::Bad);
        fails(&mut full);
        good.settle(Health::Good);
        assert_eq!(listed(server), [("till-0".to_owned(), S::RolledBack), ("till-1".to_owned(), S::Failed)]);
        let one: Vec<Attention> = server.api().list("attention?rollout=r");
        assert_eq!((one[1].version.as_str(), one[1].failure.as_ref().unwrap().code.as_str()), ("2.0.0", "no_space"));
        assert_eq!(one[1].since, server.clock.now());
        let dealt = deal(server, "retry", &json!({ "devices": ["till-0", full.id] }));
        assert_eq!((names(&dealt), dealt.total, dealt.reopened), (vec!["till-0", "till-1"], 2, false));
        assert_eq!((listed(server), counts(server).queued), (vec![], 2));
        for till in [&mut bad, &mut full] {
            let again = till.obey(Health::Good);
            assert_eq!((again.action, again.attempt), (Action::Download, Some(2)));
            till.settle(Health::Good);
        }
        assert_eq!((counts(server).succeeded, counts(server).failed, counts(server).rolled_back), (3, 0, 0));
        let log: Vec<Logged> = server.api().list("devices/till-0/history");
        let retried = log.iter().find(|event| event.kind == "assignment.retried").unwrap();
        assert!(retried.text.starts_with("by ") && retried.text.ends_with(": a new disk"), "{}", retried.text);
        assert_eq!(retried.rollout.as_ref().unwrap().as_str(), "r");
    });
}

#[test]
fn many_are_dealt_with_at_once_by_selector() {
    on_both(|server| {
        let mut tills: [FakeDevice; 4] = tills(server, &json!({}));
        tills[..3].iter_mut().for_each(fails);
        tills[3].settle(Health::Good);
        let dealt = deal(server, "retry", &json!({ "selector": "region = northeast and not name = till-1" }));
        assert_eq!((names(&dealt), dealt.refused.len()), (vec!["till-0", "till-2"], 0));
        assert_eq!(listed(server), [("till-1".to_owned(), S::Failed)]);
        assert_eq!(deal(server, "skip", &json!({ "selector": "name = till-3" })).total, 0, "it has not failed");
    });
}

#[test]
fn a_retry_reopens_a_frozen_rollout_that_has_completed() {
    on_both(|server| {
        let phases = json!([{ "name": "all", "percent": 100, "success_percent": 50, "completed_percent": 100 }]);
        let more = json!({ "policy": "progressive", "audience": "frozen", "phases": phases });
        let [mut bad, mut good] = tills(server, &more);
        bad.settle(Health::Bad);
        good.settle(Health::Good);
        assert_eq!(server.rollout("r").state, RolloutState::Completed);
        assert_eq!(bad.check_in().action, Action::None);
        assert!(deal(server, "retry", &json!({ "devices": ["till-0"] })).reopened);
        let open = server.rollout("r");
        assert_eq!((open.state, open.ended_at, open.phases[0].counts.queued), (RolloutState::Running, None, 1));
        bad.settle(Health::Good);
        let done = server.rollout("r");
        assert_eq!((done.state, done.phases[0].counts.succeeded), (RolloutState::Completed, 2));
        let log: Vec<Logged> = server.api().list("events");
        assert_eq!(log.iter().filter(|event| event.kind == "rollout.reopened").count(), 1);
        assert_eq!(log.iter().filter(|event| event.kind == "rollout.completed").count(), 2);
    });
}

#[test]
fn a_penalty_holds_in_every_rollout_until_somebody_asks_for_another_try() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({}));
        till.settle(Health::Bad);
        server.roll_out(&rollout("again", "pos-app@2.0.0", &json!({ "priority": 900 })));
        assert_eq!(till.check_in().action, Action::None);
        let body = json!({ "devices": ["till-0"], "reason": "the drawer was replaced" });
        let dealt: Dealt = server.api().post("rollouts/again/devices/retry", &body);
        assert_eq!(dealt.total, 1);
        till.settle(Health::Bad);
        assert_eq!(till.check_in().action, Action::None, "it rolled back again, and the penalty is back");
        server.api().post::<Dealt>("rollouts/again/devices/retry", &body);
        till.settle(Health::Good);
        assert_eq!(till.version_of("pos-app"), Some("2.0.0"));
    });
}

#[test]
fn a_selector_reaches_those_who_are_kept_from_a_new_rollout_by_what_rolled_back_before() {
    on_both(|server| {
        let [mut first, mut second, mut third] = tills(server, &json!({}));
        first.settle(Health::Bad);
        second.settle(Health::Bad);
        third.settle(Health::Good);
        server.tell_rollout("r", "cancel");
        let more = json!({ "audience": "frozen", "selector": "not name = till-1" });
        let again = server.roll_out(&rollout("again", "pos-app@2.0.0", &more));
        assert_eq!((again.phases[0].counts.size, again.phases[0].counts.excluded), (2, 2));
        let retry = |rollout: &str| -> Dealt {
            let body = json!({ "selector": "region = northeast", "reason": "the drawers were replaced" });
            server.api().post(&format!("rollouts/{rollout}/devices/retry"), &body)
        };
        // It is over already, as it had nobody; a live one has, too.
        server.roll_out(&rollout("base", "pos-app@2.0.0", &json!({ "selector": "not name = till-1" })));
        assert_eq!(names(&retry("base")), ["till-0"], "till-1 is not in it, and till-2 runs it");
        assert_eq!(retry("base").total, 0, "once is enough");
        first.settle(Health::Good);
        assert_eq!((first.version_of("pos-app"), second.check_in().action), (Some("2.0.0"), Action::None));
    });
}

#[test]
fn who_is_skipped_stays_a_failure_that_gates_look_past() {
    on_both(|server| {
        let phases = json!([{ "name": "first", "percent": 50 }, { "name": "all", "percent": 100 }]);
        let mut tills: [FakeDevice; 4] = tills(server, &json!({ "policy": "progressive", "phases": phases }));
        let offers: Vec<bool> = tills.iter_mut().map(|till| till.check_in().action == Action::Download).collect();
        let mut first: Vec<&mut FakeDevice> =
            tills.iter_mut().zip(offers).filter_map(|(till, offered)| offered.then_some(till)).collect();
        fails(first[0]);
        assert_eq!(server.rollout("r").state, RolloutState::Paused);
        let name = first[0].name.to_string();
        assert_eq!(deal(server, "skip", &json!({ "devices": [name] })).total, 1);
        assert_eq!(listed(server), []);
        // Nothing is left that would pause it again.
        server.tell_rollout("r", "resume");
        let now = server.rollout("r");
        assert_eq!((now.state, now.phases[0].counts.failed), (RolloutState::Running, 1));
        assert_eq!(now.phases[0].counts.acknowledged, 1);
        first[1].settle(Health::Good);
        assert!(server.rollout("r").phases[1].opened_at.is_some(), "one of one that count has succeeded");
    });
}

#[test]
fn who_is_cancelled_gets_nothing_more_and_does_not_count() {
    on_both(|server| {
        let [mut loads, mut unreached, mut failed, mut trial] = tills(server, &json!({ "audience": "frozen" }));
        let offer = loads.check_in();
        fails(&mut failed);
        trial.obey(Health::Good);
        let install = trial.check_in();
        trial.report(&install, Event::Activating);
        let all = ["till-0", "till-1", "till-2", "till-3", "till-9"];
        let dealt = deal(server, "cancel", &json!({ "devices": all }));
        assert_eq!(names(&dealt), ["till-0", "till-1", "till-2"]);
        let why: Vec<&str> = dealt.refused.iter().map(|one| one.reason.as_str()).collect();
        assert_eq!(why, ["it is activating: it is left alone until it has finished", "there is no device till-9"]);
        assert_eq!(counts(server).cancelled, 3);
        assert_eq!(loads.check_in().action, Action::None);
        loads.report(&offer, Event::Downloading);
        assert_eq!((unreached.check_in().action, failed.check_in().action), (Action::None, Action::None));
        trial.report(&install, Event::Succeeded);
        assert_eq!(server.rollout("r").state, RolloutState::Completed);
        // By name one comes back.
        assert!(deal(server, "retry", &json!({ "devices": ["till-1"] })).reopened);
        unreached.settle(Health::Good);
        assert_eq!(state(server, &unreached), S::Succeeded);
    });
}

#[test]
fn what_cannot_be_done_is_refused_with_what_would_be_right() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({}));
        let post = |verb: &str, body: &Value| server.api().try_post(&format!("rollouts/r/devices/{verb}"), body);
        refused(&post("retry", &json!({ "devices": ["till-0"], "reason": " " })), Code::Invalid, "reason is empty");
        let none = post("skip", &json!({ "reason": "x" }));
        refused(&none, Code::Invalid, "neither devices nor a selector is given; say which devices");
        let both = post("skip", &json!({ "devices": ["a"], "selector": "all", "reason": "x" }));
        refused(&both, Code::Invalid, "give one of them");
        refused(&post("skip", &json!({ "selector": "region ==", "reason": "x" })), Code::BadSelector, "column");
        let many = vec!["x"; 1001];
        refused(&post("skip", &json!({ "devices": many, "reason": "x" })), Code::Invalid, "1001 devices; at most 1000");
        let never = deal(server, "retry", &json!({ "devices": ["till-0"] }));
        assert_eq!(never.refused[0].reason, "rollout r has not tried it");
        let offer = till.check_in();
        let early = deal(server, "retry", &json!({ "devices": ["till-0"] }));
        assert_eq!(early.refused[0].reason, "it is downloading: it is under way");
        till.report_failure(&offer, Event::Failed, FailureClass::Permanent, "no_space");
        server.tell_rollout("r", "cancel");
        let over = post("retry", &json!({ "devices": ["till-0"], "reason": "x" }));
        refused(&over, Code::WrongState, "rollout r was cancelled; make another rollout of pos-app@2.0.0");
        server.api().try_get("attention?rollout=x").problem(Code::NotFound);
    });
}

#[test]
fn operators_do_it_on_the_command_line() {
    on_both(|server| {
        let [mut till, mut other] = tills(server, &json!({}));
        fails(&mut till);
        fails(&mut other);
        let table = server.cli(["attention", "list"]);
        let first = table.ok().stdout.lines().nth(1).unwrap().to_owned();
        assert!(first.starts_with("r        till-0        2.0.0    failed"), "{first}");
        assert!(first.ends_with("no_space: no_space on till-0"), "{first}");
        let retry = ["rollout", "retry", "r", "--device", "till-0"];
        assert_eq!(server.cli(retry).code, Some(2), "a reason is wanted");
        assert_eq!(server.cli(["rollout", "skip", "r", "--reason", "x"]).code, Some(2), "and devices");
        let done = server.cli(retry.iter().chain(&["--reason", "a new disk"]));
        assert_eq!(done.ok().stdout, "1 device: till-0\n");
        let again = server.cli(retry.iter().chain(&["--reason", "a new disk"]));
        assert_eq!(again.refused(1), "callboard: till-0: it is queued: it is under way");
        let one = server.cli(["attention", "list", "--selector", "name = till-1"]);
        assert!(one.ok().stdout.contains("till-1") && !one.stdout.contains("till-0"), "{}", one.stdout);
        refused(&server.api().try_get("attention?selector=name%20="), Code::BadSelector, "selector: column 7");
        server.cli(["rollout", "skip", "r", "--selector", "name = till-1", "--reason", "sold"]).ok();
        let left = server.cli(["attention", "list"]);
        assert_eq!((left.stdout.as_str(), left.stderr.as_str()), ("", "no failures\n"));
        let gone = server.cli(["rollout", "cancel", "r", "--device", "till-1", "--reason", "sold"]);
        assert_eq!(gone.ok().stdout, "1 device: till-1\n");
        assert_eq!(server.rollout("r").state, RolloutState::Running, "the others go on");
    });
}

#[test]
fn a_device_whose_part_is_cancelled_drops_what_it_has_staged() {
    on_both(|server| {
        let [mut device] = tills(server, &json!({}));
        let offer = device.obey(Health::Good);
        device.is_at(&offer, AgentState::Staged);
        deal(server, "cancel", &json!({ "devices": ["till-0"] }));
        // Again, until it says that it is done.
        for _ in 0..2 {
            let told = device.check_in();
            assert_eq!((told.action, told.reason.code.as_str()), (Action::Cancel, "cancelled"));
            assert_eq!((told.assignment_id, told.attempt), (offer.assignment_id, offer.attempt));
        }
        device.report(&offer, Event::Cancelled);
        (device.state, device.progress) = (AgentState::Idle, None);
        assert_eq!(device.check_in().action, Action::None);
        assert_eq!(counts(server).cancelled, 1);
    });
}
