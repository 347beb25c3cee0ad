//! Silence: what is given back, what is counted, what has failed, and that a device that is off has not.

use callboard_proto::{
    admin::{Assignment, Counts, Event as Logged, RolloutState},
    instruction::{Action, Instruction},
    report::{Event, FailureClass},
    state::{AgentState, AssignmentState as S},
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{BINARIES, on_both};

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// Tills that run 1.0.0, and a rollout of 2.0.0 to all of them.
fn tills<const N: usize>(server: &TestServer, more: &Value) -> [FakeDevice; N] {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let tills = std::array::from_fn(|n| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0"));
    server.roll_out(&rollout("r", "pos-app@2.0.0", more));
    tills
}

fn counts(server: &TestServer) -> Counts {
    server.rollout("r").phases[0].counts
}

fn of(server: &TestServer, till: &FakeDevice) -> Assignment {
    let all: Vec<Assignment> = server.api().list("rollouts/r/assignments");
    all.into_iter().find(|one| one.device == till.name).unwrap()
}

fn state(server: &TestServer, till: &FakeDevice) -> S {
    of(server, till).state
}

/// Staged, told to switch, and doing so.
fn switching(till: &mut FakeDevice) -> Instruction {
    till.obey(Health::Good);
    let install = till.check_in();
    assert_eq!(install.action, Action::Install);
    till.report(&install, Event::Activating);
    install
}

fn wait_for(server: &TestServer, what: &str, is_so: impl Fn(&Counts) -> bool) {
    wait::until(what, || is_so(&counts(server)));
}

#[test]
fn a_download_that_is_not_heard_of_gives_its_place_back_and_goes_on_later() {
    on_both(|server| {
        let [mut off, mut other] = tills(server, &json!({ "caps": { "downloads": { "max_in_flight": 1 } } }));
        let offer = off.check_in();
        off.report(&offer, Event::Downloading);
        assert_eq!(other.check_in().action, Action::None, "there is one place");
        server.advance(minutes(29));
        assert_eq!(other.check_in().action, Action::None);
        server.advance(minutes(1));
        wait_for(server, "the place is free", |counts| counts.queued == 1);
        let granted = other.check_in();
        assert_eq!(granted.action, Action::Download);
        // It comes back, but its place is taken: what it has stays.
        off.state = AgentState::Downloading;
        let waits = off.check_in();
        assert_eq!((waits.action, waits.reason.code.as_str()), (Action::Hold, "downloads_full"));
        other.stage(&granted);
        let again = off.obey(Health::Good);
        assert_eq!((again.action, again.assignment_id), (Action::Download, offer.assignment_id));
        assert_eq!(again.attempt, Some(1), "it was no failure");
        off.settle(Health::Good);
        other.settle(Health::Good);
        assert_eq!((counts(server).succeeded, counts(server).failed), (2, 0));
        let log: Vec<Logged> = server.api().list("devices/till-0/history");
        let lapsed = log.iter().find(|event| event.kind == "assignment.lapsed").unwrap();
        insta::assert_snapshot!(lapsed.text, @"queued (downloading before): it was not heard of since 2027-01-12T12:00:00Z");
    });
}

#[test]
fn what_was_downloaded_without_a_grant_counts_when_it_is_reported() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({}));
        let offer = till.check_in();
        server.advance(minutes(30));
        wait_for(server, "the grant has lapsed", |counts| counts.queued == 1);
        till.report(&offer, Event::Downloading);
        assert_eq!(counts(server).queued, 1, "whoever has no place takes none");
        till.report(&offer, Event::Staged);
        assert_eq!(counts(server).staged, 1);
        till.settle(Health::Good);
        assert_eq!((counts(server).succeeded, of(server, &till).attempt), (1, 1));
    });
}

#[test]
fn check_ins_of_a_device_at_work_are_signs_of_life_and_cost_no_statement() {
    on_both(|server| {
        let [mut alive, mut silent] = tills(server, &json!({}));
        alive.check_in();
        silent.check_in();
        alive.state = AgentState::Downloading;
        server.advance(minutes(20));
        let statements = || server.api().metric("callboard_database_statements_total", "purpose=\"requests\"");
        // The first of them may read what a timer has changed.
        wait::until("five check-ins cost no statement", || {
            let requests = statements();
            for _ in 0..5 {
                assert_eq!(alive.check_in().action, Action::Download);
            }
            statements() == requests
        });
        let (now, busy) = (server.clock.now().millis(), "SELECT MAX(busy_at) AS number FROM devices");
        wait::until("the signs of life are written behind", || server.sql_number(busy) == Some(now));
        server.advance(minutes(15));
        wait_for(server, "the other grant has lapsed", |counts| counts.queued == 1);
        assert_eq!((state(server, &alive), state(server, &silent)), (S::Downloading, S::Queued));
        server.advance(minutes(15));
        wait_for(server, "this one has lapsed too", |counts| counts.queued == 2);
    });
}

#[test]
fn a_sign_of_life_is_one_on_any_server() {
    let Some(mut first) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        return eprintln!("skipped: needs postgres");
    };
    let [mut alive, mut silent] = tills(&first, &json!({}));
    let offer = alive.check_in();
    silent.check_in();
    let second = first.second();
    alive.follow(&second);
    alive.state = AgentState::Downloading;
    let later = first.clock.now() + minutes(20);
    second.set_clock(later);
    first.set_clock(later);
    wait::until("the other server knows the assignment", || alive.check_in().assignment_id == offer.assignment_id);
    let seen = || first.sql_number("SELECT MAX(busy_at) AS number FROM devices");
    wait::until("the sign of life is written", || seen() == Some(later.millis()));
    first.set_clock(later + minutes(10));
    wait_for(&first, "the other grant has lapsed", |counts| counts.queued == 1);
    assert_eq!((state(&first, &alive), state(&first, &silent)), (S::Downloading, S::Queued));
    first.stop();
}

#[test]
fn a_server_that_was_away_takes_nothing_for_silence() {
    on_both(|server| {
        let [mut loads, mut trial] = tills(server, &json!({}));
        let offer = loads.check_in();
        switching(&mut trial);
        server.stop();
        server.clock.set(server.clock.now() + minutes(300));
        server.serve();
        let now = server.clock.now();
        let first = || server.sql_number("SELECT MIN(timer_at) AS number FROM assignments").unwrap();
        wait::until("the server has looked at its timers", || first() > now.millis());
        assert_eq!((state(server, &loads), state(server, &trial)), (S::Downloading, S::Activating));
        assert_eq!(first(), (now + minutes(15)).millis(), "silence begins anew");
        loads.follow(server);
        loads.stage(&offer);
        server.advance(minutes(60));
        wait_for(server, "silence has lasted", |counts| counts.timed_out == 1);
        assert_eq!(state(server, &loads), S::Staged);
    });
}

#[test]
fn a_switch_that_was_granted_and_not_begun_is_staged_again_and_no_failure() {
    on_both(|server| {
        let one = json!({ "caps": { "activations": { "max_in_flight": 1 } } });
        let [mut off, mut other] = tills(server, &one);
        off.obey(Health::Good);
        other.obey(Health::Good);
        let granted = off.check_in();
        assert_eq!(granted.action, Action::Install);
        server.advance(minutes(59));
        assert_eq!(other.check_in().action, Action::Hold, "it keeps its place");
        assert_eq!(counts(server).silent, 0, "who has not begun cannot fall silent");
        server.advance(minutes(1));
        wait_for(server, "the grant has lapsed", |counts| counts.staged == 2);
        let next = other.check_in();
        assert_eq!(next.action, Action::Install);
        // It had begun after all when it was cut off, and says so now: what happened counts.
        for event in [Event::Activating, Event::Verifying, Event::Succeeded] {
            off.report(&granted, event);
        }
        assert_eq!((state(server, &off), state(server, &other)), (S::Succeeded, S::Activating));
        let counts = counts(server);
        assert_eq!((counts.succeeded, counts.activating, counts.failed, counts.timed_out), (1, 1, 0, 0));
    });
}

#[test]
fn a_device_that_falls_silent_while_it_switches_is_counted_then_times_out_and_the_late_truth_wins() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({}));
        let install = switching(&mut till);
        server.advance(minutes(10));
        till.report(&install, Event::Verifying);
        server.advance(minutes(14));
        assert_eq!(counts(server).silent, 0, "every report begins the time anew");
        server.advance(minutes(1));
        wait_for(server, "it is silent", |counts| (counts.verifying, counts.silent) == (1, 1));
        server.advance(minutes(45));
        wait_for(server, "it has timed out", |counts| (counts.timed_out, counts.silent) == (1, 0));
        till.state = AgentState::Trial;
        let told = till.check_in();
        assert_eq!((told.action, told.reason.code.as_str()), (Action::None, "timed_out"));
        till.report(&install, Event::Succeeded);
        let counts = counts(server);
        assert_eq!((counts.succeeded, counts.timed_out), (1, 0));
    });
}

#[test]
fn a_check_in_that_shows_the_release_ends_a_time_out_even_of_a_rollout_that_is_over() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({ "audience": "frozen", "selector": "all" }));
        let install = switching(&mut till);
        server.advance(minutes(15));
        wait_for(server, "it is silent", |counts| counts.silent == 1);
        server.advance(minutes(45));
        wait::until("nothing more is expected", || server.rollout("r").state == RolloutState::Completed);
        let release = till.fetch_release(install.release_sha256.unwrap());
        till.install(&release);
        till.check_in();
        assert_eq!((counts(server).succeeded, counts(server).timed_out), (1, 0));
    });
}

#[test]
fn a_silent_device_that_checks_in_at_work_is_not_silent() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({}));
        switching(&mut till);
        server.advance(minutes(15));
        wait_for(server, "it is silent", |counts| counts.silent == 1);
        till.state = AgentState::Trial;
        assert_eq!(till.check_in().action, Action::Install);
        assert_eq!((counts(server).silent, counts(server).activating), (0, 1));
        server.advance(minutes(15));
        wait_for(server, "it is silent again", |counts| counts.silent == 1);
    });
}

#[test]
fn a_device_that_comes_back_from_a_time_out_and_knows_nothing_is_tried_again() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({ "max_attempts": 2 }));
        for attempt in 1..=2 {
            let install = switching(&mut till);
            assert_eq!(install.attempt, Some(attempt));
            server.advance(minutes(15));
            wait_for(server, "it is silent", |counts| counts.silent == 1);
            server.advance(minutes(45));
            wait_for(server, "it has timed out", |counts| counts.timed_out == 1);
            till.state = AgentState::Idle;
            let told = till.check_in();
            assert_eq!(counts(server).timed_out, attempt - 1, "{}", told.reason.text);
            server.advance(minutes(1));
        }
        assert_eq!(till.check_in().reason.code, "timed_out", "there is no try left");
    });
}

#[test]
fn a_fleet_that_is_switched_off_at_closing_time_fails_nothing() {
    on_both(|server| {
        let phases = json!([{ "name": "all", "percent": 100, "success_percent": 100, "completed_percent": 100 }]);
        let more = json!({ "policy": "progressive", "audience": "frozen", "phases": phases });
        let [mut unreached, mut loads, mut staged, mut granted, mut done] = tills(server, &more);
        loads.check_in();
        staged.obey(Health::Good);
        granted.obey(Health::Good);
        assert_eq!(granted.check_in().action, Action::Install);
        done.settle(Health::Good);
        // Closing time; the night; the next morning.
        server.advance(minutes(60));
        wait_for(server, "the grants have lapsed", |counts| (counts.queued, counts.staged) == (1, 2));
        server.advance(minutes(12 * 60));
        let before = counts(server);
        assert_eq!((before.failed, before.timed_out, before.silent, before.rolled_back), (0, 0, 0, 0));
        for till in [&mut unreached, &mut loads, &mut staged, &mut granted] {
            till.settle(Health::Good);
            assert_eq!(till.version_of("pos-app"), Some("2.0.0"), "{}", till.name);
        }
        assert_eq!((server.rollout("r").state, counts(server).succeeded), (RolloutState::Completed, 5));
    });
}

#[test]
fn a_till_that_is_switched_off_in_the_middle_of_it_is_expected_when_its_shop_opens() {
    on_both(|server| {
        server.import_fleet();
        let hours = json!({ "trading_hours": [{ "opens": "08:00", "closes": "20:00" }] });
        server.api().try_put("sites/NYC-001/trading-hours", &hours).ok();
        NewRelease::new("pos-app", "9.0.0", 100).publish(server);
        let mut till = server.switch_on("pos-nyc-001");
        server.roll_out(&rollout("r", "pos-app@9.0.0", &json!({})));
        till.obey(Health::Good);
        // Five minutes after closing, by the clock of New York.
        server.set_clock(time("2027-01-13T01:05:00Z"));
        let install = till.check_in();
        till.report(&install, Event::Activating);
        server.set_clock(time("2027-01-13T03:00:00Z"));
        let next = || server.sql_number("SELECT timer_at AS number FROM assignments").unwrap();
        wait::until("its timer was looked at", || next() > server.clock.now().millis());
        assert_eq!((counts(server).activating, counts(server).silent), (1, 0));
        assert_eq!(next(), time("2027-01-13T14:15:00Z").millis(), "the first hour of the day does not count");
        server.set_clock(time("2027-01-13T14:15:00Z"));
        wait_for(server, "it is silent", |counts| counts.silent == 1);
        server.set_clock(time("2027-01-13T15:00:00Z"));
        wait_for(server, "it has timed out", |counts| counts.timed_out == 1);
    });
}

#[test]
fn a_device_that_runs_the_old_release_again_has_failed_and_the_gate_sees_it_in_the_soak() {
    on_both(|server| {
        let phases = json!([
            { "name": "first", "percent": 50, "success_percent": 100, "soak_min": 60 },
            { "name": "all", "percent": 100 },
        ]);
        let more = json!({ "policy": "progressive", "audience": "frozen", "phases": phases });
        let mut tills: [FakeDevice; 2] = tills(server, &more);
        let first = usize::from(tills[0].check_in().action != Action::Download);
        let till = &mut tills[first];
        till.settle(Health::Good);
        assert!(server.rollout("r").phases[0].gate_met_at.is_some());
        *till = till.twin(server).runs("pos-app", "1.0.0");
        till.check_in();
        let now = server.rollout("r");
        assert_eq!(
            (now.state, now.phases[0].counts.failed, now.phases[0].counts.succeeded),
            (RolloutState::Paused, 1, 0)
        );
        assert_eq!(now.phases[0].gate_met_at, None);
        let failure = of(server, till).failure.unwrap();
        assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Permanent, "regressed"));
        insta::assert_snapshot!(failure.text, @"it runs pos-app 1.0.0 again, after the release had been installed");
        assert_eq!(till.check_in().action, Action::None, "it is not offered again by itself");
    });
}

#[test]
fn a_device_that_has_the_product_no_more_has_failed() {
    on_both(|server| {
        let mut tills: [FakeDevice; 2] = tills(server, &json!({ "audience": "live" }));
        let till = &mut tills[0];
        till.settle(Health::Good);
        till.facts.installed.clear();
        till.check_in();
        assert_eq!(server.rollout("r").phases[0].counts.failed, 1);
        let failure = of(server, till).failure.unwrap();
        insta::assert_snapshot!(failure.text, @"it has no pos-app any more, after the release had been installed");
        let explained = server.explain(till);
        assert_eq!((explained.next.code.as_str(), till.check_in().action), ("failed", Action::None));
    });
}

#[test]
fn neither_a_newer_release_nor_a_device_that_begins_anew_is_a_regression() {
    on_both(|server| {
        let [mut newer, mut reborn, mut busy] = tills(server, &json!({}));
        for till in [&mut newer, &mut reborn] {
            till.settle(Health::Good);
        }
        switching(&mut busy);
        let mut newer = newer.runs("pos-app", "9.0.0");
        newer.facts.installed[0].counter = 9;
        newer.check_in();
        server.advance(minutes(1));
        // One had succeeded, the other was in the middle of it.
        for name in ["till-1", "till-2"] {
            let mut anew = FakeDevice::enrol_imported(server, name).runs("pos-app", "1.0.0");
            assert_eq!(anew.check_in().action, Action::Download);
        }
        let counts = counts(server);
        assert_eq!((counts.succeeded, counts.downloading, counts.failed, counts.activating), (1, 2, 0, 0));
    });
}

#[test]
fn a_device_that_is_taken_out_of_service_while_it_switches_is_no_failure() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({}));
        switching(&mut till);
        server.api().post::<Value>("devices/till-0/decommission", &json!({ "reason": "stolen" }));
        let counts = counts(server);
        assert_eq!((counts.activating, counts.cancelled, counts.failed), (0, 1, 0));
    });
}

#[test]
fn who_activates_by_itself_holds_a_grant_from_then_on_even_if_it_was_queued() {
    on_both(|server| {
        let [mut till] = tills(server, &json!({ "offline_activation": true }));
        let offer = till.check_in();
        server.advance(minutes(30));
        wait_for(server, "the grant has lapsed", |counts| counts.queued == 1);
        server.advance(minutes(30));
        till.report(&offer, Event::Activating);
        assert_eq!(state(server, &till), S::Activating);
        let granted = server.sql_number("SELECT granted_at AS number FROM assignments");
        assert_eq!(granted, Some(server.clock.now().millis()));
        till.report(&offer, Event::Succeeded);
        assert_eq!(counts(server).succeeded, 1);
    });
}
