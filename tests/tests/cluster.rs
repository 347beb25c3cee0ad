//! Two servers on one PostgreSQL: either answers every device, and neither is behind for long.

use callboard_proto::{
    admin::{Assignment, Device, Event as Logged, RolloutState},
    instruction::Action,
    problem::Code,
    report::Event,
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
use std::{sync::Barrier, time::Duration};

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
        let offer = devices[1].check_in();
        devices[1].report(&offer, Event::Staged);
        devices[0].settle(Health::Bad);
        assert_eq!(devices[1].check_in().action, Action::Hold, "it is staged, and stays so");
        for device in &mut devices[2..] {
            assert_ne!(device.check_in().action, Action::Download, "{}", device.name);
        }
        assert_eq!(first.rollout("r").state, RolloutState::Paused);
        let counts = first.rollout("r").phases[0].counts;
        assert_eq!((counts.downloading, counts.staged, counts.unreached), (0, 1, 14));
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

fn both_advance(first: &TestServer, second: &TestServer, seconds: u64) {
    first.advance(Duration::from_secs(seconds));
    // Both go by one clock, and the second has to be told as well.
    second.advance(Duration::ZERO);
}

#[test]
fn a_device_that_was_at_the_other_server_was_not_away() {
    on_two(|first, second| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(first);
        let mut device = till(first, "till-1");
        moves_to(&mut device, second);
        device.check_in();
        moves_to(&mut device, first);
        // For two hours it is at the first server, and boots there.
        for _ in 0..24 {
            both_advance(first, second, 300);
            device.boot_id = "boot-2".to_owned();
            device.check_in();
        }
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "on_connect" })));
        wait::until("the other server has heard of the rollout", || !second.explain(&device).rollouts.is_empty());
        wait::until("it knows when the device was seen", || {
            let seen: Device = second.api().get("devices/till-1");
            seen.last_seen == first.api().get::<Device>("devices/till-1").last_seen
        });
        moves_to(&mut device, second);
        let told = device.check_in();
        assert_eq!((told.action, told.reason.code.as_str()), (Action::None, "waits_for_connect"));
        // Where it was away for everybody, it connects.
        both_advance(first, second, 4000);
        assert_eq!(device.check_in().action, Action::Download);
    });
}

#[test]
fn whom_one_server_excluded_the_other_excludes_no_more_and_takes_back() {
    on_two(|first, second| {
        let digest = NewRelease::new("pos-app", "2.0.0", 1).publish(first).sha256;
        let mut device = till(first, "till-1");
        moves_to(&mut device, second);
        device.check_in();
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "on_connect" })));
        wait::until("the other server has heard of the rollout", || !second.explain(&device).rollouts.is_empty());
        assert_eq!(device.check_in().reason.code, "waits_for_connect");
        let excluded = || first.rollout("r").phases[0].counts.excluded;
        moves_to(&mut device, first);
        let release = device.fetch_release(digest);
        device.install(&release);
        assert_eq!((device.check_in().reason.code.as_str(), excluded()), ("already_installed", 1));
        moves_to(&mut device, second);
        assert_eq!((device.check_in().reason.code.as_str(), excluded()), ("already_installed", 1));
        let log: Vec<Logged> = first.api().list("events");
        assert_eq!(log.iter().filter(|event| event.kind == "rollout.excluded").count(), 1);
        // Somebody has put the old one back.
        let mut device = device.runs("pos-app", "1.0.0");
        device.boot_id = "boot-2".to_owned();
        assert_eq!((device.check_in().action, excluded()), (Action::Download, 0));
    });
}

#[test]
fn whom_one_server_brings_back_after_a_halt_the_other_brings_back_too() {
    on_two(|first, second| {
        let old = NewRelease::new("pos-app", "1.0.0", 1).publish(first).sha256;
        NewRelease::new("pos-app", "2.0.0", 2).publish(first);
        let [mut late, mut bad, mut good] = ["late", "bad", "good"].map(|name| {
            let mut device = till(first, name);
            let release = device.fetch_release(old);
            device.install(&release);
            device.check_in();
            device
        });
        let rule = json!({ "max_failures": 0, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
        first.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "halt": [rule] })));
        good.settle(Health::Good);
        late.obey(Health::Good);
        let install = late.check_in();
        late.report(&install, Event::Activating);
        bad.settle(Health::Bad);
        moves_to(&mut late, second);
        wait::until("the other server has heard of the halt", || {
            let known = second.explain(&late).rollouts;
            known.iter().any(|one| one.rollout.as_str() == "r-rollback")
        });
        late.check_in();
        moves_to(&mut late, first);
        late.activate(&install, Health::Good);
        moves_to(&mut late, second);
        wait::until("it is brought back", || late.check_in().release_sha256 == Some(old));
        // Payloads are where they were uploaded.
        moves_to(&mut late, first);
        late.settle(Health::Good);
        assert_eq!((late.version_of("pos-app"), first.rollout("r-rollback").phases[0].counts.size), (Some("1.0.0"), 2));
    });
}
