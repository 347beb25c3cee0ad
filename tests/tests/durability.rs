//! `kill -9` at any instant: what was acknowledged is there, what was not is either whole or gone.

use callboard_proto::{
    admin::{Assignment, Device, Rollout, RolloutState},
    digest::Digest,
    instruction::Action,
    paths,
    report::{Event, Failure, FailureClass, Report, Reports},
    state::AssignmentState,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    http::{self, Plain, Request, Response},
    release::{NewRelease, bytes},
    server::TestServer,
    wait,
    world::rollout,
};
use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use crate::on_both;

/// Into how different an instant each kill falls.
const KILLS: u32 = 5;

fn kill(server: &mut TestServer, device: &mut FakeDevice) {
    server.restart_after_kill();
    device.follow(server);
}

fn assignment(server: &TestServer) -> Assignment {
    server.api().list("rollouts/r/assignments").pop().unwrap()
}

#[test]
fn every_step_of_an_update_survives_a_kill_right_after_it_was_acknowledged() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        kill(server, &mut device);
        let release = NewRelease::new("pos-app", "2.0.0", 1);
        server.api().upload(&release.payload).ok();
        kill(server, &mut device);
        let digest = server.try_publish(&release.signed(server).to_json()).json::<callboard_proto::admin::Release>();
        kill(server, &mut device);
        server.api().post::<Rollout>("rollouts", &rollout("r", "pos-app@2.0.0", &json!({})));
        kill(server, &mut device);
        server.api().post::<Rollout>("rollouts/r/start", &json!({}));
        kill(server, &mut device);
        assert_eq!(server.rollout("r").state, RolloutState::Running);

        let offer = device.check_in();
        kill(server, &mut device);
        assert_eq!((offer.action, offer.release_sha256), (Action::Download, Some(digest.sha256)));
        assert_eq!(
            (assignment(server).id, assignment(server).state),
            (offer.assignment_id.unwrap(), AssignmentState::Downloading)
        );
        let again = device.check_in();
        assert_eq!(
            (again.action, again.assignment_id, again.attempt),
            (offer.action, offer.assignment_id, offer.attempt)
        );

        device.stage(&offer);
        kill(server, &mut device);
        assert_eq!(assignment(server).state, AssignmentState::Staged);
        let install = device.check_in();
        kill(server, &mut device);
        assert_eq!((install.action, assignment(server).state), (Action::Install, AssignmentState::Activating));
        device.report(&install, Event::Activating);
        device.report(&install, Event::Verifying);
        kill(server, &mut device);
        assert_eq!(assignment(server).state, AssignmentState::Verifying);
        let done = device.next_report(&install, Event::Succeeded);
        device.send_reports(std::slice::from_ref(&done));
        kill(server, &mut device);
        assert_eq!(assignment(server).state, AssignmentState::Succeeded);
        assert_eq!(server.rollout("r").phases[0].counts.succeeded, 1);
        // Its answer may have been lost: the same report again is accepted and counts once.
        device.send_reports(&[done]);
        assert_eq!(server.rollout("r").phases[0].counts.succeeded, 1);
        let log: Vec<callboard_proto::admin::Event> = server.api().list("devices/till-1/history");
        assert_eq!(log.iter().filter(|event| event.text.contains("runs it")).count(), 2, "verifying and succeeded");
    });
}

#[test]
fn a_kill_loses_nothing_of_last_seen_but_what_was_not_yet_flushed() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        device.check_in();
        let first = server.clock.now();
        wait::until("the first check-in is written", || {
            server.api().metric("callboard_database_statements_total", "purpose=\"last_seen\"") > 0.0
        });
        server.advance(Duration::from_secs(1));
        device.check_in();
        kill(server, &mut device);
        let shown = server.api().get::<Device>("devices/till-1").last_seen.unwrap();
        assert!(shown == first || shown == server.clock.now(), "{shown}");
    });
}

#[test]
fn a_check_in_is_in_the_database_soon_and_outlives_a_kill() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        for _ in 0..3 {
            server.advance(Duration::from_secs(60));
            device.check_in();
            let now = server.clock.now();
            // Another connection sees only what is committed.
            wait::until("the check-in is committed", || {
                server.sql_number("SELECT last_seen AS number FROM devices") == Some(now.millis())
            });
            kill(server, &mut device);
            assert_eq!(server.api().get::<Device>("devices/till-1").last_seen, Some(now));
        }
    });
}

#[test]
fn an_orderly_stop_loses_nothing() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        for _ in 0..3 {
            server.advance(Duration::from_secs(60));
            device.check_in();
            server.stop();
            server.serve();
            device.follow(server);
            assert_eq!(server.api().get::<Device>("devices/till-1").last_seen, Some(server.clock.now()));
        }
    });
}

#[test]
fn a_kill_in_the_middle_of_an_upload_leaves_nothing_behind() {
    on_both(|server| {
        let payload = bytes("upload", 4 << 20);
        let digest = Digest::of(&payload);
        let api = server.api();
        let mut stream = Plain::connect(api.address).unwrap();
        let head = format!(
            "PUT /api/v1/payloads/{digest} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            api.token,
            payload.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&payload[..3 << 20]).unwrap();
        wait::until("some of it is on the disk", || {
            let sizes = server.payload_files().into_iter().filter_map(|file| file.metadata().ok());
            sizes.map(|file| file.len()).sum::<u64>() > 0
        });
        server.restart_after_kill();
        assert_eq!(server.payload_files(), Vec::<std::path::PathBuf>::new());
        server.api().try_get(&format!("payloads/{digest}/info")).problem(callboard_proto::problem::Code::NotFound);
        server.api().upload(&payload).ok();
    });
}

#[test]
fn a_download_goes_on_where_it_was_after_the_server_was_killed_in_the_middle() {
    on_both(|server| {
        let payload = bytes("large", 8 << 20);
        NewRelease::with_payload("pos-app", "2.0.0", 1, payload.clone()).publish(server);
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let offer = device.check_in();
        let first = device.fetch_range(Digest::of(&payload), "bytes=0-4194303");
        kill(server, &mut device);
        let rest = device.fetch_range(Digest::of(&payload), "bytes=4194304-");
        assert_eq!(first.header("etag"), rest.header("etag"));
        assert!([first.body, rest.body].concat() == payload);
        device.stage(&offer);
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("2.0.0"));
    });
}

#[test]
fn a_server_that_is_stopped_answers_what_is_in_flight() {
    on_both(|server| {
        // More than the buffers between the two can hold.
        let payload = bytes("large", 64 << 20);
        server.api().upload(&payload).ok();
        let device = FakeDevice::enrol(server, "till-1");
        let mut stream = device.wire.open().unwrap();
        let request = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", paths::payload(Digest::of(&payload)));
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(http::read_head(&mut stream).unwrap().0, 200);
        let logged = server.log().len();
        server.tell_to_stop();
        wait::until("the server is stopping", || server.log()[logged..].contains("stopping"));
        let mut got = vec![0; payload.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == payload);
        drop(stream);
        server.wait_stopped();
        server.serve();
    });
}

/// Asks the server and kills it meanwhile, a little later in each round; says whether it had answered that it is done.
fn killed_at(server: &mut TestServer, round: u32, ask: impl FnOnce() -> std::io::Result<Response> + Send) -> bool {
    let done = std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        let later = Instant::now() + Duration::from_micros(u64::from(round * round) * 400);
        while Instant::now() < later {
            std::thread::yield_now();
        }
        server.kill();
        asking.join().unwrap().is_ok_and(|answer| answer.status == 200)
    });
    server.serve();
    done
}

#[test]
fn a_kill_in_the_middle_of_a_start_leaves_a_draft_or_a_rollout_with_all_its_devices() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let devices: Vec<_> = (0..2000).map(|n| json!({ "name": format!("till-{n}") })).collect();
        server.api().post::<serde_json::Value>("devices/import", &json!({ "devices": devices, "dry_run": false }));
        for round in 0..KILLS {
            let name = format!("r-{round}");
            server.api().post::<Rollout>("rollouts", &rollout(&name, "pos-app@2.0.0", &json!({})));
            let api = server.api();
            let request = Request::post(format!("/api/v1/rollouts/{name}/start"))
                .header("authorization", format!("Bearer {}", api.token))
                .json(&json!({}));
            let done = killed_at(server, round, || http::exchange(&mut Plain::connect(api.address)?, &request));
            let found = server.rollout(&name);
            match found.state {
                RolloutState::Draft => {
                    assert!(!done, "round {round}: it was answered");
                    assert_eq!(server.tell_rollout(&name, "start").phases[0].counts.size, 2000);
                }
                RolloutState::Running => assert_eq!(found.phases[0].counts.size, 2000, "round {round}"),
                other => panic!("round {round}: {other:?}"),
            }
        }
    });
}

#[test]
fn a_kill_in_the_middle_of_taking_a_release_back_leaves_all_of_it_or_nothing() {
    for round in 0..KILLS {
        on_both(|server| {
            let old = NewRelease::new("pos-app", "1.0.0", 1).publish(server).sha256;
            NewRelease::new("pos-app", "2.0.0", 2).publish(server);
            let mut tills: Vec<FakeDevice> = (0..3).map(|n| FakeDevice::enrol(server, &format!("till-{n}"))).collect();
            for till in &mut tills {
                let release = till.fetch_release(old);
                till.install(&release);
                till.check_in();
            }
            let rule = json!([{ "max_failures": 0, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" }]);
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "halt": rule })));
            let [good, fine, bad] = &mut tills[..] else { panic!("three tills") };
            good.settle(Health::Good);
            fine.settle(Health::Good);
            bad.obey(Health::Good);
            let install = bad.check_in();
            assert_eq!(install.action, Action::Install);
            let report = Report {
                failure: Some(Failure {
                    class: FailureClass::Permanent,
                    code: "health_check".to_owned(),
                    text: "exit status: 1".to_owned(),
                }),
                ..bad.next_report(&install, Event::RolledBack)
            };
            let body = Reports { crit: Vec::new(), reports: vec![report.clone()] };
            let done = killed_at(server, round, || bad.wire.try_send(&Request::post(paths::REPORTS).json(&body)));
            for till in [&mut *good, &mut *fine, &mut *bad] {
                till.follow(server);
            }
            let found = server.rollout("r").state;
            assert!(
                found == RolloutState::Cancelled || (found == RolloutState::Running && !done),
                "{round}: {found:?}"
            );
            // Whoever got no answer says it again.
            bad.send_reports(&[report]);
            assert_eq!(server.rollout("r").state, RolloutState::Cancelled);
            let back = server.rollout("r-rollback");
            assert_eq!((back.state, back.phases[0].counts.size), (RolloutState::Running, 2));
            assert_eq!(server.api().list::<Rollout>("rollouts").len(), 2);
        });
    }
}
