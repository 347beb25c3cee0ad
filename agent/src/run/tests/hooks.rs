//! The same power cuts while hooks run: each of them may be cut short anywhere and is run again.
//!
//! The hooks of these releases are played by the simulation. What they do goes to the same medium as what the agent
//! does, so it can be lost as well.

use std::pin::Pin;

use callboard_proto::{
    release::{Hook, Restart, Rollback, Stage},
    report::Failure,
};
use tokio::sync::Notify;

use super::*;
use crate::hooks::{Call, Done, Exit, Inhibitor, Outside, Run};

pub(super) const DATA: &str = "/opt/pos/data";
/// There once the till has been asked.
const ASKED: &str = "/opt/pos/asked";

/// A till whose data the new version changes at its start.
struct Shop {
    fs: SimFs,
    health: Health,
    /// Told when the machine is to go down, if it can.
    down: Option<Rc<Notify>>,
}

fn outside(fs: &SimFs, health: Health) -> Rc<dyn Outside> {
    Rc::new(Shop { fs: SimFs::shared(fs), health, down: None })
}

/// The same on a machine that goes down when it is told to.
pub(super) fn machine(fs: &SimFs, health: Health, down: Rc<Notify>) -> Rc<dyn Outside> {
    Rc::new(Shop { fs: SimFs::shared(fs), health, down: Some(down) })
}

impl Shop {
    /// What a hook does; `Ok` is its exit status.
    fn play(&self, stage: &str, backup: Option<&Path>) -> std::io::Result<i32> {
        let saved = backup.map(|directory| directory.join("data"));
        let put = |path: &Path, bytes: &[u8]| crate::fs::replace(&self.fs, path, bytes);
        match (stage, saved) {
            ("backup", Some(saved)) => put(&saved, &self.fs.read(Path::new(DATA), 100)?)?,
            ("restore", Some(saved)) => put(Path::new(DATA), &self.fs.read(&saved, 100)?)?,
            ("post-activate", _) => put(Path::new(DATA), b"new")?,
            ("pre-activate", _) if self.fs.stat(Path::new(ASKED))?.is_none() => {
                put(Path::new(ASKED), b"")?;
                return Ok(75);
            }
            ("health", _) if self.health == Health::Bad => return Ok(1),
            ("backup" | "restore", None) => return Ok(2),
            _ => {}
        }
        Ok(0)
    }
}

impl Outside for Shop {
    fn run(&self, call: Call) -> Run<'_> {
        let of = |name: &str| call.environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        let backup = of("CALLBOARD_BACKUP_DIR").map(PathBuf::from);
        let played = self.play(&of("CALLBOARD_STAGE").unwrap_or_default(), backup.as_deref());
        // Without power it ends somewhere in the middle.
        let exit = played.map_or(Exit::Signal(9), Exit::Code);
        Box::pin(std::future::ready(Done { exit, output: String::new() }))
    }

    fn local(&self, _stage: Stage) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn inhibitors(&self) -> Vec<Inhibitor> {
        Vec::new()
    }

    fn reboot(&self) -> Pin<Box<dyn Future<Output = Failure> + '_>> {
        let Some(down) = &self.down else {
            return Box::pin(std::future::ready(super::machine::transient(Code::Service, "it cannot")));
        };
        down.notify_one();
        Box::pin(std::future::pending())
    }
}

/// Release 2 with a hook for every stage that there is a use for.
fn hooked(rollback: Rollback) -> &'static Signed {
    hooked_and(rollback, Restart::default())
}

/// The same, which restarts what it says.
pub(super) fn hooked_and(rollback: Rollback, restart: Restart) -> &'static Signed {
    static SIGNED: [OnceLock<Signed>; 6] = [const { OnceLock::new() }; 6];
    let place = match rollback {
        Rollback::Safe => 0,
        Rollback::NeedsBackup => 1,
        Rollback::Forbidden => 2,
    };
    SIGNED[place + 3 * usize::from(restart == Restart::Reboot)].get_or_init(|| {
        let (app, hook) = (b"release 2".repeat(100), b"#!/bin/sh".to_vec());
        let contents = vec![(testing::payload("app", &app), app), (testing::payload("hook", &hook), hook)];
        let payloads = contents.iter().map(|(payload, _)| payload.clone()).collect();
        let stages = Stage::ALL.into_iter().filter(|stage| match stage {
            Stage::Backup | Stage::Restore => rollback == Rollback::NeedsBackup,
            _ => true,
        });
        let hooks = stages.map(|stage| Hook { stage, path: "hook".to_owned(), timeout_s: 60 }).collect();
        let release = Release { payloads, hooks, rollback, restart, min_floor: 2, ..testing::release(2) };
        let crit = release.critical().into_iter().map(str::to_owned).collect();
        let release = Release { crit, ..release };
        let bytes = testing::signed(&release, &[&Keys::fixed().release]);
        let digest = Envelope::parse::<Release>(&bytes).expect("an envelope").digest();
        Signed { bytes, digest, release, contents }
    })
}

fn ordering(rollback: Rollback) -> Server {
    Server { release: hooked(rollback), outside: Some(outside), ..Server::ordering(2) }
}

fn data(fs: &SimFs) -> String {
    String::from_utf8(fs.read(Path::new(DATA), 100).expect("the data are there")).expect("text")
}

fn till() -> SimFs {
    let fs = shop(Before::Release);
    write(&fs, Path::new(DATA), b"old");
    fs.sync_all(Path::new("/")).expect("synced");
    fs
}

fn assert_over(fs: &SimFs, server: &Server, rollback: Rollback, health: Health, context: &str) {
    let (ended, runs, holds) = match (health, rollback) {
        (Health::Good, _) => (report::Event::Succeeded, hooked(rollback).tree(), "new"),
        // What the new version wrote stays: the previous one can read it.
        (Health::Bad, Rollback::Safe) => (report::Event::RolledBack, contents_of(1), "new"),
        (Health::Bad, Rollback::NeedsBackup) => (report::Event::RolledBack, contents_of(1), "old"),
        (Health::Bad, Rollback::Forbidden) => (report::Event::Failed, hooked(rollback).tree(), "new"),
    };
    assert_eq!(server.ended(), Some(ended), "{context}");
    assert_eq!(running(fs), Some(runs), "{context}");
    assert_eq!(data(fs), holds, "{context}");
    let put_off = server.heard.get(&(server.attempt.attempt, outbox::seq(report::Event::Deferred)));
    let asked = fs.stat(Path::new(ASKED)).expect("readable").is_some();
    assert!(put_off.is_some() || !asked || context != "without a cut", "it was put off once: {context}");
}

fn cut_everywhere(rollback: Rollback, health: Health) -> u32 {
    let start = till();
    let mut states = 0;
    for cut in 0.. {
        let fs = SimFs::clone(&start);
        fs.cut_power_at(cut);
        let mut server = ordering(rollback);
        if server.drive(&fs, health) {
            assert_over(&fs, &server, rollback, health, "without a cut");
            assert!(cut > 80, "an update of {cut} calls");
            return states;
        }
        for keeps in all_keeps(3) {
            states += 1;
            let context = format!("{rollback:?} {health:?}, cut before call {cut} after {}, {keeps:?}", fs.last());
            let rebooted = fs.reboot(keeps);
            let now = running(&rebooted);
            assert!(now == Some(contents_of(1)) || now == Some(hooked(rollback).tree()), "half a version: {context}");
            assert!(["old", "new"].contains(&data(&rebooted).as_str()), "{context}");
            let mut server = server.again();
            assert!(server.drive(&rebooted, health), "{context}");
            assert_over(&rebooted, &server, rollback, health, &context);
            let again = rebooted.reboot(Keeps::Nothing);
            assert!(server.drive(&again, health), "{context}");
            assert_over(&again, &server, rollback, health, &format!("{context}, started once more"));
        }
    }
    states
}

#[test]
fn a_power_cut_before_any_call_while_hooks_run_leaves_a_working_till() {
    for rollback in [Rollback::Safe, Rollback::NeedsBackup, Rollback::Forbidden] {
        let states = cut_everywhere(rollback, Health::Good);
        assert!(states > 400, "{states} crash states");
    }
}

#[test]
fn a_power_cut_before_any_call_of_going_back_brings_the_data_back_or_leaves_them() {
    for rollback in [Rollback::Safe, Rollback::NeedsBackup, Rollback::Forbidden] {
        let states = cut_everywhere(rollback, Health::Bad);
        assert!(states > 400, "{states} crash states");
    }
}
