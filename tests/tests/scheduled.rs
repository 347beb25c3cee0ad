//! The scheduled policy: windows in each shop's own zone, by a clock that the tests step.

use callboard_proto::{
    admin::{Device, Imported, RolloutState},
    instruction::{Action, Instruction},
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::on_both;

/// A till in New York and one in Los Angeles.
fn coasts(server: &TestServer) -> [FakeDevice; 2] {
    server.import_fleet();
    NewRelease::new("pos-app", "2.4.0", 100).publish(server);
    ["pos-nyc-001", "pos-la-001"].map(|name| server.switch_on(name))
}

fn nightly(more: &Value) -> Value {
    let mut window = json!({ "start": "02:00", "duration_min": 120 });
    for (key, value) in more.as_object().unwrap() {
        window[key] = value.clone();
    }
    json!({ "policy": "scheduled", "windows": [window] })
}

/// What the device does at a time of the night.
fn at(server: &TestServer, now: &str, device: &mut FakeDevice) -> Instruction {
    server.set_clock(time(now));
    device.obey(Health::Good)
}

#[test]
fn each_shop_installs_in_its_own_night_and_downloads_before() {
    on_both(|server| {
        let [mut east, mut west] = coasts(server);
        server.roll_out(&rollout("night", "pos-app@2.4.0", &nightly(&json!({}))));
        for device in [&mut east, &mut west] {
            assert_eq!(device.obey(Health::Good).action, Action::Download);
            let held = device.check_in();
            assert_eq!((held.action, held.reason.code.as_str()), (Action::Hold, "install_window_closed"));
        }
        insta::assert_snapshot!(east.check_in().reason.text, @"rollout night: the window for installing opens at 2027-01-13T07:00:00Z (America/New_York, the site's zone)");
        insta::assert_snapshot!(west.check_in().reason.text, @"rollout night: the window for installing opens at 2027-01-13T10:00:00Z (America/Los_Angeles, the site's zone (the device reports America/New_York))");
        assert_eq!(at(server, "2027-01-13T06:59:59.999Z", &mut east).action, Action::Hold);
        let install = at(server, "2027-01-13T07:00:00Z", &mut east);
        insta::assert_snapshot!(install.reason.text, @"rollout night: install pos-app 2.4.0; the window closes at 2027-01-13T09:00:00Z (America/New_York, the site's zone)");
        let shown = |device: &FakeDevice| server.api().get::<Device>(&format!("devices/{}", device.name)).tz_mismatch;
        assert_eq!([shown(&east), shown(&west)], [false, true]);
        assert_eq!((install.action, install.not_after), (Action::Install, Some(time("2027-01-13T09:00:00Z"))));
        assert_eq!(at(server, "2027-01-13T07:00:00Z", &mut west).action, Action::Hold);
        assert_eq!(at(server, "2027-01-13T09:59:59Z", &mut west).action, Action::Hold);
        assert_eq!(at(server, "2027-01-13T10:00:00Z", &mut west).action, Action::Install);
        assert_eq!([&east, &west].map(|device| device.version_of("pos-app")), [Some("2.4.0"); 2]);
    });
}

#[test]
fn a_preview_says_when_each_zone_could_first_install() {
    on_both(|server| {
        coasts(server);
        let spec = rollout("night", "pos-app@2.4.0", &nightly(&json!({ "tz": "site" })));
        let preview = server.preview(&spec);
        let zone = |name: &str| preview.zones.iter().find(|one| one.zone == name).unwrap();
        let (east, west) = (zone("America/New_York"), zone("America/Los_Angeles"));
        assert_eq!(east.source, "the site's zone");
        assert_eq!(east.first_opens_at, Some(time("2027-01-13T07:00:00Z")));
        assert_eq!(east.first_closes_at, Some(time("2027-01-13T09:00:00Z")));
        assert_eq!((west.first_opens_at, west.never), (Some(time("2027-01-13T10:00:00Z")), 0));
        let counted: u32 = preview.zones.iter().map(|one| one.devices).sum();
        assert_eq!(counted, preview.phases[0].size);
        let said = server.cli([
            "rollout",
            "preview",
            "--release",
            "pos-app@2.4.0",
            "--policy",
            "scheduled",
            "--selector",
            "all",
            "--window",
            "02:00 +120m",
        ]);
        assert!(said.ok().stdout.contains("Wed 2027-01-13 02:00"), "{}", said.stdout);
    });
}

#[test]
fn who_misses_the_window_waits_for_the_next_night() {
    on_both(|server| {
        let [mut east, _] = coasts(server);
        server.roll_out(&rollout("night", "pos-app@2.4.0", &nightly(&json!({}))));
        assert_eq!(east.obey(Health::Good).action, Action::Download);
        let late = at(server, "2027-01-13T09:00:00Z", &mut east);
        assert_eq!(late.action, Action::Hold);
        assert!(late.reason.text.contains("opens at 2027-01-14T07:00:00Z"), "{}", late.reason.text);
        assert_eq!(at(server, "2027-01-14T08:59:59Z", &mut east).action, Action::Install);
    });
}

#[test]
fn an_install_does_not_begin_with_less_of_the_window_left_than_it_takes() {
    on_both(|server| {
        let [mut east, _] = coasts(server);
        let mut spec = nightly(&json!({}));
        spec["expected_install_min"] = json!(30);
        server.roll_out(&rollout("night", "pos-app@2.4.0", &spec));
        assert_eq!(east.obey(Health::Good).action, Action::Download);
        assert_eq!(at(server, "2027-01-13T08:30:01Z", &mut east).action, Action::Hold);
        let install = at(server, "2027-01-14T08:29:00Z", &mut east);
        assert_eq!((install.action, install.not_after), (Action::Install, Some(time("2027-01-14T08:30:00Z"))));
    });
}

#[test]
fn an_install_that_began_in_the_window_finishes_after_it() {
    on_both(|server| {
        let [mut east, _] = coasts(server);
        server.roll_out(&rollout("night", "pos-app@2.4.0", &nightly(&json!({}))));
        assert_eq!(east.obey(Health::Good).action, Action::Download);
        server.set_clock(time("2027-01-13T08:59:00Z"));
        let install = east.check_in();
        assert_eq!(install.action, Action::Install);
        server.set_clock(time("2027-01-13T09:20:00Z"));
        let again = east.check_in();
        assert_eq!((again.action, again.assignment_id), (Action::Install, install.assignment_id));
        east.activate(&install, Health::Good);
        assert_eq!(server.rollout("night").phases[0].counts.succeeded, 1);
    });
}

#[test]
fn a_window_for_downloads_holds_them_back_too() {
    on_both(|server| {
        let [mut east, _] = coasts(server);
        let spec = nightly(&json!({ "gates": ["download", "install"], "tz": "America/Chicago" }));
        server.roll_out(&rollout("night", "pos-app@2.4.0", &spec));
        let early = east.check_in();
        assert_eq!((early.action, early.reason.code.as_str()), (Action::None, "download_window_closed"));
        assert_eq!(at(server, "2027-01-13T07:30:00Z", &mut east).action, Action::None);
        assert_eq!(at(server, "2027-01-13T08:00:00Z", &mut east).action, Action::Download);
        assert_eq!(at(server, "2027-01-13T08:01:00Z", &mut east).action, Action::Install);
    });
}

#[test]
fn nothing_begins_before_the_start_and_devices_are_told_when_to_come_back() {
    on_both(|server| {
        let [mut east, _] = coasts(server);
        let spec = json!({ "policy": "scheduled", "start_at": "2027-01-12T12:02:00Z" });
        server.roll_out(&rollout("later", "pos-app@2.4.0", &spec));
        let early = east.check_in();
        assert_eq!((early.action, early.reason.code.as_str()), (Action::None, "not_begun"));
        assert!((120..=300).contains(&early.next_checkin_s), "{}", early.next_checkin_s);
        insta::assert_snapshot!(early.reason.text, @"rollout later: it begins at 2027-01-12T12:02:00Z");
        assert_eq!(at(server, "2027-01-12T12:02:00Z", &mut east).action, Action::Download);
    });
}

#[test]
fn a_device_that_slept_through_the_window_is_admitted_in_best_effort_mode() {
    on_both(|server| {
        let [mut east, mut west] = coasts(server);
        west.check_in();
        server.roll_out(&rollout("night", "pos-app@2.4.0", &nightly(&json!({ "mode": "best_effort" }))));
        assert_eq!(east.obey(Health::Good).action, Action::Download);
        // East was there during the window's day, but not in the window itself; west was away all the time.
        assert_eq!(at(server, "2027-01-13T11:00:00Z", &mut east).action, Action::Install);
        server.set_clock(time("2027-01-13T13:00:00Z"));
        west.settle(Health::Good);
        assert_eq!(west.version_of("pos-app"), Some("2.4.0"));
    });
}

#[test]
fn a_missed_window_is_made_up_for_as_long_as_the_device_stays() {
    on_both(|server| {
        let [mut east, _] = coasts(server);
        server.roll_out(&rollout("night", "pos-app@2.4.0", &nightly(&json!({ "mode": "best_effort" }))));
        // Offered in the evening, and switched off before it has fetched anything.
        let offer = east.check_in();
        assert_eq!(offer.action, Action::Download);
        server.set_clock(time("2027-01-13T12:00:00Z"));
        assert_eq!(east.check_in().action, Action::Download);
        // It takes its time with the download; the server is started anew meanwhile.
        server.set_clock(time("2027-01-13T12:05:00Z"));
        east.obey(Health::Good);
        server.stop();
        server.serve();
        east.follow(server);
        server.set_clock(time("2027-01-13T12:10:00Z"));
        let install = east.check_in();
        assert_eq!(install.action, Action::Install);
        insta::assert_snapshot!(install.reason.text, @"rollout night: install pos-app 2.4.0; it was away for the whole window from 2027-01-13T07:00:00Z to 2027-01-13T09:00:00Z (America/New_York, the site's zone)");
    });
}

#[test]
fn past_the_deadline_windows_are_ignored_and_past_the_end_nothing_is_offered() {
    on_both(|server| {
        let [mut east, mut west] = coasts(server);
        let mut spec = nightly(&json!({}));
        spec["deadline"] = json!("2027-01-12T18:00:00Z");
        spec["ends_at"] = json!("2027-01-12T20:00:00Z");
        server.roll_out(&rollout("night", "pos-app@2.4.0", &spec));
        for device in [&mut east, &mut west] {
            assert_eq!(device.obey(Health::Good).action, Action::Download);
        }
        assert_eq!(at(server, "2027-01-12T17:59:59Z", &mut east).action, Action::Hold);
        assert_eq!(at(server, "2027-01-12T18:00:00Z", &mut east).action, Action::Install);
        let over = at(server, "2027-01-12T20:00:00Z", &mut west);
        assert_eq!((over.action, over.reason.code.as_str()), (Action::Cancel, "rollout_ended"));
        assert_eq!(west.check_in().action, Action::None);
        assert_eq!(server.rollout("night").state, RolloutState::Completed);
        let mut late = server.switch_on("pos-boston-001");
        assert_eq!(late.check_in().action, Action::None);
    });
}

#[test]
fn the_zone_is_the_sites_then_the_label_then_what_the_device_says_then_the_default() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        let site = json!({ "sites": [{ "id": "TYO", "tz": "Asia/Tokyo" }] });
        server.api().post::<Imported>("sites/import", &site);
        let enrol = |name: &str, token: &Value, tz: Option<&str>| {
            let token = server.enrolment_token(token);
            let request = callboard_tests::device::enrolment(&token, &callboard_tests::device::Key::new()).named(name);
            let mut device = FakeDevice::enrol_with(server, &request).runs("pos-app", "1.0.0");
            device.facts.tz = tz.map(str::to_owned);
            device
        };
        let mut spec = nightly(&json!({}));
        spec["default_tz"] = json!("Europe/Madrid");
        server.roll_out(&rollout("night", "pos-app@2.4.0", &spec));
        let mut seen = Vec::new();
        for (name, token, tz) in [
            ("by-site", json!({ "site": "TYO", "labels": { "tz": "Europe/Rome" } }), Some("America/Denver")),
            ("by-label", json!({ "labels": { "tz": "Europe/Athens" } }), Some("America/Denver")),
            ("by-report", json!({}), Some("America/Denver")),
            ("by-nonsense", json!({}), Some("Mars/Olympus")),
            ("by-default", json!({}), None),
        ] {
            let mut device = enrol(name, &token, tz);
            assert_eq!(device.obey(Health::Good).action, Action::Download, "{name}");
            seen.push(format!("{name}: {}", device.check_in().reason.text));
        }
        insta::assert_snapshot!(seen.join("\n"), @r#"
        by-site: rollout night: the window for installing opens at 2027-01-12T17:00:00Z (Asia/Tokyo, the site's zone (the device reports America/Denver))
        by-label: rollout night: the window for installing opens at 2027-01-13T00:00:00Z (Europe/Athens, the zone of label tz)
        by-report: rollout night: the window for installing opens at 2027-01-13T09:00:00Z (America/Denver, the zone the device reports)
        by-nonsense: rollout night: the window for installing opens at 2027-01-13T01:00:00Z (Europe/Madrid, the rollout's default zone)
        by-default: rollout night: the window for installing opens at 2027-01-13T01:00:00Z (Europe/Madrid, the rollout's default zone)
        "#);
    });
}
