//! The agent updates itself: the real launcher, the real agent, and another program around the same library that has
//! another version and the next schema, and may be broken.

use std::{fs, path::PathBuf};

use callboard_proto::{
    admin::Assignment,
    state::{AgentState, AssignmentState},
};
use callboard_tests::{
    launched::{AGENT, LaunchedTill},
    release::NewRelease,
    server::{Engine, TestServer},
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, on_both};

/// The agent of this package.
const PACKAGED: &str = env!("CARGO_PKG_VERSION");
/// Asks the launcher for another version.
const HAND_OVER: i32 = 10;
const PANICKED: i32 = 101;
const KILLED: i32 = -9;

/// A till that runs the packaged agent, and has been heard.
fn a_till(server: &TestServer, own: &str) -> LaunchedTill {
    let mut till = server.launched_till("till-1", own);
    till.switch_on();
    till.until("the till is heard", |_| server.registered_by_name("till-1").last_seen.is_some());
    assert_eq!(agent_of(server), PACKAGED);
    till
}

fn agent_of(server: &TestServer) -> String {
    server.registered_by_name("till-1").agent
}

/// Rolls a version of the agent out and lets it come to its end.
fn update(server: &TestServer, till: &mut LaunchedTill, version: &str) -> Assignment {
    // The same version may be rolled out again.
    let name = format!("to-{version}-after-{}", till.ends.len());
    let back = json!({ "audience": "frozen", "allow_downgrade": true });
    server.roll_out(&rollout(&name, &format!("{AGENT}@{version}"), &back));
    end(server, till, &name)
}

fn end(server: &TestServer, till: &mut LaunchedTill, name: &str) -> Assignment {
    let mut ended = None;
    till.until("the update ends", |till| {
        ended = server.assignment(name, &till.till).filter(|one| one.state.is_final());
        ended.is_some()
    });
    ended.unwrap()
}

fn on_one(test: impl Fn(&mut TestServer)) {
    test(&mut TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap());
}

fn program(till: &mut LaunchedTill) -> PathBuf {
    let dir = till.runs().expect("a version");
    till.dir().join("versions").join(dir).join(AGENT)
}

#[test]
fn the_agent_updates_itself_twice_goes_back_when_told_and_updates_its_products_meanwhile() {
    on_both(|server| {
        let mut till = a_till(server, "");
        assert_eq!(till.versions()["committed"], json!({ "version": null, "dir": null }));
        server.publish_agent("0.2.0", 1, "good");
        server.publish_agent("0.3.0", 2, "good");
        let mut dirs = Vec::new();
        for version in ["0.2.0", "0.3.0"] {
            assert_eq!(update(server, &mut till, version).state, AssignmentState::Succeeded);
            dirs.push(till.runs().expect("a version"));
            till.until("the new agent says its version", |_| agent_of(server) == version);
        }
        assert_eq!(till.ends, [HAND_OVER, HAND_OVER]);
        let versions = till.versions();
        assert_eq!(versions["committed"], json!({ "version": "0.3.0", "dir": dirs[1] }));
        assert_eq!((&versions["previous"]["dir"], &versions["trial"]), (&json!(dirs[0]), &json!(null)));
        let current = fs::read_link(till.dir().join("current")).unwrap();
        assert_eq!(current, PathBuf::from(format!("versions/{}", dirs[1])));

        // A new version updates what the one before has updated, and is still there after a stop and a power cut.
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        server.roll_out(&rollout("app", "pos-app@1.1.0", &json!({})));
        assert_eq!(end(server, &mut till, "app").state, AssignmentState::Succeeded);
        till.switch_off();
        till.switch_on();
        till.kill();
        till.until("the agent is there again", |till| till.runs().as_ref() == Some(&dirs[1]));

        assert_eq!(update(server, &mut till, "0.2.0").state, AssignmentState::Succeeded);
        till.until("the older agent says its version", |_| agent_of(server) == "0.2.0");
        assert_eq!(till.versions()["committed"]["version"], "0.2.0");
        till.switch_off();
    });
}

#[test]
fn an_agent_that_does_not_start_is_tried_three_times_and_the_one_before_reports_it() {
    on_one(|server| {
        let mut till = a_till(server, "");
        server.publish_agent("0.2.0", 1, "good");
        server.publish_agent("0.3.0", 2, "panics");
        assert_eq!(update(server, &mut till, "0.2.0").state, AssignmentState::Succeeded);
        let good = till.runs();
        till.ends.clear();
        let ended = update(server, &mut till, "0.3.0");
        assert_eq!(ended.state, AssignmentState::RolledBack);
        assert_eq!(ended.failure.unwrap().code, "trial_interrupted");
        assert_eq!(till.ends, [HAND_OVER, PANICKED, PANICKED, PANICKED]);
        assert_eq!(till.runs(), good);
        // It is not begun again, and the till goes on.
        till.until("the till is idle", |till| till.versions()["trial"].is_null());
        server.publish_agent("0.4.0", 3, "good");
        assert_eq!(update(server, &mut till, "0.4.0").state, AssignmentState::Succeeded);
        till.until("the new agent says its version", |_| agent_of(server) == "0.4.0");
        till.switch_off();
    });
}

#[test]
fn a_packaged_agent_comes_back_when_its_first_update_fails() {
    on_one(|server| {
        let mut till = a_till(server, "trial_tries = 2");
        server.publish_agent("0.2.0", 1, "panics");
        assert_eq!(update(server, &mut till, "0.2.0").state, AssignmentState::RolledBack);
        assert_eq!(till.ends, [HAND_OVER, PANICKED, PANICKED]);
        assert_eq!(till.runs(), None);
        assert!(!till.dir().join("current").exists());
        assert_eq!(till.versions()["committed"], json!({ "version": null, "dir": null }));
        assert_eq!(agent_of(server), PACKAGED);
        till.switch_off();
    });
}

#[test]
fn an_agent_that_never_gets_an_answer_goes_back_by_itself() {
    on_one(|server| {
        let mut till = a_till(server, "trial_s = 2");
        server.publish_agent("0.2.0", 1, "deaf");
        let ended = update(server, &mut till, "0.2.0");
        assert_eq!(ended.state, AssignmentState::RolledBack);
        assert_eq!(ended.failure.unwrap().code, "no_contact");
        assert_eq!(till.ends, [HAND_OVER, HAND_OVER]);
        assert_eq!(till.runs(), None);
        till.switch_off();
    });
}

#[test]
fn an_agent_that_hangs_is_ended_by_the_watchdog_until_the_one_before_is_back() {
    on_one(|server| {
        let mut till = a_till(server, "");
        server.publish_agent("0.2.0", 1, "hangs");
        server.roll_out(&rollout("hang", &format!("{AGENT}@0.2.0"), &json!({})));
        for tries_left in [2, 1, 0] {
            till.until("the new agent hangs", |till| till.runs().is_some());
            assert_eq!(till.versions()["tries_left"], tries_left);
            till.kill();
        }
        assert_eq!(end(server, &mut till, "hang").state, AssignmentState::RolledBack);
        assert_eq!(till.ends, [HAND_OVER, KILLED, KILLED, KILLED]);
        till.switch_off();
    });
}

#[test]
fn a_good_agent_that_is_killed_on_trial_is_tried_again_and_stays() {
    on_one(|server| {
        let mut till = a_till(server, "");
        server.publish_agent("0.2.0", 1, "good");
        server.roll_out(&rollout("killed", &format!("{AGENT}@0.2.0"), &json!({})));
        for _ in 0..2 {
            till.until("the new agent runs", |till| till.runs().is_some());
            till.kill();
        }
        assert_eq!(end(server, &mut till, "killed").state, AssignmentState::Succeeded);
        assert_eq!(till.ends, [HAND_OVER, KILLED, KILLED]);
        till.until("the new agent says its version", |_| agent_of(server) == "0.2.0");
        till.switch_off();
    });
}

#[test]
fn when_what_the_launcher_knows_is_lost_the_packaged_agent_runs_and_finds_the_version_again() {
    on_one(|server| {
        let mut till = a_till(server, "");
        server.publish_agent("0.2.0", 1, "good");
        assert_eq!(update(server, &mut till, "0.2.0").state, AssignmentState::Succeeded);
        let dir = till.runs();
        till.switch_off();
        till.ends.clear();
        for slot in ["launch.0", "launch.1"] {
            fs::write(till.dir().join(slot), "garbage").unwrap();
        }
        till.switch_on();
        till.until("the version is found again", |till| till.runs() == dir);
        // The packaged one, of an older schema, cannot read the journal, and tells so.
        assert_eq!(till.ends, [HAND_OVER]);
        assert!(till.till.log().contains("launch.0 is damaged"), "{}", till.till.log());
        assert!(till.till.state_dir().join("state.0.newer").exists());
        server.publish_agent("0.3.0", 2, "good");
        assert_eq!(update(server, &mut till, "0.3.0").state, AssignmentState::Succeeded);
        till.switch_off();
    });
}

#[test]
fn a_version_that_cannot_be_started_never_leaves_a_dead_till() {
    use std::os::unix::fs::PermissionsExt as _;
    on_one(|server| {
        let mut till = a_till(server, "");
        server.publish_agent("0.2.0", 1, "good");
        assert_eq!(update(server, &mut till, "0.2.0").state, AssignmentState::Succeeded);
        let program = program(&mut till);
        let whole = server.home().join("whole");
        fs::copy(&program, &whole).unwrap();
        let (executable, not) = (fs::Permissions::from_mode(0o755), fs::Permissions::from_mode(0o644));
        let harm: [&dyn Fn(); 4] = [
            &|| fs::set_permissions(&program, not.clone()).unwrap(),
            &|| fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap(),
            &|| fs::write(&program, "not a program of this machine").unwrap(),
            &|| fs::remove_dir_all(program.parent().unwrap()).unwrap(),
        ];
        for harm in harm {
            till.switch_off();
            harm();
            till.switch_on();
            till.until("the packaged agent is heard", |_| agent_of(server) == PACKAGED);
            assert_eq!(till.runs(), None);
            till.switch_off();
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            // By another process: a child of another test may have what this one writes to open, and nothing runs that is
            // being written.
            assert!(std::process::Command::new("cp").args([&whole, &program]).status().unwrap().success());
            fs::write(program.with_file_name("edition"), "0.2.0 good").unwrap();
            fs::set_permissions(&program, executable.clone()).unwrap();
            till.switch_on();
            till.until("the version is heard again", |_| agent_of(server) == "0.2.0");
        }
        assert_eq!(till.ends, [HAND_OVER]);
        till.switch_off();
    });
}

#[test]
fn an_agent_without_a_launcher_does_not_update_itself_and_says_so() {
    on_one(|server| {
        let launched = server.launched_till("till-1", "");
        let till = &launched.till;
        till.once().ok();
        server.publish_agent("0.2.0", 1, "good");
        server.roll_out(&rollout("alone", &format!("{AGENT}@0.2.0"), &json!({ "max_attempts": 1 })));
        till.once().ok();
        let ended = server.outcome("alone", till);
        assert_eq!((ended.state, ended.failure.unwrap().code.as_str()), (AssignmentState::Failed, "no_launcher"));
        assert_eq!(till.state(), AgentState::Idle);
    });
}
