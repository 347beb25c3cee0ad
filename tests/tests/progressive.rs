//! The progressive policy: phases of exact size, opened by success, and stopped by failure.

use callboard_proto::{
    admin::{Device, Event, Imported, Preview, RolloutState},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Health, Key, enrolment},
    release::NewRelease,
    server::TestServer,
    wait,
    world::rollout,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

use crate::{on_both, refused};

fn ten(server: &TestServer) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let enrol = |n: i32| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0");
    let mut devices: Vec<FakeDevice> = (0..10).map(enrol).collect();
    devices.iter_mut().for_each(|device| drop(device.check_in()));
    devices
}

fn phases() -> Value {
    json!([{ "name": "canary", "percent": 10 }, { "name": "half", "percent": 50 }, { "name": "all", "percent": 100 }])
}

fn spec(more: &Value) -> Value {
    let mut spec = json!({ "policy": "progressive", "phases": phases() });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    rollout("r", "pos-app@2.0.0", &spec)
}

/// Everybody checks in once; who is offered the release?
fn offered(devices: &mut [FakeDevice]) -> Vec<usize> {
    let told = devices.iter_mut().map(|device| device.check_in().action);
    told.enumerate().filter(|(_, action)| *action == Action::Download).map(|(n, _)| n).collect()
}

#[test]
fn the_preview_of_a_draft_and_its_start_agree_about_who_is_in_which_phase() {
    on_both(|server| {
        let mut devices = ten(server);
        let wanted = spec(&json!({ "audience": "frozen" }));
        server.api().post::<Value>("rollouts", &wanted);
        let draft: Preview = server.api().get("rollouts/r/preview");
        assert_eq!(draft.phases.iter().map(|phase| phase.online).collect::<Vec<_>>(), [1, 4, 5]);
        server.tell_rollout("r", "start");
        let canaries: Vec<_> = offered(&mut devices).into_iter().map(|n| devices[n].name.clone()).collect();
        assert_eq!(canaries, draft.phases[0].devices);
        // Of one that was started it is what would be, and says so.
        let running: Preview = server.api().get("rollouts/r/preview");
        assert!(running.warnings[0].starts_with("rollout r is running: this is what would come of it"), "{running:?}");
    });
}

#[test]
fn phases_have_exact_sizes_and_open_one_after_the_other() {
    on_both(|server| {
        let mut devices = ten(server);
        server.roll_out(&spec(&json!({ "audience": "frozen" })));
        let canary = offered(&mut devices);
        assert_eq!(canary.len(), 1);
        let waiting = devices.iter().position(|device| device.name != devices[canary[0]].name).unwrap();
        let told = devices[waiting].check_in();
        assert_eq!((told.action, told.reason.code.as_str()), (Action::None, "phase_not_open"));
        // However often they ask.
        assert_eq!(offered(&mut devices), canary);
        devices[canary[0]].settle(Health::Good);

        let half: Vec<usize> = offered(&mut devices);
        assert_eq!(half.len(), 4);
        for n in &half[..2] {
            devices[*n].settle(Health::Good);
        }
        // 80 % of 5 are 4: the canary is in the first phase, so of the 4 here 4 are needed (3.2, rounded up).
        assert_eq!(offered(&mut devices).len(), 2);
        let progress = server.rollout("r");
        let gate = progress.phases[1].gate.as_ref().unwrap();
        assert_eq!(gate.code, "gate_waiting");
        insta::assert_snapshot!(gate.text, @"phase all opens when 2 more devices of phase half succeed (2 of 4 completed, 4 are needed)");
        for n in &half[2..] {
            devices[*n].settle(Health::Good);
        }
        let rest = offered(&mut devices);
        assert_eq!(rest.len(), 5);
        rest.into_iter().for_each(|n| drop(devices[n].settle(Health::Good)));
        let done = server.rollout("r");
        assert_eq!(done.state, RolloutState::Completed);
        let sizes: Vec<(u32, u32)> =
            done.phases.iter().map(|phase| (phase.counts.size, phase.counts.succeeded)).collect();
        assert_eq!(sizes, [(1, 1), (4, 4), (5, 5)]);
        assert!(devices.iter().all(|device| device.version_of("pos-app") == Some("2.0.0")));
    });
}

#[test]
fn a_preview_of_a_draft_names_the_very_devices() {
    on_both(|server| {
        let mut devices = ten(server);
        server.api().post::<Value>("rollouts", &spec(&json!({})));
        let preview: callboard_proto::admin::Preview = server.api().get("rollouts/r/preview");
        let sizes: Vec<(&str, u32)> = preview.phases.iter().map(|phase| (phase.name.as_str(), phase.size)).collect();
        assert_eq!(sizes, [("canary", 1), ("half", 4), ("all", 5)]);
        server.api().post::<Value>("rollouts/r/start", &json!({}));
        let mut reality: BTreeMap<String, usize> = BTreeMap::new();
        for phase in 0..3 {
            for n in offered(&mut devices) {
                devices[n].settle(Health::Good);
                reality.insert(devices[n].name.to_string(), phase);
            }
        }
        let promised = preview.phases.iter().enumerate();
        let promised = promised.flat_map(|(n, phase)| phase.devices.iter().map(move |name| (name.to_string(), n)));
        assert_eq!(reality, promised.collect());
    });
}

#[test]
fn a_release_that_fails_its_health_check_on_the_canary_pauses_the_rollout() {
    on_both(|server| {
        let mut devices = ten(server);
        server.roll_out(&spec(&json!({})));
        let canary = offered(&mut devices)[0];
        devices[canary].settle(Health::Bad);
        let paused = server.rollout("r");
        assert_eq!((paused.state, paused.phases[0].counts.rolled_back), (RolloutState::Paused, 1));
        insta::assert_snapshot!(paused.state_reason.unwrap(), @"phase canary: 1 of 1 failed, so 95 % success cannot be reached any more");
        assert_eq!(devices[canary].version_of("pos-app"), Some("1.0.0"));
        assert_eq!(offered(&mut devices), Vec::<usize>::new());
        let told = server.explain(&devices[canary]).next.text;
        let wanted =
            "rollout r: pos-app 2.0.0 failed here and was rolled back; `callboard rollout retry r --device till-";
        assert!(told.starts_with(wanted), "{told}");
        let other = (canary + 1) % 10;
        let told = server.explain(&devices[other]).next.text;
        assert!(told.contains("phase canary is the last one open; phase canary: 1 of 1 failed, so 95 %"), "{told}");
        let log: Vec<Event> = server.api().list("events");
        let paused: Vec<&Event> = log.iter().filter(|event| event.kind == "rollout.paused").collect();
        assert_eq!(paused.len(), 1);
        // It stays so over a restart.
        server.restart_after_kill();
        devices.iter_mut().for_each(|device| device.follow(server));
        assert_eq!(offered(&mut devices), Vec::<usize>::new());
    });
}

#[test]
fn some_failures_are_forgiven_if_the_gate_says_so() {
    on_both(|server| {
        let mut devices = ten(server);
        let phases = json!([
            { "name": "first", "percent": 50, "success_percent": 60, "completed_percent": 100 },
            { "name": "all", "percent": 100 },
        ]);
        server.roll_out(&spec(&json!({ "phases": phases })));
        let first = offered(&mut devices);
        assert_eq!(first.len(), 5);
        for (n, health) in first.iter().zip([Health::Bad, Health::Good, Health::Good, Health::Bad, Health::Good]) {
            assert_eq!(offered(&mut devices).iter().filter(|other| !first.contains(other)).count(), 0);
            devices[*n].settle(health);
        }
        assert_eq!(server.rollout("r").state, RolloutState::Running);
        assert_eq!(offered(&mut devices).len(), 5);
    });
}

#[test]
fn a_label_makes_the_canaries() {
    on_both(|server| {
        let mut devices = ten(server);
        let edit = json!({ "selector": "name in (till-3, till-7)", "set": { "canary": "true" } });
        server.api().post::<Value>("devices/labels", &edit);
        let phases = json!([{ "name": "pilots", "selector": "canary = true" }, { "name": "all", "percent": 100 }]);
        server.roll_out(&spec(&json!({ "phases": phases })));
        assert_eq!(offered(&mut devices), [3, 7]);
    });
}

#[test]
fn a_whole_shop_moves_together() {
    on_both(|server| {
        server.import_fleet();
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        let listed: Vec<Device> = server.api().list("devices");
        let mut devices: Vec<FakeDevice> = listed.iter().map(|one| server.switch_on(one.name.as_str())).collect();
        let phases = json!([{ "name": "half", "percent": 50 }, { "name": "all", "percent": 100 }]);
        let more = json!({ "policy": "progressive", "unit": "site", "phases": phases });
        server.roll_out(&rollout("r", "pos-app@2.4.0", &more));
        let first: Vec<usize> = offered(&mut devices);
        let site = |n: usize| listed[n].site.clone().unwrap();
        let sites: std::collections::BTreeSet<_> = first.iter().map(|n| site(*n)).collect();
        assert_eq!(sites.len(), 4, "half of eight shops");
        assert_eq!(first.len(), (0..10).filter(|n| sites.contains(&site(*n))).count(), "and all of their terminals");
    });
}

fn at_shop(server: &TestServer, name: &str, site: &str) -> FakeDevice {
    let token = server.enrolment_token(&json!({ "site": site }));
    FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named(name)).runs("pos-app", "1.0.0")
}

#[test]
fn a_till_that_comes_to_a_shop_later_moves_with_it() {
    on_both(|server| {
        let sites: Vec<Value> = (0..4).map(|n| json!({ "id": format!("SHOP-{n}"), "tz": "UTC" })).collect();
        server.api().post::<Imported>("sites/import", &json!({ "sites": sites }));
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        let till = |n: usize| at_shop(server, &format!("till-{n}"), &format!("SHOP-{n}"));
        let mut tills: Vec<FakeDevice> = (0..4).map(till).collect();
        tills.iter_mut().for_each(|till| drop(till.check_in()));
        let phases = json!([{ "name": "first", "percent": 25 }, { "name": "all", "percent": 100 }]);
        let more = json!({ "policy": "progressive", "unit": "site", "phases": phases });
        server.roll_out(&rollout("r", "pos-app@2.4.0", &more));
        let first = offered(&mut tills);
        assert_eq!(first.len(), 1);
        // The same again after a restart: who moves with whom is in the database.
        for round in 0..2 {
            for n in 0..4 {
                let mut late = at_shop(server, &format!("late-{round}-{n}"), &format!("SHOP-{n}"));
                let told = late.check_in();
                let wanted = if first == [n] { "offered" } else { "phase_not_open" };
                assert_eq!(told.reason.code, wanted, "SHOP-{n}");
            }
            server.stop();
            server.serve();
        }
        let site = json!({ "sites": [{ "id": "SHOP-NEW", "tz": "UTC" }] });
        server.api().post::<Imported>("sites/import", &site);
        assert_eq!(at_shop(server, "new-0", "SHOP-NEW").check_in().reason.code, "offered");
        assert_eq!(server.rollout("r").phases[0].counts.size, 1 + 2 + 1);
    });
}

#[test]
fn a_frozen_rollout_that_no_device_can_have_does_not_start() {
    on_both(|server| {
        let mut devices = ten(server);
        devices.iter_mut().for_each(|device| drop(device.check_in()));
        NewRelease::new("pos-app", "9.0.0", 900).with(|release| release.hw = vec!["ipad".to_owned()]).publish(server);
        let frozen = rollout("r", "pos-app@9.0.0", &json!({ "audience": "frozen" }));
        server.api().post::<Value>("rollouts", &frozen);
        let start = server.api().try_post("rollouts/r/start", &json!({ "reason": "a test" }));
        refused(&start, Code::Invalid, "no device that all matches can have it (10 incompatible_hw)");
        assert_eq!(server.rollout("r").state, RolloutState::Draft);
    });
}

#[test]
fn offline_devices_hold_a_phase_up_no_longer_than_it_may_wait() {
    on_both(|server| {
        let mut devices = ten(server);
        let phases = json!([{ "name": "half", "percent": 50, "max_wait_min": 60 }, { "name": "all", "percent": 100 }]);
        server.roll_out(&spec(&json!({ "phases": phases })));
        let first = offered(&mut devices);
        devices[first[0]].settle(Health::Good);
        server.advance(Duration::from_secs(59 * 60));
        assert_eq!(offered(&mut devices).len(), 4);
        server.advance(Duration::from_secs(60));
        wait::until("time alone opens the next phase", || offered(&mut devices).len() == 9);
    });
}
