//! Check-ins: what is read, what is refused, and what an idle one costs.

use callboard_proto::{
    admin::{Device, DeviceStatus},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{device::FakeDevice, http::Response, release::NewRelease, server::Engine, wait, world::rollout};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{on_both, on_both_with, refused};

/// A check-in with some fields replaced.
fn altered(device: &mut FakeDevice, change: impl FnOnce(&mut Value)) -> Response {
    let mut body = serde_json::to_value(device.next_check_in()).unwrap();
    change(&mut body);
    device.try_check_in(&serde_json::to_vec(&body).unwrap())
}

#[test]
fn a_device_is_told_that_there_is_nothing_to_do_and_when_to_come_back() {
    on_both_with(&["poll_interval_s = 120"], |server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let told = device.check_in();
        assert_eq!(
            (told.action, told.reason.code.as_str(), told.next_checkin_s),
            (Action::None, "nothing_pending", 120)
        );
        assert_eq!((told.release_sha256, told.assignment_id, told.attempt), (None, None, None));
    });
}

#[test]
fn what_a_device_says_of_itself_is_in_the_registry() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "2.3.1").runs("os", "12");
        device.facts.hw = "ingenico-ict".to_owned();
        device.facts.tz = Some("America/Denver".to_owned());
        device.facts.attributes = [("printer".to_owned(), "none \"'%_\\".to_owned())].into();
        device.check_in();
        let shown: Device = server.api().get("devices/till-1");
        let mut installed = device.facts.installed.clone();
        installed.sort_by(|a, b| a.product.cmp(&b.product));
        assert_eq!((shown.installed, shown.hw.as_str()), (installed, "ingenico-ict"));
        assert_eq!((shown.tz.as_deref(), shown.attributes), (Some("America/Denver"), device.facts.attributes.clone()));
        assert_eq!((shown.status, shown.last_seen), (DeviceStatus::Online, Some(server.clock.now())));
    });
}

#[test]
fn presence_follows_from_the_last_check_in() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let status = || server.api().get::<Device>("devices/till-1").status;
        assert_eq!(status(), DeviceStatus::Unknown);
        device.check_in();
        assert_eq!(status(), DeviceStatus::Online);
        server.advance(Duration::from_secs(600));
        assert_eq!(status(), DeviceStatus::Online);
        server.advance(Duration::from_secs(1));
        assert_eq!(status(), DeviceStatus::Offline);
        server.advance(Duration::from_secs(30 * 86_400));
        assert_eq!(status(), DeviceStatus::Abandoned);
        device.check_in();
        assert_eq!(status(), DeviceStatus::Online);
    });
}

#[test]
fn unknown_fields_are_ignored_unless_they_are_critical() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        altered(&mut device, |body| body["colour"] = json!({ "deep": [1, 2] })).ok();
        altered(&mut device, |body| body["facts"]["colour"] = json!("red")).ok();
        altered(&mut device, |body| body["crit"] = json!(["facts", "nonce"])).ok();
        let unknown = altered(&mut device, |body| {
            body["colour"] = json!("red");
            body["crit"] = json!(["facts", "colour"]);
        });
        refused(&unknown, Code::BadRequest, "field \"colour\" is critical and not supported by this version");
        device.check_in();
    });
}

#[test]
fn a_check_in_of_wrong_types_is_refused_and_changes_nothing() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        device.check_in();
        let before: Device = server.api().get("devices/till-1");
        server.advance(Duration::from_secs(5));
        for (pointer, value, said) in [
            ("nonce", json!("abc"), "64 lower-case hexadecimal digits"),
            ("nonce", json!(null), "invalid type: null"),
            ("checkin_seq", json!(-1), "invalid value"),
            ("checkin_seq", json!("1"), "invalid type: string"),
            ("state", json!("asleep"), "unknown variant `asleep`"),
            ("facts", json!([]), "invalid length 0"),
            ("boot_id", json!("x".repeat(129)), "boot_id has 129 bytes; at most 128 are allowed"),
            ("boot_id", json!("a\u{0}"), "boot_id has the control character U+0000; none is allowed"),
            ("progress", json!({ "assignment_id": "x" }), "not a assignment id"),
        ] {
            let answer = altered(&mut device, |body| body[pointer] = value);
            refused(&answer, Code::BadRequest, said);
        }
        let twice = json!([{ "product": "a", "version": "1" }, { "product": "a", "version": "2" }]);
        let answer = altered(&mut device, |body| body["facts"]["installed"] = twice);
        refused(&answer, Code::BadRequest, "product a stands twice in installed");
        for bad in [&b"{"[..], b"", b"null", b"\xff\xfe", b"{\"nonce\":1,\"nonce\":1}"] {
            refused(&device.try_check_in(bad), Code::BadRequest, "the body");
        }
        assert_eq!(server.api().get::<Device>("devices/till-1"), before);
        device.check_in();
    });
}

#[test]
fn a_check_in_that_is_too_large_is_refused() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let large = altered(&mut device, |body| body["filler"] = json!("x".repeat(16 * 1024)));
        large.problem(Code::TooLarge);
        let products: Vec<Value> = (0..33).map(|n| json!({ "product": format!("p{n}"), "version": "1" })).collect();
        let many = altered(&mut device, |body| body["facts"]["installed"] = json!(products));
        refused(&many, Code::BadRequest, "facts.installed has 33 entries; at most 32 are allowed");
        device.wire.disconnect();
        device.check_in();
    });
}

#[test]
fn an_idle_check_in_runs_no_database_statement() {
    on_both(|server| {
        let mut busy = FakeDevice::enrol(server, "busy");
        let mut idle: Vec<FakeDevice> = (0..5).map(|n| FakeDevice::enrol(server, &format!("idle-{n}"))).collect();
        // With rollouts to decide about: one for somebody else, one that is over for the idle ones.
        let release = NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("other", "pos-app@2.0.0", &json!({ "selector": "name = busy" })));
        for device in &mut idle {
            device.check_in();
        }
        let statements = || server.api().metric("callboard_database_statements_total", "purpose=\"requests\"");
        assert!(statements() > 0.0, "the metric is there");
        // A server that shares its database follows the log of changes, and reads once more what it wrote itself.
        if server.engine == Engine::Postgres {
            let jobs = || server.api().metric("callboard_database_statements_total", "purpose=\"jobs\"");
            let seen = jobs();
            wait::until("the log was followed a few times", || jobs() > seen + 8.0);
            idle.iter_mut().for_each(|device| drop(device.check_in()));
        }
        let (before, answered) = (statements(), server.api().metric("callboard_check_ins_total", ""));
        for _ in 0..20 {
            for device in &mut idle {
                assert_eq!(device.check_in().action, Action::None);
            }
        }
        assert!((statements() - before).abs() < 0.5, "{before} -> {}", statements());
        let now_answered = server.api().metric("callboard_check_ins_total", "");
        assert!((now_answered - answered - 100.0).abs() < 0.5, "{answered} -> {now_answered}");
        // The metric does move when there is something to write.
        assert_eq!(busy.check_in().release_sha256, Some(release.sha256));
        assert!(statements() > before);
    });
}

#[test]
fn last_seen_is_written_behind() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        device.check_in();
        let flushed = || server.api().metric("callboard_database_statements_total", "purpose=\"last_seen\"");
        wait::until("the check-in is written", || flushed() > 0.0);
        let before = flushed();
        server.advance(Duration::from_secs(7));
        for _ in 0..50 {
            device.check_in();
        }
        // Seen at once, though it may not be in the database yet.
        let shown: Device = server.api().get("devices/till-1");
        assert_eq!(shown.last_seen, Some(server.clock.now()));
        wait::until("the later check-ins are written", || flushed() > before);
        // Statements count when they run. There is one writer, so an acknowledged later write shows that they are
        // committed as well.
        FakeDevice::enrol(server, "till-2");
        server.restart_after_kill();
        assert_eq!(server.api().get::<Device>("devices/till-1").last_seen, Some(server.clock.now()));
    });
}
