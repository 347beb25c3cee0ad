//! What devices refused: kept for each device, shown, alarmed of, and bounded, whatever a device says.

use std::time::Duration;

use callboard_proto::{
    admin::{Acknowledged, AttackCount, Attacked, Device, Event, Overview, Page},
    problem::Code,
};
use callboard_tests::{api::Api, device::FakeDevice, http::Request, server::TestServer, wait};
use serde_json::{Value, json};

use crate::{on_both, refused};

fn shown(server: &TestServer, device: &str) -> Vec<(String, u32, u32)> {
    let device: Device = server.api().get(&format!("devices/{device}"));
    device.attacks.into_iter().map(|one| (one.kind, one.total, one.acknowledged)).collect()
}

fn listed(server: &TestServer) -> Vec<String> {
    let all: Vec<Attacked> = server.api().list("attention/attacks?limit=1");
    all.into_iter().map(|one| one.device.to_string()).collect()
}

fn events(server: &TestServer, device: &str, kind: &str) -> Vec<String> {
    let page: Page<Event> = server.api().get(&format!("devices/{device}/history"));
    page.items.into_iter().filter(|event| event.kind == kind).map(|event| event.text).collect()
}

fn tells(device: &mut FakeDevice, kind: &str, count: u64) {
    device.attacks.insert(kind.to_owned(), count);
    device.check_in();
}

#[test]
fn what_a_device_refused_is_shown_until_somebody_takes_note() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        let mut other = FakeDevice::enrol(server, "till-2");
        other.check_in();
        tells(&mut till, "bad_sig", 2);
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 2, 0)]);
        assert_eq!((shown(server, "till-2"), listed(server)), (vec![], vec!["till-1".to_owned()]));
        server.advance(Duration::from_secs(300));
        tells(&mut till, "slow", 1);
        let one = &server.api().list::<Attacked>("attention/attacks")[0];
        assert_eq!((one.last_at, one.attacks.len()), (server.clock.now(), 2));
        let told = events(server, "till-1", "device.attacked");
        let sentence = "it refused what no honest server sends: ";
        assert_eq!(told, [format!("{sentence}slow +1, 1 in all"), format!("{sentence}bad_sig +2, 2 in all")]);
        let wrong = |body| server.api().try_post("attention/attacks/acknowledge", &body);
        refused(&wrong(json!({ "devices": ["till-1"], "reason": " " })), Code::Invalid, "reason is empty");
        refused(&wrong(json!({ "reason": "x" })), Code::Invalid, "neither devices nor a selector");
        let body = json!({ "devices": ["till-1", "till-2", "till-9"], "reason": "a bad proxy, replaced" });
        let done: Acknowledged = server.api().post("attention/attacks/acknowledge", &body);
        assert_eq!((done.total, done.devices[0].as_str()), (1, "till-1"));
        let why: Vec<&str> = done.refused.iter().map(|one| one.reason.as_str()).collect();
        assert_eq!(why, ["it has told of nothing new", "there is no device till-9"]);
        assert_eq!(listed(server), Vec::<String>::new());
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 2, 2), ("slow".to_owned(), 1, 1)]);
        let noted = events(server, "till-1", "device.attacks_acknowledged");
        assert!(noted[0].ends_with(": a bad proxy, replaced"), "{noted:?}");
        tells(&mut till, "slow", 2);
        assert_eq!(listed(server), ["till-1"]);
        let all = json!({ "selector": "name = till-1", "reason": "again" });
        assert_eq!(server.api().post::<Acknowledged>("attention/attacks/acknowledge", &all).total, 1);
        assert_eq!(listed(server), Vec::<String>::new());
    });
}

#[test]
fn operators_read_and_take_note_on_the_command_line() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        tells(&mut till, "bad_sig", 7);
        let list = ["attention", "attacks", "list"];
        let table = server.cli(list).ok().stdout.clone();
        assert!(table.lines().nth(1).unwrap().ends_with("bad_sig 7 (7 new)"), "{table}");
        let note = ["attention", "attacks", "acknowledge", "--device", "till-1", "--reason", "seen"];
        assert_eq!(server.cli(note).ok().stdout, "1 device: till-1\n");
        assert_eq!(server.cli(note).refused(1), "callboard: till-1: it has told of nothing new");
        assert_eq!(server.cli(list).stderr, "no devices\n");
        let details = server.cli(["device", "show", "till-1"]).ok().stdout.clone();
        assert!(details.lines().any(|line| line.starts_with("refused") && line.ends_with("bad_sig 7")), "{details}");
    });
}

#[test]
fn counters_that_do_not_change_cost_no_statement() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        let statements = || server.api().metric("callboard_database_statements_total", "purpose=\"attacks\"");
        till.check_in();
        assert_eq!(listed(server), Vec::<String>::new());
        let before = statements();
        tells(&mut till, "bad_chunk", 1);
        assert_eq!(listed(server), ["till-1"]);
        let counted = statements();
        assert!(counted > before);
        for _ in 0..20 {
            till.check_in();
        }
        listed(server);
        assert!((statements() - counted).abs() < 0.5, "{counted} -> {}", statements());
    });
}

#[test]
fn a_restart_of_the_server_counts_nothing_twice_and_a_new_image_begins_anew() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        till.facts.image_id = Some("first".to_owned());
        tells(&mut till, "bad_sig", 5);
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 5, 0)]);
        server.restart_after_kill();
        till.follow(server);
        till.check_in();
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 5, 0)]);
        // What it had not written down before a power cut.
        tells(&mut till, "bad_sig", 4);
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 5, 0)]);
        tells(&mut till, "bad_sig", 5);
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 6, 0)]);
        server.advance(Duration::from_secs(3600));
        till.facts.image_id = Some("second".to_owned());
        tells(&mut till, "bad_sig", 3);
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 9, 0)]);
        server.advance(Duration::from_secs(3600));
        let mut again = FakeDevice::enrol_imported(server, "till-1");
        tells(&mut again, "bad_sig", 1);
        assert_eq!(shown(server, "till-1"), [("bad_sig".to_owned(), 10, 0)]);
    });
}

#[test]
fn a_stolen_device_spoils_its_own_row_and_nothing_else() {
    on_both(|server| {
        let mut stolen = FakeDevice::enrol(server, "till-1");
        let mut honest = FakeDevice::enrol(server, "till-2");
        tells(&mut honest, "bad_sig", 1);
        for n in 0..32 {
            stolen.attacks.insert(format!("<script>{n}"), u64::MAX);
        }
        let told = || server.api().metric("callboard_attacks_told_total", "");
        listed(server);
        let before = told();
        stolen.check_in();
        assert_eq!(shown(server, "till-1"), [("other".to_owned(), u32::MAX, 0)]);
        for up in [false, true, false, true] {
            stolen.attacks = [("bad_sig".to_owned(), if up { u64::MAX } else { 0 })].into();
            stolen.check_in();
            listed(server);
        }
        assert_eq!(shown(server, "till-1")[0], ("bad_sig".to_owned(), u32::MAX, 0));
        assert_eq!(shown(server, "till-2"), [("bad_sig".to_owned(), 1, 0)]);
        assert!((told() - before - 3.0).abs() < 0.5, "times, not numbers: {before} -> {}", told());
        assert_eq!(events(server, "till-1", "device.attacked").len(), 1, "one in a minute");
        let overview: Overview = server.api().get("overview");
        assert_eq!(overview.attacks["bad_sig"], 2);
        assert_eq!(overview.attack_alarms, Vec::<String>::new());
    });
}

#[test]
fn many_devices_that_tell_the_same_within_an_hour_alarm_the_fleet() {
    on_both(|server| {
        let mut tills: Vec<FakeDevice> = (0..5).map(|n| FakeDevice::enrol(server, &format!("till-{n}"))).collect();
        let alarm = || server.api().metric("callboard_attack_alarm", "kind=\"nonce_mismatch\"");
        let page = || server.api().send_raw(Request::get("/")).text();
        for till in &mut tills[..2] {
            tells(till, "nonce_mismatch", 1);
        }
        tells(&mut tills[2], "slow", 1);
        listed(server);
        assert!(alarm() < 0.5 && !page().contains("bad alarm\""));
        let list = server.api().send_raw(Request::get("/attention/attacks")).text();
        assert!(list.contains("nonce_mismatch 1"), "{list}");
        // Those were long ago.
        server.advance(Duration::from_secs(3601));
        tells(&mut tills[2], "nonce_mismatch", 1);
        listed(server);
        assert!(alarm() < 0.5);
        for till in &mut tills[3..] {
            tells(till, "nonce_mismatch", 1);
        }
        listed(server);
        assert!(alarm() > 0.5);
        assert!(page().contains("3 devices refused what no honest server sends: <b>nonce_mismatch</b>"), "{}", page());
        let logged = || server.log().matches("many devices refused what no honest server sends").count();
        wait::until("the log says it", || logged() == 1);
        tells(&mut tills[4], "nonce_mismatch", 2);
        listed(server);
        assert_eq!(logged(), 1, "once");
        let all = json!({ "selector": "all", "reason": "a proxy in between" });
        assert_eq!(server.api().post::<Acknowledged>("attention/attacks/acknowledge", &all).total, 5);
        assert!(alarm() < 0.5 && !page().contains("bad alarm\""));
    });
}

#[test]
fn whoever_has_a_part_of_the_fleet_sees_and_takes_note_of_that_part() {
    on_both(|server| {
        let mut tills: Vec<FakeDevice> = (0..4).map(|n| FakeDevice::enrol(server, &format!("till-{n}"))).collect();
        tills.iter_mut().for_each(|till| tells(till, "rollback", 1));
        assert_eq!(listed(server).len(), 4);
        let grants = json!([{ "role": "operator", "selector": "name = till-0 or name = till-1" }]);
        let made: Value = server.api().post("api-tokens", &json!({ "name": "part", "grants": grants }));
        let part = Api { address: server.api().address, token: made["token"].as_str().unwrap().to_owned() };
        let seen: Vec<Attacked> = part.list("attention/attacks?limit=1");
        assert_eq!(seen.iter().map(|one| one.device.as_str()).collect::<Vec<_>>(), ["till-0", "till-1"]);
        let overview: Overview = part.get("overview");
        assert_eq!((overview.attacks["rollback"], overview.attack_alarms.len()), (2, 0));
        assert_eq!(server.api().get::<Overview>("overview").attack_alarms, ["rollback"]);
        let named = json!({ "devices": ["till-0", "till-3"], "reason": "a test" });
        let done: Acknowledged = part.post("attention/attacks/acknowledge", &named);
        assert_eq!((done.total, done.refused[0].device.as_str()), (1, "till-3"));
        let all = json!({ "selector": "all", "reason": "a test" });
        assert_eq!(part.post::<Acknowledged>("attention/attacks/acknowledge", &all).devices[0].as_str(), "till-1");
        assert_eq!(listed(server), ["till-2", "till-3"]);
    });
}

#[test]
fn what_devices_told_in_the_last_second_is_written_when_the_server_stops() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        tells(&mut till, "rollback", 1);
        server.stop();
        let told = "SELECT CAST(COUNT(*) AS BIGINT) AS number FROM attacks WHERE counters LIKE '%rollback%'";
        assert_eq!(server.sql_number(told), Some(1));
        server.serve();
        let counts: Vec<AttackCount> = server.api().get::<Device>("devices/till-1").attacks;
        assert_eq!(counts[0].kind, "rollback");
    });
}
