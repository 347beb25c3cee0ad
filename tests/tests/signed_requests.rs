//! A shop whose firewall opens TLS: its tills sign their requests, and nobody on the way can use what it reads.

use std::{fs, time::Duration};

use callboard_proto::{enrol::Bundle, problem::Code, state::AssignmentState};
use callboard_tests::{
    inspector::Inspector,
    release::NewRelease,
    server::{Engine, TestServer},
    till::{QUICK, Till},
    world::rollout,
};
use serde_json::{Value, json};

use crate::BINARIES;

/// A till behind a firewall, by whose CA it believes servers; enrolled through it.
fn till(server: &TestServer, firewall: &Inspector, name: &str, identity: &str) -> Till {
    let till = Till::new(server.binaries().agent, name, QUICK);
    let ca = till.home().join("firewall.pem");
    fs::write(&ca, &firewall.ca_pem).unwrap();
    let text = fs::read_to_string(till.config()).unwrap();
    let network = format!("[network]\nidentity = '{identity}'\nextra_ca_file = '{}'\n", ca.display());
    fs::write(till.config(), text.replace("[network]\n", &network)).unwrap();
    let bundle = Bundle { server_url: format!("https://{}", firewall.address), ..server.bundle(&json!({})) };
    fs::write(till.bundle(), serde_json::to_vec(&bundle).unwrap()).unwrap();
    till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", name]).ok();
    till
}

fn on_both(test: impl Fn(&mut TestServer)) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        match TestServer::start(BINARIES, engine, &["signed_requests = true"]) {
            Some(mut server) => test(&mut server),
            None => eprintln!("skipped: needs postgres"),
        }
    }
}

/// The problem's code in an answer.
#[track_caller]
fn refused(answer: &str, code: Code, said: &str) {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    assert_eq!(problem["code"], code.as_str(), "{answer}");
    assert!(problem["detail"].as_str().unwrap().contains(said), "{answer}");
}

/// A request with something else in the place of some of its text; as long as before.
fn changed(request: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = request.windows(from.len()).position(|some| some == from.as_bytes()).expect(from);
    let mut changed = request.to_vec();
    changed[at..at + to.len()].copy_from_slice(to.as_bytes());
    changed
}

#[test]
fn a_till_behind_a_firewall_that_opens_tls_is_updated_and_renews() {
    on_both(|server| {
        let firewall = Inspector::before(server);
        let till = till(server, &firewall, "till-1", "signature");
        till.once().ok();
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        server.roll_out(&rollout("go", "pos-app@1.1.0", &json!({})));
        till.once().ok();
        assert_eq!(server.outcome("go", &till).state, AssignmentState::Succeeded);
        assert_eq!(till.version(), "1.1.0");
        let before = fs::read(till.state_dir().join("device.key")).unwrap();
        server.advance(Duration::from_secs(121 * 86_400));
        for _ in 0..2 {
            till.once().ok();
        }
        assert_ne!(fs::read(till.state_dir().join("device.key")).unwrap(), before);
        assert!(till.command(&["doctor"]).stdout.contains("ok      certificate  the server knows this device"));
        server.api().post::<Value>("devices/till-1/decommission", &json!({ "reason": "scrapped" }));
        assert!(till.once().refused(1).contains("was decommissioned"));
    });
}

#[test]
fn what_was_read_on_the_way_is_of_no_use() {
    on_both(|server| {
        let firewall = Inspector::before(server);
        let (till, other) =
            (till(server, &firewall, "till-1", "signature"), till(server, &firewall, "till-2", "signature"));
        till.once().ok();
        let stolen = firewall.last("POST /v1/checkin");
        let invalid = Code::SignatureInvalid;
        refused(&firewall.send(&stolen), Code::NonceReused, "a request with this nonce was received");
        refused(&firewall.send(&changed(&stolen, "\"uptime_s\":", "\"uptime_x\":")), invalid, "content-digest is not");
        refused(
            &firewall.send(&changed(&stolen, "POST /v1/checkin", "POST /v1/reports")),
            invalid,
            "not one of this request",
        );
        let asked = String::from_utf8(stolen.clone()).unwrap().replacen("/v1/checkin", "/v1/checkin?a=b", 1);
        refused(&firewall.send(asked.as_bytes()), invalid, "a query, which no signature covers");
        refused(&firewall.send(&changed(&stolen, ";created=1", ";created=2")), invalid, "not one of this request");
        refused(&firewall.send(&changed(&stolen, "client-cert: :MII", "client-cert: :MIJ")), invalid, "client-cert");
        refused(&firewall.send(&changed(&stolen, "nonce=\"", "nonce='")), invalid, "signature-input is not");
        // Another till's certificate beside this one's signature.
        other.once().ok();
        let text = |request: &[u8]| String::from_utf8(request.to_vec()).unwrap();
        let field =
            |request: &str, name: &str| request.lines().find(|line| line.starts_with(name)).expect(name).to_owned();
        let (mine, theirs) = (text(&stolen), text(&firewall.last("POST /v1/checkin")));
        let swapped = mine.replace(&field(&mine, "client-cert: "), &field(&theirs, "client-cert: "));
        refused(&firewall.send(swapped.as_bytes()), invalid, "keyid is not that of the certificate's key");
        // Much later the nonce is forgotten, and the time of it with it.
        server.advance(Duration::from_secs(301));
        refused(&firewall.send(&stolen), Code::SignatureExpired, "up to 300 s apart are allowed");
        // A till whose clock is that of its last answer signs by the server's.
        till.once().ok();
    });
}

#[test]
fn the_doctor_knows_when_requests_have_to_be_signed() {
    let server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let firewall = Inspector::before(&server);
    let till = till(&server, &firewall, "till-1", "certificate");
    assert!(till.once().refused(1).contains("unknown_device"));
    let found = till.command(&["doctor", "--output", "json"]).stdout;
    assert!(found.contains("set network.identity = \\\"signature\\\""), "{found}");
    till.set("identity", "'signature'");
    assert!(till.once().refused(1).contains("this server takes no signed requests; signed_requests = true"));
    let found = till.command(&["doctor", "--output", "json"]).stdout;
    assert!(found.contains("signed_requests = true in server.toml"), "{found}");
    // Without its CA the firewall is seen for what it is.
    till.set("extra_ca_file", &format!("'{}'", server.dir().join("server-ca.pem").display()));
    let found = till.command(&["doctor", "--output", "json"]).stdout;
    assert!(found.contains("a firewall opens the traffic on the way"), "{found}");
}
