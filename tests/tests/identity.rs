//! Who is at the other end: a certificate on every request, and no longer than it is welcome.

use callboard_proto::{admin::Device, paths, problem::Code};
use callboard_tests::{
    device::{FakeDevice, Key, Wire, anonymous, enrolment, speaking, with_certificate},
    http::Request,
    server::TestServer,
};
use rustls::{AlertDescription, HandshakeKind};
use serde_json::json;
use std::time::Duration;

use crate::{on_both, refused};

const OPENAPI: &str = include_str!("../../proto-docs/openapi.json");
/// How long a device's certificate lasts.
const DAYS: u64 = 180;
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];

/// Every path that `before` introduces in the route table.
fn routes(before: &str) -> Vec<String> {
    let table = include_str!("../../server/src/http.rs");
    let found = table.split(before).skip(1).map(|rest| rest.split('"').next().unwrap());
    let digest = "0".repeat(64);
    found.filter(|path| path.starts_with('/')).map(|path| path.replace("{sha256}", &digest)).collect()
}

#[test]
fn every_device_route_but_enrolment_and_trust_wants_a_certificate() {
    on_both(|server| {
        let paths: Vec<String> = routes("resource(\"").into_iter().filter(|path| path.starts_with("/v1/")).collect();
        assert_eq!(paths.len(), 9, "{paths:?}: is the new route in this test?");
        for path in paths {
            let free = path == paths::ENROL || path.starts_with("/v1/trust/");
            let mut asked_for = 0;
            for method in METHODS {
                let request = Request::new(method, path.replace("{version}", "1"));
                let answer = anonymous(server).send(&request.json(&json!({})));
                match answer.status {
                    401 => asked_for += 1,
                    405 => {}
                    _ => assert!(free, "{method} {path} answered {} to a stranger", answer.status),
                }
                if method != "HEAD" && answer.status == 401 {
                    refused(&answer, Code::UnknownDevice, "needs the client certificate that enrolment gave");
                }
            }
            assert_eq!(asked_for > 0, !free, "{path}");
        }
    });
}

#[test]
fn every_admin_route_wants_a_token() {
    on_both(|server| {
        let paths = routes("at(\"");
        assert!(paths.len() > 25, "{paths:?}");
        let api = server.api();
        // The description of the API holds nothing that the project's pages do not show.
        let description = api.send_raw(Request::get("/api/v1/openapi.json")).json::<serde_json::Value>();
        assert_eq!(description, serde_json::from_str::<serde_json::Value>(OPENAPI).unwrap());
        for path in paths.into_iter().filter(|path| path != "/openapi.json") {
            let path = path.replace(['{', '}'], "");
            for method in METHODS {
                for token in ["", "Bearer cba_x_y", &format!("Bearer {}x", api.token), &api.token] {
                    let request = Request::new(method, format!("/api/v1{path}")).json(&json!({}));
                    let answer = api.send_raw(request.header("authorization", token));
                    // Whoever logs in has no token yet; `{}` names nobody.
                    let login = (method, path.as_str()) == ("POST", "/session") && answer.status == 400;
                    assert!(login || matches!(answer.status, 401 | 405), "{method} {path} answered {}", answer.status);
                }
            }
        }
    });
}

#[test]
fn a_method_that_a_path_has_not_is_a_problem_on_both_listeners() {
    on_both(|server| {
        for path in ["/", "/healthz", "/readyz", "/metrics", "/api/v1/events"] {
            let answer = server.api().send(Request::new("DELETE", path));
            refused(&answer, Code::MethodNotAllowed, "but not with this method");
        }
        let answer = anonymous(server).send(&Request::new("DELETE", paths::ROOT));
        refused(&answer, Code::MethodNotAllowed, "but not with this method");
    });
}

#[test]
fn neither_listener_has_the_other_ones_routes() {
    on_both(|server| {
        for path in ["/", "/healthz", "/readyz", "/metrics", "/api/v1/devices", "/api/v1/openapi.json"] {
            refused(&anonymous(server).send(&Request::get(path)), Code::NotFound, "nothing under this path");
        }
        for path in ["/v1/enrol", "/v1/checkin", "/v1/reports", "/v1/trust/root"] {
            server.api().send(Request::get(path)).problem(Code::NotFound);
        }
    });
}

/// The server ends the handshake, and says why.
#[track_caller]
fn fails_the_handshake(wire: Wire, alert: AlertDescription) {
    let error = wire.shake_hands().unwrap_err();
    let reason = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    assert_eq!(reason, Some(&rustls::Error::AlertReceived(alert)), "{error}");
}

#[test]
fn devices_speak_tls_1_3_and_nothing_older() {
    on_both(|server| {
        fails_the_handshake(speaking(server, &rustls::version::TLS12), AlertDescription::ProtocolVersion);
        speaking(server, &rustls::version::TLS13).send(&Request::get(paths::ROOT)).ok();
    });
}

#[test]
fn a_certificate_of_another_authority_fails_the_handshake() {
    on_both(|server| {
        let other = TestServer::start(server.binaries(), callboard_tests::server::Engine::Sqlite, &[]).unwrap();
        let stranger = FakeDevice::enrol(&other, "till-1");
        let forged = with_certificate(server, &stranger.key, &stranger.certificate_pem);
        // Both authorities have the same name: it is the signature that is wrong.
        fails_the_handshake(forged, AlertDescription::DecryptError);
        // Without it the same client is heard.
        anonymous(server).send(&Request::get(paths::ROOT)).ok();
    });
}

#[test]
fn a_certificate_without_its_key_fails_the_handshake() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let thief = with_certificate(server, &Key::new(), &device.certificate_pem);
        fails_the_handshake(thief, AlertDescription::DecryptError);
        device.check_in();
    });
}

#[test]
fn an_expired_certificate_is_refused_and_those_of_others_are_not() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        device.check_in();
        let lasts = Duration::from_secs(DAYS * 86_400);
        server.advance(lasts);
        with_certificate(server, &device.key, &device.certificate_pem).send(&Request::get(paths::ROOT)).ok();
        server.advance(Duration::from_secs(1));
        device.wire.disconnect();
        let late = serde_json::to_vec(&device.next_check_in()).unwrap();
        refused(&device.try_check_in(&late), Code::CertificateExpired, "the certificate of device till-1 ended at");
        anonymous(server).send(&Request::get(paths::ROOT)).ok();
    });
}

/// Checks in over the open connection and over a new one with a resumed session; both must be refused.
fn refused_everywhere(device: &mut FakeDevice, said: &str) {
    let requests = [
        Request::post(paths::CHECK_IN).json(&device.next_check_in()),
        Request::post(paths::REPORTS).json(&json!({ "reports": [] })),
        Request::get(format!("/v1/payloads/{}", "0".repeat(64))),
    ];
    assert!(device.wire.is_open(), "the connection is the one of before");
    for request in &requests {
        refused(&device.wire.send(request), Code::DeviceRevoked, said);
    }
    device.wire.disconnect();
    refused(&device.wire.send(&requests[0]), Code::DeviceRevoked, said);
    assert_eq!(device.wire.handshake, Some(HandshakeKind::Resumed));
}

#[test]
fn sessions_are_resumed() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        device.check_in();
        assert_eq!(device.wire.handshake, Some(HandshakeKind::Full));
        for _ in 0..3 {
            device.wire.disconnect();
            device.check_in();
            assert_eq!(device.wire.handshake, Some(HandshakeKind::Resumed));
        }
    });
}

#[test]
fn a_decommissioned_device_is_refused_on_its_next_request() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        device.check_in();
        let shown: Device = server.api().post("devices/till-1/decommission", &json!({ "reason": "scrapped" }));
        assert!(shown.decommissioned);
        refused_everywhere(&mut device, "device till-1 was decommissioned");
    });
}

#[test]
fn a_replaced_certificate_is_refused_on_its_next_request() {
    on_both(|server| {
        let mut old = FakeDevice::enrol(server, "till-1");
        old.check_in();
        let token = server.enrolment_token(&json!({ "device": "till-1" }));
        let mut new = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()));
        assert_eq!(new.id, old.id);
        refused_everywhere(&mut old, "this certificate of device till-1 was replaced by another one");
        new.check_in();
    });
}

#[test]
fn what_was_refused_stays_refused_after_a_restart() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        server.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "scrapped" }));
        server.restart_after_kill();
        device.follow(server);
        let body = serde_json::to_vec(&device.next_check_in()).unwrap();
        device.try_check_in(&body).problem(Code::DeviceRevoked);
    });
}
