//! The real agent where the line is down or the machine goes down: it activates within the time that the server told
//! it before, and not otherwise.

use std::{fs, os::unix::fs::PermissionsExt as _};

use callboard_proto::{
    admin::{Event, Page},
    state::{AgentState, AssignmentState},
};
use callboard_tests::{
    clock::time,
    proxy::{Fault, Proxy},
    release::NewRelease,
    server::TestServer,
    till::{QUICK, Till},
    wait,
    world::rollout,
};
use serde_json::{Value, json};

use crate::on_both;

/// A till behind a proxy that has staged a release, three seconds before its window of an hour opens.
fn staged(server: &TestServer, more: &Value) -> (Till, Proxy) {
    let proxy = Proxy::to(server.device_address());
    let mut till = server.till_via(proxy.address(), "till-1", QUICK);
    machine_is(&mut till, "running");
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    server.set_clock(time("2027-01-12T12:59:57Z"));
    let mut spec = json!({ "windows": [{ "tz": "UTC", "start": "13:00", "duration_min": 60 }] });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    server.roll_out(&rollout("night", "pos-app@2.0.0", &spec));
    till.switch_on();
    wait::until("the till has heard that it is to wait", || till.state() == AgentState::Waiting);
    (till, proxy)
}

fn cut(proxy: &Proxy) {
    proxy.set(Fault::Refuse);
    proxy.cut();
}

#[test]
fn a_till_that_is_cut_off_installs_within_its_right_and_reports_when_it_is_back() {
    on_both(|server| {
        let (till, proxy) = staged(server, &json!({ "offline_activation": true }));
        assert_eq!(till.version(), "none");
        cut(&proxy);
        wait::until("the till has installed by itself", || till.version() == "2.0.0");
        assert_eq!(server.assignment("night", &till).unwrap().state, AssignmentState::Staged);
        // What it has to tell goes first in a conversation that begins after that.
        let failures = || till.log().matches("failed to check in").count();
        let before = failures();
        wait::until("the till has tried in vain twice", || failures() > before + 1);
        proxy.set(Fault::None);
        assert_eq!(server.outcome("night", &till).state, AssignmentState::Succeeded);
        let events: Page<Event> = server.api().get(&format!("devices/{}/history", till.name));
        assert!(events.items.iter().any(|event| event.kind == "assignment.alone"), "{events:?}");
        till.wait_for("2.0.0");
    });
}

#[test]
fn a_till_that_is_cut_off_without_a_right_waits() {
    on_both(|server| {
        let (till, proxy) = staged(server, &json!({}));
        cut(&proxy);
        let failures = || till.log().matches("failed to check in").count();
        let before = failures();
        wait::until("the till has tried in vain for more than three seconds", || failures() > before + 7);
        assert_eq!((till.version().as_str(), till.state()), ("none", AgentState::Waiting));
    });
}

#[test]
fn a_till_that_can_ask_is_told_by_the_answer() {
    on_both(|server| {
        let (till, _proxy) = staged(server, &json!({ "offline_activation": true }));
        server.tell_rollout("night", "pause");
        server.set_clock(time("2027-01-12T13:10:00Z"));
        let checked_in = || till.log().matches("checked in").count();
        let before = checked_in();
        wait::until("the till has asked a few times", || checked_in() > before + 3);
        assert_eq!(till.version(), "none");
        server.tell_rollout("night", "resume");
        till.wait_for("2.0.0");
    });
}

/// A machine whose systemd is in this state.
fn machine_is(till: &mut Till, state: &str) {
    let bin = till.home().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("systemctl"), format!("#!/bin/sh\necho {state}\n")).unwrap();
    fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    till.first_in_path(&bin);
}

#[test]
fn a_till_that_is_shut_down_switches_on_the_way_and_goes_on_probation_at_the_next_start() {
    on_both(|server| {
        let more = json!({ "offline_activation": true, "activate_on": "shutdown", "windows": [] });
        let (mut till, _proxy) = staged(server, &more);
        let why = server.api().get::<callboard_proto::admin::Explanation>("devices/till-1/explain").next;
        assert_eq!(why.code, "waits_for_shutdown");
        // The agent alone is restarted, by its package or its operator.
        till.switch_off();
        assert_eq!((till.runs("pos-app.bin"), till.state()), (None, AgentState::Waiting));
        let before = till.log().matches("checked in").count();
        till.switch_on();
        wait::until("the agent runs again", || till.log().matches("checked in").count() > before);
        machine_is(&mut till, "stopping");
        till.switch_off();
        assert_eq!(till.state(), AgentState::Trial);
        assert!(till.runs("pos-app.bin").is_some(), "the next start of the application is that of the new version");
        till.switch_on();
        till.wait_for("2.0.0");
        assert_eq!(server.outcome("night", &till).state, AssignmentState::Succeeded);
    });
}
