//! Stepping stones: what has to come between is offered first, and the reason says what is missing.

use callboard_proto::{instruction::Action, problem::Code};
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
