//! Trading hours: nothing is activated while the shop is open.

use callboard_proto::{
    admin::{Event, Imported, Page, Site},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

/// 08:00 to 20:00 on weekdays.
fn weekdays() -> Value {
    let days = ["mon", "tue", "wed", "thu", "fri"];
    json!([{ "days": days, "opens": "08:00", "closes": "20:00" }])
}

/// A till in New York, where it is 07:00, that has staged a release; its shop trades on weekdays.
fn staged(server: &TestServer, more: &Value) -> FakeDevice {
    server.import_fleet();
    NewRelease::new("pos-app", "2.4.0", 100).publish(server);
    server.api().try_put("sites/NYC-001/trading-hours", &json!({ "trading_hours": weekdays() })).ok();
    let mut device = server.switch_on("pos-nyc-001");
    server.roll_out(&rollout("patch", "pos-app@2.4.0", more));
    assert_eq!(device.obey(Health::Good).action, Action::Download);
    device
}

#[test]
fn nothing_is_activated_while_the_shop_is_open() {
    on_both(|server| {
        let mut device = staged(server, &json!({ "expected_install_min": 20 }));
        server.set_clock(time("2027-01-12T12:45:00Z"));
        let soon = device.check_in();
        assert_eq!((soon.action, soon.reason.code.as_str()), (Action::Hold, "trading_hours"));
        insta::assert_snapshot!(soon.reason.text, @"rollout patch: the site begins to trade at 2027-01-12T13:00:00Z (mon-fri 08:00-20:00; America/New_York, the site's zone), and installing takes 20 minutes; installing is possible from 2027-01-13T01:00:00Z");
        server.set_clock(time("2027-01-12T18:00:00Z"));
        let open = device.check_in();
        assert_eq!((open.action, open.reason.code.as_str()), (Action::Hold, "trading_hours"));
        insta::assert_snapshot!(open.reason.text, @"rollout patch: the site trades (mon-fri 08:00-20:00; America/New_York, the site's zone); installing is possible from 2027-01-13T01:00:00Z");
        assert_eq!(server.explain(&device).next, open.reason);
        // Shortly before closing the answer leads to the time after it.
        server.set_clock(time("2027-01-13T00:58:00Z"));
        let next = device.check_in().next_checkin_s;
        assert!((120..=300).contains(&next), "{next}");
        server.set_clock(time("2027-01-13T01:00:00Z"));
        let install = device.obey(Health::Good);
        assert_eq!((install.action, install.not_after), (Action::Install, Some(time("2027-01-13T12:40:00Z"))));
        assert_eq!(device.version_of("pos-app"), Some("2.4.0"));
    });
}

#[test]
fn a_grant_that_was_not_used_before_the_shop_opened_is_void() {
    on_both(|server| {
        let mut device = staged(server, &json!({}));
        let install = device.check_in();
        assert_eq!((install.action, install.not_after), (Action::Install, Some(time("2027-01-12T13:00:00Z"))));
        server.set_clock(time("2027-01-12T15:00:00Z"));
        let again = device.check_in();
        assert_eq!((again.action, again.not_after), (Action::Install, install.not_after), "it has passed");
    });
}

#[test]
fn a_rollout_can_ask_to_install_during_trading() {
    on_both(|server| {
        let mut device = staged(server, &json!({ "during_trading": true }));
        server.set_clock(time("2027-01-12T18:00:00Z"));
        let install = device.obey(Health::Good);
        assert_eq!((install.action, install.not_after), (Action::Install, None));
    });
}

#[test]
fn changed_hours_hold_at_the_next_check_in() {
    on_both(|server| {
        let mut device = staged(server, &json!({}));
        server.set_clock(time("2027-01-12T18:00:00Z"));
        assert_eq!(device.check_in().action, Action::Hold);
        let shut: Site = server.api().try_put("sites/NYC-001/trading-hours", &json!({ "trading_hours": [] })).json();
        assert_eq!(shut.trading_hours, []);
        assert_eq!(device.obey(Health::Good).action, Action::Install);
        let events: Page<Event> = server.api().get("events?limit=100");
        let said: Vec<&str> =
            events.items.iter().filter(|one| one.kind == "site.trading_hours").map(|one| one.text.as_str()).collect();
        assert_eq!(
            said,
            ["trading hours of site NYC-001: it never trades", "trading hours of site NYC-001: mon-fri 08:00-20:00"]
        );
    });
}

#[test]
fn an_import_sets_hours_and_one_that_does_not_speak_of_them_keeps_them() {
    on_both(|server| {
        let import = |site: Value| server.api().post::<Imported>("sites/import", &json!({ "sites": [site] }));
        let hours = || server.api().get::<Site>("sites/A").trading_hours;
        assert_eq!(import(json!({ "id": "A", "tz": "UTC", "trading_hours": weekdays() })).created, 1);
        assert_eq!(serde_json::to_value(hours()).unwrap(), weekdays());
        assert_eq!(import(json!({ "id": "A", "tz": "UTC" })).unchanged, 1);
        assert_eq!(import(json!({ "id": "A", "tz": "Asia/Tokyo" })).updated, 1);
        assert_eq!(serde_json::to_value(hours()).unwrap(), weekdays());
        assert_eq!(import(json!({ "id": "A", "tz": "Asia/Tokyo", "trading_hours": [] })).updated, 1);
        assert_eq!(hours(), []);
    });
}

#[test]
fn hours_that_make_no_sense_are_refused() {
    on_both(|server| {
        server.import_fleet();
        let set =
            |hours: Value| server.api().try_put("sites/NYC-001/trading-hours", &json!({ "trading_hours": hours }));
        let span = |opens: &str, closes: &str| json!([{ "opens": opens, "closes": closes }]);
        refused(&set(span("8:00 am", "20:00")), Code::Invalid, "span 1: \"8:00 am\" is no time of day");
        refused(&set(span("08:00", "08:00")), Code::Invalid, "it ends when it begins");
        refused(&set(json!([{ "days": ["someday"], "opens": "08:00", "closes": "20:00" }])), Code::Invalid, "no day");
        refused(&set(json!([{ "opens": "08:00" }])), Code::BadRequest, "missing field `closes`");
        let import = json!({ "sites": [{ "id": "A", "tz": "UTC", "trading_hours": span("x", "y") }] });
        refused(&server.api().try_post("sites/import", &import), Code::Invalid, "site A: trading_hours: span 1");
        let unknown = server.api().try_put("sites/nowhere/trading-hours", &json!({ "trading_hours": [] }));
        refused(&unknown, Code::NotFound, "there is no site nowhere");
        assert_eq!(server.api().get::<Site>("sites/NYC-001").trading_hours, []);
    });
}

#[test]
fn hours_are_set_and_shown_by_the_command_line() {
    on_both(|server| {
        let file = server.home().join("sites.csv");
        std::fs::write(&file, "id,tz,trading_hours\nA,UTC,mon-sat 08:00-20:00; sun 10:00-18:00\n").unwrap();
        server.cli(["site", "import", file.to_str().unwrap()]).ok();
        let shown = || server.cli(["site", "show", "A"]).ok().stdout.clone();
        assert!(shown().contains("trading hours  mon-sat 08:00-20:00; sun 10:00-18:00"), "{}", shown());
        server.cli(["site", "hours", "A", "fri-sat 18:00-02:00"]).ok();
        let list = server.cli(["site", "list"]);
        assert!(list.ok().stdout.contains("fri-sat 18:00-02:00"), "{}", list.stdout);
        let bad = server.cli(["site", "hours", "A", "fri 8-20"]);
        assert!(bad.refused(2).contains("\"8-20\" is not a span such as 08:00-20:00"), "{}", bad.stderr);
        server.cli(["site", "hours", "A", "none"]).ok();
        assert!(!shown().contains("trading"), "{}", shown());
    });
}
