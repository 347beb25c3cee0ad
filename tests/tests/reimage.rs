//! A till that was imaged anew begins anew: nothing has failed.

use std::time::Duration;

use callboard_proto::{
    admin::{Event, Page},
    instruction::Action,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

/// A till that has taken the release of a baseline.
fn updated(server: &TestServer, image_id: Option<&str>) -> FakeDevice {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
    device.facts.image_id = image_id.map(str::to_owned);
    server.roll_out(&rollout("base", "pos-app@2.0.0", &json!({})));
    device.settle(Health::Good);
    assert_eq!(device.version_of("pos-app"), Some("2.0.0"));
    server.advance(Duration::from_secs(3600));
    device
}

/// The disk is written anew, with the old version on it.
fn image(mut device: FakeDevice, id: Option<&str>) -> FakeDevice {
    device.facts.image_id = id.map(str::to_owned);
    (device.state, device.progress) = (callboard_proto::state::AgentState::Idle, None);
    device.boot_id = "boot-2".to_owned();
    device.runs("pos-app", "1.0.0")
}

fn kinds(server: &TestServer) -> Vec<String> {
    let events: Page<Event> = server.api().get("devices/till-1/history");
    events.items.into_iter().map(|event| event.kind).collect()
}

#[test]
fn a_till_that_was_imaged_anew_has_not_failed_and_gets_the_baseline_again() {
    on_both(|server| {
        let mut device = image(updated(server, Some("first")), Some("another"));
        assert_eq!(device.check_in().action, Action::Download);
        let counts = server.rollout("base").phases[0].counts;
        assert_eq!((counts.failed, counts.succeeded, counts.downloading), (0, 0, 1));
        assert!(kinds(server).contains(&"device.imaged".to_owned()), "{:?}", kinds(server));
        device.settle(Health::Good);
        let counts = server.rollout("base").phases[0].counts;
        assert_eq!((counts.failed, counts.succeeded), (0, 1));
        // Once is enough.
        assert_eq!(kinds(server).iter().filter(|kind| *kind == "device.imaged").count(), 1);
    });
}

#[test]
fn without_another_image_an_older_release_is_a_regression() {
    // The first id of a device is no other one, and none tells nothing.
    for (before, after) in [(Some("a"), Some("a")), (Some("a"), None), (None, Some("a"))] {
        on_both(|server| {
            let mut device = image(updated(server, before), after);
            device.check_in();
            assert_eq!(server.rollout("base").phases[0].counts.failed, 1);
            assert!(!kinds(server).contains(&"device.imaged".to_owned()));
        });
    }
}

#[test]
fn what_was_under_way_when_a_till_was_imaged_is_cancelled_and_a_rolled_back_release_is_tried_again() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        server.roll_out(&rollout("base", "pos-app@2.0.0", &json!({})));
        let offer = device.obey(Health::Good);
        assert_eq!(offer.action, Action::Download);
        assert_eq!(device.check_in().action, Action::Install);
        server.advance(Duration::from_secs(60));
        let mut device = image(device, Some("second"));
        let again = device.check_in();
        assert_eq!(again.action, Action::Download);
        assert_ne!(again.assignment_id, offer.assignment_id);
        device.settle(Health::Bad);
        let counts = server.rollout("base").phases[0].counts;
        assert_eq!((counts.rolled_back, counts.size), (1, 1));
        // One that says so again and again begins anew once a day.
        server.advance(Duration::from_secs(86_400 - 61));
        let mut device = image(device, Some("half-way"));
        assert_eq!(device.check_in().action, Action::None);
        assert_eq!(server.rollout("base").phases[0].counts.rolled_back, 1);
        server.advance(Duration::from_secs(61));
        let mut device = image(device, Some("third"));
        assert_eq!(device.check_in().action, Action::Download);
        assert_eq!(server.rollout("base").phases[0].counts.rolled_back, 0);
    });
}
