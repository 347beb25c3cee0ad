//! Enrolment: who becomes a device, and who does not.

use callboard_proto::{
    admin::{Device, Imported, Token},
    enrol::{Enrol, Enrolled},
    paths,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Key, anonymous, enrolment, try_enrol},
    http::Request,
    server::TestServer,
    wait,
};
use serde_json::json;
use std::time::Duration;

use crate::{on_both, refused};

fn import(server: &TestServer, name: &str, serial: Option<&str>) {
    let device = json!({ "name": name, "serial": serial });
    server.api().post::<Imported>("devices/import", &json!({ "devices": [device] }));
}

fn devices(server: &TestServer) -> usize {
    server.api().list::<Device>("devices").len()
}

#[test]
fn a_device_enrols_with_a_token_and_is_known_by_its_certificate() {
    on_both(|server| {
        server
            .api()
            .post::<Imported>("sites/import", &json!({ "sites": [{ "id": "BOS-001", "tz": "America/New_York" }] }));
        let token = server.enrolment_token(&json!({ "site": "BOS-001", "labels": { "ring": "early" } }));
        let mut device = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named("till-1").serial("S1"));
        device.check_in();
        let shown: Device = server.api().get("devices/till-1");
        assert_eq!((shown.id, shown.serial.as_deref()), (device.id, Some("S1")));
        assert_eq!(shown.site.unwrap().as_str(), "BOS-001");
        assert_eq!(shown.labels["ring"], "early");
        assert_eq!(shown.enrolled_at, Some(server.clock.now()));
        assert_eq!(server.api().get::<Device>(&format!("devices/{}", device.id)).name.as_str(), "till-1");
    });
}

#[test]
fn a_device_without_a_wish_gets_a_name() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({}));
        let device = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()));
        assert!(device.name.as_str().starts_with("device-"), "{}", device.name);
    });
}

#[test]
fn a_token_that_is_wrong_expired_or_revoked_lets_nobody_in() {
    on_both(|server| {
        let key = Key::new();
        let enrol = |token: &str| try_enrol(server, &enrolment(token, &key).body);
        let good = server.enrolment_token(&json!({}));
        let secret_changed = format!("{}{}", &good[..good.len() - 4], "aaaa");
        for wrong in ["", "cbe_x_y", &secret_changed, &good.replace("cbe_", "cba_"), &"x".repeat(4000)] {
            refused(&enrol(wrong), Code::TokenInvalid, "the token is unknown");
        }
        let short = server.enrolment_token(&json!({ "ttl_s": 60 }));
        server.advance(Duration::from_secs(60));
        refused(&enrol(&short), Code::TokenExpired, "the token expired at 2027-01-12T12:01:00Z");
        let listed: Vec<Token> = server.api().list("tokens");
        let revoked = listed.iter().min_by_key(|token| token.id).unwrap();
        server.api().send(callboard_tests::http::Request::new("DELETE", format!("/api/v1/tokens/{}", revoked.id))).ok();
        refused(&enrol(&good), Code::TokenInvalid, "take it from a fresh bundle");
        assert_eq!(devices(server), 0);
    });
}

#[test]
fn a_token_has_as_many_uses_as_it_says() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({ "max_uses": 2 }));
        for name in ["till-1", "till-2"] {
            FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named(name));
        }
        let third = enrolment(&token, &Key::new()).named("till-3");
        refused(&try_enrol(server, &third.body), Code::TokenUsed, "every use of this token is taken");
        assert_eq!(devices(server), 2);
        assert_eq!(server.api().list::<Token>("tokens")[0].uses, 2);
    });
}

#[test]
fn after_a_lost_answer_the_same_token_and_key_give_the_same_certificate() {
    on_both(|server| {
        let request = enrolment(&server.enrolment_token(&json!({})), &Key::new()).named("till-1");
        let first: Enrolled = try_enrol(server, &request.body).json();
        server.advance(Duration::from_secs(30));
        let second: Enrolled = try_enrol(server, &request.body).json();
        assert_eq!(second, Enrolled { server_time: server.clock.now(), ..first.clone() });
        assert_eq!((devices(server), server.api().list::<Token>("tokens")[0].uses), (1, 1));
        FakeDevice::of(server, request.key, second).check_in();
    });
}

#[test]
fn the_same_token_with_another_key_is_not_the_same_device() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({}));
        let mut first = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named("till-1"));
        let thief = enrolment(&token, &Key::new()).named("till-1");
        refused(&try_enrol(server, &thief.body), Code::TokenUsed, "make another one");
        first.check_in();
    });
}

#[test]
fn a_bound_token_is_for_its_device_whatever_name_it_asks_for() {
    on_both(|server| {
        import(server, "till-1", Some("S1"));
        let token = server.enrolment_token(&json!({ "device": "till-1" }));
        let device = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named("another"));
        assert_eq!((device.name.as_str(), devices(server)), ("till-1", 1));
    });
}

#[test]
fn a_bound_token_does_not_take_over_another_devices_serial_number() {
    on_both(|server| {
        import(server, "till-1", None);
        import(server, "till-2", Some("S2"));
        let token = server.enrolment_token(&json!({ "device": "till-1" }));
        let answer = try_enrol(server, &enrolment(&token, &Key::new()).serial("S2").body);
        refused(&answer, Code::IdentityConflict, "the serial number is another device's");
        assert_eq!(server.api().get::<Device>("devices/till-2").enrolled_at, None);
    });
}

#[test]
fn a_serial_number_binds_to_the_imported_device() {
    on_both(|server| {
        import(server, "till-1", Some("S1"));
        let token = server.enrolment_token(&json!({}));
        let device = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named("x").serial("S1"));
        assert_eq!((device.name.as_str(), devices(server)), ("till-1", 1));
    });
}

#[test]
fn the_same_serial_number_with_another_key_is_a_conflict_that_an_operator_decides() {
    on_both(|server| {
        import(server, "till-1", Some("S1"));
        let token = server.enrolment_token(&json!({ "max_uses": 2 }));
        let mut first = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).serial("S1"));
        let other = enrolment(&token, &Key::new()).serial("S1");
        refused(&try_enrol(server, &other.body), Code::IdentityConflict, "device till-1 has this serial number");
        first.check_in();
        let decided = server.enrolment_token(&json!({ "device": "till-1" }));
        let mut second = FakeDevice::enrol_with(server, &enrolment(&decided, &Key::new()).serial("S1"));
        assert_eq!(second.id, first.id);
        second.check_in();
    });
}

#[test]
fn a_name_that_is_taken_is_a_conflict() {
    on_both(|server| {
        FakeDevice::enrol(server, "till-1");
        let token = server.enrolment_token(&json!({}));
        let answer = try_enrol(server, &enrolment(&token, &Key::new()).named("till-1").body);
        refused(&answer, Code::IdentityConflict, "make a token for it (--device till-1)");
        assert_eq!(server.api().list::<Token>("tokens")[0].uses, 0);
    });
}

#[test]
fn a_key_cannot_belong_to_two_devices() {
    on_both(|server| {
        let first = FakeDevice::enrol(server, "till-1");
        let token = server.enrolment_token(&json!({}));
        let answer = try_enrol(server, &enrolment(&token, &first.key).named("till-2").body);
        refused(&answer, Code::IdentityConflict, "this key belongs to device till-1 already");
        assert_eq!(devices(server), 1);
    });
}

#[test]
fn a_decommissioned_device_does_not_come_back() {
    on_both(|server| {
        import(server, "till-1", Some("S1"));
        let token = server.enrolment_token(&json!({ "device": "till-1" }));
        server.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "stolen" }));
        let bound = try_enrol(server, &enrolment(&token, &Key::new()).body);
        refused(&bound, Code::DeviceRevoked, "device till-1 was decommissioned");
        let open = server.enrolment_token(&json!({}));
        let by_serial = try_enrol(server, &enrolment(&open, &Key::new()).serial("S1").body);
        refused(&by_serial, Code::DeviceRevoked, "device till-1 was decommissioned");
    });
}

#[test]
fn a_request_for_a_key_of_another_kind_or_a_damaged_one_is_refused_and_the_token_keeps_its_use() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({}));
        let good = enrolment(&token, &Key::new());
        let p384 = enrolment(&token, &Key::of(&rcgen::PKCS_ECDSA_P384_SHA384)).body;
        refused(&try_enrol(server, &p384), Code::BadRequest, "csr_pem is not acceptable");
        let mut damaged: Vec<String> = good.body.csr_pem.lines().map(str::to_owned).collect();
        let last = damaged.len() - 2;
        damaged[last] = damaged[last].chars().rev().collect();
        for csr_pem in [damaged.join("\n"), String::new(), "-----BEGIN".to_owned()] {
            let body = Enrol { csr_pem, ..good.body.clone() };
            refused(&try_enrol(server, &body), Code::BadRequest, "csr_pem is not acceptable");
        }
        FakeDevice::enrol_with(server, &good);
    });
}

#[test]
fn unknown_fields_of_an_enrolment_are_ignored_unless_they_are_critical() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({}));
        let mut body = serde_json::to_value(enrolment(&token, &Key::new()).body).unwrap();
        body["colour"] = json!("red");
        body["crit"] = json!(["colour"]);
        refused(&try_enrol(server, &body), Code::BadRequest, "\"colour\" is critical");
        body["crit"] = json!(["token", "hw"]);
        try_enrol(server, &body).ok();
    });
}

#[test]
fn an_enrolment_that_is_too_large_or_of_wrong_types_is_refused() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({}));
        let body = serde_json::to_value(enrolment(&token, &Key::new()).body).unwrap();
        let with = |field: &str, value: serde_json::Value| {
            let mut body = body.clone();
            body[field] = value;
            try_enrol(server, &body)
        };
        with("hw", json!("x".repeat(20_000))).problem(Code::TooLarge);
        refused(&with("token", json!(7)), Code::BadRequest, "invalid type");
        refused(&with("name", json!("../etc")), Code::BadRequest, "is not a device name");
        refused(&try_enrol(server, &json!([])), Code::BadRequest, "the body");
        assert_eq!(devices(server), 0);
    });
}

#[test]
fn who_guesses_is_slowed_down_and_whoever_has_a_token_enrols_as_before() {
    on_both(|server| {
        let mut known = FakeDevice::enrol(server, "till-1");
        let request = enrolment(&server.enrolment_token(&json!({})), &Key::new()).named("till-2");
        let mut guesser = anonymous(server);
        let guess = Request::post(paths::ENROL).json(&enrolment("cbe_x_y", &Key::new()).body);
        let mut answer = guesser.send(&guess);
        for _ in 0..5000 {
            if answer.status == Code::TooManyRequests.row().2 {
                break;
            }
            refused(&answer, Code::TokenInvalid, "the token is unknown");
            answer = guesser.send(&guess);
        }
        refused(&answer, Code::TooManyRequests, "more than 120 enrolments a minute from one address");
        let wait_s: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait_s), "{wait_s}");
        // Enrolled devices do not notice, and neither does another address.
        known.check_in();
        let mut elsewhere = anonymous(server).from([127, 0, 0, 2].into());
        elsewhere.send(&Request::post(paths::ENROL).json(&request.body)).ok();
        // Places come back one by one: nobody is locked out for longer than was said.
        let third = enrolment(&server.enrolment_token(&json!({})), &Key::new()).named("till-3");
        wait::until("the limit lets the next one in", || match try_enrol(server, &third.body).status {
            200 => true,
            status => {
                assert_eq!(status, Code::TooManyRequests.row().2);
                false
            }
        });
        let uses: Vec<u32> = server.api().list::<Token>("tokens").iter().map(|token| token.uses).collect();
        assert_eq!((devices(server), uses), (3, vec![1, 1, 1]));
    });
}
