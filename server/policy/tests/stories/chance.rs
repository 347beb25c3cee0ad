//! The same fleet and server, driven by chance: whatever devices and operators do, what must never happen does not,
//! and what is left to healthy devices comes to an end.

use std::{collections::BTreeMap, time::Duration};

use callboard_policy::{
    decide::{Admission, Decision, Step},
    device::Device,
    gate::{PhaseCounts, Word},
    guard::Grant,
    rollout::{Membership, Plan, RolloutState},
    window::{self, Gate, Mode, WindowState},
};
use callboard_proto::{
    ids::{RolloutId, SiteId},
    report::{Event, FailureClass},
    state::AssignmentState,
    time::Timestamp,
};
use chrono::{Datelike, Timelike};
use proptest::prelude::*;

use crate::{
    command, report,
    world::{Actor, World},
};

const ROLLOUTS: [&str; 5] = ["careful", "nightly", "apart", "urgent", "gentle"];

const SETUP: &str = "\
now 2026-11-23T12:00:00Z
site NYC-001 America/New_York region=northeast
site LA-001 America/Los_Angeles region=west
device n0 site=NYC-001 pos-app=1.0 os=1 canary=true
device n1 site=NYC-001 pos-app=1.0 os=1
device n2 site=NYC-001 pos-app=1.0 os=1
device n3 site=NYC-001 pos-app=1.0 os=1 never-seen
device l0 site=LA-001 pos-app=1.0 os=1
device l1 site=LA-001 pos-app=1.0 os=1 seen=3d
device l2 site=LA-001 hw=ipad pos-app=1.0 os=1
trades LA-001 mon,tue,wed,thu,fri 09:00-17:00
freeze inventory 2026-11-24 2026-11-24 inventory for region = northeast
release pos-app 2.0
release pos-app 2.1 hw=verifone-*
release os 2
release menu-app 2.0
rollout careful pos-app 2.0
  policy progressive
  audience frozen
  downloads max=2
  activations max=2 per_site=1
  unit UNIT
  phase canary 10% success=50 max_wait=600
  phase rest 100% success=1
rollout nightly os 2
  policy scheduled
  audience frozen
  downloads per_site=1
  activations max=1
  expected_install_min 15
  window 02:00 120 mode=MODE
  window 23:30 45 gates=download,install days=sat,sun
rollout apart menu-app 2.0
  policy scheduled
  audience frozen
  offline_activation true
  expected_install_min 15
  window 22:00 240
rollout urgent pos-app 2.1
  audience frozen
  pace 1 doubles_every=2
  halt consecutive_failures=3
  priority PRIORITY
  selector region = northeast
rollout gentle pos-app 2.1
  policy on_connect
  priority 100
";

fn check_grant(world: &World, name: &str, decision: &Decision) {
    let device = &world.actors[name].unit.device;
    let of = |id| world.ledger.rollout(id).unwrap();
    if matches!(decision.step, Step::GrantDownload { .. } | Step::GrantActivation { .. }) {
        assert!(!frozen(device, world.now), "{name}: a grant on a day of a freeze");
    }
    let rollout = match decision.step {
        Step::GrantDownload { rollout, phase, admission } => {
            let running = of(rollout);
            assert!(phase <= running.open_phase, "{name}: phase {phase} is not open");
            let member = running.member(device);
            assert!(member.is_none_or(|member| member.phase == phase), "{name}");
            let member = member.is_some();
            assert_eq!(member, admission != Admission::Joins, "{name}");
            assert!(member || running.plan.audience == Membership::Live, "{name} is outside of the audience");
            running
        }
        Step::GrantActivation { assignment, .. } => {
            let one = device.assignments.iter().find(|one| one.id == assignment).unwrap();
            let running = of(one.rollout);
            check_time(world, name, &running.plan);
            running
        }
        _ => return,
    };
    assert_eq!(rollout.state, RolloutState::Running, "{name}: a grant of a rollout that does not run");
    assert!(device.held.is_none(), "{name}: a grant under a hold");
    let busy = |state| matches!(state, AssignmentState::Activating | AssignmentState::Verifying);
    assert!(!device.assignments.iter().any(|one| busy(one.state)), "{name} is activating already");
}

/// Whether a device may activate at this time of the day, whoever decided that.
fn check_time(world: &World, name: &str, plan: &Plan) {
    let device = &world.actors[name].unit.device;
    let windows = plan.windows_for(Gate::Install, device, world.now);
    let state = window::state_at(world.now, &windows, plan.expected_install);
    let hard = windows.iter().all(|(window, _)| window.mode == Mode::Hard);
    let closed = matches!(state, Some(WindowState::Closed { .. }));
    assert!(!(closed && hard), "{name}: activated outside of its windows");
    assert!(!trades(device, world.now), "{name}: activated while the shop is open");
    assert!(!frozen(device, world.now), "{name}: activated on a day of a freeze");
}

/// A device that cannot ask, and uses its right if it has one now. What it was told earlier still holds true.
fn alone(world: &mut World, name: &str) {
    let actor = &world.actors[name];
    let works_on = actor.works_on.map(|(id, _)| id);
    let Some(one) = actor.unit.device.assignments.iter().find(|one| Some(one.id) == works_on) else { return };
    let now = world.now;
    let covered = actor.right.is_some_and(|right| (right.not_before..=right.not_after).contains(&now));
    if !covered || one.state != AssignmentState::Staged {
        return;
    }
    check_time(world, name, &world.ledger.rollout(one.rollout).unwrap().plan);
    for event in [Event::Activating, Event::Verifying, Event::Succeeded] {
        world.report(name, event, None);
    }
    world.actor(name).right = None;
    assert!(!world.news.iter().any(|news| news.contains("refused")), "{name}: {:?}", world.news);
    world.news.clear();
    check_counts(world);
}

/// The shop in Los Angeles, by the clock on its wall.
fn trades(device: &Device, now: Timestamp) -> bool {
    let face = now.utc().with_timezone(&chrono_tz::America::Los_Angeles);
    let weekday = !matches!(face.weekday(), chrono::Weekday::Sat | chrono::Weekday::Sun);
    device.site.as_ref().is_some_and(|site| site.as_str() == "LA-001") && weekday && (9..17).contains(&face.hour())
}

/// The north-east takes inventory, by the calendar on its wall.
fn frozen(device: &Device, now: Timestamp) -> bool {
    let face = now.utc().with_timezone(&chrono_tz::America::New_York);
    device.labels.get("region").is_some_and(|region| region == "northeast")
        && face.date_naive().to_string() == "2026-11-24"
}

/// Counters are what a recount gives.
fn check_counts(world: &World) {
    for rollout in world.ledger.rollouts() {
        let standing = world.ledger.standing(rollout.id);
        for (phase, counts) in standing.iter().flat_map(|standing| standing.counts.iter().enumerate()) {
            let counts_in = |device: &Device| {
                rollout.member(device).is_some_and(|one| one.phase == phase && one.excluded.is_none())
            };
            let members = world.actors.values().filter(|actor| counts_in(&actor.unit.device)).count();
            let mut recount = PhaseCounts { size: members as u64, ..PhaseCounts::default() };
            let all = world.actors.values().flat_map(|actor| &actor.unit.device.assignments);
            for one in all.filter(|one| one.rollout == rollout.id && one.phase == phase) {
                recount.recount(None, Some(one));
            }
            recount.acknowledged = counts.acknowledged;
            assert_eq!(*counts, recount, "{} phase {phase}", rollout.plan.name);
        }
    }
}

/// No more devices hold a grant than the caps allow, over all and at each site.
fn check_caps(world: &World) {
    for rollout in world.ledger.rollouts() {
        let (id, caps) = (rollout.id, &rollout.plan.limits.caps);
        for grant in [Grant::Download, Grant::Activation] {
            let units = world.actors.values().map(|actor| &actor.unit.device);
            let all = units.flat_map(|device| device.assignments.iter().map(move |one| (&device.site, one)));
            let mut sites: BTreeMap<&SiteId, u32> = BTreeMap::new();
            let mut overall = 0;
            for (site, _) in all.filter(|(_, one)| one.rollout == id && grant.states().contains(&one.state)) {
                overall += 1;
                *sites.entry(site.as_ref().unwrap()).or_default() += 1;
            }
            let (cap, name) = (caps.of(grant), &rollout.plan.name);
            assert!(cap.max_in_flight.is_none_or(|cap| overall <= cap), "{name}: {overall} hold a {grant:?}");
            let most = sites.values().copied().max().unwrap_or_default();
            assert!(
                cap.max_in_flight_per_site.is_none_or(|cap| most <= cap),
                "{name}: {most} hold a {grant:?} at a site"
            );
        }
    }
}

/// No more offers in a minute than the pace allows.
fn check_pace(world: &World, decision: &Decision, offered: &mut BTreeMap<(RolloutId, i64), u64>) {
    let Step::GrantDownload { rollout, .. } = decision.step else { return };
    let Some(pace) = world.ledger.rollout(rollout).unwrap().plan.limits.pace else { return };
    let succeeded = world.ledger.standing(rollout).unwrap().counts.iter().map(|counts| counts.succeeded).sum();
    let offers = offered.entry((rollout, world.now.millis() / 60_000)).or_default();
    *offers += 1;
    assert!(*offers <= pace.rate(succeeded), "{offers} offers in a minute");
}

/// A check-in; `luck` says how far the device gets with what it is told.
fn visit(world: &mut World, name: &str, luck: u8, offered: &mut BTreeMap<(RolloutId, i64), u64>) {
    let expected = world.explain(name);
    check_grant(world, name, &expected);
    let decision = world.check_in(name);
    check_pace(world, &decision, offered);
    assert!(!expected.step.is_answer() || expected.step == decision.step, "{name}");
    assert!(!world.news.iter().any(|news| news.contains("refused")), "{name} {decision:?}: {:?}", world.news);
    let failed = |world: &mut World, class| world.report(name, Event::Failed, class);
    match (decision.step, luck % 8) {
        (Step::GrantDownload { .. } | Step::ContinueDownload { .. }, 0) => {
            failed(world, Some(FailureClass::Transient));
        }
        (Step::GrantDownload { .. } | Step::ContinueDownload { .. }, 3..) => world.report(name, Event::Staged, None),
        (Step::GrantActivation { .. } | Step::ContinueActivation { .. }, how) => match how {
            0 => failed(world, Some(FailureClass::Transient)),
            1 => world.report(name, Event::RolledBack, None),
            2 => world.report(name, Event::Deferred, None),
            3 => world.report(name, Event::Verifying, None),
            _ => world.report(name, Event::Succeeded, None),
        },
        _ => {}
    }
    world.news.clear();
    check_counts(world);
    check_caps(world);
}

fn operate(world: &mut World, what: u8) {
    let rollout = ROLLOUTS[usize::from(what / 4) % ROLLOUTS.len()];
    let state = world.rollout(rollout).state;
    let device = world.actors.keys().nth(usize::from(what) % world.actors.len()).unwrap().clone();
    let next = match what % 5 {
        0 => RolloutState::Paused,
        1 | 2 => RolloutState::Running,
        3 if what > 240 => RolloutState::Cancelled,
        _ => {
            let Actor { unit, booted, idle, .. } = world.actor(&device);
            (*booted, *idle) = (true, *idle || what.is_multiple_of(7));
            let hold = callboard_policy::device::Hold { reason: "chance".to_owned(), until: None };
            unit.device.held = if unit.device.held.is_none() { Some(hold) } else { None };
            return;
        }
    };
    if state == RolloutState::Draft && next == RolloutState::Running {
        world.start(rollout);
    } else if state.allows(next) && state != RolloutState::Draft {
        world.set_state(rollout, next, false);
        // What failed too often cannot be resumed just like that.
        world.news.clear();
    }
}

/// An operator looks past the failures so far, and past the gate if that is not enough.
fn go_on(world: &mut World, rollout: &str) {
    world.set_state(rollout, RolloutState::Running, true);
    let (state, next) = (world.rollout(rollout).state, world.rollout(rollout).open_phase + 1);
    if state == RolloutState::Paused && next < world.rollout(rollout).plan.phases.len() {
        world.by_hand(rollout, Word::Open(next));
        world.set_state(rollout, RolloutState::Running, false);
    }
    world.news.clear();
}

fn explain(world: &World, name: &str) -> String {
    let decision = world.explain(name);
    let lines = report::considered(&decision).join("\n  ");
    format!("{name}: {}\n  {lines}", report::decision(&decision))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn nothing_forbidden_happens_and_healthy_fleets_finish(
        steps in proptest::collection::vec(any::<[u8; 3]>(), 50..250),
        site in any::<bool>(),
        best_effort in any::<bool>(),
        priority in prop_oneof![Just(100), Just(500), Just(900)],
    ) {
        let setup = SETUP
            .replace("UNIT", if site { "site" } else { "device" })
            .replace("MODE", if best_effort { "best_effort" } else { "hard" })
            .replace("PRIORITY", &priority.to_string());
        let mut world = command::set_up(&setup);
        let names: Vec<String> = world.actors.keys().cloned().collect();
        let mut offered = BTreeMap::new();
        for [what, which, luck] in steps {
            match what {
                0..40 => operate(&mut world, which),
                40..80 => world.now = world.now + Duration::from_secs(u64::from(which) * 200),
                80..110 => alone(&mut world, &names[usize::from(which) % names.len()]),
                _ => {
                    world.now = world.now + Duration::from_secs(17);
                    visit(&mut world, &names[usize::from(which) % names.len()], luck, &mut offered);
                }
            }
            world.settle();
        }
        // From now on everything is well: nobody holds anything, devices do as they are told, and whatever pauses
        // itself for the failures so far is resumed by an operator who acknowledges them.
        for actor in world.actors.values_mut() {
            actor.unit.device.held = None;
        }
        for round in 0..(9 * 36) {
            if round % 36 == 0 {
                world.actors.values_mut().for_each(|actor| actor.booted = true);
            }
            for rollout in ROLLOUTS {
                match world.rollout(rollout).state {
                    RolloutState::Draft => world.start(rollout),
                    RolloutState::Paused => go_on(&mut world, rollout),
                    _ => {}
                }
            }
            world.now = world.now + Duration::from_secs(2400);
            for name in &names {
                visit(&mut world, name, 7, &mut offered);
            }
        }
        for rollout in ["careful", "nightly", "apart", "urgent"] {
            let (state, standing) = (world.rollout(rollout).state, world.ledger.standing(world.rollout(rollout).id));
            let over = matches!(state, RolloutState::Completed | RolloutState::Cancelled);
            let why = names.iter().map(|name| explain(&world, name)).collect::<Vec<_>>().join("\n");
            prop_assert!(over, "{} is {}: {:?}\n{}", rollout, state.as_str(), standing, why);
        }
    }
}
