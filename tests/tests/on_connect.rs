//! The policy for devices that come and go: only at the first check-in of a connection.

use callboard_proto::instruction::Action;
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::json;
use std::time::Duration;

use crate::on_both;

fn started(server: &TestServer) {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "on_connect" })));
}

/// A till that has been in touch already.
fn in_session(server: &TestServer) -> FakeDevice {
    let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
    device.check_in();
    started(server);
    device
}

#[test]
fn a_running_session_is_left_alone_and_a_boot_ends_it() {
    on_both(|server| {
        let mut device = in_session(server);
        for _ in 0..3 {
            server.advance(Duration::from_secs(300));
            let told = device.check_in();
            assert_eq!((told.action, told.reason.code.as_str()), (Action::None, "waits_for_connect"));
        }
        insta::assert_snapshot!(server.explain(&device).next.text, @"rollout r: it offers only when the device boots or comes back after 60 minutes");
        device.boot_id = "boot-2".to_owned();
        assert_eq!(device.obey(Health::Good).action, Action::Download);
        // What began goes on within the session.
        assert_eq!(device.obey(Health::Good).action, Action::Install);
        assert_eq!(device.version_of("pos-app"), Some("2.0.0"));
    });
}

#[test]
fn coming_back_after_an_absence_is_a_new_connection() {
    on_both(|server| {
        let mut device = in_session(server);
        server.advance(Duration::from_secs(3599));
        assert_eq!(device.check_in().action, Action::None);
        server.advance(Duration::from_secs(3600));
        assert_eq!(device.check_in().action, Action::Download);
    });
}

#[test]
fn an_absence_counts_over_a_restart_of_the_server() {
    on_both(|server| {
        let mut device = in_session(server);
        server.advance(Duration::from_secs(300));
        server.stop();
        server.serve();
        device.follow(server);
        assert_eq!(device.check_in().action, Action::None, "the server's restart is not the device's");
        device.boot_id = "boot-2".to_owned();
        assert_eq!(device.check_in().action, Action::Download);
    });
}

#[test]
fn the_first_check_in_ever_is_a_connection() {
    on_both(|server| {
        started(server);
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        assert_eq!(device.check_in().action, Action::Download);
    });
}

#[test]
fn the_offer_of_a_connection_waits_for_a_place_and_for_another_download_over_a_restart_of_the_server() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        NewRelease::new("os", "13", 1).publish(server);
        let enrol = |name: &str| FakeDevice::enrol(server, name).runs("pos-app", "1.0.0").runs("os", "12");
        let mut tills = [enrol("till-0"), enrol("till-1")];
        for till in &mut tills {
            till.check_in();
        }
        let one = json!({ "policy": "on_connect", "caps": { "downloads": { "max_in_flight": 1 } } });
        server.roll_out(&rollout("app", "pos-app@2.0.0", &one));
        server.roll_out(&rollout("system", "os@13", &json!({ "policy": "on_connect", "priority": 100 })));
        server.advance(Duration::from_secs(300));
        for till in &mut tills {
            till.boot_id = "boot-2".to_owned();
        }
        let [first, second] = &mut tills;
        assert_eq!(first.check_in().action, Action::Download);
        // There is no place for the app; the system comes instead.
        let told = second.obey(Health::Good);
        assert!(told.reason.text.starts_with("rollout system"), "{}", told.reason.text);
        server.advance(Duration::from_secs(300));
        server.stop();
        server.serve();
        first.follow(server);
        second.follow(server);
        second.settle(Health::Good);
        assert_eq!((second.version_of("os"), second.version_of("pos-app")), (Some("13"), Some("1.0.0")));
        first.settle(Health::Good);
        server.advance(Duration::from_secs(300));
        second.settle(Health::Good);
        assert_eq!(second.version_of("pos-app"), Some("2.0.0"), "the offer waited");
        assert_eq!(first.version_of("os"), Some("13"), "and so did that of the other product");
        // What begins later waits for the next connection.
        NewRelease::new("pos-app", "2.1.0", 2).publish(server);
        server.roll_out(&rollout("next", "pos-app@2.1.0", &json!({ "policy": "on_connect" })));
        server.advance(Duration::from_secs(300));
        assert_eq!(second.check_in().reason.code, "waits_for_connect");
    });
}
