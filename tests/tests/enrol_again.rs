//! A till that is enrolled gets another key and certificate, whatever gets lost on the way, and keeps what it runs.

use std::fs;

use callboard_proto::{
    admin::{Event, Token},
    enrol::Bundle,
    problem::Code,
    state::AssignmentState,
};
use callboard_tests::{
    device::{FakeDevice, Key, enrolment, try_enrol},
    proxy::{Fault, Proxy},
    release::NewRelease,
    server::{Engine, Output, TestServer},
    till::{QUICK, Till},
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, on_both, refused};

/// `enrol` with a bundle, and more.
fn enrol(till: &Till, bundle: &Bundle, more: &[&str]) -> Output {
    fs::write(till.bundle(), serde_json::to_vec(bundle).unwrap()).unwrap();
    till.command(&[&["enrol", "--bundle", till.bundle().to_str().unwrap()], more].concat())
}

/// A bundle whose token is bound to the till, over the till's own way to the server.
fn bound(server: &TestServer, till: &Till) -> Bundle {
    let own = till.status()["server_url"].as_str().unwrap().to_owned();
    Bundle { server_url: own, ..server.bundle(&json!({ "device": till.name })) }
}

fn uses(server: &TestServer) -> Vec<u32> {
    let mut tokens = server.api().list::<Token>("tokens");
    tokens.reverse();
    tokens.iter().map(|token| token.uses).collect()
}

fn install(server: &TestServer, till: &Till, version: &str, counter: u64) {
    let name = format!("to-{version}");
    NewRelease::new("pos-app", version, counter).with(|release| release.min_floor = counter).publish(server);
    server.roll_out(&rollout(&name, &format!("pos-app@{version}"), &json!({})));
    till.once().ok();
    assert_eq!(server.outcome(&name, till).state, AssignmentState::Succeeded);
}

#[test]
fn a_till_that_enrols_again_has_another_key_and_keeps_what_is_installed() {
    on_both(|server| {
        let till = server.till("till-1");
        install(server, &till, "1.1.0", 1);
        let before = (till.status(), fs::read(till.state_dir().join("device.key")).unwrap());
        let bundle = bound(server, &till);
        let told = enrol(&till, &bundle, &[]);
        assert!(told.ok().stdout.contains("for another key and certificate add --again"), "{}", told.stdout);
        let told = enrol(&till, &bundle, &["--again"]);
        assert!(told.ok().stdout.starts_with("enrolled again at "), "{}", told.stdout);
        let after = till.status();
        assert_ne!(fs::read(till.state_dir().join("device.key")).unwrap(), before.1);
        for same in ["device_id", "name", "installed", "server_url"] {
            assert_eq!(after[same], before.0[same], "{same}");
        }
        assert_eq!(uses(server), [1, 1]);
        assert!(!till.state_dir().join("device.key.next").exists());
        till.once().ok();
        install(server, &till, "1.2.0", 2);
        let events: Vec<Event> = server.api().list("devices/till-1/history");
        assert!(events.iter().any(|event| event.text.contains("the key before is refused from now on")));
    });
}

#[test]
fn a_lost_answer_is_had_again_with_the_same_bundle_and_with_another() {
    on_both(|server| {
        let proxy = Proxy::to(server.device_address());
        let till = server.till_via(proxy.address(), "till-1", QUICK);
        // The till has made its key, and what it sent has reached the server; nothing comes back.
        let lose_the_answer = |bundle: &Bundle| {
            proxy.set(Fault::Refuse);
            assert!(enrol(&till, bundle, &["--again"]).refused(1).contains("failed to"));
            proxy.set(Fault::None);
            let key = Key::from_pem(&fs::read_to_string(till.state_dir().join("device.key.next")).unwrap());
            try_enrol(server, &enrolment(&bundle.token, &key).body).ok();
        };
        let first = bound(server, &till);
        lose_the_answer(&first);
        assert_eq!(uses(server), [1, 1], "the server has enrolled it");
        let refused = till.once();
        assert!(refused.refused(1).contains("could not be asked"), "{}", refused.stderr);
        assert!(refused.stderr.contains("device_revoked"), "{}", refused.stderr);
        lose_the_answer(&first);
        enrol(&till, &first, &["--again"]).ok();
        till.once().ok();
        // The bundle may be lost as well.
        lose_the_answer(&bound(server, &till));
        enrol(&till, &bound(server, &till), &["--again"]).ok();
        till.once().ok();
        assert_eq!(uses(server), [1, 1, 1, 1]);
    });
}

#[test]
fn a_power_cut_between_certificate_and_key_is_made_up_for() {
    on_both(|server| {
        let till = server.till("till-1");
        let key = |name: &str| till.state_dir().join(name);
        let old = fs::read(key("device.key")).unwrap();
        enrol(&till, &bound(server, &till), &["--again"]).ok();
        // The identity was written, the key not yet renamed.
        fs::rename(key("device.key"), key("device.key.next")).unwrap();
        fs::write(key("device.key"), &old).unwrap();
        till.once().ok();
        assert!(!key("device.key.next").exists());
        // The same, and it enrols once more at once: not with the key that it has.
        let present = fs::read(key("device.key")).unwrap();
        fs::rename(key("device.key"), key("device.key.next")).unwrap();
        enrol(&till, &bound(server, &till), &["--again"]).ok();
        assert_ne!(fs::read(key("device.key")).unwrap(), present);
        till.once().ok();
    });
}

#[test]
fn a_till_that_has_lost_its_identity_or_its_key_enrols_again() {
    on_both(|server| {
        let till = server.till("till-1");
        for lost in ["device.json", "device.key"] {
            let bundle = bound(server, &till);
            fs::remove_file(till.state_dir().join(lost)).unwrap();
            enrol(&till, &bundle, &["--again"]).ok();
            till.once().ok();
        }
        // Without --again the key that is there is used, and the token says whose it is.
        let bundle = bound(server, &till);
        fs::remove_file(till.state_dir().join("device.json")).unwrap();
        enrol(&till, &bundle, &[]).ok();
        till.once().ok();
        assert_eq!(uses(server), [1, 1, 1, 1]);
    });
}

#[test]
fn a_running_agent_is_not_enrolled_behind_its_back() {
    on_both(|server| {
        let mut till = server.till("till-1");
        till.switch_on();
        callboard_tests::wait::until("the agent runs", || server.registered(&till).last_seen.is_some());
        let refused = enrol(&till, &bound(server, &till), &["--again"]);
        assert!(refused.refused(1).contains("another callboard-agent is running on it; stop that one first"));
        assert_eq!(uses(server), [1, 0]);
        till.switch_off();
    });
}

#[test]
fn a_bundle_of_another_server_keeps_its_token() {
    on_both(|server| {
        let other = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        let foreign = other.bundle(&json!({})).root;
        let good = server.bundle(&json!({}));
        let till = Till::new(BINARIES.agent, "till-1", QUICK);
        let said = "is another one, so the bundle is another server's; the token is not used";
        let refused = enrol(&till, &Bundle { root: foreign, ..good.clone() }, &[]);
        assert!(refused.refused(2).contains(said), "{}", refused.stderr);
        let mut damaged = good.clone();
        damaged.root["signatures"] = json!([]);
        assert!(enrol(&till, &damaged, &[]).refused(2).contains("root: "));
        let ca = Bundle { server_ca_pem: "-----BEGIN CERTIFICATE-----".to_owned(), ..good.clone() };
        assert!(enrol(&till, &ca, &[]).refused(2).contains("the server's CA certificate"));
        assert_eq!(uses(server), [0]);
        enrol(&till, &good, &[]).ok();
        till.once().ok();
    });
}

#[test]
fn a_bound_token_renews_the_certificate_of_the_same_key_and_of_no_other_device() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        FakeDevice::enrol(server, "till-2");
        let own = server.enrolment_token(&json!({ "device": "till-1" }));
        let renewed = FakeDevice::enrol_with(server, &enrolment(&own, &device.key));
        assert_eq!(renewed.id, device.id);
        device.check_in();
        let foreign = server.enrolment_token(&json!({ "device": "till-2" }));
        let answer = try_enrol(server, &enrolment(&foreign, &device.key).body);
        refused(&answer, Code::IdentityConflict, "this key belongs to device till-1 already");
        let replaced = server.enrolment_token(&json!({ "device": "till-1" }));
        let mut again = FakeDevice::enrol_with(server, &enrolment(&replaced, &Key::new()));
        again.check_in();
        let late = serde_json::to_vec(&device.next_check_in()).unwrap();
        refused(&device.try_check_in(&late), Code::DeviceRevoked, "was replaced by another one");
    });
}
