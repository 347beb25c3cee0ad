//! What a device with a valid certificate may not do: keep others from their transfers, fill the log, go on when it is
//! not welcome any more.

use std::{
    io::{Read, Write as _},
    time::{Duration, Instant},
};

use callboard_proto::{
    admin::{Device, Event as Logged},
    digest::Digest,
    paths,
    problem::Code,
    report::{Event, Failure, FailureClass, Receipt, Report},
    text::is_command,
};
use callboard_tests::{
    device::{FakeDevice, Key, enrolment},
    http::{self, Request, Stream},
    release::{NewRelease, bytes},
    server::TestServer,
    wait,
    world::rollout,
};
use rustls::HandshakeKind;
use serde_json::json;

use crate::{on_both, on_both_with, refused};

/// Far more than the buffers between a server and a client hold.
const LEN: usize = 48 << 20;
/// Transfers of one device at the same time.
const PER_DEVICE: usize = 4;
/// How long a device's certificate lasts.
const LASTS: Duration = Duration::from_secs(180 * 86_400);

/// Begins a transfer of which nothing but the head is read.
fn begin(device: &FakeDevice, digest: Digest) -> impl Stream + use<> {
    let mut stream = device.wire.open().unwrap();
    let request = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", paths::payload(digest));
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(http::read_head(&mut stream).unwrap().0, 200);
    stream
}

/// Asks for the first bytes of a payload.
fn first_bytes(device: &mut FakeDevice, digest: Digest) -> http::Response {
    device.wire.send(&Request::get(paths::payload(digest)).header("range", "bytes=0-9"))
}

/// Reads until the connection ends; gives how many bytes came.
fn drain(stream: &mut impl Read) -> usize {
    let (mut got, mut buffer) = (0, vec![0; 1 << 16]);
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        got += n;
    }
    got
}

/// A payload that is there, and its digest.
fn payload(server: &TestServer) -> (Vec<u8>, Digest) {
    let payload = bytes("payload", LEN);
    server.api().upload(&payload).ok();
    let digest = Digest::of(&payload);
    (payload, digest)
}

#[test]
fn a_check_in_that_takes_long_to_arrive_is_answered_by_what_its_device_is_then() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        till.check_in();
        let check_in = till.next_check_in();
        let body = serde_json::to_vec(&check_in).unwrap();
        let (first, rest) = body.split_at(10);
        let mut stream = till.wire.open().unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            paths::CHECK_IN,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), first].concat()).unwrap();
        server.api().try_put("devices/till-1/hold", &json!({ "reason": "a test" })).ok();
        stream.write_all(rest).unwrap();
        let answer = http::read(&mut stream, false).unwrap();
        assert_eq!(till.verify(&check_in, &body, &answer.body).reason.code, "held");
    });
}

#[test]
fn one_device_that_does_not_read_leaves_places_for_the_others() {
    on_both_with(&["max_transfers = 6"], |server| {
        let (_, digest) = payload(server);
        let mut greedy = FakeDevice::enrol(server, "greedy");
        let mut held: Vec<_> = (0..PER_DEVICE).map(|_| begin(&greedy, digest)).collect();
        let refusal = first_bytes(&mut greedy, digest);
        refused(&refusal, Code::TooManyRequests, "4 transfers of this device are under way; resume when one has ended");
        assert_eq!(refusal.header("retry-after"), Some("15"));
        let mut honest = FakeDevice::enrol(server, "honest");
        assert_eq!(first_bytes(&mut honest, digest).status, 206);
        held.pop();
        wait::until("a place of the device is free again", || first_bytes(&mut greedy, digest).status == 206);
    });
}

#[test]
fn a_transfer_of_which_nothing_is_taken_loses_its_place() {
    on_both_with(&["max_transfers = 1", "stall_timeout_s = 1"], |server| {
        let (_, digest) = payload(server);
        let (silent, mut honest) = (FakeDevice::enrol(server, "silent"), FakeDevice::enrol(server, "honest"));
        let mut stream = begin(&silent, digest);
        refused(&first_bytes(&mut honest, digest), Code::Unavailable, "all 1 places for transfers are taken");
        wait::until("the place is free again", || first_bytes(&mut honest, digest).status == 206);
        assert!(drain(&mut stream) < LEN);
    });
}

#[test]
fn a_transfer_that_is_taken_slowly_but_steadily_goes_on() {
    const STALL: Duration = Duration::from_secs(1);
    on_both_with(&["stall_timeout_s = 1"], |server| {
        let (payload, digest) = payload(server);
        let device = FakeDevice::enrol(server, "till-1");
        let mut stream = begin(&device, digest);
        let (began, mut got) = (Instant::now(), Vec::new());
        // The server is held up by the device all the time, and none of it is longer than the limit.
        wait::until("several limits have passed", || {
            let mut some = [0; 8192];
            stream.read_exact(&mut some).unwrap();
            got.extend_from_slice(&some);
            began.elapsed() > 4 * STALL
        });
        stream.read_to_end(&mut got).ok();
        assert!(got == payload, "{} of {LEN} bytes", got.len());
    });
}

/// Begins a transfer, does something to the device, and expects that the transfer ends.
fn ends_the_transfer(server: &TestServer, deed: impl Fn()) {
    let (_, digest) = payload(server);
    let device = FakeDevice::enrol(server, "till-1");
    let mut stream = begin(&device, digest);
    deed();
    let got = drain(&mut stream);
    assert!(got < LEN, "all of it came");
}

#[test]
fn a_transfer_ends_when_its_device_is_decommissioned() {
    on_both(|server| {
        ends_the_transfer(server, || {
            server.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "stolen" }));
        });
    });
}

#[test]
fn a_transfer_ends_when_its_devices_certificate_is_replaced() {
    on_both(|server| {
        ends_the_transfer(server, || {
            let token = server.enrolment_token(&json!({ "device": "till-1" }));
            FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()));
        });
    });
}

#[test]
fn a_transfer_ends_when_its_devices_certificate_does() {
    on_both(|server| ends_the_transfer(server, || server.advance(LASTS + Duration::from_secs(1))));
}

#[test]
fn a_transfer_outlives_changes_of_its_device_that_are_no_offence() {
    on_both(|server| {
        let (payload, digest) = payload(server);
        let device = FakeDevice::enrol(server, "till-1");
        let mut stream = begin(&device, digest);
        let labels = json!({ "selector": "all", "set": { "lane": "4" } });
        server.api().post::<serde_json::Value>("devices/labels", &labels);
        let mut got = Vec::new();
        stream.read_to_end(&mut got).ok();
        assert!(got == payload, "{} of {LEN} bytes", got.len());
    });
}

#[test]
fn an_expired_certificate_lives_on_neither_in_a_session_nor_on_an_open_connection() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        // A session of the last moment, since no session lasts as long as a certificate.
        server.advance(LASTS);
        device.check_in();
        server.advance(Duration::from_secs(1));
        let said = "the certificate of device till-1 ended at 2027-07-11T12:00:00Z; POST /v1/renew renews it";
        let requests = [
            Request::post(paths::CHECK_IN).json(&device.next_check_in()),
            Request::post(paths::REPORTS).json(&json!({ "reports": [] })),
            Request::get(paths::payload(Digest::of(b"x"))),
        ];
        assert!(device.wire.is_open(), "the connection is the one of before");
        for request in &requests {
            refused(&device.wire.send(request), Code::CertificateExpired, said);
        }
        device.wire.disconnect();
        refused(&device.wire.send(&requests[0]), Code::CertificateExpired, said);
        assert_eq!(device.wire.handshake, Some(HandshakeKind::Resumed));
    });
}

#[test]
fn reports_that_change_nothing_or_are_refused_do_not_fill_the_event_log() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let offer = device.check_in();
        device.report(&offer, Event::Staged);
        let before: Vec<Logged> = server.api().list("events");
        let metric = |outcome: &str| server.api().metric("callboard_reports_total", outcome);
        for _ in 0..3 {
            let idle: Vec<Report> = (0..32).map(|_| device.next_report(&offer, Event::Staged)).collect();
            device.send_reports(&idle);
            device.send_reports(&idle);
            let foreign = idle.iter().map(|one| Report { release_sha256: Digest::of(b"x"), ..one.clone() });
            let receipt: Receipt = device.try_reports(&foreign.collect::<Vec<_>>()).json();
            assert_eq!(receipt.refused.len(), 32);
        }
        assert_eq!(server.api().list::<Logged>("events"), before);
        for (outcome, wanted) in [("changed\"", 1.0), ("unchanged\"", 192.0), ("refused\"", 96.0)] {
            let counted = metric(&format!("outcome=\"{outcome}"));
            assert!((counted - wanted).abs() < 0.5, "{outcome}: {counted}");
        }
        let lines = server.log().matches("a report was refused").count();
        assert!((1..30).contains(&lines), "{lines} lines");
    });
}

#[test]
fn a_device_that_asks_without_end_is_told_when_to_come_back_and_the_others_are_not() {
    on_both_with(&["device_requests_per_minute = 6"], |server| {
        let (mut noisy, mut quiet) = (FakeDevice::enrol(server, "noisy"), FakeDevice::enrol(server, "quiet"));
        let mut ask = |n: u32| {
            let check_in = serde_json::to_vec(&noisy.next_check_in()).unwrap();
            if n.is_multiple_of(2) { noisy.try_check_in(&check_in) } else { noisy.try_reports(&[]) }
        };
        let answers: Vec<http::Response> = (0..100).map(&mut ask).collect();
        assert!(answers[..6].iter().all(|answer| answer.status == 200), "a few at once are welcome");
        let refusals: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
        assert!(refusals.len() > 50, "{}", refusals.len());
        for refusal in refusals {
            refused(refusal, Code::TooManyRequests, "more than 6 check-ins and reports a minute from one device");
            let wait_s: u64 = refusal.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=11).contains(&wait_s), "{wait_s}");
        }
        quiet.check_in();
        // Nothing of what others do to the device gives it more.
        server.api().post::<serde_json::Value>("devices/labels", &json!({ "selector": "all", "set": { "a": "b" } }));
        wait::until("it is heard again", || ask(0).status == 200);
    });
}

/// A connection on which bytes can be dripped.
fn drips_until_cut_off(stream: &mut dyn Stream, drip: &[u8]) {
    wait::until("the connection is cut off", || stream.write_all(drip).and_then(|()| stream.flush()).is_err());
}

#[test]
fn a_body_that_drips_onto_an_unknown_path_does_not_hold_its_connection() {
    on_both_with(&["request_timeout_s = 1"], |server| {
        let device = FakeDevice::enrol(server, "till-1");
        for path in ["/v1/nothing", paths::ROOT, paths::CHECK_IN] {
            let mut stream = device.wire.open().unwrap();
            let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            assert!([200, 404, 405].contains(&http::read(&mut stream, false).unwrap().status));
            drips_until_cut_off(&mut stream, b"1\r\nx\r\n");
        }
    });
}

#[test]
fn a_request_that_stops_after_an_answered_one_does_not_hold_its_connection() {
    on_both_with(&["request_timeout_s = 1"], |server| {
        let device = FakeDevice::enrol(server, "till-1");
        for (rest, goes_on) in [("GET /v1/tr", false), ("GET /v1/trust/root HTTP/1.1\r\nx: ", true)] {
            let mut stream = device.wire.open().unwrap();
            stream.write_all(format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", paths::ROOT).as_bytes()).unwrap();
            assert_eq!(http::read(&mut stream, false).unwrap().status, 200);
            stream.write_all(rest.as_bytes()).unwrap();
            if goes_on {
                drips_until_cut_off(&mut stream, b"x");
            }
            assert_eq!(drain(&mut stream), 0);
        }
    });
}

#[test]
fn a_dripping_check_in_and_a_dripping_enrolment_end_in_words() {
    on_both_with(&["request_timeout_s = 1"], |server| {
        let device = FakeDevice::enrol(server, "till-1");
        for path in [paths::CHECK_IN, paths::REPORTS, paths::ENROL] {
            let mut stream = device.wire.open().unwrap();
            stream
                .write_all(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{").as_bytes())
                .unwrap();
            let answer = http::read(&mut stream, false).unwrap();
            refused(&answer, Code::Timeout, "the request did not arrive within 1 s");
        }
    });
}

#[test]
fn what_a_device_says_turns_no_terminal_and_no_page_around() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        // What turns text around is no control character, and somebody may have use for it.
        "a\u{202e}b\u{2066}c\u{200f}".clone_into(&mut device.facts.hw);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let offer = device.check_in();
        let text = "\u{1b}[2J\u{9b}31m\u{202e}out of paper\0".to_owned();
        let failure = Failure { class: FailureClass::Permanent, code: "\u{202e}code".to_owned(), text };
        let report = Report { failure: Some(failure), ..device.next_report(&offer, Event::Failed) };
        device.send_reports(&[report]);
        let labels = json!({ "selector": "all", "set": { "lane": "\u{202e}4" } });
        server.api().post::<serde_json::Value>("devices/labels", &labels);
        let mut shown = Vec::new();
        for command in [
            &["device", "show", "till-1"][..],
            &["device", "list"],
            &["device", "history", "till-1"],
            &["device", "explain", "till-1"],
            &["event", "list"],
            &["rollout", "status", "r"],
        ] {
            shown.push(server.cli(command).ok().stdout.clone());
            shown.push(server.cli(["--output", "json"].iter().chain(command)).ok().stdout.clone());
        }
        shown.push(server.api().send_raw(Request::get("/devices")).text());
        for page in ["/", "/devices/till-1", "/attention"] {
            shown.push(server.api().send_raw(Request::get(page)).text());
        }
        shown.push(server.log());
        for text in &shown {
            let command = text.chars().find(|c| is_command(*c) && *c != '\n');
            assert_eq!(command, None, "{text}");
        }
        assert!(shown[0].contains("a\\u{202e}b\\u{2066}c\\u{200f}"), "{}", shown[0]);
        let json: Device = serde_json::from_str(&shown[1]).unwrap();
        assert_eq!(json.hw, device.facts.hw);
        assert!(shown[1].contains("a\\u202eb\\u2066c\\u200f"), "{}", shown[1]);
        assert!(
            shown[4].contains("(\\u{202e}code: \u{fffd}[2J\u{fffd}31m\\u{202e}out of paper\u{fffd})"),
            "{}",
            shown[4]
        );
        assert!(shown[12].contains("lane=\\u{202e}4"), "{}", shown[12]);
    });
}
