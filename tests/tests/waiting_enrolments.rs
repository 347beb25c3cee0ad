//! Enrolments that an operator decides on: what waits, what comes of it, and that nobody fills the list.

use callboard_proto::{
    admin::{Device, EnrolmentState, Event, Overview, Token, WaitingEnrolment},
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Key, enrolment, try_enrol},
    server::TestServer,
    till::{QUICK, Till},
    wait,
};
use serde_json::{Value, json};
use std::{fs, time::Duration};

use crate::{on_both, refused};

const PENDING: &str = "an operator has to accept this device (callboard enrolment list)";

fn waiting(server: &TestServer) -> Vec<WaitingEnrolment> {
    server.api().list("enrolments")
}

/// The only one on the list.
#[track_caller]
fn the_one(server: &TestServer) -> WaitingEnrolment {
    let [one] = <[_; 1]>::try_from(waiting(server)).unwrap();
    one
}

fn accept(server: &TestServer, one: &WaitingEnrolment, how: &Value) -> WaitingEnrolment {
    server.api().post(&format!("enrolments/{}/accept", one.id), how)
}

fn import(server: &TestServer, name: &str, serial: &str) {
    let device = json!({ "name": name, "serial": serial });
    server.api().post::<Value>("devices/import", &json!({ "devices": [device] }));
}

#[test]
fn a_device_of_a_token_that_waits_gets_in_when_somebody_has_accepted_it() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({ "auto_approve": false, "max_uses": 2, "labels": { "lane": "4" } }));
        let request = enrolment(&token, &Key::new()).named("till-1").serial("S1");
        refused(&try_enrol(server, &request.body), Code::EnrolmentPending, PENDING);
        assert_eq!(server.api().list::<Device>("devices").len(), 0);
        let one = the_one(server);
        assert_eq!((one.state, one.serial.as_deref()), (EnrolmentState::Waiting, Some("S1")));
        assert_eq!(one.name.as_ref().map(|name| name.as_str()), Some("till-1"));
        assert_eq!(one.source.as_deref(), Some("127.0.0.1"));
        assert_eq!(server.api().get::<Overview>("overview").enrolments_waiting, 1);
        assert!(server.cli(["enrolment", "list"]).ok().stdout.contains(&one.key.short()));
        let shown = server.cli(["enrolment", "accept", &one.id.to_string()]).ok().stdout.clone();
        assert!(shown.contains("accepted"), "{shown}");
        let mut device = FakeDevice::enrol_with(server, &request);
        device.check_in();
        let known: Device = server.api().get("devices/till-1");
        assert_eq!((known.labels["lane"].as_str(), known.serial.as_deref()), ("4", Some("S1")));
        assert!(waiting(server).is_empty());
        assert_eq!(server.api().list::<Token>("tokens")[0].uses, 1);
        let kinds: Vec<String> = server.api().list::<Event>("events").into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds[..3], ["device.enrolled", "enrolment.accepted", "enrolment.waiting"]);
    });
}

#[test]
fn who_was_accepted_gets_in_after_the_token_has_expired_or_been_used_up_and_nobody_else() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({ "auto_approve": false, "max_uses": 2, "ttl_s": 3600 }));
        let [first, second] = ["till-1", "till-2"].map(|name| enrolment(&token, &Key::new()).named(name));
        for request in [&first, &second] {
            refused(&try_enrol(server, &request.body), Code::EnrolmentPending, PENDING);
        }
        let [later, earlier] = <[_; 2]>::try_from(waiting(server)).unwrap();
        accept(server, &earlier, &json!({}));
        server.advance(Duration::from_secs(7200));
        FakeDevice::enrol_with(server, &first).check_in();
        refused(&try_enrol(server, &second.body), Code::TokenExpired, "the token expired at");
        accept(server, &later, &json!({ "name": "till-9" }));
        FakeDevice::enrol_with(server, &second).check_in();
        assert!(server.api().try_get("devices/till-9").status == 200);
    });
}

#[test]
fn a_rejected_key_stays_out_until_somebody_thinks_better_of_it() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({ "auto_approve": false }));
        let request = enrolment(&token, &Key::new()).named("till-1");
        refused(&try_enrol(server, &request.body), Code::EnrolmentPending, PENDING);
        let one = the_one(server);
        server.cli(["enrolment", "reject", &one.id.to_string()]).ok();
        let said = "first admin rejected the enrolment of this key";
        refused(&try_enrol(server, &request.body), Code::EnrolmentRejected, said);
        assert_eq!(the_one(server).state, EnrolmentState::Rejected);
        assert_eq!(server.api().get::<Overview>("overview").enrolments_waiting, 0);
        accept(server, &the_one(server), &json!({}));
        FakeDevice::enrol_with(server, &request).check_in();
    });
}

#[test]
fn a_key_that_claims_to_be_a_device_becomes_it_if_an_operator_says_so() {
    on_both(|server| {
        let old = enrolment(&server.enrolment_token(&json!({})), &Key::new()).named("till-1").serial("S1");
        let mut before = FakeDevice::enrol_with(server, &old);
        before.check_in();
        // By its serial number, then by its name.
        let token = server.enrolment_token(&json!({ "max_uses": 9 }));
        let claims =
            [enrolment(&token, &Key::new()).serial("S1"), enrolment(&token, &Key::new()).named("till-1").serial("S2")];
        for (claim, serial) in claims.iter().zip(["S1", "S2"]) {
            refused(&try_enrol(server, &claim.body), Code::IdentityConflict, "(callboard enrolment list)");
            let one = the_one(server);
            assert_eq!(one.device.as_ref().map(|name| name.as_str()), Some("till-1"));
            before.check_in();
            accept(server, &one, &json!({}));
            // Until it asks, nothing has changed.
            before.check_in();
            let mut after = FakeDevice::enrol_with(server, claim);
            assert_eq!(after.id, before.id);
            after.check_in();
            let late = serde_json::to_vec(&before.next_check_in()).unwrap();
            refused(&before.try_check_in(&late), Code::DeviceRevoked, "was replaced by another one");
            assert_eq!(server.api().get::<Device>("devices/till-1").serial.as_deref(), Some(serial));
            before = after;
        }
    });
}

#[test]
fn an_operator_says_which_device_it_is_or_what_the_new_one_is_called() {
    on_both(|server| {
        import(server, "till-1", "S1");
        import(server, "till-2", "S2");
        let token = server.enrolment_token(&json!({ "auto_approve": false, "max_uses": 9 }));
        // It says that it is till-1, and is till-2; the number of till-1 stays with that one.
        let request = enrolment(&token, &Key::new()).serial("S1");
        refused(&try_enrol(server, &request.body), Code::EnrolmentPending, PENDING);
        assert_eq!(the_one(server).device.as_ref().map(|name| name.as_str()), Some("till-1"));
        accept(server, &the_one(server), &json!({ "device": "till-2" }));
        let device = FakeDevice::enrol_with(server, &request);
        assert_eq!(device.name.as_str(), "till-2");
        for (name, serial) in [("till-1", "S1"), ("till-2", "S2")] {
            assert_eq!(server.api().get::<Device>(&format!("devices/{name}")).serial.as_deref(), Some(serial));
        }
        // Mistakes are told, and nothing is lost by them.
        let request = enrolment(&token, &Key::new());
        refused(&try_enrol(server, &request.body), Code::EnrolmentPending, PENDING);
        let path = format!("enrolments/{}/accept", the_one(server).id);
        let post = |how: &Value| server.api().try_post(&path, how);
        refused(&post(&json!({ "device": "till-1", "name": "x" })), Code::Invalid, "device and name are both given");
        refused(&post(&json!({ "device": "till-8" })), Code::NotFound, "there is no device till-8");
        refused(&post(&json!({ "name": "till-1" })), Code::Conflict, "--as till-1 makes it that one");
        let nobody = server.api().try_post("enrolments/0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01/reject", &json!({}));
        refused(&nobody, Code::NotFound, "there is no enrolment");
        assert_eq!(the_one(server).state, EnrolmentState::Waiting);
        accept(server, &the_one(server), &json!({ "name": "till-3" }));
        assert_eq!(FakeDevice::enrol_with(server, &request).name.as_str(), "till-3");
    });
}

#[test]
fn what_was_accepted_is_accepted_and_nothing_else_with_the_same_key() {
    on_both(|server| {
        import(server, "till-9", "S9");
        let token = server.enrolment_token(&json!({ "auto_approve": false, "max_uses": 9 }));
        let key = Key::new();
        let shown = enrolment(&token, &key).named("till-1").serial("S1");
        refused(&try_enrol(server, &shown.body), Code::EnrolmentPending, PENDING);
        accept(server, &the_one(server), &json!({}));
        // The operator has seen S1.
        let other = enrolment(&token, &key).named("till-1").serial("S9");
        refused(&try_enrol(server, &other.body), Code::EnrolmentPending, PENDING);
        let one = the_one(server);
        assert_eq!((one.state, one.serial.as_deref()), (EnrolmentState::Waiting, Some("S9")));
        // Nor is its number taken from a device that has it, whatever the operator makes of the key.
        accept(server, &one, &json!({ "name": "till-2" }));
        assert_eq!(FakeDevice::enrol_with(server, &other).name.as_str(), "till-2");
        for (name, serial) in [("till-2", None), ("till-9", Some("S9"))] {
            assert_eq!(server.api().get::<Device>(&format!("devices/{name}")).serial.as_deref(), serial, "{name}");
        }
    });
}

#[test]
fn a_token_is_for_serial_numbers_like_its_pattern() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({ "serial_pattern": "VF-*", "max_uses": 9 }));
        let wrong = enrolment(&token, &Key::new()).serial("NCR-1");
        let said = "the token is for serial numbers like \"VF-*\", and this machine says \"NCR-1\"";
        refused(&try_enrol(server, &wrong.body), Code::Forbidden, said);
        let none = enrolment(&token, &Key::new());
        refused(&try_enrol(server, &none.body), Code::Forbidden, "this machine says none");
        FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).serial("VF-1"));
        assert_eq!(server.api().list::<Token>("tokens")[0].uses, 1);
        let new = json!({ "device": "x", "serial_pattern": "VF-*" });
        refused(&server.api().try_post("tokens", &new), Code::Invalid, "it says already which device");
        let shown = server.cli(["token", "create", "--serial", "VF-*", "--wait"]).ok().stdout.clone();
        assert!(shown.contains("cbe_"), "{shown}");
        let list = server.cli(["token", "list"]).ok().stdout.clone();
        assert!(list.contains("VF-*    yes"), "{list}");
    });
}

#[test]
fn the_list_of_those_that_wait_cannot_be_filled_without_end() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({ "auto_approve": false, "max_uses": 2 }));
        let requests: Vec<_> = (0..3).map(|_| enrolment(&token, &Key::new())).collect();
        for request in &requests[..2] {
            refused(&try_enrol(server, &request.body), Code::EnrolmentPending, PENDING);
        }
        let said = "2 enrolments with this token wait already; somebody has to decide on them first";
        refused(&try_enrol(server, &requests[2].body), Code::TooManyRequests, said);
        // Who is on it may ask again, and that fills no event log.
        for _ in 0..3 {
            refused(&try_enrol(server, &requests[0].body), Code::EnrolmentPending, PENDING);
        }
        let events: Vec<Event> = server.api().list("events");
        assert_eq!(events.iter().filter(|event| event.kind == "enrolment.waiting").count(), 2);
        let revoked = server.api().list::<Token>("tokens")[0].id;
        server.api().try_delete(&format!("tokens/{revoked}"));
        refused(&try_enrol(server, &requests[0].body), Code::TokenInvalid, "the token is unknown");
    });
}

#[test]
fn a_till_waits_in_its_installation_until_it_is_accepted() {
    on_both(|server| {
        let bundle = server.bundle(&json!({ "auto_approve": false }));
        let till = Till::new(server.binaries().agent, "till-1", QUICK);
        fs::write(till.bundle(), serde_json::to_vec(&bundle).unwrap()).unwrap();
        let args = ["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", "till-1"].map(str::to_owned);
        let refused = till.command(&[&args.each_ref().map(String::as_str)[..], &["--no-wait"]].concat());
        assert!(refused.refused(1).contains("enrolment_pending"), "{}", refused.stderr);
        std::thread::scope(|scope| {
            let enrolling = scope.spawn(|| till.command(&args.each_ref().map(String::as_str)));
            let last = the_one(server).last_at;
            server.advance(Duration::from_secs(120));
            wait::until("it asks again", || the_one(server).last_at > last);
            let one = the_one(server);
            accept(server, &one, &json!({}));
            let output = enrolling.join().unwrap();
            let said = output.ok().stdout.clone();
            assert!(said.contains(&format!("its key is {}", one.key)), "{said}");
            assert!(said.contains("enrolled at "), "{said}");
        });
        till.once().ok();
    });
}
