//! Why a device gets what it gets, and when it asks next.

use std::time::Duration;

use callboard_proto::{
    admin::{Device, Explanation, Site},
    instruction::Action,
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

fn shown(server: &TestServer, device: &FakeDevice) -> String {
    server.cli(["device", "explain", device.name.as_str()]).ok().stdout.clone()
}

#[test]
fn when_a_device_asks_next_is_said_and_whether_it_is_overdue() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        let never = server.explain(&till);
        assert_eq!((never.last_seen, never.expected_at), (None, None));
        assert!(shown(server, &till).contains("last seen   never"), "{}", shown(server, &till));
        let told = till.check_in();
        let now = server.clock.now();
        let due = now + Duration::from_secs(told.next_checkin_s.into());
        let online = server.explain(&till);
        assert_eq!((online.last_seen, online.expected_at), (Some(now), Some(due)));
        assert!(shown(server, &till).contains(&format!("expected    {due}")), "{}", shown(server, &till));
        server.advance(Duration::from_secs(7200));
        let late = server.explain(&till);
        assert_eq!(
            (late.last_seen, late.expected_at),
            (Some(now), Some(due)),
            "it is there at any time, as far as is known"
        );
        assert!(shown(server, &till).contains(&format!("overdue since {due}")), "{}", shown(server, &till));
        server.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "scrapped" }));
        let gone: Explanation = server.explain(&till);
        assert_eq!((gone.last_seen, gone.expected_at), (Some(now), None));
    });
}

#[test]
fn a_till_that_is_off_at_night_is_expected_in_the_morning() {
    on_both(|server| {
        server.import_fleet();
        let hours = json!({ "trading_hours": [{ "opens": "08:00", "closes": "20:00" }] });
        server.api().try_put("sites/NYC-001/trading-hours", &hours).json::<Site>();
        let mut till = server.switch_on("pos-nyc-001");
        server.set_clock(time("2027-01-13T00:30:00Z"));
        till.check_in();
        server.set_clock(time("2027-01-13T04:00:00Z"));
        assert_eq!(server.explain(&till).expected_at, Some(time("2027-01-13T13:00:00Z")), "8:00 in New York");
    });
}

#[test]
fn who_comes_first_is_said_with_what_decided_it() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        NewRelease::new("pos-app", "2.1.0", 2).publish(server);
        let mut till = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        server.roll_out(&rollout("first", "pos-app@2.0.0", &json!({})));
        server.advance(Duration::from_secs(60));
        server.roll_out(&rollout("later", "pos-app@2.1.0", &json!({})));
        let why = |server: &TestServer, till: &FakeDevice| {
            let explained = server.explain(till);
            explained.rollouts.into_iter().find(|one| one.reason.code == "superseded").unwrap().reason.text
        };
        assert_eq!(till.check_in().action, Action::Download);
        let began = server.rollout("later").started_at.unwrap();
        let text = format!(
            "rollout first: rollout later comes first for this product (both have priority 500, and it began at \
             {began})"
        );
        assert_eq!(why(server, &till), text);
        server.tell_rollout("later", "cancel");
        till.settle(Health::Good);
        server.roll_out(&rollout("urgent", "pos-app@2.1.0", &json!({ "priority": 900 })));
        server.roll_out(&rollout("again", "pos-app@2.1.0", &json!({})));
        let text = "rollout again: rollout urgent comes first for this product (its priority is 900, and 500 here)";
        assert_eq!(why(server, &till), text);
    });
}
