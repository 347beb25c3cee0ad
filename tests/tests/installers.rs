//! Products that a program of the device's owner installs: streams, what never reaches the program, and programs that
//! hang, fail or lie.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use callboard_proto::{
    digest::Digest,
    release::Installer,
    state::{AgentState, AssignmentState},
};
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

const CHUNK: usize = 1 << 20;
const SIZE: usize = 6 * CHUNK;

/// One slot beside what runs, filled from a stream. What is said and done is noted in `log`. The lines in front of it may
/// answer some verbs otherwise.
const SLOT: &str = r#"
case $1 in
probe)
    echo contract=1
    echo stream=yes
    if [ "$(cat ready 2>/dev/null)" = "$2" ]; then echo ready=yes; fi
    if [ "$(cat part.of 2>/dev/null)" = "$2" ]; then echo "have=$(stat -c %s part)"; fi ;;
install)
    echo "install from $CALLBOARD_OFFSET" >>log
    if [ "$CALLBOARD_OFFSET" = 0 ]; then : >part; echo "$2" >part.of; else truncate -s "$CALLBOARD_OFFSET" part; fi
    cat >>part
    size=$(printf '%s' "$CALLBOARD_PAYLOADS" | while read -r _ size _; do echo "$size"; done)
    if [ "$(stat -c %s part)" != "$size" ]; then echo 'the stream ended early' >&2; exit 1; fi
    mv part slot; rm -f part.of; echo "$2" >ready ;;
activate) if [ "$(cat active)" != "$2" ]; then cp active kept; echo "$2" >active; fi ;;
is-active) [ "$(cat active)" = "$2" ] ;;
commit) echo commit >>log ;;
rollback) echo rollback >>log; if [ "$(cat active)" = "$2" ]; then cp kept active; fi ;;
*) exit 1 ;;
esac
"#;

/// Where a test's program lies and works.
struct Slot {
    home: tempfile::TempDir,
}

impl Slot {
    /// A program that does `special` before all else.
    fn new(special: &str) -> Self {
        let home = tempfile::Builder::new().prefix("callboard-slot-").tempdir().unwrap();
        fs::write(home.path().join("active"), "factory\n").unwrap();
        let slot = Self { home };
        let here = slot.home.path().display();
        fs::write(slot.program(), format!("#!/bin/sh\nset -eu\ncd {here}\n{special}\n{SLOT}")).unwrap();
        fs::set_permissions(slot.program(), fs::Permissions::from_mode(0o755)).unwrap();
        slot
    }

    fn program(&self) -> PathBuf {
        self.home.path().join("installer")
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.home.path().join(file)).unwrap_or_default()
    }

    fn log(&self) -> String {
        String::from_utf8(self.read("log")).unwrap()
    }

    /// The till that it installs on.
    fn till(&self, server: &TestServer, name: &str, timeout_s: u64, more: &str) -> Till {
        let till = server.till_via(server.device_address(), name, &format!("{QUICK}{more}"));
        till.install_by(&self.program(), timeout_s);
        till
    }
}

fn release(version: &str, counter: u64, payload: Vec<u8>) -> NewRelease {
    let release = NewRelease::with_payload("pos-app", version, counter, payload);
    release.with(|document| document.installer = Installer::Command)
}

fn large() -> Vec<u8> {
    bytes("large", SIZE)
}

#[test]
fn a_stream_is_installed_without_a_copy_and_may_be_larger_than_the_agents_disk_and_quota() {
    on_both(|server| {
        let slot = Slot::new("");
        let mut till = slot.till(server, "till-1", 60, "");
        let config = fs::read_to_string(till.config()).unwrap();
        fs::write(till.config(), format!("quota_bytes = {}\n{config}", 1 << 20)).unwrap();
        if !till.move_to_small_disk(2 << 20) {
            eprintln!("skipped: needs unshare");
            return;
        }
        release("2.0.0", 1, large()).publish(server);
        server.roll_out(&rollout("large", "pos-app@2.0.0", &json!({})));
        till.once().ok();
        assert_eq!(server.outcome("large", &till).state, AssignmentState::Succeeded);
        assert!(slot.read("slot") == large());
        assert_eq!(slot.log(), "install from 0\ncommit\n");
        assert!(till.stored() < 1 << 20, "{} bytes are stored", till.stored());
        assert_eq!((till.version().as_str(), till.state()), ("2.0.0", AgentState::Idle));
    });
}

#[test]
fn a_stream_that_was_cut_goes_on_where_the_program_says() {
    on_both(|server| {
        let slot = Slot::new("");
        let proxy = Proxy::to(server.device_address());
        let mut till = server.till_via(proxy.address(), "till-1", QUICK);
        till.install_by(&slot.program(), 60);
        release("2.0.0", 1, large()).publish(server);
        server.roll_out(&rollout("large", "pos-app@2.0.0", &json!({})));
        proxy.set(Fault::StallAfter(7 * u64::try_from(CHUNK).unwrap() / 2));
        till.switch_on();
        wait::until("the middle of the stream", || slot.read("part").len() >= 3 * CHUNK);
        till.kill();
        let sent = proxy.bytes_down();
        proxy.set(Fault::None);
        till.switch_on();
        till.wait_for("2.0.0");
        assert!(slot.read("slot") == large());
        let log = slot.log();
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines.len() == 3 && lines[0] == "install from 0" && lines[2] == "commit", "{log}");
        let from: usize = lines[1].trim_start_matches("install from ").parse().unwrap();
        assert!(from >= 3 * CHUNK && from.is_multiple_of(CHUNK), "{log}");
        let again = usize::try_from(proxy.bytes_down() - sent).unwrap();
        assert!(again < SIZE - 3 * CHUNK + CHUNK / 2, "{again} bytes were fetched again");
    });
}

#[test]
fn chunks_that_were_tampered_with_never_reach_the_program() {
    on_both(|server| {
        let slot = Slot::new("");
        let till = slot.till(server, "till-1", 60, "");
        let release = release("2.0.0", 1, large());
        release.publish(server);
        let file = server.payload_file(Digest::of(&release.payload));
        let mut tampered = large();
        tampered[2 * CHUNK + 5000] ^= 1;
        fs::write(&file, &tampered).unwrap();
        server.roll_out(&rollout("once", "pos-app@2.0.0", &json!({ "max_attempts": 1 })));
        till.once().ok();
        let outcome = server.outcome("once", &till);
        assert_eq!((outcome.state, outcome.failure.unwrap().code.as_str()), (AssignmentState::Failed, "bad_chunk"));
        assert!(slot.read("part") == large()[..2 * CHUNK], "the program has what was verified, and nothing else");
        assert!(slot.read("ready").is_empty() && slot.read("active") == b"factory\n");
        assert!(till.status()["attacks"]["bad_chunk"].as_u64().unwrap() > 0);
        server.api().upload(&release.payload).ok();
        server.roll_out(&rollout("again", "pos-app@2.0.0", &json!({})));
        till.once().ok();
        assert_eq!(server.outcome("again", &till).state, AssignmentState::Succeeded);
        assert!(slot.read("slot") == large());
        assert!(slot.log().ends_with(&format!("install from {}\ncommit\n", 2 * CHUNK)), "{}", slot.log());
    });
}

/// What comes of a program that is not as it should be, for a version that is well or is not.
#[track_caller]
fn check(
    server: &TestServer,
    n: u64,
    special: &str,
    well: bool,
    wanted: (AssignmentState, &str, &str),
) -> (Slot, Till) {
    let slot = Slot::new(special);
    let (name, version) = (format!("till-{n}"), format!("2.0.{n}"));
    let health = if well { "/bin/true" } else { "/bin/false" };
    let till = slot.till(server, &name, 2, &format!("health = [{health:?}]\n"));
    release(&version, n, bytes(&version, 5000)).publish(server);
    let only = json!({ "selector": format!("name = {name}"), "max_attempts": 1 });
    let rollout_name = format!("to-{n}");
    server.roll_out(&rollout(&rollout_name, &format!("pos-app@{version}"), &only));
    till.once().ok();
    let outcome = server.outcome(&rollout_name, &till);
    let (code, text) = outcome.failure.map(|failure| (failure.code, failure.text)).unwrap_or_default();
    assert_eq!((outcome.state, code.as_str()), (wanted.0, wanted.1), "{special}: {text}\n{}", till.log());
    assert!(text.contains(wanted.2), "{special}: {text:?}, wanted {:?}", wanted.2);
    (slot, till)
}

/// The verb is answered so.
fn on(verb: &str, answer: &str) -> String {
    format!("if [ $1 = {verb} ]; then {answer}; fi")
}

#[test]
fn programs_that_hang_or_fail_before_the_switch_leave_everything_as_it_was() {
    use AssignmentState::Failed;
    on_both(|server| {
        let cases = [
            (on("probe", "sleep 1000"), "not finished after 2 s"),
            (on("probe", "echo hello; exit 0"), "\"hello\" is no answer to probe"),
            (on("probe", "exit 0"), "does not say contract=1"),
            (on("probe", "echo contract=2; exit 0"), "keeps contract 2"),
            (on("probe", "exit 75"), "exit status: 75"),
            (on("install", "sleep 1000"), "not finished after 2 s"),
            (on("install", "echo no such slot >&2; exit 3"), "exit status: 3: no such slot"),
            (on("install", "exit 64"), "exit status: 64"),
            (on("install", "kill -9 $$"), "signal: 9"),
            (on("install", "cat >/dev/null; exit 0"), "not ready after it was installed"),
        ];
        for (n, (special, text)) in (1..).zip(&cases) {
            let (slot, till) = check(server, n, special, true, (Failed, "installer", text));
            assert_eq!((slot.read("active"), till.state()), (b"factory\n".to_vec(), AgentState::Idle), "{special}");
            assert_eq!(till.version(), "1.0.0");
        }
    });
}

#[test]
fn programs_that_hang_or_fail_after_the_switch_are_told_to_go_back() {
    use AssignmentState::RolledBack;
    on_both(|server| {
        let cases = [
            (on("activate", "sleep 1000"), "installer", "not finished after 2 s"),
            (on("activate", "cp active kept; echo $2 >active; exit 5"), "installer", "exit status: 5"),
            (on("activate", "exit 0"), "not_active", "another release runs after this one was activated"),
            (on("is-active", "if [ ! -e hung ]; then : >hung; sleep 1000; fi"), "installer", "not finished after 2 s"),
        ];
        for (n, (special, code, text)) in (1..).zip(&cases) {
            let (slot, till) = check(server, n, special, true, (RolledBack, code, text));
            assert_eq!((slot.read("active"), till.state()), (b"factory\n".to_vec(), AgentState::Idle), "{special}");
            assert!(slot.log().contains("rollback"), "{special}: {}", slot.log());
        }
    });
}

#[test]
fn a_program_that_says_later_is_asked_again() {
    on_both(|server| {
        let later = |verb| on(verb, &format!("if [ ! -e {verb}.busy ]; then : >{verb}.busy; exit 75; fi"));
        let special = ["probe", "install", "activate", "is-active", "commit"].map(later).join("\n");
        let (slot, till) = check(server, 1, &special, true, (AssignmentState::Succeeded, "", ""));
        assert_eq!(till.version(), "2.0.1");
        assert!(slot.read("slot") == bytes("2.0.1", 5000));
    });
}

#[test]
fn a_program_that_lies_about_what_runs_leaves_the_device_inconsistent_and_polling() {
    on_both(|server| {
        let lie = on("is-active", "exit 0");
        let (slot, till) =
            check(server, 1, &lie, false, (AssignmentState::Failed, "installer", "runs after it was rolled back"));
        assert_eq!(till.state(), AgentState::Inconsistent);
        let rollbacks = slot.log().matches("rollback").count();
        assert!((2..20).contains(&rollbacks), "{rollbacks}");
        till.once().ok();
        assert_eq!(slot.log().matches("rollback").count(), rollbacks, "nothing is changed any more");
        assert_eq!(till.state(), AgentState::Inconsistent);
    });
}

#[test]
fn a_release_runs_no_more_when_the_machine_went_back_by_itself_and_the_server_hears_of_it() {
    on_both(|server| {
        let (slot, till) = check(server, 1, "", true, (AssignmentState::Succeeded, "", ""));
        assert_eq!(server.registered(&till).installed[0].version.as_str(), "2.0.1");
        fs::write(slot.home.path().join("active"), "factory\n").unwrap();
        let said = till.once();
        assert!(said.ok().stderr.contains("another release runs than the one installed last"), "{}", said.stderr);
        assert!(server.registered(&till).installed.is_empty());
    });
}

#[test]
fn a_machine_that_has_to_be_started_anew_is_and_nothing_is_activated_twice() {
    on_both(|server| {
        let slot = Slot::new(&on("activate", "echo activate >>log; echo reboot=needed"));
        let mut till = slot.till(server, "till-1", 60, "");
        let programs = slot.home.path().join("bin");
        fs::create_dir(&programs).unwrap();
        let systemctl = format!("#!/bin/sh\necho \"systemctl $*\" >>{}/log\n", slot.home.path().display());
        fs::write(programs.join("systemctl"), systemctl).unwrap();
        fs::set_permissions(programs.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        till.first_in_path(&programs);
        release("2.0.0", 1, bytes("small", 5000)).publish(server);
        server.roll_out(&rollout("reboot", "pos-app@2.0.0", &json!({})));
        for times in 1..=2 {
            till.switch_on();
            let asked = || slot.log().matches("systemctl reboot").count() == times;
            wait::until("the restart is asked for", asked);
            assert_eq!(till.state(), AgentState::Trial);
            till.kill();
        }
        assert_eq!(slot.log().matches("activate").count(), 1, "{}", slot.log());
    });
}

#[test]
fn a_release_for_another_installer_is_refused() {
    on_both(|server| {
        let slot = Slot::new("");
        let (by_program, by_agent) = (slot.till(server, "till-1", 60, ""), server.till("till-2"));
        release("2.0.0", 1, bytes("small", 5000)).publish(server);
        NewRelease::new("pos-app", "3.0.0", 2).publish(server);
        for (till, version) in [(&by_agent, "2.0.0"), (&by_program, "3.0.0")] {
            let only = json!({ "selector": format!("name = {}", till.name) });
            server.roll_out(&rollout(&till.name, &format!("pos-app@{version}"), &only));
            till.once().ok();
            let outcome = server.outcome(&till.name, till);
            assert_eq!(outcome.state, AssignmentState::Failed);
            assert_eq!(outcome.failure.unwrap().code, "wrong_installer");
        }
        assert_eq!(slot.log(), "");
    });
}

#[test]
fn a_program_that_others_could_change_is_not_run_and_the_agent_says_so() {
    on_both(|server| {
        let slot = Slot::new("");
        let till = slot.till(server, "till-1", 60, "");
        let mode = |mode| fs::set_permissions(slot.program(), fs::Permissions::from_mode(mode)).unwrap();
        let says = |wanted: &str| {
            let doctor = till.command(&["doctor"]);
            assert_eq!(doctor.code, Some(1));
            assert!(doctor.stdout.contains(wanted), "{}", doctor.stdout);
            let check = till.command(&["config", "check"]);
            assert!(check.ok().stdout.contains(wanted), "{}", check.stdout);
            let run = till.once();
            let said = run.stderr.lines().find(|line| line.contains("this product cannot be updated"));
            assert!(said.is_some_and(|line| line.contains(wanted)), "{}", run.stderr);
        };
        let there = format!("installer {} is there", slot.program().display());
        let doctor = till.command(&["doctor"]).stdout;
        assert!(doctor.contains(&there), "{doctor}");
        mode(0o757);
        says("others may write to");
        mode(0o644);
        says("is no program");
        release("2.0.0", 1, bytes("small", 5000)).publish(server);
        server.roll_out(&rollout("bad", "pos-app@2.0.0", &json!({ "max_attempts": 1 })));
        till.once().ok();
        let outcome = server.outcome("bad", &till);
        assert_eq!((outcome.state, outcome.failure.unwrap().code.as_str()), (AssignmentState::Failed, "installer"));
        fs::remove_file(slot.program()).unwrap();
        says("No such file");
        till.set("installer", "\"bin/installer\"");
        let refused = till.once();
        assert!(refused.refused(2).contains("wanted is an absolute path"), "{}", refused.stderr);
    });
}
