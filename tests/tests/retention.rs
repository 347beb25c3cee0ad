//! History is dropped at the age that the operator chose, and not before.

use std::time::Duration;

use callboard_proto::admin::{Device, Event, Imported};
use callboard_tests::{server::TestServer, wait};
use serde_json::json;

use crate::on_both_with;

const DAY: Duration = Duration::from_secs(86_400);

/// The reasons that operators gave, newest first.
fn reasons(server: &TestServer) -> Vec<String> {
    let events: Vec<Event> = server.api().list("events");
    events.into_iter().filter(|event| event.kind == "device.held").map(|event| event.text).collect()
}

fn hold(server: &TestServer, reason: &str) {
    server.api().try_put("devices/till-1/hold", &json!({ "reason": reason })).ok();
}

/// Old history is dropped when a server starts, and every hour.
fn restart(server: &mut TestServer) {
    server.stop();
    server.serve();
}

#[test]
fn events_older_than_the_configured_age_are_dropped_and_younger_ones_are_kept() {
    on_both_with(&["event_retention_days = 2"], |server| {
        server.api().post::<Imported>("devices/import", &json!({ "devices": [{ "name": "till-1" }] }));
        hold(server, "first");
        server.advance(Duration::from_millis(1));
        hold(server, "second");
        server.advance(DAY);
        hold(server, "third");
        restart(server);
        assert_eq!(reasons(server), ["third", "second", "first"]);

        // The second one is two days old to the millisecond, the first one older.
        server.advance(DAY);
        restart(server);
        wait::until("what is too old is gone", || reasons(server).len() < 3);
        assert_eq!(reasons(server), ["third", "second"]);
        let history = server.api().list::<Event>("devices/till-1/history");
        assert_eq!(history.len(), 2, "{history:?}");

        server.advance(Duration::from_millis(1));
        restart(server);
        wait::until("the second one is too old as well", || reasons(server) == ["third"]);
        // The device itself is no history.
        assert_eq!(server.api().get::<Device>("devices/till-1").hold.unwrap().reason, "third");
    });
}

#[test]
fn more_history_than_one_step_drops_is_dropped_by_one_start() {
    on_both_with(&["event_retention_days = 1"], |server| {
        let devices: Vec<_> = (0..1300).map(|n| json!({ "name": format!("till-{n}") })).collect();
        server.api().post::<Imported>("devices/import", &json!({ "devices": devices }));
        assert!(server.sql_number("SELECT COUNT(*) AS number FROM events").unwrap() > 0);
        let made = server.clock.now();
        server.run_sql(&format!(
            "INSERT INTO events (at, kind, device_id, text) SELECT {}, 'device.held', id, 'old' FROM devices",
            made.millis()
        ));
        server.advance(DAY + Duration::from_millis(1));
        restart(server);
        hold(server, "new");
        // The import was a link of the audit, and another link says that it was dropped.
        let left = || server.sql_number("SELECT COUNT(*) AS number FROM events");
        wait::until("two events are left", || left() == Some(2));
        assert_eq!(reasons(server), ["new"]);
    });
}
