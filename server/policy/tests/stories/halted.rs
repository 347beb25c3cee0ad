//! Halts by chance: whatever devices do, nothing is granted after one, and exactly those go back that got the release.

use std::{collections::BTreeSet, time::Duration};

use callboard_policy::{decide::Step, rollout::RolloutState};
use callboard_proto::{ids::AssignmentId, report::Event, state::AssignmentState as S};
use proptest::prelude::*;

use crate::{
    command,
    world::{World, id},
};

const SETUP: &str = "\
now 2026-11-23T12:00:00Z
device a
device b
device c
device d
device e
device f
device g
device h
release pos-app 1.0
release pos-app 2.0
runs a pos-app 1.0
runs b pos-app 1.0
runs c pos-app 1.0
runs d pos-app 1.0
runs e pos-app 1.0
runs f pos-app 1.0
runs g pos-app 1.0
runs h pos-app 1.0
rollout bad pos-app 2.0
  RULE rollback_to=pos-app@1.0
start bad
";

/// Whether an assignment is one of the rollout that is to be halted.
fn is_bad(world: &World, name: &str, assignment: AssignmentId) -> bool {
    let device = &world.actors[name].unit.device;
    device.assignments.iter().any(|one| one.id == assignment && one.rollout == id("bad"))
}

/// A check-in; `luck` says how far the device gets with the bad release. Going back always works.
fn visit(world: &mut World, name: &str, luck: u8) {
    let halted = world.rollout("bad").state != RolloutState::Running;
    let step = world.check_in(name).step;
    let event = match step {
        Step::GrantDownload { rollout, .. } => {
            assert!(!halted || rollout != id("bad"), "{name}: an offer after the halt");
            Some(Event::Staged)
        }
        Step::ContinueDownload { .. } => Some(Event::Staged),
        Step::GrantActivation { assignment, .. } | Step::ContinueActivation { assignment, .. } => {
            let bad = is_bad(world, name, assignment);
            assert!(
                !(halted && bad && matches!(step, Step::GrantActivation { .. })),
                "{name}: a switch after the halt"
            );
            match luck % 6 {
                0 if bad => Some(Event::Activating),
                1 if bad => Some(Event::RolledBack),
                2 if bad => Some(Event::Failed),
                3 if bad => None,
                _ => Some(Event::Succeeded),
            }
        }
        _ => None,
    };
    if let Some(event) = event {
        world.report(name, event, None);
    }
    world.news.clear();
}

/// Devices that were in the middle of switching arrive at last, also those that nobody expects any more.
fn arrive(world: &mut World, name: &str) {
    let actor = &world.actors[name];
    let at = actor.at();
    let mut begun = actor.unit.device.assignments.iter().filter(|one| one.begun && Some(one.id) == at);
    if begun.any(|one| matches!(one.state, S::Activating | S::Verifying | S::TimedOut)) {
        world.report(name, Event::Succeeded, None);
        world.news.clear();
    }
}

fn got_it(world: &World) -> BTreeSet<u32> {
    let devices = world.actors.values().map(|actor| &actor.unit.device);
    let got = devices.filter(|device| device.assignment(id("bad")).is_some_and(|one| one.state == S::Succeeded));
    got.map(|device| device.number).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn exactly_those_go_back_that_got_the_release(
        steps in proptest::collection::vec(any::<[u8; 3]>(), 20..150),
        rule in prop_oneof![
            Just("halt max_failures=0"),
            Just("halt consecutive_failures=2"),
            Just("halt failure_percent=30 min_completed=3"),
            Just("halt max_silent=1"),
        ],
    ) {
        let mut world = command::set_up(&SETUP.replace("RULE", rule));
        let names: Vec<String> = world.actors.keys().cloned().collect();
        for [what, which, luck] in steps {
            let name = &names[usize::from(which) % names.len()];
            match what {
                0..40 => world.now = world.now + Duration::from_secs(u64::from(luck) * 20),
                40..60 => arrive(&mut world, name),
                _ => visit(&mut world, name, luck),
            }
            world.settle();
            world.news.clear();
        }
        // From now on everything is well.
        for _ in 0..20 {
            world.now = world.now + Duration::from_secs(600);
            world.settle();
            for name in &names {
                arrive(&mut world, name);
                visit(&mut world, name, 5);
            }
        }
        let got = got_it(&world);
        let halted = world.rollout("bad").state == RolloutState::Cancelled;
        prop_assert_eq!(world.ledger.rollouts().any(|one| one.plan.name.as_str() == "bad-rollback"), halted);
        if halted {
            let back = world.rollout("bad-rollback");
            let devices = world.actors.values().map(|actor| &actor.unit.device);
            let members: BTreeSet<u32> = devices.filter(|one| back.member(one).is_some()).map(|one| one.number).collect();
            prop_assert_eq!(&members, &got, "{:?}", back.state_reason);
            prop_assert_eq!(back.state, RolloutState::Completed);
            for (name, actor) in &world.actors {
                let old = actor.unit.device.installed.iter().all(|one| one.version.as_str() == "1.0");
                prop_assert!(old, "{} runs {:?}", name, actor.unit.device.installed);
            }
        }
    }
}
