//! Every state with every trouble: its work fails, the process is killed in it, or it hangs until the watchdog kills it again
//! and again. With every kind of software to fall back to, and with none.

use callboard_proto::state::AgentState::{self, *};

use super::{
    drive::{Kind, Left, Till, Trouble},
    invariants::{self, Scene},
    office::Office,
    *,
};
use report::Event::{Failed, RolledBack, Succeeded};

const EVERY_SHOP: [Before; 4] = [Before::Nothing, Before::FactoryLink, Before::FactoryDirectory, Before::Release];

/// Lets trouble befall the work of a state, and says how each attempt at the order ended. The till is safe and works.
fn ends(plan: Plan, state: AgentState, kind: Kind, times: u8) -> Vec<report::Event> {
    let plan = Rc::new(plan);
    let till = Till::new(plan.till(), Office::of(&plan)).troubled(Trouble { state, kind, times });
    let runtime = runtime();
    let context = format!("{:?}, {state:?}, {kind:?} {times} times", plan.before);
    let left = till.drive(&runtime, &mut |_| false).unwrap_or_else(|broken| panic!("{broken}: {context}"));
    assert_eq!(left, Left::Done, "{context}");
    // What could not be removed is removed at the next start.
    till.start_once().unwrap_or_else(|broken| panic!("{broken}: {context}"));
    let office = till.office.borrow().clone();
    let scene = Scene { fs: &till.fs, plan: &plan, office: &office, floor: plan.floor_before(), root: 0, faulty: true };
    invariants::in_the_end(&scene).unwrap_or_else(|broken| panic!("{broken}: {context}"));
    office.ends(0)
}

#[track_caller]
fn check(health: Health, state: AgentState, kind: Kind, times: u8, wanted: &[report::Event]) {
    for before in EVERY_SHOP {
        let plan = Plan { before, health, orders: vec![2], ..GOOD };
        assert_eq!(ends(plan, state, kind, times), wanted, "{before:?}, {state:?}, {kind:?} {times} times");
    }
}

#[test]
fn work_that_fails_before_the_switch_fails_the_attempt_and_the_next_one_succeeds() {
    for state in [Accepted, Downloading, Staging, Pre] {
        check(Health::Good, state, Kind::Error, 1, &[Failed, Succeeded]);
        check(Health::Good, state, Kind::Error, 2, &[Failed, Failed, Succeeded]);
    }
}

#[test]
fn work_that_fails_between_switch_and_commit_leads_back() {
    for state in [Switching, Trial] {
        check(Health::Good, state, Kind::Error, 1, &[RolledBack]);
    }
}

#[test]
fn work_that_fails_after_the_trial_is_repeated_until_it_succeeds() {
    check(Health::Good, Committing, Kind::Error, 2, &[Succeeded]);
    check(Health::Good, Cleanup, Kind::Error, 1, &[Succeeded]);
    check(Health::Bad, RollingBack, Kind::Error, 2, &[RolledBack]);
    check(Health::Bad, Cleanup, Kind::Error, 1, &[RolledBack]);
}

#[test]
fn an_agent_that_is_killed_in_any_state_goes_on_where_it_was() {
    for state in [Accepted, Downloading, Staging, Pre, Switching, Trial, Committing, Cleanup] {
        check(Health::Good, state, Kind::Killed, 1, &[Succeeded]);
    }
    for state in [RollingBack, Cleanup] {
        check(Health::Bad, state, Kind::Killed, 1, &[RolledBack]);
    }
}

#[test]
fn work_that_hangs_three_times_is_given_up_in_the_trial_and_nowhere_else() {
    for state in [Accepted, Downloading, Staging, Pre, Switching, Committing, Cleanup] {
        check(Health::Good, state, Kind::Killed, 3, &[Succeeded]);
    }
    check(Health::Good, Trial, Kind::Killed, 3, &[RolledBack]);
    check(Health::Bad, RollingBack, Kind::Killed, 3, &[RolledBack]);
}

#[test]
fn a_result_that_can_never_be_recorded_ends_in_a_till_that_changes_nothing_any_more_and_says_so() {
    for (health, state) in [(Health::Good, Committing), (Health::Bad, RollingBack)] {
        let plan = Plan { health, orders: vec![2], ..GOOD };
        assert_eq!(ends(plan, state, Kind::Error, u8::MAX), [Failed], "{state:?}");
    }
}
