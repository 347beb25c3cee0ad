//! Reports: durable when acknowledged, idempotent, and only about what is the device's own.

use callboard_proto::{
    admin::{Assignment, Event as Logged},
    digest::Digest,
    instruction::{Action, Instruction},
    problem::Code,
    report::{Event, Failure, FailureClass, Receipt, Report},
    state::{AgentState, AssignmentState},
};
use callboard_tests::{device::FakeDevice, http::Request, release::NewRelease, server::TestServer, world::rollout};
use serde_json::json;

use crate::{on_both, refused};

/// A device that was offered a release.
fn offered(server: &TestServer) -> (FakeDevice, Instruction) {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
    server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
    let offer = device.check_in();
    (device, offer)
}

fn assignment(server: &TestServer) -> Assignment {
    server.api().list("rollouts/r/assignments").pop().unwrap()
}

/// The code and detail with which one report is refused.
fn refusal(device: &mut FakeDevice, report: Report) -> (String, String) {
    let receipt: Receipt = device.try_reports(std::slice::from_ref(&report)).json();
    assert_eq!((receipt.accepted.len(), receipt.refused.len()), (0, 1));
    assert_eq!(receipt.refused[0].report, report.key());
    (receipt.refused[0].code.clone(), receipt.refused[0].detail.clone())
}

#[test]
fn a_repeated_report_is_accepted_and_counts_once() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let reports = [Event::Downloading, Event::Staged].map(|event| device.next_report(&offer, event));
        for _ in 0..3 {
            device.send_reports(&reports);
        }
        assert_eq!(
            (assignment(server).state, server.rollout("r").phases[0].counts.staged),
            (AssignmentState::Staged, 1)
        );
        let log: Vec<Logged> = server.api().list("devices/till-1/history");
        // The grant has said already that it downloads.
        assert_eq!(log.iter().filter(|event| event.kind == "assignment.reported").count(), 1);
    });
}

#[test]
fn what_a_report_changed_is_seen_with_its_repetition_if_the_line_was_cut_after_the_commit() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let staged = device.next_report(&offer, Event::Staged);
        device.send_reports(std::slice::from_ref(&staged));
        // Committed, and nobody was left who could have told the server's memory.
        server.run_sql("UPDATE devices SET hold_reason = 'a test'");
        device.send_reports(&[staged]);
        device.is_at(&offer, AgentState::Staged);
        let answer = device.check_in();
        assert_eq!((answer.action, answer.reason.code.as_str()), (Action::Hold, "held"));
    });
}

#[test]
fn an_earlier_report_that_comes_late_moves_nothing_back() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let reports = [Event::Downloading, Event::Staged].map(|event| device.next_report(&offer, event));
        device.send_reports(&reports[1..]);
        device.send_reports(&reports[..1]);
        assert_eq!(assignment(server).state, AssignmentState::Staged);
    });
}

#[test]
fn a_report_about_another_devices_assignment_is_refused() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let mut thief = FakeDevice::enrol(server, "till-2");
        let report = thief.next_report(&offer, Event::Staged);
        let (code, detail) = refusal(&mut thief, report);
        assert_eq!(code, "not_your_assignment");
        assert!(detail.contains("is not this device's"), "{detail}");
        let unknown = Report {
            assignment_id: "01973f5e-8c00-7d1a-b0e4-2f6c1d9a7b01".parse().unwrap(),
            ..device.next_report(&offer, Event::Staged)
        };
        assert_eq!(refusal(&mut device, unknown).0, "not_your_assignment");
        let other_release = Report { release_sha256: Digest::of(b"x"), ..device.next_report(&offer, Event::Staged) };
        assert!(refusal(&mut device, other_release).1.contains("about another release"));
        assert_eq!(assignment(server).state, AssignmentState::Downloading);
    });
}

#[test]
fn an_illegal_transition_is_refused_and_the_rest_of_the_body_is_taken() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let illegal = device.next_report(&offer, Event::Succeeded);
        let legal = device.next_report(&offer, Event::Staged);
        let receipt: Receipt = device.try_reports(&[illegal.clone(), legal.clone()]).json();
        assert_eq!(receipt.accepted, [legal.key()]);
        assert_eq!(
            (receipt.refused[0].code.as_str(), receipt.refused[0].report),
            ("illegal_transition", illegal.key())
        );
        assert!(receipt.refused[0].detail.contains("an assignment that is downloading does not allow"));
        assert_eq!(assignment(server).state, AssignmentState::Staged);
    });
}

#[test]
fn a_report_of_an_attempt_that_is_over_or_has_not_begun_is_stale() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        for attempt in [0, 2, u32::MAX] {
            let report = Report { attempt, ..device.next_report(&offer, Event::Staged) };
            assert_eq!(refusal(&mut device, report).0, "stale_attempt");
        }
    });
}

#[test]
fn reports_that_are_too_many_too_long_or_malformed_are_refused_as_a_whole() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let reports: Vec<Report> = (0..33).map(|_| device.next_report(&offer, Event::Downloading)).collect();
        refused(&device.try_reports(&reports), Code::BadRequest, "33 reports; at most 32 at a time");
        let failure = Failure { class: FailureClass::Transient, code: "x".into(), text: "y".repeat(64 * 1024 + 1) };
        let long = Report { failure: Some(failure), ..device.next_report(&offer, Event::Failed) };
        refused(
            &device.try_reports(&[long]),
            Code::BadRequest,
            "reports[0].failure.text has 65537 bytes; at most 65536 are allowed",
        );
        let post = |device: &mut FakeDevice, body: serde_json::Value| {
            device.wire.send(&Request::post(callboard_proto::paths::REPORTS).json(&body))
        };
        refused(&post(&mut device, json!({ "reports": [{}] })), Code::BadRequest, "missing field");
        refused(&post(&mut device, json!({ "reports": [], "crit": ["x"] })), Code::BadRequest, "\"x\" is critical");
        post(&mut device, json!({ "reports": [], "filler": "x".repeat(256 * 1024) })).problem(Code::TooLarge);
        device.wire.disconnect();
        post(&mut device, json!({ "reports": [], "colour": "red" })).ok();
        assert_eq!(assignment(server).state, AssignmentState::Downloading);
    });
}

#[test]
fn the_whole_text_of_a_failure_is_with_the_assignment() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let text = "line\n".repeat(5000);
        let failure = Failure { class: FailureClass::Permanent, code: "no_space".into(), text };
        let report = Report { failure: Some(failure.clone()), ..device.next_report(&offer, Event::Failed) };
        device.send_reports(&[report]);
        let shown = assignment(server);
        assert_eq!((shown.state, shown.failure), (AssignmentState::Failed, Some(failure)));
        let log: Vec<Logged> = server.api().list("devices/till-1/history");
        assert!(log[0].text.contains("attempt 1: failed (no_space: ") && log[0].text.len() < 600);
    });
}

#[test]
fn a_check_in_that_runs_the_release_makes_up_for_lost_reports() {
    on_both(|server| {
        let (mut device, offer) = offered(server);
        let release = device.fetch_release(offer.release_sha256.unwrap());
        device.install(&release);
        device.check_in();
        assert_eq!(
            (assignment(server).state, server.rollout("r").phases[0].counts.succeeded),
            (AssignmentState::Succeeded, 1)
        );
    });
}
