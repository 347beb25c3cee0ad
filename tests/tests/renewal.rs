//! A device gets a certificate for a new key before the one that it has ends, or after; and nothing that goes wrong on
//! the way shuts it out.

use std::{fs, time::Duration};

use callboard_proto::{
    admin::{Event, Token},
    enrol::Renewed,
    paths,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Key, with_certificate},
    http::{Request, Response},
    proxy::{Fault, Proxy},
    server::{Engine, TestServer},
    till::QUICK,
    wait,
};
use serde_json::json;

use crate::{BINARIES, on_both, on_both_with, refused};

const DAY: Duration = Duration::from_secs(86_400);
/// How long a device's certificate lasts, and when it is to be renewed.
const LASTS: Duration = DAY.saturating_mul(180);
const DUE: Duration = DAY.saturating_mul(120);

fn try_renew(device: &mut FakeDevice, next: &Key) -> Response {
    device.wire.send(&Request::post(paths::RENEW).json(&json!({ "csr_pem": next.csr_pem() })))
}

fn renew(device: &mut FakeDevice, next: &Key) -> Renewed {
    try_renew(device, next).json()
}

/// The same device with another key.
fn with(server: &TestServer, device: &FakeDevice, key: &Key, renewed: &Renewed) -> FakeDevice {
    let mut other = device.twin(server);
    other.key = key.clone();
    other.certificate_pem.clone_from(&renewed.certificate_pem);
    other.wire = with_certificate(server, key, &renewed.certificate_pem);
    other
}

/// Both requests that a device makes of its own accord.
fn refused_everywhere(device: &mut FakeDevice, code: Code, said: &str) {
    let check_in = serde_json::to_vec(&device.next_check_in()).unwrap();
    refused(&device.try_check_in(&check_in), code, said);
    refused(&device.try_reports(&[]), code, said);
}

#[test]
fn the_old_key_is_good_until_the_new_one_is_used_and_not_longer() {
    on_both(|server| {
        let mut old = FakeDevice::enrol(server, "till-1");
        old.check_in();
        server.advance(DUE);
        let next = Key::new();
        let renewed = renew(&mut old, &next);
        assert_eq!(renewed.expires_at, server.clock.now() + LASTS);
        assert_eq!(renewed.renew_at, server.clock.now() + DUE);
        old.check_in();
        let mut new = with(server, &old, &next, &renewed);
        new.check_in();
        refused_everywhere(&mut old, Code::DeviceRevoked, "was replaced by another one");
        refused(&try_renew(&mut old, &Key::new()), Code::DeviceRevoked, "was replaced by another one");
        new.check_in();
        let events: Vec<Event> = server.api().list("devices/till-1/history");
        assert_eq!(events.iter().filter(|event| event.kind == "device.renewed").count(), 1, "{events:?}");
        // Life goes on: the new certificate renews itself in its turn.
        let third = Key::new();
        let renewed = renew(&mut new, &third);
        with(server, &new, &third, &renewed).check_in();
    });
}

#[test]
fn a_lost_answer_is_had_again_and_another_key_takes_the_place_of_one_that_was_not_used() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let (lost, next) = (Key::new(), Key::new());
        let first = renew(&mut device, &lost);
        assert_eq!(renew(&mut device, &lost).certificate_pem, first.certificate_pem);
        let second = renew(&mut device, &next);
        // What was not fetched again is not the device's any more.
        refused_everywhere(&mut with(server, &device, &lost, &first), Code::DeviceRevoked, "was replaced by another");
        with(server, &device, &next, &second).check_in();
    });
}

#[test]
fn a_certificate_that_has_ended_reaches_renewal_and_nothing_else() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        device.check_in();
        server.advance(LASTS + DAY * 400);
        device.wire.disconnect();
        let said = "the certificate of device till-1 ended at 2027-07-11T12:00:00Z; POST /v1/renew renews it";
        refused_everywhere(&mut device, Code::CertificateExpired, said);
        let payload = Request::get(format!("/v1/payloads/{}", "0".repeat(64)));
        refused(&device.wire.send(&payload), Code::CertificateExpired, said);
        let next = Key::new();
        let renewed = renew(&mut device, &next);
        with(server, &device, &next, &renewed).check_in();
    });
}

#[test]
fn who_is_out_of_service_renews_nothing_and_loses_what_was_renewed() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let next = Key::new();
        let renewed = renew(&mut device, &next);
        let mut new = with(server, &device, &next, &renewed);
        server.api().post::<serde_json::Value>("devices/till-1/decommission", &json!({ "reason": "stolen" }));
        refused(&try_renew(&mut device, &next), Code::DeviceRevoked, "was decommissioned");
        refused_everywhere(&mut new, Code::DeviceRevoked, "was decommissioned");
    });
}

#[test]
fn enrolling_again_ends_a_renewal_that_was_under_way() {
    on_both(|server| {
        let mut thief = FakeDevice::enrol(server, "till-1");
        let next = Key::new();
        let renewed = renew(&mut thief, &next);
        let token = server.enrolment_token(&json!({ "device": "till-1" }));
        let own = callboard_tests::device::enrolment(&token, &Key::new());
        let mut device = FakeDevice::enrol_with(server, &own);
        refused_everywhere(&mut with(server, &thief, &next, &renewed), Code::DeviceRevoked, "was replaced by another");
        device.check_in();
    });
}

#[test]
fn a_renewal_takes_a_new_key_of_the_right_kind_and_says_so() {
    on_both(|server| {
        let (mut device, mut other) = (FakeDevice::enrol(server, "till-1"), FakeDevice::enrol(server, "till-2"));
        let next = Key::new();
        renew(&mut other, &next);
        for taken in [&other.key.clone(), &next] {
            let answer = try_renew(&mut device, taken);
            refused(&answer, Code::IdentityConflict, "csr_pem is for a key of another device");
        }
        let ed25519 = Key::of(&rcgen::PKCS_ED25519);
        refused(&try_renew(&mut device, &ed25519), Code::BadRequest, "ECDSA P-256 is wanted");
        let mut forged = Key::new().csr_pem();
        let at = forged.len() / 2;
        let changed = if &forged[at..=at] == "A" { "B" } else { "A" };
        forged.replace_range(at..=at, changed);
        for (body, said) in [
            (json!({ "csr_pem": forged }), "csr_pem is not acceptable"),
            (json!({ "csr_pem": "" }), "csr_pem is not acceptable: the certificate request is not PEM"),
            (json!({}), "csr_pem"),
            (json!([]), "the body"),
            (json!({ "csr_pem": "", "crit": ["days"] }), "days"),
        ] {
            refused(&device.wire.send(&Request::post(paths::RENEW).json(&body)), Code::BadRequest, said);
        }
        device.check_in();
    });
}

#[test]
fn a_device_that_was_off_before_it_first_used_its_new_key_gets_in() {
    on_both(|server| {
        // The answer was lost, and when the device asks again with the same key what it would get has ended.
        let mut device = FakeDevice::enrol(server, "till-1");
        let next = Key::new();
        let lost = renew(&mut device, &next);
        server.advance(LASTS + DAY);
        device.wire.disconnect();
        let again = renew(&mut device, &next);
        assert!(again.expires_at > server.clock.now() && again.certificate_pem != lost.certificate_pem);
        // It has it, and is off again before it uses it: the key that is shown then is its own from then on.
        server.advance(LASTS + DAY);
        let mut late = with(server, &device, &next, &again);
        refused_everywhere(&mut late, Code::CertificateExpired, "renews it");
        let renewed = renew(&mut late, &next);
        with(server, &late, &next, &renewed).check_in();
    });
}

#[test]
fn a_till_that_was_off_for_a_year_after_its_renewal_gets_in() {
    on_both(|server| {
        let till = server.till("till-1");
        till.once().ok();
        server.advance(LASTS - DAY);
        till.once().ok();
        assert!(till.state_dir().join("renewal.json").exists());
        server.advance(LASTS * 2);
        till.once().ok();
        assert_eq!(till.status()["certificate_expires_at"], (server.clock.now() + LASTS).to_string());
    });
}

#[test]
fn renewals_count_as_check_ins_do_and_are_no_way_around_that() {
    on_both_with(&["device_requests_per_minute = 6"], |server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let answers: Vec<u16> = (0..20).map(|_| try_renew(&mut device, &Key::new()).status).collect();
        assert!(answers[..6].iter().all(|status| *status == 200), "{answers:?}");
        assert!(answers.iter().filter(|status| **status == 429).count() > 10, "{answers:?}");
        let check_in = serde_json::to_vec(&device.next_check_in()).unwrap();
        refused(&device.try_check_in(&check_in), Code::TooManyRequests, "more than 6 check-ins");
    });
}

#[test]
fn a_key_that_waits_for_its_use_enrols_no_other_device() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let next = Key::new();
        renew(&mut device, &next);
        let token = server.enrolment_token(&json!({}));
        let answer =
            callboard_tests::device::try_enrol(server, &callboard_tests::device::enrolment(&token, &next).body);
        refused(&answer, Code::IdentityConflict, "this key is a device's next one already");
        assert_eq!(server.api().list::<Token>("tokens")[0].uses, 0);
    });
}

#[test]
fn a_key_that_came_into_use_at_one_server_is_known_at_the_other() {
    let Some(one) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        return eprintln!("skipped: needs postgres");
    };
    let two = one.second();
    let mut old = FakeDevice::enrol(&one, "till-1");
    let mut old_at_two = old.twin(&two);
    old_at_two.check_in();
    let next = Key::new();
    let renewed = renew(&mut old, &next);
    with(&one, &old, &next, &renewed).check_in();
    with(&two, &old, &next, &renewed).check_in();
    let late = serde_json::to_vec(&old_at_two.next_check_in()).unwrap();
    refused(&old_at_two.try_check_in(&late), Code::DeviceRevoked, "was replaced by another one");
}

#[test]
fn a_till_renews_its_certificate_when_two_thirds_of_its_life_are_over() {
    on_both(|server| {
        let till = server.till("till-1");
        till.once().ok();
        let files = || ["device.key", "device.json"].map(|name| fs::read(till.state_dir().join(name)).unwrap());
        let before = files();
        server.advance(DUE - DAY);
        till.once().ok();
        assert!(files() == before, "it is not due yet");
        server.advance(DAY * 2);
        // The agent knows the time from the server's answers.
        till.once().ok();
        till.once().ok();
        assert!(files() != before);
        let until = server.clock.now() + LASTS;
        assert_eq!(till.status()["certificate_expires_at"], until.to_string());
        for left in ["device.key.next", "renewal.json"] {
            assert!(!till.state_dir().join(left).exists(), "{left}");
        }
        till.once().ok();
    });
}

#[test]
fn a_till_that_comes_out_of_a_warehouse_after_years_goes_on_by_itself() {
    on_both(|server| {
        let till = server.till("till-1");
        till.once().ok();
        server.advance(DAY * 1000);
        till.once().ok();
        assert_eq!(till.status()["certificate_expires_at"], (server.clock.now() + LASTS).to_string());
    });
}

#[test]
fn a_till_whose_first_use_of_the_new_key_got_lost_still_gets_in() {
    on_both(|server| {
        let proxy = Proxy::to(server.device_address());
        let till = server.till_via(proxy.address(), "till-1", QUICK);
        till.once().ok();
        server.advance(LASTS + DAY);
        till.once().ok();
        server.advance(LASTS + DAY);
        // The certificate was renewed, and then the line went down.
        proxy.set(Fault::Refuse);
        till.once().refused(1);
        proxy.set(Fault::None);
        till.once().ok();
        // The same with a renewal that has not been used: the identity on the disk is still the one before.
        let own: serde_json::Value =
            serde_json::from_slice(&fs::read(till.state_dir().join("device.json")).unwrap()).unwrap();
        let key = Key::from_pem(&fs::read_to_string(till.state_dir().join("device.key")).unwrap());
        let next = Key::new();
        let mut wire = with_certificate(server, &key, own["certificate_pem"].as_str().unwrap());
        let renewed: Renewed =
            wire.send(&Request::post(paths::RENEW).json(&json!({ "csr_pem": next.csr_pem() }))).json();
        fs::write(till.state_dir().join("device.key.next"), next.pem()).unwrap();
        fs::write(till.state_dir().join("renewal.json"), serde_json::to_vec(&renewed).unwrap()).unwrap();
        // The server has seen the new key, and its answer got lost.
        let device = server.registered(&till);
        let mut seen = with_certificate(server, &next, &renewed.certificate_pem);
        refused(&seen.send(&Request::post(paths::CHECK_IN).json(&json!({}))), Code::BadRequest, "");
        till.once().ok();
        assert_eq!(server.registered(&till).id, device.id);
        assert!(!till.state_dir().join("renewal.json").exists());
    });
}

#[test]
fn a_certificate_that_no_server_takes_does_not_shut_a_till_out() {
    on_both(|server| {
        let till = server.till("till-1");
        till.once().ok();
        let other = TestServer::start(server.binaries(), Engine::Sqlite, &[]).unwrap();
        let mut stranger = FakeDevice::enrol(&other, "till-1");
        let next = Key::new();
        let foreign = renew(&mut stranger, &next);
        fs::write(till.state_dir().join("device.key.next"), next.pem()).unwrap();
        fs::write(till.state_dir().join("renewal.json"), serde_json::to_vec(&foreign).unwrap()).unwrap();
        let last_seen = server.registered(&till).last_seen;
        server.advance(DAY);
        // One check-in is lost to the useless certificate, the next one shows the old one again.
        till.once().refused(1);
        let mut till = till;
        till.switch_on();
        wait::until("it is heard of again", || server.registered(&till).last_seen > last_seen);
        wait::until("the useless certificate is gone", || !till.state_dir().join("renewal.json").exists());
        till.switch_off();
    });
}
