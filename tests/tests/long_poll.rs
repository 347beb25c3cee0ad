//! Check-ins that wait: they are answered when something changes for the device, and cost nothing until then.

use std::{sync::mpsc, thread, time::Duration};

use callboard_proto::{
    admin::Device,
    check_in::MAX_WAIT_S,
    instruction::{Action, Instruction},
    problem::Code,
    state::{AgentState, AssignmentState},
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    proxy::Proxy,
    release::NewRelease,
    server::{Engine, TestServer},
    till::QUICK,
    wait,
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, on_both, on_both_with};

/// Long before a wait ends by itself, and far more than an answer takes on a loaded machine.
const NOT_BY_ITSELF: Duration = Duration::from_secs(40);

fn waiting(server: &TestServer) -> usize {
    server.api().metric("callboard_waiting", "").round() as usize
}

fn wait_for(server: &TestServer, many: usize) {
    wait::until(&format!("{many} devices wait"), || waiting(server) == many);
}

/// What a device that waits at `server` is told because of `meanwhile`.
#[track_caller]
fn told(device: &mut FakeDevice, server: &TestServer, meanwhile: impl FnOnce()) -> Instruction {
    device.wait_s = MAX_WAIT_S;
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| drop(sender.send(device.check_in())));
        wait_for(server, 1);
        meanwhile();
        receiver.recv_timeout(NOT_BY_ITSELF).expect("an answer before the wait has ended by itself")
    })
}

fn till(server: &TestServer) -> FakeDevice {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
    assert_eq!(device.check_in().action, Action::None);
    device
}

#[test]
fn an_immediate_rollout_reaches_a_device_that_waits() {
    on_both(|server| {
        let mut device = till(server);
        let answer = told(&mut device, server, || {
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        });
        assert_eq!((answer.action, answer.reason.code.as_str()), (Action::Download, "offered"));
        assert_eq!(answer.next_checkin_s, 10, "it may wait again soon");
        wait_for(server, 0);
    });
}

#[test]
fn a_rollout_of_another_server_reaches_a_device_that_waits_at_this_one() {
    let Some(first) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        eprintln!("skipped: needs postgres");
        return;
    };
    let second = first.second();
    let mut device = till(&first);
    device.follow(&second);
    device.check_in();
    let answer = told(&mut device, &second, || {
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
    });
    assert_eq!(answer.action, Action::Download);
    device.is_at(&answer, AgentState::Downloading);
    let answer = told(&mut device, &second, || {
        first.api().try_put("devices/till-1/hold", &json!({ "reason": "a test" })).ok();
    });
    assert_eq!((answer.action, answer.reason.code.as_str()), (Action::Hold, "held"));
}

#[test]
fn whatever_touches_a_device_reaches_it_while_it_waits() {
    on_both(|server| {
        let mut device = till(server);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let offer = device.check_in();
        device.is_at(&offer, AgentState::Downloading);
        let answer = told(&mut device, server, || {
            server.tell_rollout("r", "pause");
        });
        assert_eq!((answer.action, answer.reason.code.as_str()), (Action::Hold, "rollout_paused"));
        let answer = told(&mut device, server, || {
            server.tell_rollout("r", "resume");
        });
        assert_eq!((answer.action, answer.attempt), (Action::Download, offer.attempt));
        let answer = told(&mut device, server, || {
            server.api().try_put("devices/till-1/hold", &json!({ "reason": "a test" })).ok();
        });
        assert_eq!((answer.action, answer.reason.code.as_str()), (Action::Hold, "held"));
        let answer = told(&mut device, server, || server.api().try_delete("devices/till-1/hold").ok());
        assert_eq!(answer.action, Action::Download);
        let answer = told(&mut device, server, || {
            server.tell_rollout("r", "cancel");
        });
        assert_eq!((answer.action, answer.assignment_id), (Action::Cancel, offer.assignment_id));
    });
}

#[test]
fn a_window_that_opens_reaches_a_device_that_waits() {
    on_both(|server| {
        server.set_clock(time("2027-01-12T12:00:00Z"));
        let mut device = till(server);
        let window = json!({ "tz": "UTC", "start": "13:00", "duration_min": 60, "gates": ["download", "install"] });
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "scheduled", "windows": [window] })));
        let answer = told(&mut device, server, || server.set_clock(time("2027-01-12T13:30:00Z")));
        assert_eq!(answer.action, Action::Download);
        assert_eq!(answer.server_time, time("2027-01-12T13:30:00Z"), "signed when it is answered");
    });
}

#[test]
fn what_a_device_does_not_know_does_not_wait() {
    on_both(|server| {
        let mut device = till(server);
        device.wait_s = MAX_WAIT_S;
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let offer = device.check_in();
        assert_eq!(offer.action, Action::Download);
        // It has staged, and waits for nothing less than the next order.
        device.stage(&offer);
        device.is_at(&offer, AgentState::Staged);
        assert_eq!(device.check_in().action, Action::Install);
        // It lost the order. What is known to wait is what it does.
        assert_eq!(device.check_in().action, Action::Install);
        device.progress = None;
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("2.0.0"));
        wait_for(server, 0);
    });
}

#[test]
fn a_device_that_is_decommissioned_while_it_waits_is_refused_at_once() {
    on_both(|server| {
        let mut device = till(server);
        device.wait_s = MAX_WAIT_S;
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let body = serde_json::to_vec(&device.next_check_in()).unwrap();
            scope.spawn(move || drop(sender.send(device.try_check_in(&body))));
            wait_for(server, 1);
            server.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "stolen" }));
            receiver.recv_timeout(NOT_BY_ITSELF).expect("an answer").problem(Code::DeviceRevoked);
        });
    });
}

#[test]
fn waiting_places_are_bounded_and_a_device_has_one() {
    on_both_with(&["max_waiting = 1"], |server| {
        let mut first = till(server);
        let mut second = FakeDevice::enrol(server, "till-2").runs("pos-app", "1.0.0");
        let mut again = first.twin(server);
        (second.wait_s, again.wait_s) = (MAX_WAIT_S, MAX_WAIT_S);
        first.wait_s = MAX_WAIT_S;
        thread::scope(|scope| {
            let body = serde_json::to_vec(&first.next_check_in()).unwrap();
            let first = scope.spawn(move || first.try_check_in(&body));
            wait_for(server, 1);
            // There is no place, so it is answered as ever.
            let answer = second.check_in();
            assert_eq!((answer.action, answer.next_checkin_s), (Action::None, 300));
            // The same device has come again: its line broke, and the server did not notice.
            let again = scope.spawn(move || again.check_in());
            first.join().unwrap().problem(Code::Unavailable);
            wait_for(server, 1);
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "selector": "name = till-1" })));
            assert_eq!(again.join().unwrap().action, Action::Download);
        });
    });
}

#[test]
fn nobody_waits_where_it_is_switched_off_and_a_longer_wait_is_refused() {
    on_both_with(&["max_waiting = 0"], |server| {
        let mut device = till(server);
        device.wait_s = MAX_WAIT_S;
        assert_eq!(device.check_in().next_checkin_s, 300);
        device.wait_s = MAX_WAIT_S + 1;
        let body = serde_json::to_vec(&device.next_check_in()).unwrap();
        let detail = device.try_check_in(&body).problem(Code::BadRequest);
        assert!(detail.contains("wait_s is 56; at most 55 are allowed"), "{detail}");
    });
}

#[test]
fn a_wait_ends_before_the_deadline_of_the_request_and_within_the_poll_interval() {
    for setting in ["request_timeout_s = 2", "poll_interval_s = 1"] {
        on_both_with(&[setting], |server| {
            let mut device = till(server);
            device.wait_s = MAX_WAIT_S;
            let (sender, receiver) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| drop(sender.send(device.check_in())));
                let answer = receiver.recv_timeout(NOT_BY_ITSELF).expect("an answer");
                assert_eq!(answer.action, Action::None);
            });
        });
    }
}

#[test]
fn devices_that_wait_run_no_database_statement() {
    on_both(|server| {
        let mut devices: Vec<FakeDevice> = (0..5).map(|n| FakeDevice::enrol(server, &format!("till-{n}"))).collect();
        devices.iter_mut().for_each(|device| drop(device.check_in()));
        let statements = || server.api().metric("callboard_database_statements_total", "purpose=\"requests\"");
        if server.engine == Engine::Postgres {
            // A server that shares its database reads once more what it wrote itself.
            let jobs = || server.api().metric("callboard_database_statements_total", "purpose=\"jobs\"");
            let seen = jobs();
            wait::until("the log was followed a few times", || jobs() > seen + 8.0);
            devices.iter_mut().for_each(|device| drop(device.check_in()));
        }
        let before = statements();
        thread::scope(|scope| {
            for device in &mut devices {
                device.wait_s = MAX_WAIT_S;
                scope.spawn(|| device.check_in());
            }
            wait_for(server, 5);
            assert!((statements() - before).abs() < 0.5, "{before} -> {}", statements());
            // All of them decide again, and find nothing new; the one statement is about the operator's token.
            server.set_clock(server.clock.now());
            assert_eq!(waiting(server), 5);
            assert!((statements() - before - 1.0).abs() < 0.5, "{before} -> {}", statements());
            server.tell_to_stop();
        });
        server.wait_stopped();
        server.serve();
    });
}

#[test]
fn a_server_that_stops_answers_everybody_who_waits() {
    on_both(|server| {
        let mut device = till(server);
        let answer = told(&mut device, server, || server.tell_to_stop());
        assert_eq!((answer.action, answer.next_checkin_s), (Action::None, 60));
        server.wait_stopped();
        server.serve();
    });
}

#[test]
fn a_till_waits_works_and_reports_and_outlives_a_server_that_is_killed() {
    on_both(|server| {
        let proxy = Proxy::to(server.device_address());
        let mut till = server.till_via(proxy.address(), "till-1", QUICK);
        till.set("wait_s", "55");
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        NewRelease::new("pos-app", "3.0.0", 2).publish(server);
        till.switch_on();
        wait_for(server, 1);
        // Each step is asked for and reported without waiting for the end of a wait, or it would take minutes.
        server.roll_out(&rollout("two", "pos-app@2.0.0", &json!({})));
        assert_eq!(server.outcome("two", &till).state, AssignmentState::Succeeded);
        wait_for(server, 1);
        server.kill();
        wait::until("the till has noticed", || till.log().contains("failed to check in"));
        server.serve();
        proxy.retarget(server.device_address());
        wait_for(server, 1);
        server.roll_out(&rollout("three", "pos-app@3.0.0", &json!({})));
        assert_eq!(server.outcome("three", &till).state, AssignmentState::Succeeded);
    });
}
