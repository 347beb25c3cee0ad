//! Two machines that are one device, and one machine that comes back as itself.

use std::time::Duration;

use callboard_proto::{
    admin::{Device, Event},
    problem::Code,
};
use callboard_tests::{
    browser::Browser,
    device::{FakeDevice, Key, enrolment, try_enrol},
    server::TestServer,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

const DAY: Duration = Duration::from_secs(86_400);

fn shown(server: &TestServer, name: &str) -> Device {
    server.api().get(&format!("devices/{name}"))
}

fn suspects(server: &TestServer) -> Vec<String> {
    server.api().list::<Device>("clones").into_iter().map(|device| device.name.to_string()).collect()
}

/// How often such an event stands in a device's history.
fn events(server: &TestServer, name: &str, kind: &str) -> usize {
    let all: Vec<Event> = server.api().list(&format!("devices/{name}/history"));
    all.iter().filter(|event| event.kind == kind).count()
}

#[test]
fn a_copied_disk_is_found_while_original_and_copy_check_in_by_turns() {
    on_both(|server| {
        let mut original = FakeDevice::enrol(server, "till-1");
        let _other = FakeDevice::enrol(server, "till-2");
        original.check_in();
        let mut copy = original.twin(server);
        copy.boot_id = "boot-of-the-copy".to_owned();
        // A check-in that was late on the way makes up to two of the three signs.
        for _ in 0..2 {
            assert_eq!(suspects(server), Vec::<String>::new());
            copy.check_in();
            original.check_in();
        }
        assert_eq!(suspects(server), ["till-1"]);
        let found = shown(server, "till-1").possible_clone.unwrap();
        assert_eq!(found.text, "two machines check in as this device, in turn");
        // Nothing is stopped by it, and it is said once.
        for _ in 0..4 {
            copy.check_in();
            original.check_in();
        }
        assert_eq!(events(server, "till-1", "device.possible_clone"), 1);
        for args in [&["attention", "list"][..], &["device", "clone", "list"], &["device", "show", "till-1"]] {
            let said = server.cli(args).stdout;
            assert!(said.contains("two machines check in as this device"), "{said}");
        }
        assert!(Browser::of(server, "viewer").page("/attention").contains("two machines check in as this device"));
        refused(
            &server.api().try_post("devices/till-1/clone/keep", &json!({ "reason": " " })),
            Code::Invalid,
            "reason",
        );
        server.cli(["device", "clone", "keep", "till-1", "--reason", "the copy is till-9 now"]).ok();
        assert_eq!((suspects(server), shown(server, "till-1").possible_clone), (Vec::new(), None));
        let said = server.cli(["audit", "list"]).stdout;
        assert!(said.contains("device.kept") && said.contains("the copy is till-9 now"), "{said}");
        let again = server.cli(["device", "clone", "keep", "till-1", "--reason", "twice"]);
        assert!(again.refused(1).contains("nothing says that device till-1 has a copy"));
        for _ in 0..10 {
            original.check_in();
        }
        assert_eq!(suspects(server), Vec::<String>::new());
    });
}

#[test]
fn other_hardware_is_a_question_and_a_backup_that_was_put_back_is_an_event() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        till.facts.hardware_id = Some("1".repeat(32));
        till.check_in();
        till.facts.hardware_id = Some("2".repeat(32));
        till.boot_id = "boot-2".to_owned();
        for _ in 0..3 {
            till.check_in();
        }
        let text = shown(server, "till-1").possible_clone.unwrap().text;
        assert_eq!(text, "it runs on hardware 22222222, and ran on 11111111");
        assert_eq!(events(server, "till-1", "device.possible_clone"), 1);

        // Two boards that take turns are one question, however long nobody answers it.
        let mut board = till.twin(server);
        board.facts.hardware_id = Some("3".repeat(32));
        board.boot_id = "boot-3".to_owned();
        for _ in 0..5 {
            board.check_in();
            till.check_in();
        }
        let text = shown(server, "till-1").possible_clone.unwrap().text;
        assert_eq!(text, "it runs on hardware 22222222, and ran on 33333333");
        assert_eq!(events(server, "till-1", "device.possible_clone"), 1);

        let mut set_back = FakeDevice::enrol(server, "till-2");
        let mut before = set_back.twin(server);
        before.boot_id = "boot-0".to_owned();
        // A twin counts from a million on: what was heard of the till before its backup was put back.
        before.check_in();
        for _ in 0..5 {
            set_back.check_in();
        }
        assert_eq!(events(server, "till-2", "device.set_back"), 1);
        assert_eq!(suspects(server), ["till-1"]);
    });
}

#[test]
fn two_uplinks_and_many_tills_behind_one_address_are_no_copies() {
    on_both(|server| {
        let mut tills: Vec<FakeDevice> = (0..3).map(|n| FakeDevice::enrol(server, &format!("till-{n}"))).collect();
        for round in 0..12 {
            for till in &mut tills {
                // Another connection each time, and now and then a start.
                till.follow(server);
                till.boot_id = format!("boot-{}", round / 4);
                till.check_in();
            }
        }
        assert_eq!(suspects(server), Vec::<String>::new());
        assert_eq!(events(server, "till-0", "device.set_back"), 0);
    });
}

/// Enrols with a token for anybody, as a till that was imaged anew.
fn enrols(server: &TestServer, name: Option<&str>, serial: Option<&str>) -> callboard_tests::http::Response {
    let token = server.enrolment_token(&json!({}));
    let mut request = enrolment(&token, &Key::new());
    request.body.name = name.map(|name| name.parse().unwrap());
    request.body.serial = serial.map(str::to_owned);
    try_enrol(server, &request.body)
}

#[test]
fn a_till_that_is_expected_comes_back_as_itself_once() {
    on_both(|server| {
        enrols(server, Some("till-1"), Some("SN-1")).ok();
        let mut by_name = FakeDevice::enrol(server, "till-2");
        by_name.check_in();
        let id = |name: &str| shown(server, name).id;
        let (first, second) = (id("till-1"), id("till-2"));
        refused(&enrols(server, None, Some("SN-1")), Code::IdentityConflict, "has this serial number and another key");
        refused(&enrols(server, Some("till-2"), None), Code::IdentityConflict, "is registered already");

        let until = (server.clock.now() + 2 * DAY).to_string();
        for name in ["till-1", "till-2"] {
            server.cli(["device", "allow-reenrol", name, "--for", &until]).ok();
            assert!(shown(server, name).reenrol_until.is_some());
        }
        let enrolled: Value = enrols(server, None, Some("SN-1")).json();
        assert_eq!(enrolled["device_id"], first.to_string());
        // The name alone is not enough where the registry knows better.
        let wrong = enrols(server, Some("till-2"), Some("SN-1"));
        refused(&wrong, Code::IdentityConflict, "has this serial number and another key");
        let enrolled: Value = enrols(server, Some("till-2"), Some("SN-2")).json();
        assert_eq!(enrolled["device_id"], second.to_string());
        server.cli(["device", "allow-reenrol", "till-2", "--for", &until]).ok();
        let unsaid = enrols(server, Some("till-2"), None);
        refused(&unsaid, Code::IdentityConflict, "does not say its serial number, which the registry knows");
        let body = serde_json::to_vec(&by_name.next_check_in()).unwrap();
        refused(&by_name.try_check_in(&body), Code::DeviceRevoked, "was replaced by another one");
        refused(&enrols(server, None, Some("SN-1")), Code::IdentityConflict, "has this serial number and another key");

        server.cli(["device", "allow-reenrol", "till-1", "--for", &until]).ok();
        server.cli(["device", "allow-reenrol", "till-1", "--no-more"]).ok();
        refused(&enrols(server, None, Some("SN-1")), Code::IdentityConflict, "has this serial number and another key");
        let until = server.clock.now() + DAY;
        server.api().try_put("devices/till-1/reenrolment", &json!({ "until": until })).ok();
        server.advance(DAY);
        refused(&enrols(server, None, Some("SN-1")), Code::IdentityConflict, "has this serial number and another key");
        for until in [server.clock.now(), server.clock.now() + 32 * DAY] {
            let answer = server.api().try_put("devices/till-1/reenrolment", &json!({ "until": until }));
            refused(&answer, Code::Invalid, "a time within the next 31 days is wanted");
        }
    });
}
