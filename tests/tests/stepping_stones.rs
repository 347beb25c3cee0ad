//! Stepping stones: what has to come between is offered first, and the reason says what is missing.

use callboard_proto::{
    admin,
    instruction::Action,
    problem::Code,
    release::{Release, Requirement},
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

fn releases(server: &TestServer) {
    NewRelease::new("pos-app", "2.0", 2).publish(server);
    NewRelease::new("pos-app", "3.0", 3).with(|release| release.requires_at_least = Some(2)).publish(server);
}

#[test]
fn a_device_steps_from_stone_to_stone_whatever_the_priorities() {
    on_both(|server| {
        releases(server);
        let mut old = FakeDevice::enrol(server, "old").runs("pos-app", "1.0");
        let mut new = FakeDevice::enrol(server, "new");
        server.roll_out(&rollout("newest", "pos-app@3.0", &json!({ "priority": 900 })));
        let waits = old.settle(Health::Good);
        assert_eq!((waits.action, waits.reason.code.as_str()), (Action::None, "needs_stepping_stone"));
        insta::assert_snapshot!(waits.reason.text, @"rollout newest: pos-app 3.0 needs counter 0.2 or a higher one to be installed first, the device has 0.0 (1.0); no active rollout brings this device a release of pos-app that it could step on");
        new.settle(Health::Good);
        assert_eq!(new.version_of("pos-app"), Some("3.0"), "nothing has to hand over");
        let found = server.preview(&rollout("other", "pos-app@3.0", &json!({}))).incompatible_devices;
        assert_eq!((found.len(), found[0].reason.code.as_str()), (1, "needs_stepping_stone"));
        server.roll_out(&rollout("bridge", "pos-app@2.0", &json!({})));
        let told = server.explain(&old);
        let newest = told.rollouts.iter().find(|one| one.rollout.as_str() == "newest").unwrap();
        assert!(newest.reason.text.ends_with("; rollout bridge brings pos-app 2.0 first"), "{}", newest.reason.text);
        old.settle(Health::Good);
        assert_eq!(old.version_of("pos-app"), Some("3.0"));
        assert_eq!(server.rollout("bridge").phases[0].counts.succeeded, 1);
        assert_eq!(server.rollout("newest").phases[0].counts.succeeded, 2);
    });
}

#[test]
fn a_release_waits_for_the_other_products_that_it_needs() {
    on_both(|server| {
        let needs = Requirement { product: "os".parse().unwrap(), at_least: "13".parse().unwrap() };
        let with = |release: &mut Release| {
            release.requires = vec![needs.clone()];
            release.crit = vec!["requires".to_owned()];
        };
        NewRelease::new("pos-app", "3.0", 3).with(with).publish(server);
        NewRelease::new("os", "13.0", 1).publish(server);
        let enrol = |name: &str| FakeDevice::enrol(server, name).runs("pos-app", "1.0");
        let (mut old, mut new) = (enrol("old").runs("os", "12.4"), enrol("new").runs("os", "13.1"));
        let app = rollout("app", "pos-app@3.0", &json!({ "priority": 900 }));
        old.check_in();
        new.check_in();
        let found = server.preview(&app).incompatible_devices;
        assert_eq!((found.len(), found[0].reason.code.as_str()), (1, "needs_product"));
        server.roll_out(&app);
        let waits = old.settle(Health::Good);
        assert_eq!((waits.action, waits.reason.code.as_str()), (Action::None, "needs_product"));
        insta::assert_snapshot!(waits.reason.text, @"rollout app: pos-app 3.0 needs os 13 or newer, the device has os 12.4; no active rollout brings this device os 13 or newer");
        new.settle(Health::Good);
        assert_eq!(new.version_of("pos-app"), Some("3.0"));
        server.roll_out(&rollout("system", "os@13.0", &json!({ "priority": 100 })));
        let told = server.explain(&old);
        let considered = told.rollouts.iter().find(|one| one.rollout.as_str() == "app").unwrap();
        assert!(
            considered.reason.text.ends_with("; rollout system brings os 13.0 first"),
            "{}",
            considered.reason.text
        );
        old.settle(Health::Good);
        assert_eq!((old.version_of("os"), old.version_of("pos-app")), (Some("13.0"), Some("3.0")));
        assert_eq!(server.rollout("app").phases[0].counts.succeeded, 2);
        let listed: admin::Release = server.api().get("releases/pos-app@3.0");
        assert_eq!(listed.requires, std::slice::from_ref(&needs));
    });
}

#[test]
fn a_release_that_needs_itself_or_another_twice_is_no_release() {
    let refused = |products: &[&str]| {
        let needed = |product: &&str| Requirement { product: product.parse().unwrap(), at_least: "1".parse().unwrap() };
        let requires: Vec<Requirement> = products.iter().map(needed).collect();
        let document = NewRelease::new("pos-app", "2.0", 2).with(|release| release.requires = requires).document;
        callboard_proto::signed::Envelope::unsigned(&document).unwrap_err().to_string()
    };
    assert!(refused(&["pos-app"]).contains("requires names pos-app itself; requires_at_least is meant for that"));
    assert!(refused(&["os", "os"]).contains("requires names os twice"));
}

#[test]
fn a_device_without_room_waits_and_fails_at_nothing() {
    on_both(|server| {
        let with = |release: &mut Release| release.payloads[0].unpacked_size = 1_500_000_000;
        NewRelease::new("pos-app", "3.0", 3).with(with).publish(server);
        server.roll_out(&rollout("app", "pos-app@3.0", &json!({})));
        let mut till = FakeDevice::enrol(server, "till").runs("pos-app", "1.0");
        till.free_bytes = Some(1_500_000_000);
        let waits = till.check_in();
        assert_eq!((waits.action, waits.reason.code.as_str()), (Action::None, "no_space"));
        insta::assert_snapshot!(waits.reason.text, @"rollout app: the release takes 1568 MB of free space at least, and the device has 1500 MB; it is offered when there is room");
        assert_eq!(server.explain(&till).next.code, "no_space");
        assert_eq!(server.rollout("app").phases[0].counts.unsuccessful(), 0);
        till.free_bytes = Some(2_000_000_000);
        assert_eq!(till.check_in().action, Action::Download);
        // From now on it looks itself: what it has downloaded takes room too.
        till.free_bytes = Some(1_000_000_000);
        till.settle(Health::Good);
        assert_eq!(till.version_of("pos-app"), Some("3.0"));
        let mut silent = FakeDevice::enrol(server, "silent").runs("pos-app", "1.0");
        silent.free_bytes = None;
        assert_eq!(silent.check_in().action, Action::Download);
    });
}

#[test]
fn a_stone_above_the_release_is_no_release() {
    on_both(|server| {
        let bad = NewRelease::new("pos-app", "2.0", 2).with(|release| release.requires_at_least = Some(2));
        server.api().upload(&bad.payload).ok();
        let envelope = callboard_proto::signed::Envelope::unsigned(&bad.document);
        let said = envelope.unwrap_err().to_string();
        assert!(said.contains("requires_at_least is 2; a counter below the release's own is wanted"), "{said}");
        server.try_publish(b"{}").problem(Code::DocumentRefused);
    });
}
