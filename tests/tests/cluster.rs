//! Two servers on one PostgreSQL: either answers every device, and neither is behind for long.

use callboard_proto::{
    admin::{Assignment, Device, RolloutState},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    http::Request,
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::json;
use std::sync::Barrier;

use crate::BINARIES;

fn on_two(test: impl Fn(&mut TestServer, &mut TestServer)) {
    match TestServer::start(BINARIES, Engine::Postgres, &[]) {
        Some(mut first) => {
            let mut second = first.second();
            test(&mut first, &mut second);
        }
        None => eprintln!("skipped: needs postgres"),
    }
}

fn till(server: &TestServer, name: &str) -> FakeDevice {
    FakeDevice::enrol(server, name).runs("pos-app", "1.0.0")
}

/// The device asks the other server from now on.
fn moves_to(device: &mut FakeDevice, server: &TestServer) {
    device.follow(server);
}

#[test]
fn a_device_may_ask_either_server_at_any_step() {
    on_two(|first, second| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(first);
        let mut device = till(first, "till-1");
        moves_to(&mut device, second);
        device.check_in();
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        wait::until("the other server has heard of the rollout", || {
            second.explain(&device).rollouts.iter().any(|one| one.reason.code == "offered")
        });
        let offer = device.check_in();
        assert_eq!(offer.action, Action::Download);
        moves_to(&mut device, first);
        wait::until("the assignment is known here too", || device.check_in().assignment_id == offer.assignment_id);
        device.stage(&offer);
        moves_to(&mut device, second);
        wait::until("the report is known here too", || {
            second.explain(&device).rollouts.iter().any(|one| one.reason.code == "install_now")
        });
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("2.0.0"));
        assert_eq!(first.rollout("r").phases[0].counts.succeeded, 1);
    });
}

#[test]
fn a_device_that_one_server_decommissioned_is_refused_by_the_other_soon() {
    on_two(|first, second| {
        let mut device = till(first, "till-1");
        moves_to(&mut device, second);
        device.check_in();
        first.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "stolen" }));
        wait::until("the other server refuses it", || {
            let body = device.next_check_in();
            let answer = device.wire.send(&Request::post(callboard_proto::paths::CHECK_IN).json(&body));
            answer.status == Code::DeviceRevoked.row().2
        });
    });
}

#[test]
fn no_grant_slips_past_a_pause_on_the_other_server() {
    on_two(|first, second| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(first);
        let mut devices: Vec<FakeDevice> = (0..16).map(|n| till(first, &format!("till-{n}"))).collect();
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        for device in &mut devices {
            moves_to(device, second);
        }
        wait::until("the other server makes grants", || devices[0].check_in().action == Action::Download);
        assert_eq!(first.tell_rollout("r", "pause").state, RolloutState::Paused);
        // Whatever the other server remembers, its grant is conditional on what is stored.
        for device in &mut devices[1..] {
            assert_ne!(device.check_in().action, Action::Download, "{}", device.name);
        }
        assert_eq!(first.rollout("r").phases[0].counts.downloading, 1);
    });
}

#[test]
fn no_grant_slips_past_a_halt_on_the_other_server() {
    on_two(|first, second| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(first);
        let mut devices: Vec<FakeDevice> = (0..16).map(|n| till(first, &format!("till-{n}"))).collect();
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "halt": [{ "max_failures": 0 }] })));
        for device in &mut devices[1..] {
            moves_to(device, second);
        }
        wait::until("the other server makes grants", || devices[1].check_in().action == Action::Download);
        devices[0].settle(Health::Bad);
        for device in &mut devices[2..] {
            assert_ne!(device.check_in().action, Action::Download, "{}", device.name);
        }
        assert_eq!(first.rollout("r").state, RolloutState::Paused);
        assert_eq!(first.rollout("r").phases[0].counts.downloading, 1);
    });
}

#[test]
fn a_burst_on_both_servers_makes_one_assignment_for_each_device() {
    on_two(|first, second| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(first);
        let mut devices: Vec<FakeDevice> = (0..32).map(|n| till(first, &format!("till-{n}"))).collect();
        let mut twins: Vec<FakeDevice> = devices.iter().map(|device| device.twin(second)).collect();
        let phases = json!([{ "name": "half", "percent": 50 }, { "name": "all", "percent": 100 }]);
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "progressive", "phases": phases })));
        let together = Barrier::new(devices.len() + twins.len());
        std::thread::scope(|scope| {
            for device in devices.iter_mut().chain(&mut twins) {
                scope.spawn(|| {
                    together.wait();
                    // Both may have changed something at once too often for one answer; then it is to come again.
                    let body = serde_json::to_vec(&device.next_check_in()).unwrap();
                    assert!(matches!(device.try_check_in(&body).status, 200 | 503));
                });
            }
        });
        wait::until("all of the open phase are reached", || {
            devices.iter_mut().for_each(|device| drop(device.check_in()));
            first.rollout("r").phases[0].counts.unreached == 0
        });
        let made: Vec<Assignment> = first.api().list("rollouts/r/assignments");
        let mut names: Vec<String> = made.iter().map(|one| one.device.to_string()).collect();
        names.sort();
        names.dedup();
        assert_eq!((made.len(), names.len()), (16, 16));
    });
}
