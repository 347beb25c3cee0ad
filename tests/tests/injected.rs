//! The real agent under `strace`: killed before each of its calls that change something, and with calls that fail. After
//! that it is started again, comes to its update, and tells so once.

use std::{fs, path::Path, process::Command, time::Duration};

use callboard_proto::{
    admin::Assignment,
    state::{AgentState, AssignmentState},
};
use callboard_tests::{
    release::{NewRelease, bytes},
    server::{Engine, TestServer},
    till::Till,
    world::rollout,
};
use serde_json::json;

use crate::BINARIES;

/// Starts after which a till has its update, whatever happened to it.
const MAX_STARTS: usize = 12;

/// Says whether processes can be traced here. On the machine that checks changes they must be.
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let there = traced.is_ok_and(|output| output.status.success());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "strace is needed, and leave to trace");
        eprintln!("skipped: needs strace");
    }
    there
}

/// A server with a release for whoever comes, and how many have come.
struct Shop {
    server: TestServer,
    tills: u64,
}

impl Shop {
    fn open() -> Self {
        let server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        NewRelease::new("pos-app", "2.0.0", 1).publish(&server);
        server.roll_out(&rollout("live", "pos-app@2.0.0", &json!({})));
        Self { server, tills: 0 }
    }

    /// A new till runs for the first time while `fault` befalls its calls of `name`: the `step`th, the one `step` later,
    /// and so on, each on a till of its own, until a till runs unharmed. Says how many were harmed.
    fn harm(&mut self, name: &str, fault: &str, step: usize) -> u64 {
        let before = self.tills;
        for nth in (1..).step_by(step) {
            self.tills += 1;
            let till = self.server.till(&format!("till-{}", self.tills));
            let trace = till.home().join("trace");
            // Not every machine has every call by that name.
            let inject = format!("inject=?{name}:{fault}:when={nth}");
            let wrapper =
                ["strace", "-f", "-o", trace.to_str().unwrap(), "-e", &format!("trace=?{name}"), "-e", &inject];
            let first = till.once_under(&wrapper);
            let harmed = was_harmed(&trace);
            assert!(harmed || first.code == Some(0), "{}", first.stderr);
            self.settle(&till, &format!("{name}:{fault}, call {nth}"));
            if !harmed {
                break;
            }
        }
        self.tills - before - 1
    }

    /// Starts the till until it is updated.
    fn settle(&self, till: &Till, context: &str) {
        let mut starts = 0;
        let outbox = || fs::read_dir(till.state_dir().join("outbox")).unwrap().count();
        while till.version() != "2.0.0" || till.state() != AgentState::Idle || outbox() > 0 {
            starts += 1;
            assert!(starts <= MAX_STARTS, "{context}: {}", till.status());
            let again = till.once();
            assert!(again.code == Some(0) || starts < MAX_STARTS, "{context}: {}", again.stderr);
            // What failed for a passing reason is tried again later.
            self.server.advance(Duration::from_secs(3600));
            // What failed for good is tried again by a person.
            let failed = |one: &Assignment| matches!(one.state, AssignmentState::Failed | AssignmentState::RolledBack);
            if self.server.assignment("live", till).as_ref().is_some_and(failed) {
                self.server.cli(["rollout", "retry", "live", "--device", &till.name, "--reason", "a new disk"]).ok();
            }
        }
        assert_eq!(till.runs("pos-app.bin").unwrap(), bytes("pos-app 2.0.0", 3000), "{context}");
        let told = self.server.outcome("live", till);
        assert_eq!(told.state, AssignmentState::Succeeded, "{context}");
        assert_eq!(till.fetched(), 0, "{context}");
    }

    /// Every till is counted once.
    fn close(self) {
        let counts = self.server.rollout("live").phases[0].counts;
        assert_eq!((u64::from(counts.succeeded), u64::from(counts.size)), (self.tills, self.tills));
        self.server.recount();
    }
}

fn was_harmed(trace: &Path) -> bool {
    let trace = fs::read_to_string(trace).unwrap();
    trace.contains("(INJECTED)") || trace.contains("+++ killed by SIGKILL +++")
}

/// Harms calls of these names, as often as there are at least.
fn harm_all(fault: &str, calls: &[(&str, usize, u64)]) {
    if !can_trace() {
        return;
    }
    let mut shop = Shop::open();
    for (name, step, at_least) in calls {
        let harmed = shop.harm(name, fault, *step);
        eprintln!("{name}:{fault}: {harmed} tills");
        assert!(harmed >= *at_least, "{name} was called {harmed} times");
    }
    shop.close();
}

#[test]
fn an_agent_killed_before_any_sync_comes_to_its_update() {
    harm_all("signal=SIGKILL", &[("fsync", 1, 8), ("fdatasync", 1, 8), ("syncfs", 1, 1)]);
}

#[test]
fn an_agent_killed_before_any_change_of_a_name_comes_to_its_update() {
    let calls = [("rename", 1, 4), ("unlink", 1, 2), ("symlink", 1, 1), ("mkdir", 1, 2), ("fallocate", 1, 1)];
    harm_all("signal=SIGKILL", &calls);
}

#[test]
fn an_agent_killed_before_any_write_and_many_an_opening_comes_to_its_update() {
    harm_all("signal=SIGKILL", &[("pwrite64", 1, 8), ("openat", 13, 5)]);
}

#[test]
fn an_agent_whose_medium_fails_at_any_sync_comes_to_its_update() {
    harm_all("error=EIO", &[("fsync", 1, 8), ("fdatasync", 1, 8), ("syncfs", 1, 1)]);
}

#[test]
fn an_agent_whose_disk_is_full_at_any_write_comes_to_its_update() {
    harm_all("error=ENOSPC", &[("pwrite64", 1, 8), ("mkdir", 1, 2), ("fallocate", 1, 1)]);
}
