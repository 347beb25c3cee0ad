//! Bandwidth: the downloads of a site share what it may take at this hour, and the agent keeps to its share.

use callboard_proto::{
    admin::{Event, Imported, Page, Site},
    instruction::{Action, Instruction},
    problem::Code,
    state::{AgentState, AssignmentState},
};
use callboard_tests::{
    clock::time,
    device::FakeDevice,
    release::{NewRelease, bytes},
    server::TestServer,
    till::QUICK,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

/// Slow while the shop is open, nothing on Sunday mornings, else faster.
fn limits() -> Value {
    let open = ["mon", "tue", "wed", "thu", "fri", "sat"];
    json!([
        { "days": ["sun"], "from": "06:00", "to": "12:00", "bytes_per_s": 0 },
        { "days": open, "from": "08:00", "to": "20:00", "bytes_per_s": 250_000 },
        { "bytes_per_s": 2_000_000 },
    ])
}

fn limit(server: &TestServer, site: &str, limits: &Value) {
    server.api().try_put(&format!("sites/{site}/bandwidth"), &json!({ "bandwidth": limits })).ok();
}

/// Tills at work, the shop in New York open: it is Tuesday, 10:00.
fn fleet(server: &TestServer, names: &[&str]) -> Vec<FakeDevice> {
    server.set_clock(time("2027-01-12T15:00:00Z"));
    server.import_fleet();
    limit(server, "NYC-001", &limits());
    NewRelease::new("pos-app", "2.4.0", 100).publish(server);
    let devices = names.iter().map(|name| server.switch_on(name)).collect();
    server.roll_out(&rollout("r", "pos-app@2.4.0", &json!({})));
    devices
}

/// What it is told; it is at it from then on.
#[track_caller]
fn asks(device: &mut FakeDevice) -> Instruction {
    let told = device.check_in();
    if told.action == Action::Download {
        device.is_at(&told, AgentState::Downloading);
    }
    told
}

#[test]
fn the_downloads_of_a_site_share_what_it_may_take_at_this_hour() {
    on_both(|server| {
        let mut tills = fleet(server, &["pos-nyc-001", "pos-nyc-002", "pos-boston-001"]);
        let [first, second, elsewhere] = &mut tills[..] else { panic!("three tills") };
        let told = asks(first);
        assert_eq!((told.action, told.max_bytes_per_s), (Action::Download, Some(250_000)));
        insta::assert_snapshot!(told.reason.text, @"rollout r: download pos-app 2.4.0; site NYC-001 has 250 kB/s until 2027-01-13T01:00:00Z for one download");
        assert_eq!(told.next_checkin_s, 60, "shares follow soon");
        assert_eq!(asks(second).max_bytes_per_s, Some(125_000));
        assert_eq!(asks(first).max_bytes_per_s, Some(125_000));
        let why = server.explain(first).next;
        insta::assert_snapshot!(why.text, @"rollout r: pos-app 2.4.0 is being downloaded; site NYC-001 has 250 kB/s until 2027-01-13T01:00:00Z for 2 downloads");
        let free = asks(elsewhere);
        assert_eq!((free.action, free.max_bytes_per_s, free.next_checkin_s), (Action::Download, None, 300));
        // One is done, and the other has all.
        let told = asks(second);
        second.stage(&told);
        assert_eq!(asks(first).max_bytes_per_s, Some(250_000));
        // The shop closes.
        server.set_clock(time("2027-01-13T00:59:50Z"));
        assert_eq!(asks(first).next_checkin_s, 10, "another hour begins");
        server.set_clock(time("2027-01-13T01:00:00Z"));
        assert_eq!(asks(first).max_bytes_per_s, Some(2_000_000));
        limit(server, "NYC-001", &json!([]));
        assert_eq!(asks(first).max_bytes_per_s, None);
    });
}

#[test]
fn at_an_hour_without_downloads_devices_keep_what_they_have_and_wait() {
    on_both(|server| {
        let mut tills = fleet(server, &["pos-nyc-001", "pos-nyc-002"]);
        let [first, second] = &mut tills[..] else { panic!("two tills") };
        asks(first);
        // Sunday, 06:00 in New York.
        server.set_clock(time("2027-01-17T11:00:00Z"));
        let told = asks(first);
        assert_eq!((told.action, told.reason.code.as_str()), (Action::Hold, "no_bandwidth"));
        insta::assert_snapshot!(told.reason.text, @"rollout r: the site allows no downloads until 2027-01-17T17:00:00Z (sun 06:00-12:00 0 B/s; mon-sat 08:00-20:00 250 kB/s; 2 MB/s)");
        let told = asks(second);
        assert_eq!((told.action, told.reason.code.as_str()), (Action::None, "no_bandwidth"));
        assert_eq!(server.explain(second).next, told.reason);
        server.set_clock(time("2027-01-17T17:00:00Z"));
        assert_eq!((asks(first).action, asks(second).action), (Action::Download, Action::Download));
    });
}

#[test]
fn an_import_sets_limits_and_one_that_does_not_speak_of_them_keeps_them() {
    on_both(|server| {
        let import = |site: Value| server.api().post::<Imported>("sites/import", &json!({ "sites": [site] }));
        let bandwidth = || server.api().get::<Site>("sites/A").bandwidth;
        assert_eq!(import(json!({ "id": "A", "tz": "UTC", "bandwidth": limits() })).created, 1);
        assert_eq!(bandwidth().iter().map(|one| one.bytes_per_s).collect::<Vec<_>>(), [0, 250_000, 2_000_000]);
        assert_eq!(import(json!({ "id": "A", "tz": "UTC" })).unchanged, 1);
        assert_eq!(bandwidth().len(), 3);
        assert_eq!(import(json!({ "id": "A", "tz": "UTC", "bandwidth": [] })).updated, 1);
        assert_eq!(bandwidth(), []);
        limit(server, "A", &limits());
        let events: Page<Event> = server.api().get("events?limit=1");
        assert_eq!(events.items[0].kind, "site.bandwidth");
        insta::assert_snapshot!(events.items[0].text, @"bandwidth of site A: sun 06:00-12:00 0 B/s; mon-sat 08:00-20:00 250 kB/s; 2 MB/s");
    });
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    on_both(|server| {
        server.import_fleet();
        let set = |limits: Value| server.api().try_put("sites/NYC-001/bandwidth", &json!({ "bandwidth": limits }));
        refused(&set(json!([{ "bytes_per_s": 100 }])), Code::Invalid, "limit 1: 100 bytes a second; 0, or 4096 to");
        refused(&set(json!([{ "from": "08:00", "bytes_per_s": 9000 }])), Code::Invalid, "give both or none");
        refused(&set(json!([{ "bytes_per_s": 9000 }, { "bytes_per_s": 0 }])), Code::Invalid, "put it last");
        refused(&set(json!([{ "days": ["someday"], "bytes_per_s": 9000 }])), Code::Invalid, "no day");
        refused(&set(json!([{ "days": [], "bytes_per_s": -1 }])), Code::BadRequest, "invalid value");
        let import = json!({ "sites": [{ "id": "A", "tz": "UTC", "bandwidth": [{ "bytes_per_s": 1 }] }] });
        refused(&server.api().try_post("sites/import", &import), Code::Invalid, "site A: bandwidth: limit 1");
        let unknown = server.api().try_put("sites/nowhere/bandwidth", &json!({ "bandwidth": [] }));
        refused(&unknown, Code::NotFound, "there is no site nowhere");
        assert_eq!(server.api().get::<Site>("sites/NYC-001").bandwidth, []);
    });
}

#[test]
fn limits_are_set_and_shown_by_the_command_line() {
    on_both(|server| {
        let file = server.home().join("sites.csv");
        std::fs::write(&file, "id,tz,bandwidth\nA,UTC,mon-sat 08:00-20:00 250kB/s; 2MB/s\n").unwrap();
        server.cli(["site", "import", file.to_str().unwrap()]).ok();
        let shown = || server.cli(["site", "show", "A"]).ok().stdout.clone();
        assert!(shown().contains("mon-sat 08:00-20:00 250 kB/s; 2 MB/s"), "{}", shown());
        server.cli(["site", "bandwidth", "A", "22:00-06:00 1 MB/s; 0"]).ok();
        assert!(shown().contains("daily 22:00-06:00 1 MB/s; 0 B/s"), "{}", shown());
        let bad = server.cli(["site", "bandwidth", "A", "2Mbit"]);
        assert!(bad.refused(2).contains("\"2Mbit\" is not a rate such as 250kB/s"), "{}", bad.stderr);
        server.cli(["site", "bandwidth", "A", "none"]).ok();
        assert!(!shown().contains("bandwidth"), "{}", shown());
    });
}

#[test]
fn a_till_keeps_to_its_share_and_remembers_it_over_a_restart() {
    on_both(|server| {
        server.import_fleet();
        limit(server, "NYC-001", &json!([{ "bytes_per_s": 100_000 }]));
        let mut till = server.till_via(server.device_address(), "till-1", QUICK);
        let at_site = json!({ "devices": [{ "name": "till-1", "site": "NYC-001" }], "dry_run": false });
        server.api().post::<Imported>("devices/import", &at_site);
        NewRelease::with_payload("pos-app", "2.4.0", 1, bytes("app", 400_000)).publish(server);
        server.roll_out(&rollout("r", "pos-app@2.4.0", &json!({})));
        till.switch_on();
        callboard_tests::wait::until("the till was told", || till.log().contains("max_bytes_per_s=100000"));
        till.kill();
        till.switch_on();
        assert_eq!(server.outcome("r", &till).state, AssignmentState::Succeeded);
        assert_eq!(
            till.log().matches("downloads have another limit").count(),
            1,
            "it knew the limit after the restart"
        );
    });
}

#[test]
fn a_server_with_a_limit_sends_everything_in_its_time() {
    crate::on_both_with(&["max_bytes_per_s = 1000000"], |server| {
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        let release = NewRelease::with_payload("pos-app", "2.4.0", 1, bytes("app", 300_000));
        release.publish(server);
        server.roll_out(&rollout("r", "pos-app@2.4.0", &json!({})));
        let began = std::time::Instant::now();
        let told = device.check_in();
        assert_eq!(told.max_bytes_per_s, Some(1_000_000));
        insta::assert_snapshot!(told.reason.text, @"rollout r: download pos-app 2.4.0; this server sends at most 1 MB/s to all devices together");
        device.stage(&told);
        // The last piece of 16 KiB need not be waited for.
        assert!(began.elapsed().as_millis() >= 280, "{:?}", began.elapsed());
    });
}
