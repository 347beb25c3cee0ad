//! A device that is scrapped, enrolled anew or imaged anew: what failed on it before says nothing of a release.

use std::time::Duration;

use callboard_proto::{
    admin::{Attention, Counts, Device, Preview, Rollout, RolloutState, Simulation},
    instruction::Action,
    state::AgentState,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

/// How a device leaves its former life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    Scrapped,
    EnrolledAnew,
    ImagedAnew,
}

const ALL: [Leaves; 3] = [Leaves::Scrapped, Leaves::EnrolledAnew, Leaves::ImagedAnew];

/// Tills with an image of their own that run 1.0.0, of which 2.0.0 is the next release.
fn fleet<const N: usize>(server: &TestServer) -> [FakeDevice; N] {
    let old = NewRelease::new("pos-app", "1.0.0", 1).publish(server).sha256;
    NewRelease::new("pos-app", "2.0.0", 2).publish(server);
    std::array::from_fn(|n| {
        let mut till = FakeDevice::enrol(server, &format!("till-{n}"));
        till.facts.image_id = Some("first".to_owned());
        let release = till.fetch_release(old);
        till.install(&release);
        till.check_in();
        till
    })
}

/// The device as it is afterwards; it has checked in, unless it was scrapped.
fn leave(server: &TestServer, till: &FakeDevice, how: Leaves) -> Option<FakeDevice> {
    server.advance(Duration::from_secs(1));
    let mut again = match how {
        Leaves::Scrapped => {
            let path = format!("devices/{}/decommission", till.name);
            server.api().post::<Device>(&path, &json!({ "reason": "scrapped" }));
            return None;
        }
        Leaves::EnrolledAnew => FakeDevice::enrol_imported(server, till.name.as_str()),
        Leaves::ImagedAnew => till.twin(server),
    };
    again.facts.image_id = Some("another".to_owned());
    (again.state, again.progress) = (AgentState::Idle, None);
    let mut again = again.runs("pos-app", "1.0.0");
    again.check_in();
    Some(again)
}

fn listed(server: &TestServer) -> Vec<String> {
    let all: Vec<Attention> = server.api().list("attention");
    all.into_iter().map(|one| one.device.to_string()).collect()
}

fn counts(server: &TestServer) -> Counts {
    server.rollout("r").phases[0].counts
}

#[test]
fn a_failure_leaves_halt_rules_and_the_list_with_its_device() {
    for how in ALL {
        on_both(|server| {
            let [mut bad, mut good] = fleet(server);
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "halt": [{ "max_failures": 0 }] })));
            bad.settle(Health::Bad);
            assert_eq!((server.rollout("r").state, listed(server)), (RolloutState::Paused, vec!["till-0".to_owned()]));
            let again = leave(server, &bad, how);
            assert_eq!(listed(server), Vec::<String>::new(), "{how:?}");
            assert_eq!((counts(server).rolled_back, counts(server).cancelled), (0, 1), "{how:?}");
            // Nothing is left that would halt it, and nobody has to acknowledge anything.
            assert_eq!(server.tell_rollout("r", "resume").state, RolloutState::Running);
            good.settle(Health::Good);
            if let Some(mut again) = again {
                again.settle(Health::Good);
                assert_eq!(again.version_of("pos-app"), Some("2.0.0"), "{how:?}");
            }
            let succeeded = if how == Leaves::Scrapped { 1 } else { 2 };
            assert_eq!((counts(server).succeeded, counts(server).rolled_back), (succeeded, 0), "{how:?}");
        });
    }
}

#[test]
fn a_failure_leaves_the_gate_with_its_device() {
    for how in ALL {
        on_both(|server| {
            let mut tills: [FakeDevice; 4] = fleet(server);
            let first = json!({ "name": "first", "percent": 50, "completed_percent": 100 });
            let phases = json!([first, { "name": "all", "percent": 100 }]);
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "progressive", "phases": phases })));
            let mut first: Vec<&mut FakeDevice> = tills
                .iter_mut()
                .filter_map(|till| (till.obey(Health::Bad).action == Action::Download).then_some(till))
                .collect();
            first[0].settle(Health::Bad);
            assert_eq!(server.rollout("r").state, RolloutState::Paused);
            let again = leave(server, first[0], how);
            server.tell_rollout("r", "resume");
            match again {
                Some(mut again) => {
                    assert_eq!(again.obey(Health::Good).action, Action::Download, "{how:?}");
                    first[1].settle(Health::Good);
                    assert_eq!(server.rollout("r").phases[1].opened_at, None, "{how:?}: it is waited for");
                    again.settle(Health::Good);
                }
                None => drop(first[1].settle(Health::Good)),
            }
            assert!(server.rollout("r").phases[1].opened_at.is_some(), "{how:?}");
        });
    }
}

#[test]
fn what_became_of_a_rollout_that_is_over_stands_and_needs_nobodys_attention() {
    for how in ALL {
        on_both(|server| {
            let [mut bad, mut good] = fleet(server);
            let phases = json!([{ "name": "all", "percent": 100, "success_percent": 50, "completed_percent": 100 }]);
            let more = json!({ "policy": "progressive", "audience": "frozen", "phases": phases });
            server.roll_out(&rollout("r", "pos-app@2.0.0", &more));
            bad.settle(Health::Bad);
            good.settle(Health::Good);
            assert_eq!((server.rollout("r").state, listed(server).len()), (RolloutState::Completed, 1));
            leave(server, &bad, how);
            assert_eq!((counts(server).rolled_back, counts(server).succeeded), (1, 1), "{how:?}");
            assert_eq!(listed(server), Vec::<String>::new(), "{how:?}");
        });
    }
}

#[test]
fn a_till_that_was_imaged_since_is_not_brought_back_to_what_it_may_run() {
    for how in ALL {
        on_both(|server| {
            let [mut left, mut stays, mut bad] = fleet(server);
            let rule = json!({ "max_failures": 0, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "halt": [rule] })));
            left.settle(Health::Good);
            stays.settle(Health::Good);
            // It does not ask again before the rollout halts.
            server.advance(Duration::from_secs(1));
            match how {
                Leaves::Scrapped => drop(leave(server, &left, how)),
                Leaves::EnrolledAnew => drop(FakeDevice::enrol_imported(server, "till-0")),
                Leaves::ImagedAnew => {
                    server.tell_rollout("r", "pause");
                    leave(server, &left, how);
                    server.tell_rollout("r", "resume");
                }
            }
            bad.settle(Health::Bad);
            let back = server.rollout("r-rollback");
            assert_eq!((back.state, back.phases[0].counts.size), (RolloutState::Running, 1), "{how:?}");
            stays.settle(Health::Good);
            assert_eq!(stays.version_of("pos-app"), Some("1.0.0"));
        });
    }
}

#[test]
fn a_till_that_begins_anew_while_it_goes_back_goes_back_anew() {
    for how in [Leaves::EnrolledAnew, Leaves::ImagedAnew] {
        on_both(|server| {
            let [mut till, mut bad] = fleet(server);
            let rule = json!({ "max_failures": 0, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "halt": [rule] })));
            till.settle(Health::Good);
            bad.settle(Health::Bad);
            assert_eq!(till.check_in().action, Action::Download, "it is to go back");
            server.advance(Duration::from_secs(1));
            let mut again = match how {
                Leaves::EnrolledAnew => FakeDevice::enrol_imported(server, "till-0"),
                _ => till.twin(server),
            };
            again.facts = till.facts.clone();
            again.facts.image_id = Some("another".to_owned());
            let mut again = again.runs("pos-app", "2.0.0");
            again.check_in();
            let back = server.rollout("r-rollback");
            assert_eq!(back.state, RolloutState::Running, "{how:?}");
            again.settle(Health::Good);
            assert_eq!(again.version_of("pos-app"), Some("1.0.0"), "{how:?}");
            assert_eq!(server.rollout("r-rollback").state, RolloutState::Completed, "{how:?}");
        });
    }
}

#[test]
fn preview_and_start_forget_what_rolled_back_before_a_till_was_imaged_or_enrolled_anew() {
    for how in [Leaves::EnrolledAnew, Leaves::ImagedAnew] {
        on_both(|server| {
            let [mut till] = fleet(server);
            let spec = |name: &str| rollout(name, "pos-app@2.0.0", &json!({ "audience": "frozen" }));
            server.roll_out(&spec("r"));
            till.settle(Health::Bad);
            let seen = |server: &TestServer| -> Preview { server.preview(&spec("next")) };
            assert_eq!((seen(server).devices, seen(server).incompatible), (1, 1));
            leave(server, &till, how);
            assert_eq!((seen(server).devices, seen(server).incompatible), (1, 0), "{how:?}");
            let started: Rollout = server.roll_out(&spec("next"));
            assert_eq!(started.phases[0].counts.excluded, 0, "{how:?}");
            let play = json!({ "rollout": spec("played"), "assume": { "failure_percent": 0 } });
            let played: Simulation = server.api().post("rollouts/simulate", &play);
            assert_eq!(played.phases[0].counts.succeeded, 1, "{how:?}: {played:?}");
        });
    }
}
