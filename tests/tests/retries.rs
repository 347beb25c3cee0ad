//! Failures: what is tried again, when, and what is not.

use callboard_proto::{
    admin::{Assignment, RolloutState},
    instruction::Action,
    report::{Event, FailureClass},
    state::AssignmentState,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::on_both;

fn started(server: &TestServer, more: &Value) -> FakeDevice {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
    server.roll_out(&rollout("r", "pos-app@2.0.0", more));
    device
}

fn assignment(server: &TestServer) -> Assignment {
    server.api().list("rollouts/r/assignments").pop().unwrap()
}

#[test]
fn a_transient_failure_is_tried_again_later_as_the_same_assignment() {
    on_both(|server| {
        let mut device = started(server, &json!({}));
        let first = device.check_in();
        device.report_failure(&first, Event::Failed, FailureClass::Transient, "no_space");
        let queued = assignment(server);
        assert_eq!((queued.state, queued.attempt), (AssignmentState::Queued, 2));
        assert_eq!(queued.failure.unwrap().code, "no_space");
        let wait = device.check_in();
        if wait.action == Action::None {
            assert_eq!(wait.reason.code, "retry_later");
            assert!(wait.reason.text.contains("try 2 of 3 is made at 2027-01-12T12:0"), "{}", wait.reason.text);
        }
        // Full jitter: at any time within the back-off, and surely at its end.
        server.advance(Duration::from_secs(60));
        let second = device.obey(Health::Good);
        assert_eq!((second.action, second.attempt), (Action::Download, Some(2)));
        assert_eq!(second.assignment_id, first.assignment_id);
        device.settle(Health::Good);
        assert_eq!((assignment(server).state, assignment(server).attempt), (AssignmentState::Succeeded, 2));
        assert_eq!(server.rollout("r").phases[0].counts.failed, 0);
    });
}

#[test]
fn attempts_are_exhausted_and_the_assignment_has_failed() {
    on_both(|server| {
        let mut device = started(server, &json!({ "max_attempts": 2 }));
        for attempt in 1..=2 {
            let offer = device.check_in();
            assert_eq!((offer.action, offer.attempt), (Action::Download, Some(attempt)));
            device.report_failure(&offer, Event::Failed, FailureClass::Transient, "bad_chunk");
            server.advance(Duration::from_secs(3600));
        }
        assert_eq!((assignment(server).state, assignment(server).attempt), (AssignmentState::Failed, 2));
        let over = device.check_in();
        assert_eq!((over.action, over.reason.code.as_str()), (Action::None, "failed"));
        insta::assert_snapshot!(over.reason.text, @"rollout r: pos-app 2.0.0 failed here and needs attention; `callboard rollout retry r --device till-1 --reason ...` tries again");
    });
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    on_both(|server| {
        let mut device = started(server, &json!({}));
        let offer = device.check_in();
        device.report_failure(&offer, Event::Failed, FailureClass::Permanent, "bad_signature");
        server.advance(Duration::from_secs(86_400));
        assert_eq!(device.check_in().action, Action::None);
        assert_eq!(server.rollout("r").phases[0].counts.failed, 1);
    });
}

#[test]
fn a_release_that_rolled_back_is_not_offered_again_by_any_rollout() {
    on_both(|server| {
        let mut device = started(server, &json!({ "audience": "frozen" }));
        device.settle(Health::Bad);
        assert_eq!(assignment(server).state, AssignmentState::RolledBack);
        server.roll_out(&rollout("again", "pos-app@2.0.0", &json!({})));
        server.advance(Duration::from_secs(86_400));
        assert_eq!(device.check_in().action, Action::None);
        insta::assert_snapshot!(server.explain(&device).next.text, @"rollout again: pos-app 2.0.0 rolled back on this device; `callboard rollout retry again --device till-1 --reason ...` tries again");
        NewRelease::new("pos-app", "2.0.1", 2).publish(server);
        server.roll_out(&rollout("fixed", "pos-app@2.0.1", &json!({})));
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("2.0.1"));
    });
}

#[test]
fn a_deferred_switch_gets_its_grant_anew() {
    on_both(|server| {
        let mut device = started(server, &json!({}));
        device.obey(Health::Good);
        let install = device.check_in();
        device.report_failure(&install, Event::Deferred, FailureClass::Transient, "sale_open");
        assert_eq!(assignment(server).state, AssignmentState::Staged);
        server.tell_rollout("r", "pause");
        assert_eq!(device.check_in().action, Action::Hold, "the pause is in time");
        server.tell_rollout("r", "resume");
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("2.0.0"));
        assert_eq!(server.rollout("r").state, RolloutState::Running);
    });
}

#[test]
fn a_device_that_enrols_anew_begins_anew() {
    on_both(|server| {
        let mut device = started(server, &json!({}));
        device.settle(Health::Good);
        server.advance(Duration::from_secs(60));
        let mut reborn = FakeDevice::enrol_imported(server, "till-1").runs("pos-app", "1.0.0");
        assert_eq!(reborn.id, device.id);
        assert_eq!(reborn.check_in().action, Action::Download);
        reborn.settle(Health::Good);
        let counts = server.rollout("r").phases[0].counts;
        assert_eq!((counts.size, counts.succeeded, counts.failed), (1, 1, 0));
    });
}

#[test]
fn a_device_on_which_the_release_rolled_back_is_nobodys_canary() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let enrol = |n: i32| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0");
        let mut devices: Vec<FakeDevice> = (0..4).map(enrol).collect();
        devices.iter_mut().for_each(|device| drop(device.check_in()));
        let first = json!({ "audience": "frozen", "selector": "name in (till-0, till-1)" });
        server.roll_out(&rollout("first", "pos-app@2.0.0", &first));
        devices[..2].iter_mut().for_each(|device| drop(device.settle(Health::Bad)));
        // Of the two that are left, one is the first phase: it would have nothing to learn from the others.
        let phases = json!([{ "name": "canary", "percent": 25 }, { "name": "all", "percent": 100 }]);
        let second = json!({ "audience": "frozen", "policy": "progressive", "phases": phases });
        let second = rollout("second", "pos-app@2.0.0", &second);
        let preview = server.preview(&second);
        let sizes: Vec<u32> = preview.phases.iter().map(|phase| phase.size).collect();
        assert_eq!(sizes, [1, 1]);
        let mut why: Vec<&str> = preview.incompatible_devices.iter().map(|one| one.reason.code.as_str()).collect();
        why.dedup();
        assert_eq!((preview.incompatible, why), (2, vec!["rolled_back_before"]));
        let started = server.roll_out(&second);
        let counts: Vec<(u32, u32)> =
            started.phases.iter().map(|phase| (phase.counts.size, phase.counts.excluded)).collect();
        assert_eq!(counts, [(1, 0), (3, 2)]);
        // A retry takes it off the list, and the device is in again.
        let retried = json!({ "devices": ["till-0"], "reason": "a test" });
        server.api().post::<serde_json::Value>("rollouts/first/devices/retry", &retried);
        assert_eq!(server.preview(&second).incompatible, 1);
    });
}
