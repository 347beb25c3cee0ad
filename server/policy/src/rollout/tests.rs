use callboard_proto::{ids::RolloutName, instruction::ActivateOn};

use super::*;
use crate::{
    fixture::{at, phase, rollout_id, spec},
    guard::{Cap, Caps, Pace},
    window::{Gates, Mode},
};

fn errors(change: impl FnOnce(&mut Spec)) -> Vec<String> {
    let mut spec = spec();
    change(&mut spec);
    spec.plan().err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn check(change: impl FnOnce(&mut Spec), wanted: &[&str]) {
    assert_eq!(errors(change), wanted);
}

fn progressive(spec: &mut Spec, phases: Vec<PhaseSpec>) {
    spec.policy = PolicyKind::Progressive;
    spec.phases = phases;
}

fn window() -> WindowSpec {
    WindowSpec {
        tz: "site".to_owned(),
        days: vec!["mon".to_owned(), "mon".to_owned(), "sun".to_owned()],
        start: Some("02:00".to_owned()),
        cron: None,
        duration_min: 120,
        gates: Gates { download: false, install: true },
        mode: Mode::Hard,
    }
}

#[test]
fn an_ordinary_spec_becomes_a_plan() {
    let plan = spec().plan().expect("a plan");
    assert_eq!((plan.name, plan.phases.len()), ("spring".parse::<RolloutName>().expect("a name"), 1));
    check(|spec| progressive(spec, vec![phase("canary", 10), phase("all", 100)]), &[]);
    check(|spec| spec.windows = vec![window()], &[]);
    check(|spec| (spec.windows, spec.deadline) = (vec![window()], Some(at("2026-12-01T00:00:00Z"))), &[]);
}

#[test]
fn phases_rise_to_a_hundred() {
    check(|spec| progressive(spec, vec![]), &["phases: there are 0; 1 to 32 are wanted"]);
    check(|spec| spec.phases = vec![phase("all", 100)], &["phases: only the progressive policy has phases"]);
    check(
        |spec| progressive(spec, vec![phase("canary", 10), phase("most", 90)]),
        &["phases[1].percent: the last phase must be 100 percent, or devices would be left out for ever"],
    );
    check(
        |spec| progressive(spec, vec![phase("a", 50), phase("b", 50), phase("c", 100)]),
        &["phases[1].percent: is 50, after 50: percents are cumulative and must rise to 100"],
    );
    check(
        |spec| progressive(spec, vec![phase("a", 0), phase("a", 100)]),
        &["phases[0].percent: is 0; 1 to 100 is allowed", "phases[1].name: \"a\" stands twice"],
    );
    check(
        |spec| {
            let pilots = PhaseSpec { percent: None, selector: Some("pilot = ".to_owned()), ..phase("pilots", 0) };
            let neither = PhaseSpec { percent: None, ..phase("neither", 0) };
            let changing = PhaseSpec { percent: None, selector: Some("status = online".to_owned()), ..phase("x", 0) };
            progressive(spec, vec![pilots, neither, changing, phase("all", 100)]);
        },
        &[
            "phases[0].selector: column 9: expected a value: a word, or text in double quotes, found the end",
            "phases[1]: needs either a percent or a selector",
            "phases[2].selector: status changes with every check-in, so it is allowed only with a frozen audience",
        ],
    );
    check(
        |spec| {
            let odd = PhaseSpec { success_percent: 101, completed_percent: 0, max_wait_min: Some(0), ..phase("", 100) };
            progressive(spec, vec![odd]);
        },
        &[
            "phases[0].name: 1 to 64 printable characters are wanted",
            "phases[0].success_percent: is 101; 1 to 100 is allowed",
            "phases[0].completed_percent: is 0; 1 to 100 is allowed",
            "phases[0].max_wait_min: must be at least 1; leave it out to wait without limit",
        ],
    );
}

#[test]
fn a_soak_is_of_a_sensible_length_and_the_last_phase_needs_no_approval() {
    check(
        |spec| {
            let long = PhaseSpec { soak_min: 129_601, approval: Approval::Manual, ..phase("pilot", 10) };
            let last = PhaseSpec { soak_min: 129_600, approval: Approval::Manual, ..phase("all", 100) };
            progressive(spec, vec![long, last]);
        },
        &[
            "phases[0].soak_min: is 129601; at most 129600 (90 days) is allowed",
            "phases[1].approval: nothing opens after the last phase, so there is nothing to approve; leave it out",
        ],
    );
}

#[test]
fn windows_can_open() {
    let check = |change: fn(&mut WindowSpec), wanted: &[&str]| {
        let mut window = window();
        change(&mut window);
        check(|spec| spec.windows = vec![window], wanted);
    };
    check(|window| window.duration_min = 0, &["windows[0].duration_min: is 0; 1 to 10080 minutes are allowed"]);
    check(
        |window| window.duration_min = 10_081,
        &["windows[0].duration_min: is 10081; 1 to 10080 minutes are allowed"],
    );
    check(|window| window.start = None, &["windows[0]: needs either start or cron"]);
    check(|window| window.cron = Some("0 2 * * *".to_owned()), &["windows[0]: needs either start or cron"]);
    check(
        |window| (window.start, window.cron) = (None, Some("0 2 * *".to_owned())),
        &[
            "windows[0].days: belongs to start; cron names its days itself",
            "windows[0].cron: \"0 2 * *\" is not a cron expression of five fields (minute hour day month weekday, such \
             as \"0 2 * * 1-5\")",
        ],
    );
    check(
        |window| (window.start, window.cron, window.days) = (None, Some("0 0 30 2 *".to_owned()), vec![]),
        &["windows[0].cron: \"0 0 30 2 *\" never comes"],
    );
    check(
        |window| window.tz = "New York".to_owned(),
        &["windows[0].tz: \"New York\" is no time zone; an IANA name such as America/New_York is wanted, or `site`"],
    );
}

#[test]
fn windows_are_long_enough_and_deadlines_mean_something() {
    check(
        |spec| (spec.windows, spec.expected_install_min) = (vec![window()], 121),
        &["expected_install_min: 121 minutes are longer than every window for installing"],
    );
    check(
        |spec| spec.deadline = Some(at("2026-12-01T00:00:00Z")),
        &["deadline: only means something with windows: from then on they are ignored"],
    );
    check(
        |spec| spec.default_tz = Some("site".to_owned()),
        &["default_tz: \"site\" is no time zone; an IANA name such as America/New_York is wanted"],
    );
}

#[test]
fn a_right_to_activate_without_asking_is_what_other_wishes_need_or_rule_out() {
    check(
        |spec| spec.activate_on = ActivateOn::Shutdown,
        &["activate_on: needs offline_activation: a device that goes down or has just come up may not be able to ask"],
    );
    check(
        |spec| {
            spec.offline_activation = true;
            spec.caps.activations.max_in_flight = Some(3);
        },
        &[
            "offline_activation: cannot go with caps on activations: devices that do not ask do not know how many others \
           switch",
        ],
    );
}

#[test]
fn times_and_numbers_are_in_order() {
    let late = Some(at("2026-12-02T00:00:00Z"));
    check(
        |spec| {
            (spec.policy, spec.windows) = (PolicyKind::Scheduled, vec![window()]);
            (spec.start_at, spec.deadline, spec.ends_at) = (late, late, late);
        },
        &[
            "start_at: 2026-12-02T00:00:00Z is not before the deadline (2026-12-02T00:00:00Z)",
            "start_at: 2026-12-02T00:00:00Z is not before the end of the rollout (2026-12-02T00:00:00Z)",
            "deadline: 2026-12-02T00:00:00Z is not before the end of the rollout (2026-12-02T00:00:00Z)",
        ],
    );
    check(
        |spec| spec.policy = PolicyKind::Scheduled,
        &["start_at: the scheduled policy needs a start, windows, or both"],
    );
    check(
        |spec| (spec.start_at, spec.min_absence_s) = (late, Some(60)),
        &[
            "start_at: only means something with the scheduled policy",
            "min_absence_s: only means something with the on_connect policy",
        ],
    );
    check(
        |spec| (spec.policy, spec.min_absence_s) = (PolicyKind::OnConnect, Some(0)),
        &["min_absence_s: must be at least 1: with 0 every check-in would be a new connection"],
    );
    check(
        |spec| (spec.priority, spec.max_attempts, spec.expected_install_min) = (1001, 0, 1441),
        &[
            "priority: is 1001; 0 to 1000 is allowed",
            "max_attempts: is 0; 1 to 10 is allowed",
            "expected_install_min: is 1441; 0 to 1440 minutes are allowed",
        ],
    );
    check(
        |spec| spec.unit = Unit::Site,
        &["unit: site only means something with the progressive policy: it says who is in a phase together"],
    );
    let plan = Spec { ends_at: late, ..spec() }.plan().expect("a plan");
    assert_eq!(plan.too_late(at("2026-12-01T23:59:59Z")), []);
    let errors = plan.too_late(at("2026-12-02T00:00:00Z"));
    assert_eq!(errors[0].to_string(), "ends_at: 2026-12-02T00:00:00Z has passed; it is 2026-12-02T00:00:00Z");
}

#[test]
fn selectors_that_change_with_a_check_in_need_a_frozen_audience() {
    check(
        |spec| spec.selector = "region = x and last_seen > 1d ago".to_owned(),
        &["selector: last_seen changes with every check-in, so it is allowed only with a frozen audience"],
    );
    check(|spec| (spec.selector, spec.audience) = ("status = online".to_owned(), Membership::Frozen), &[]);
    check(
        |spec| spec.selector = "region".to_owned(),
        &["selector: column 7: expected one of = != < <= > >= ~ in, not in, found the end"],
    );
}

#[test]
fn operators_move_a_rollout_between_four_states() {
    use RolloutState::{Cancelled, Completed, Draft, Paused, Running};
    for (from, to) in [(Draft, Running), (Running, Paused), (Paused, Running), (Paused, Cancelled)] {
        assert!(from.allows(to), "{from:?} {to:?}");
    }
    for (from, to) in [(Draft, Paused), (Running, Running), (Completed, Running), (Cancelled, Running)] {
        assert!(!from.allows(to), "{from:?} {to:?}");
    }
}

#[test]
fn the_highest_priority_comes_first_then_the_one_that_begins_last() {
    let made = |n: u8, priority, start: &str, start_at: Option<&str>| {
        let policy = if start_at.is_some() { PolicyKind::Scheduled } else { PolicyKind::Immediate };
        let plan = Spec { priority, policy, start_at: start_at.map(at), ..spec() }.plan().expect("a plan");
        Rollout { started_at: Some(at(start)), ..Rollout::draft(rollout_id(n), plan) }
    };
    let catalog = crate::catalog::Catalog::new(
        1,
        vec![
            made(1, 500, "2026-11-01T00:00:00Z", None),
            made(2, 500, "2026-11-03T00:00:00Z", None),
            made(3, 500, "2026-11-02T00:00:00Z", Some("2026-11-04T00:00:00Z")),
            made(4, 900, "2026-10-01T00:00:00Z", None),
        ],
        [],
    );
    let order: Vec<RolloutId> = catalog.rollouts.iter().map(|rollout| rollout.id).collect();
    assert_eq!(order, [4, 3, 2, 1].map(rollout_id));
}

#[test]
fn caps_let_something_through() {
    let cap = |overall, site| Cap { max_in_flight: overall, max_in_flight_per_site: site };
    check(
        |spec| spec.caps = Caps { downloads: cap(Some(0), Some(2)), activations: cap(Some(2), Some(3)) },
        &[
            "caps.downloads.max_in_flight: is 0, which lets no device through; leave it out for no cap, or pause the \
             rollout",
            "caps.activations.max_in_flight_per_site: is 3, more than max_in_flight (2) ever lets through",
        ],
    );
    check(|spec| spec.caps = Caps { downloads: cap(Some(2), Some(2)), activations: cap(None, Some(1)) }, &[]);
}

#[test]
fn a_pace_lets_something_through() {
    let pace = |offers, doubles| Some(Pace { max_offers_per_minute: offers, doubles_every: doubles });
    check(|spec| spec.pace = pace(1, Some(1)), &[]);
    check(
        |spec| spec.pace = pace(0, Some(0)),
        &[
            "pace.max_offers_per_minute: is 0, which lets no device through; leave out pace for none, or pause the rollout",
            "pace.doubles_every: is 0; 1 or more is wanted, or leave it out for a pace that stays",
        ],
    );
}

#[test]
fn halt_rules_have_a_limit_and_an_action() {
    let failures = HaltSpec { max_failures: Some(0), ..HaltSpec::default() };
    check(|spec| spec.halt = vec![failures.clone()], &[]);
    let to = Some("pos-app@2.1.0".to_owned());
    let back = HaltSpec { action: HaltKind::RollBackTo, rollback_to: to.clone(), ..failures.clone() };
    check(|spec| spec.halt = vec![failures.clone(), back], &[]);
    let share = HaltSpec { failure_percent: Some(5), min_completed: Some(20), ..HaltSpec::default() };
    check(|spec| spec.halt = vec![share.clone()], &[]);
    check(
        |spec| {
            spec.halt = vec![
                HaltSpec::default(),
                HaltSpec { min_completed: None, failure_percent: Some(101), ..HaltSpec::default() },
                HaltSpec { min_completed: Some(3), consecutive_failures: Some(0), ..HaltSpec::default() },
                HaltSpec { min_completed: Some(0), failure_percent: Some(1), ..HaltSpec::default() },
                HaltSpec { rollback_to: to, ..failures.clone() },
                HaltSpec { action: HaltKind::RollBackTo, ..failures.clone() },
            ];
        },
        &[
            "halt[0]: has no limit; give failure_percent, max_failures, consecutive_failures or max_silent",
            "halt[1].failure_percent: is 101; 1 to 100 is allowed",
            "halt[1].min_completed: is missing, and failure_percent needs it: of few completed devices one is a large \
             share; such as 20",
            "halt[2].consecutive_failures: is 0; 1 to 100 is allowed",
            "halt[2].min_completed: only means something with failure_percent; leave it out",
            "halt[3].min_completed: is 0; 1 or more is wanted",
            "halt[4].rollback_to: only means something with the action rollback_to; leave it out, or choose that action",
            "halt[5].rollback_to: is missing; name the release that devices go back to",
        ],
    );
}
