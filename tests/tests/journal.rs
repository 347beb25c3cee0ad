//! What the journal of systemd gets: the priority of each line. Here it is a file.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::{Command, Stdio},
};

use callboard_proto::state::AssignmentState;
use callboard_tests::{release::NewRelease, server::TestServer, till::Till, world::rollout};
use serde_json::json;

use crate::{BINARIES, on_both};

/// `run --once` of a till, as systemd starts it: what the journal gets.
fn journal(till: &Till, is_journal: bool) -> String {
    let path = till.home().join("journal");
    let file = fs::File::create(&path).unwrap();
    let meta = file.metadata().unwrap();
    let stream = format!("{}:{}", meta.dev(), meta.ino() + u64::from(!is_journal));
    let mut command = Command::new(BINARIES.agent);
    command.env_clear().env("JOURNAL_STREAM", stream).args(["run", "--once", "--config"]).arg(till.config());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).status().unwrap();
    fs::read_to_string(path).unwrap()
}

fn lines_of<'a>(text: &'a str, priority: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(priority)).collect()
}

#[test]
fn warnings_of_an_agent_are_warnings_in_the_journal() {
    on_both(|server: &mut TestServer| {
        let till = server.till("till-1");
        let text = journal(&till, true);
        let info = lines_of(&text, "<6>");
        assert_eq!(info.len(), text.lines().count(), "{text}");
        let started = info.first().expect("a line");
        for wanted in ["started version=", "server=https://127.0.0.1:", "products=pos-app", "first_check_in_s=0"] {
            assert!(started.contains(wanted), "{wanted:?} is not in {started:?}");
        }
        server.stop();
        let text = journal(&till, true);
        assert!(lines_of(&text, "<4>").iter().any(|line| line.contains("failed to check in")), "{text}");
        let text = journal(&till, false);
        assert!(text.contains(" WARN ") && !text.contains('<'), "the journal is another file: {text}");
    });
}

#[test]
fn warnings_of_a_server_are_warnings_in_the_journal() {
    on_both(|server: &mut TestServer| {
        server.stop();
        let before = server.log().len();
        let key = server.dir().join("online.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        server.serve_under("export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)");
        let log = server.log();
        let text = &log[before..];
        assert!(lines_of(text, "<4>").iter().any(|line| line.contains("others can read")), "{text}");
        callboard_tests::wait::until("it says that it is ready", || {
            lines_of(&server.log()[before..], "<6>").iter().any(|line| line.contains("ready public_url="))
        });
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    });
}

#[test]
fn each_step_of_an_update_is_logged_once() {
    on_both(|server: &mut TestServer| {
        let till = server.till_via(server.device_address(), "till-1", "trial_s = 0\nhealth = [\"/bin/false\"]\n");
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        server.roll_out(&rollout("r", "pos-app@1.1.0", &json!({})));
        let text = journal(&till, true);
        assert_eq!(server.outcome("r", &till).state, AssignmentState::RolledBack);
        for state in ["Accepted", "Staging", "Trial", "RollingBack"] {
            let step = format!("step state={state} ");
            assert_eq!(text.lines().filter(|line| line.contains(&step)).count(), 1, "{step}\n{text}");
        }
    });
}

#[test]
fn the_unit_of_the_agent_lets_health_commands_make_code_and_use_memory() {
    let unit = include_str!("../../deploy/callboard-agent.service");
    for limit in ["MemoryDenyWriteExecute", "MemoryHigh", "MemoryMax"] {
        let is_it = |line: &str| line.split_once('=').is_some_and(|(key, _)| key == limit);
        assert!(!unit.lines().any(is_it), "{limit}: programs of the product run in the agent's unit");
    }
    assert!(unit.contains("ProtectSystem=strict"), "the rest stays");
}
