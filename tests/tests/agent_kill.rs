//! `kill -9` of the agent and of the server in the middle of things, and connections that are cut, stall or lie.

use std::time::Duration;

use callboard_proto::state::{AgentState, AssignmentState};
use callboard_tests::{
    proxy::{Fault, Proxy},
    release::{NewRelease, bytes},
    server::TestServer,
    till::{QUICK, Till},
    wait,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

/// Some chunks, so that a download has a middle.
const SIZE: usize = 6 << 20;
const CHUNK: u64 = 1 << 20;

fn size() -> u64 {
    u64::try_from(SIZE).unwrap()
}

/// A till behind a proxy, and a release of some MiB that is rolled out to it.
fn shop(server: &TestServer, fault: Fault) -> (Till, Proxy) {
    let proxy = Proxy::to(server.device_address());
    let till = server.till_via(proxy.address(), "till-1", QUICK);
    NewRelease::with_payload("pos-app", "2.0.0", 1, bytes("large", SIZE)).publish(server);
    server.roll_out(&rollout("large", "pos-app@2.0.0", &json!({})));
    proxy.set(fault);
    (till, proxy)
}

#[track_caller]
fn assert_updated(server: &TestServer, till: &Till) {
    till.wait_for("2.0.0");
    assert_eq!(till.runs("pos-app.bin").unwrap(), bytes("large", SIZE));
    assert_eq!(server.outcome("large", till).state, AssignmentState::Succeeded);
    assert_eq!(till.fetched(), 0, "payloads are removed");
}

/// Waits until some chunks are on disk.
fn wait_for_the_middle(till: &Till) {
    wait::until("the middle of the download", || till.fetched() > 2 * CHUNK && till.fetched() < size());
}

#[test]
fn an_agent_killed_in_the_middle_of_a_download_fetches_only_what_it_lacks() {
    on_both(|server| {
        let (mut till, proxy) = shop(server, Fault::StallAfter(7 * CHUNK / 2));
        till.switch_on();
        wait_for_the_middle(&till);
        till.kill();
        let before = till.fetched();
        proxy.set(Fault::None);
        let sent = proxy.bytes_down();
        till.switch_on();
        assert_updated(server, &till);
        let again = proxy.bytes_down() - sent;
        assert!(
            again < size() - before / CHUNK * CHUNK + CHUNK / 2,
            "{again} bytes were fetched after {before} were there"
        );
    });
}

#[test]
fn a_partial_file_that_was_damaged_meanwhile_is_mended() {
    on_both(|server| {
        let (mut till, proxy) = shop(server, Fault::StallAfter(7 * CHUNK / 2));
        till.switch_on();
        wait_for_the_middle(&till);
        till.kill();
        let payloads = till.state_dir().join("payloads");
        let partial = std::fs::read_dir(payloads)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .max_by_key(|path| path.metadata().unwrap().len())
            .unwrap();
        let mut found = std::fs::read(&partial).unwrap();
        found[5000] ^= 1;
        std::fs::write(&partial, found).unwrap();
        proxy.set(Fault::None);
        till.switch_on();
        assert_updated(server, &till);
    });
}

#[test]
fn an_agent_killed_again_and_again_at_any_time_ends_up_updated() {
    on_both(|server| {
        let (mut till, _proxy) = shop(server, Fault::None);
        for n in 0..15_u64 {
            till.switch_on();
            // Ever later: the kills fall into check-in, download, staging, switch and commit.
            let pause = Duration::from_millis(10 + n * n * 4);
            let until = std::time::Instant::now() + pause;
            wait::until("a moment has passed", || std::time::Instant::now() >= until);
            till.kill();
            let runs = till.runs("pos-app.bin");
            assert!(runs.is_none() || runs == Some(bytes("large", SIZE)), "half a version runs");
        }
        till.switch_on();
        assert_updated(server, &till);
    });
}

#[test]
fn an_agent_killed_in_the_trial_goes_on_with_it_and_gives_up_after_three() {
    on_both(|server| {
        // Never finished, but for the death of who asked.
        let script = "while kill -0 $PPID 2>/dev/null; do sleep 0.2; done; exit 1";
        let hanging = format!("{QUICK}health = [\"/bin/sh\", \"-c\", {script:?}]\nhealth_timeout_s = 600\n");
        let mut till = server.till_via(server.device_address(), "till-1", &hanging);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("large", "pos-app@2.0.0", &json!({})));
        for _ in 0..3 {
            till.switch_on();
            wait::until("the trial", || till.state() == AgentState::Trial && till.log().contains("state=Trial"));
            till.kill();
            std::fs::remove_file(till.home().join("agent.log")).unwrap();
        }
        till.switch_on();
        let outcome = server.outcome("large", &till);
        assert_eq!(outcome.state, AssignmentState::RolledBack);
        assert_eq!(outcome.failure.unwrap().code, "trial_interrupted");
        assert!(till.runs("pos-app.bin").is_none());
    });
}

#[test]
fn an_agent_killed_before_it_could_report_delivers_its_result_later_and_once() {
    on_both(|server| {
        let proxy = Proxy::to(server.device_address());
        // The trial lasts until the test lets it end.
        let go = server.home().join(format!("go-{:?}", server.engine));
        let script = format!("until [ -e {} ] || ! kill -0 $PPID; do sleep 0.1; done", go.display());
        let waiting = format!("{QUICK}health = [\"/bin/sh\", \"-c\", {script:?}]\nhealth_timeout_s = 600\n");
        let mut till = server.till_via(proxy.address(), "till-1", &waiting);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("large", "pos-app@2.0.0", &json!({})));
        till.switch_on();
        wait::until("the trial", || till.state() == AgentState::Trial);
        proxy.set(Fault::Refuse);
        proxy.cut();
        std::fs::write(go, "").unwrap();
        wait::until("the commit", || till.state() == AgentState::Committed);
        till.kill();
        till.switch_on();
        wait::until("a failed check-in", || till.status()["last_error"].as_str().is_some());
        till.kill();
        assert_ne!(server.assignment("large", &till).unwrap().state, AssignmentState::Succeeded);
        proxy.set(Fault::None);
        till.switch_on();
        assert_eq!(server.outcome("large", &till).state, AssignmentState::Succeeded);
        till.wait_for("2.0.0");
    });
}

#[test]
fn a_server_killed_in_the_middle_of_a_download_is_waited_for() {
    on_both(|server| {
        let (mut till, proxy) = shop(server, Fault::StallAfter(7 * CHUNK / 2));
        till.switch_on();
        wait_for_the_middle(&till);
        server.kill();
        proxy.cut();
        proxy.set(Fault::None);
        server.serve();
        proxy.retarget(server.device_address());
        assert_updated(server, &till);
    });
}

#[test]
fn connections_that_are_cut_cost_at_most_a_chunk_each() {
    on_both(|server| {
        let (till, proxy) = shop(server, Fault::CutAfter(3 * CHUNK / 2));
        till.once().ok();
        assert_updated(server, &till);
        assert!(proxy.bytes_down() < size() + 6 * CHUNK, "{} bytes", proxy.bytes_down());
    });
}

#[test]
fn bytes_that_change_on_the_way_are_fetched_again() {
    on_both(|server| {
        let (till, proxy) = shop(server, Fault::Corrupt(5 * CHUNK / 2));
        till.once().ok();
        assert_updated(server, &till);
        assert!(proxy.connections() > 2, "the connection is given up");
    });
}

#[test]
fn a_till_keeps_checking_in_during_a_download_and_stops_it_when_told() {
    on_both(|server| {
        let (mut till, proxy) = shop(server, Fault::StallAfter(7 * CHUNK / 2));
        till.switch_on();
        wait_for_the_middle(&till);
        proxy.set(Fault::StallAfter(200_000));
        server.tell_rollout("large", "cancel");
        wait::until("the download is dropped", || till.state() == AgentState::Idle && till.fetched() == 0);
        assert_eq!(server.outcome("large", &till).state, AssignmentState::Cancelled);
        assert!(till.runs("pos-app.bin").is_none());
    });
}

#[test]
fn a_till_without_a_server_says_so_and_exits_with_1() {
    on_both(|server| {
        let (till, _proxy) = shop(server, Fault::Refuse);
        let output = till.once();
        assert!(output.refused(1).contains("failed to check in"), "{}", output.stderr);
        assert_eq!(till.state(), AgentState::Idle);
    });
}
