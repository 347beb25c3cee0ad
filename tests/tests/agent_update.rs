//! The real agent against the real server: enrolment, updates, fall-back, and what a till refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use callboard_proto::{
    admin::Device,
    digest::Digest,
    state::{AgentState, AssignmentState},
};
use callboard_tests::{
    release::{NewRelease, bytes},
    server::TestServer,
    till::{QUICK, Till},
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, on_both};

/// Starts an immediate rollout for everybody and lets the till carry it out.
fn roll_out(server: &TestServer, till: &Till, version: &str) -> AssignmentState {
    let name = format!("to-{version}");
    server.roll_out(&rollout(&name, &format!("pos-app@{version}"), &json!({})));
    till.once().ok();
    server.outcome(&name, till).state
}

/// A directory tree as a release, built, signed and published by the operator's commands.
fn publish_tree(server: &TestServer, version: &str, counter: u64, healthy: bool) {
    let tree = server.home().join(format!("tree-{version}"));
    fs::create_dir_all(tree.join("bin")).unwrap();
    let program = |name: &str, text: &str| {
        let path = tree.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("health", &format!("#!/bin/sh\necho checking {version}\nexit {}\n", u8::from(!healthy)));
    fs::write(tree.join("version"), version).unwrap();
    fs::create_dir_all(tree.join(format!("data/{}", "long-name/".repeat(12)))).unwrap();
    fs::write(tree.join(format!("data/{}menu", "long-name/".repeat(12))), bytes(version, 300_000)).unwrap();
    std::os::unix::fs::symlink("data", tree.join("latest")).unwrap();
    let out = server.home().join(format!("release-{version}"));
    let (tree, out) = (tree.to_str().unwrap(), out.to_str().unwrap());
    let key = server.dir().join("try-out-keys/release.key");
    let envelope = format!("{out}/release.json");
    let counter = counter.to_string();
    server
        .cli([
            "release",
            "build",
            tree,
            "--out",
            out,
            "--product",
            "pos-app",
            "--version",
            version,
            "--counter",
            &counter,
        ])
        .ok();
    server.cli(["release", "sign", &envelope, "--key", key.to_str().unwrap()]).ok();
    server.cli(["release", "publish", out]).ok();
}

#[test]
fn a_till_enrols_is_updated_twice_and_keeps_what_it_had_when_a_version_is_not_well() {
    on_both(|server| {
        let product = format!("{QUICK}health = [\"bin/health\"]\n");
        let till = server.till_via(server.device_address(), "till-1", &product);
        publish_tree(server, "1.1.0", 1, true);
        publish_tree(server, "1.2.0", 2, true);
        publish_tree(server, "1.3.0", 3, false);
        for version in ["1.1.0", "1.2.0"] {
            assert_eq!(roll_out(server, &till, version), AssignmentState::Succeeded);
            assert_eq!(till.runs("version").unwrap(), version.as_bytes());
            assert_eq!(till.runs(&format!("latest/{}menu", "long-name/".repeat(12))).unwrap(), bytes(version, 300_000));
        }
        assert_eq!(fs::read_to_string(till.product().join("previous/version")).unwrap(), "1.1.0");
        assert_eq!(roll_out(server, &till, "1.3.0"), AssignmentState::RolledBack);
        assert_eq!(till.runs("version").unwrap(), b"1.2.0");
        let failure = server.outcome("to-1.3.0", &till).failure.unwrap();
        assert_eq!(failure.code, "health_check");
        assert!(failure.text.contains("checking 1.3.0"), "{}", failure.text);
        till.once().ok();
        let known = server.registered(&till);
        assert_eq!(known.installed[0].version.as_str(), "1.2.0");
        assert_eq!((till.version().as_str(), till.state(), till.fetched()), ("1.2.0", AgentState::Idle, 0));
    });
}

#[test]
fn software_of_the_image_is_reported_and_comes_back_when_the_first_update_fails() {
    on_both(|server| {
        let product = format!("{QUICK}health = [\"bin/health\"]\n");
        let till = server.till_via(server.device_address(), "till-1", &product);
        fs::create_dir(till.product().join("current")).unwrap();
        fs::write(till.product().join("current/version"), "factory").unwrap();
        till.once().ok();
        let installed = &server.registered(&till).installed[0];
        assert_eq!((installed.version.as_str(), installed.release), ("1.0.0", None));
        publish_tree(server, "1.1.0", 1, false);
        assert_eq!(roll_out(server, &till, "1.1.0"), AssignmentState::RolledBack);
        assert_eq!(till.runs("version").unwrap(), b"factory");
        assert_eq!(till.version(), "1.0.0");
    });
}

#[test]
fn a_release_that_was_rolled_back_is_begun_again_only_when_an_operator_wants_it() {
    on_both(|server| {
        let till = server.till_via(server.device_address(), "till-1", &format!("{QUICK}health = [\"bin/health\"]\n"));
        publish_tree(server, "1.1.0", 1, false);
        assert_eq!(roll_out(server, &till, "1.1.0"), AssignmentState::RolledBack);
        let log = till.once();
        assert!(!log.ok().stderr.contains("work failed"), "{}", log.stderr);
        assert_eq!(server.assignment("to-1.1.0", &till).unwrap().attempt, 1);
    });
}

#[test]
fn a_payload_that_was_changed_on_the_server_never_runs_and_one_that_is_right_again_does() {
    on_both(|server| {
        let till = server.till("till-1");
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        assert_eq!(roll_out(server, &till, "1.1.0"), AssignmentState::Succeeded);
        let release = NewRelease::new("pos-app", "1.2.0", 2);
        release.publish(server);
        let file = server.payload_file(Digest::of(&release.payload));
        let mut tampered = release.payload.clone();
        tampered[1500] ^= 1;
        fs::write(&file, &tampered).unwrap();
        server.roll_out(&rollout("once", "pos-app@1.2.0", &json!({ "max_attempts": 1 })));
        till.once().ok();
        let outcome = server.outcome("once", &till);
        assert_eq!((outcome.state, outcome.failure.unwrap().code.as_str()), (AssignmentState::Failed, "bad_chunk"));
        assert!(till.status()["attacks"]["bad_chunk"].as_u64().unwrap() > 0);
        till.once().ok();
        assert_eq!((till.version().as_str(), till.state()), ("1.1.0", AgentState::Idle));
        assert_eq!(till.runs("pos-app.bin").unwrap(), bytes("pos-app 1.1.0", 3000));
        // An operator uploads it once more: the server looks at its own copy and does not take it for good.
        server.api().upload(&release.payload).ok();
        assert!(fs::read(&file).unwrap() == release.payload);
        server.roll_out(&rollout("again", "pos-app@1.2.0", &json!({})));
        till.once().ok();
        assert_eq!(server.outcome("again", &till).state, AssignmentState::Succeeded);
        assert_eq!(till.runs("pos-app.bin").unwrap(), release.payload);
    });
}

#[test]
fn enrolling_again_changes_nothing_and_a_used_token_is_refused() {
    on_both(|server| {
        let till = server.till("till-1");
        let enrol = |till: &Till| till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap()]);
        assert!(enrol(&till).ok().stdout.starts_with("enrolled already at"));
        assert_eq!(server.api().list::<Device>("devices").len(), 1);
        let thief = Till::new(BINARIES.agent, "till-2", QUICK);
        fs::copy(till.bundle(), thief.bundle()).unwrap();
        let said = enrol(&thief);
        assert!(said.refused(1).contains("token_used"), "{}", said.stderr);
        assert!(thief.once().refused(2).contains("this device is not enrolled"));
        let key = fs::metadata(till.state_dir().join("device.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    });
}

#[test]
fn a_bundle_that_is_not_right_is_refused_and_leaves_nothing_behind() {
    on_both(|server| {
        let bundle = serde_json::to_value(server.bundle(&json!({}))).unwrap();
        let till = Till::new(BINARIES.agent, "till-1", QUICK);
        let enrol = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut bundle = bundle.clone();
            change(&mut bundle);
            fs::write(till.bundle(), bundle.to_string()).unwrap();
            till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap()])
        };
        let input = |change: &dyn Fn(&mut serde_json::Value), wanted: &str| {
            let output = enrol(change);
            let said = output.refused(2);
            assert!(said.contains(wanted) && said.lines().count() == 1, "{said:?}, wanted {wanted:?}");
        };
        input(&|bundle| bundle["v"] = json!(2), "the bundle has format 2");
        input(&|bundle| bundle["extra"] = json!(2), "unknown field `extra`");
        input(&|bundle| bundle["server_url"] = json!("http://x"), "wanted is such as https://");
        input(&|bundle| bundle["root"]["signatures"] = json!([]), "0 valid signatures");
        input(&|bundle| bundle["root"] = json!(5), "root: not a DSSE envelope");
        input(&|bundle| bundle["server_ca_pem"] = json!("x"), "not PEM");
        let other = TestServer::start(BINARIES, callboard_tests::server::Engine::Sqlite, &[]).unwrap();
        let strange_ca = other.bundle(&json!({})).server_ca_pem;
        let output = enrol(&|bundle| bundle["server_ca_pem"] = json!(strange_ca));
        assert!(output.refused(1).contains("on TLS"), "{}", output.stderr);
        assert!(!till.state_dir().join("device.json").exists());
        assert!(till.command(&["enrol", "--bundle", "/nonexistent"]).refused(2).contains("/nonexistent"));
        enrol(&|_| {}).ok();
    });
}

#[test]
fn a_second_agent_on_the_same_state_directory_is_told_so() {
    on_both(|server| {
        let mut till = server.till("till-1");
        till.switch_on();
        callboard_tests::wait::until("the till checks in", || server.registered(&till).last_seen.is_some());
        let second = till.once();
        assert!(second.refused(1).contains("another callboard-agent is running on it"), "{}", second.stderr);
        till.switch_off();
        till.once().ok();
    });
}

#[test]
fn a_till_that_was_decommissioned_says_so_and_keeps_its_software() {
    on_both(|server| {
        let till = server.till("till-1");
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        assert_eq!(roll_out(server, &till, "1.1.0"), AssignmentState::Succeeded);
        server.api().try_post("devices/till-1/decommission", &json!({ "reason": "sold" })).ok();
        let output = till.once();
        assert!(output.refused(1).contains("device_revoked"), "{}", output.stderr);
        assert_eq!(till.runs("pos-app.bin").unwrap(), bytes("pos-app 1.1.0", 3000));
        assert!(till.status()["last_error"].as_str().unwrap().contains("device_revoked"));
    });
}

#[test]
fn status_and_configuration_are_shown_to_people() {
    on_both(|server| {
        let till = server.till("till-1");
        till.once().ok();
        let text = till.command(&["status"]);
        for wanted in [
            "till-1 (",
            "https://127.0.0.1:",
            "certificate    until 20",
            "state          idle",
            "last check-in  2027-01-12T12:00",
        ] {
            assert!(text.ok().stdout.contains(wanted), "{wanted:?} is not in\n{}", text.stdout);
        }
        assert!(till.command(&["config", "check"]).ok().stdout.contains("is valid: 1 product"));
        let broken = till.home().join("broken.toml");
        fs::write(&broken, "[products.pos-app]\ndirectory = 'opt'").unwrap();
        let said = till.command(&["config", "check", "--config", path(&broken)]);
        assert!(said.code == Some(2) && said.stderr.lines().count() == 1, "{said:?}");
    });
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
