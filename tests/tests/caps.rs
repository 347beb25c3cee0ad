//! Caps: never more devices at once than a rollout allows, over all and at each site, however many ask.

use std::sync::Barrier;

use callboard_proto::{
    admin::{Counts, Imported},
    instruction::Action,
    problem::Code,
    report::Event,
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health, Key, enrolment},
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{BINARIES, on_both, refused};

/// More than may go at once; few enough for many rounds.
const MANY: usize = 64;

fn fleet(server: &TestServer, many: usize) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let token = server.enrolment_token(&json!({ "max_uses": many }));
    let enrol = |n: usize| enrolment(&token, &Key::new()).named(&format!("till-{n}"));
    (0..many).map(|n| FakeDevice::enrol_with(server, &enrol(n)).runs("pos-app", "1.0.0")).collect()
}

fn capped(caps: &Value) -> Value {
    rollout("r", "pos-app@2.0.0", &json!({ "caps": caps }))
}

fn counts(server: &TestServer) -> Counts {
    server.rollout("r").phases[0].counts
}

/// Tills of one shop.
fn new_york(server: &TestServer, names: &[&str]) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    server.import_fleet();
    let devices: Vec<Value> = names.iter().map(|name| json!({ "name": name, "site": "NYC-001" })).collect();
    server.api().post::<Imported>("devices/import", &json!({ "devices": devices, "dry_run": false }));
    names.iter().map(|name| FakeDevice::enrol_imported(server, name).runs("pos-app", "1.0.0")).collect()
}

#[test]
fn a_shop_has_one_till_out_of_service_at_a_time_and_is_told_so() {
    on_both(|server| {
        server.set_clock(time("2027-01-12T02:14:00Z"));
        let mut tills = new_york(server, &["a", "b"]);
        server.roll_out(&capped(&json!({ "activations": { "max_in_flight_per_site": 1 } })));
        let [a, b] = &mut tills[..] else { panic!("two tills") };
        for till in [&mut *a, &mut *b] {
            assert_eq!(till.obey(Health::Good).action, Action::Download, "downloads have no cap");
        }
        let granted = a.check_in();
        assert_eq!(granted.action, Action::Install);
        server.set_clock(time("2027-01-12T02:20:00Z"));
        let waits = b.check_in();
        assert_eq!((waits.action, waits.reason.code.as_str()), (Action::Hold, "activations_full"));
        insta::assert_snapshot!(waits.reason.text, @"rollout r: site NYC-001 has 1 of 1 activations in flight, oldest since 2027-01-12T02:14:00Z");
        assert_eq!(server.explain(b).next, waits.reason);
        assert_eq!(waits.next_checkin_s, 60, "few tills compete for the place");
        a.report(&granted, Event::Verifying);
        assert_eq!(b.check_in().action, Action::Hold, "a till on probation is not in service yet");
        a.activate(&granted, Health::Bad);
        assert_eq!(b.check_in().action, Action::Install);
    });
}

#[test]
fn a_till_that_is_moved_keeps_its_place_where_it_took_it() {
    on_both(|server| {
        let mut tills = new_york(server, &["a", "b", "c"]);
        server.roll_out(&capped(&json!({ "downloads": { "max_in_flight_per_site": 1 } })));
        let [a, b, c] = &mut tills[..] else { panic!("three tills") };
        let offer = a.check_in();
        assert_eq!(offer.action, Action::Download);
        let moved = json!({ "devices": [{ "name": "a", "site": "BOS-001" }], "dry_run": false });
        server.api().post::<Imported>("devices/import", &moved);
        assert_eq!(a.check_in().action, Action::Download, "it goes on");
        assert_eq!(b.check_in().reason.code, "downloads_full", "its place is in New York");
        a.stage(&offer);
        assert_eq!(b.check_in().action, Action::Download, "and free when it is done");
        assert_eq!(c.check_in().reason.code, "downloads_full");
    });
}

#[test]
fn a_device_that_waits_for_a_place_gets_other_products() {
    on_both(|server| {
        let mut tills = fleet(server, 2);
        server.roll_out(&capped(&json!({ "downloads": { "max_in_flight": 1 } })));
        let [a, b] = &mut tills[..] else { panic!("two tills") };
        assert_eq!(a.check_in().action, Action::Download);
        let waits = b.check_in();
        insta::assert_snapshot!(waits.reason.text, @"rollout r: the rollout has 1 of 1 downloads in flight, oldest since 2027-01-12T12:00:00Z");
        assert_eq!((waits.action, waits.next_checkin_s), (Action::None, 300));
        NewRelease::new("menu", "7", 1).publish(server);
        server.roll_out(&rollout("menu", "menu@7", &json!({})));
        assert_eq!(b.settle(Health::Good).reason.code, "downloads_full");
        assert_eq!(b.version_of("menu"), Some("7"));
        // Its place is free as soon as the other till has downloaded.
        a.settle(Health::Good);
        let told = b.check_in();
        assert_eq!(told.action, Action::Download, "{:?}", told.reason);
    });
}

/// All devices ask at once; says how many were told to do `action`.
fn burst(devices: &mut [FakeDevice], action: Action) -> usize {
    let together = Barrier::new(devices.len());
    std::thread::scope(|scope| {
        let asking: Vec<_> = devices
            .iter_mut()
            .map(|device| {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    usize::from(device.check_in().action == action)
                })
            })
            .collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).sum()
    })
}

#[test]
fn a_burst_takes_exactly_the_places_that_are_there() {
    on_both(|server| {
        let mut devices = fleet(server, MANY);
        server.roll_out(&capped(&json!({ "downloads": { "max_in_flight": 7 } })));
        assert_eq!(burst(&mut devices, Action::Download), 7);
        assert_eq!(counts(server).downloading, 7);
    });
}

#[test]
fn two_servers_on_one_database_do_not_give_the_last_place_twice() {
    let Some(first) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        return eprintln!("skipped: needs postgres");
    };
    let second = first.second();
    let mut devices = fleet(&first, MANY);
    first.roll_out(&capped(&json!({ "downloads": { "max_in_flight": 3 } })));
    for device in devices.iter_mut().step_by(2) {
        device.follow(&second);
    }
    wait::until("the other server has heard of the rollout", || {
        second.explain(&devices[0]).rollouts.iter().any(|one| one.reason.code == "offered")
    });
    assert_eq!(burst(&mut devices, Action::Download), 3);
    for _ in 0..4 {
        // Those that have a place are told to go on; nobody else gets one.
        assert_eq!(burst(&mut devices, Action::Download), 3);
        assert_eq!(counts(&first).downloading, 3);
    }
}

#[test]
fn caps_that_let_nothing_through_are_refused() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let post = |caps: Value| server.api().try_post("rollouts", &capped(&caps));
        let none = post(json!({ "downloads": { "max_in_flight": 0 } }));
        refused(&none, Code::Invalid, "caps.downloads.max_in_flight: is 0, which lets no device through");
        let odd = post(json!({ "activations": { "max_in_flight": 2, "max_in_flight_per_site": 3 } }));
        refused(&odd, Code::Invalid, "caps.activations.max_in_flight_per_site: is 3, more than max_in_flight (2)");
        let typo = server.api().try_post(
            "rollouts",
            &json!({ "name": "r", "release": "pos-app@2.0.0", "policy": "immediate", "caps": { "download": {} } }),
        );
        refused(&typo, Code::BadRequest, "unknown field `download`");
    });
}
