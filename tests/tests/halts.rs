//! Halts: a rollout whose release fails stops in the transaction of the report that says so, and takes its release back
//! if it is told to.

use callboard_proto::{
    admin::{Event as Logged, Rollout, RolloutState},
    check_in::Installed,
    instruction::Action,
    problem::Code,
    report::Event,
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    wait,
    world::rollout,
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{on_both, refused};

/// Tills that run 1.0.0, of which 2.0.0 is the next release.
fn fleet<const N: usize>(server: &TestServer) -> [FakeDevice; N] {
    let old = NewRelease::new("pos-app", "1.0.0", 1).publish(server).sha256;
    NewRelease::new("pos-app", "2.0.0", 2).publish(server);
    std::array::from_fn(|n| {
        let mut till = FakeDevice::enrol(server, &format!("till-{n}"));
        let release = till.fetch_release(old);
        till.install(&release);
        till.check_in();
        till
    })
}

fn halting(rules: &Value) -> Value {
    rollout("r", "pos-app@2.0.0", &json!({ "halt": rules }))
}

/// Staged, told to switch, and doing so.
fn switching(till: &mut FakeDevice) -> callboard_proto::instruction::Instruction {
    till.obey(Health::Good);
    let install = till.check_in();
    assert_eq!(install.action, Action::Install);
    till.report(&install, Event::Activating);
    install
}

fn log_of(server: &TestServer, kind: &str) -> Vec<String> {
    let all: Vec<Logged> = server.api().list("events");
    all.into_iter().filter(|event| event.kind == kind).map(|event| event.text).collect()
}

#[test]
fn after_the_failure_that_is_too_much_nothing_is_granted_and_everybody_is_told_why() {
    on_both(|server| {
        let [mut a, mut b, mut staged, mut new] = fleet(server);
        server.roll_out(&halting(&json!([{ "failure_percent": 50, "min_completed": 2 }])));
        staged.obey(Health::Good);
        a.settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Running, "one is too few to say anything");
        b.settle(Health::Bad);
        let halted = server.rollout("r");
        assert_eq!(halted.state, RolloutState::Paused);
        let why = "halt: 2 of 2 completed devices failed, which is 50 % or more";
        assert_eq!(halted.state_reason.as_deref(), Some(why));
        assert_eq!(log_of(server, "rollout.halted"), [why]);
        for (till, action) in [(&mut staged, Action::Hold), (&mut new, Action::None)] {
            let told = till.check_in();
            assert_eq!((told.action, told.reason.code.as_str()), (action, "rollout_paused"));
            assert_eq!(told.reason.text, format!("rollout r: it is paused ({why})"));
            assert_eq!(server.explain(till).next, told.reason);
        }
        assert!(server.cli(["rollout", "status", "r"]).ok().stdout.contains(why));
        // It would halt again at once, and says so; what an operator took note of counts for nothing.
        let resume = |body: &Value| server.api().try_post("rollouts/r/resume", body);
        refused(&resume(&json!({})), Code::WrongState, &format!("{why}; resume with acknowledge_failures"));
        assert_eq!(server.rollout("r").state, RolloutState::Paused);
        assert_eq!(resume(&json!({ "acknowledge_failures": true })).json::<Rollout>().state, RolloutState::Running);
        staged.settle(Health::Good);
        new.settle(Health::Good);
        assert_eq!(server.rollout("r").phases[0].counts.succeeded, 2);
    });
}

#[test]
fn a_late_joiner_that_could_not_go_back_is_named_before_anything_halts() {
    on_both(|server| {
        let [mut member] = fleet(server);
        let rule = json!({ "max_failures": 0, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
        server.roll_out(&halting(&json!([rule])));
        member.settle(Health::Good);
        assert_eq!(log_of(server, "rollout.stranded"), Vec::<String>::new());
        let mut late = FakeDevice::enrol(server, "late");
        late.set_installed(Installed {
            product: "pos-app".parse().unwrap(),
            version: "1.5.0".parse().unwrap(),
            release: None,
            epoch: 0,
            counter: 1,
            floor: 2,
        });
        assert_eq!(late.check_in().action, Action::Download);
        let [said] = log_of(server, "rollout.stranded").try_into().unwrap();
        assert!(said.starts_with("a halt could not bring it back to pos-app@1.0.0: "), "{said}");
    });
}

#[test]
fn failures_in_a_row_are_forgotten_with_a_success_or_a_word_of_an_operator() {
    on_both(|server| {
        let mut tills = fleet::<6>(server);
        server.roll_out(&halting(&json!([{ "consecutive_failures": 2 }])));
        let [a, b, c, d, e, f] = &mut tills;
        a.settle(Health::Bad);
        b.settle(Health::Good);
        c.settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Running);
        let skip = json!({ "devices": ["till-2"], "reason": "a broken drawer" });
        server.api().post::<Value>("rollouts/r/devices/skip", &skip);
        d.settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Running);
        e.settle(Health::Bad);
        let halted = server.rollout("r");
        assert_eq!(
            halted.state_reason.as_deref(),
            Some("halt: 2 devices failed one after the other (2 halt it)"),
            "{:?}",
            halted.state
        );
        server.api().post::<Rollout>("rollouts/r/resume", &json!({ "acknowledge_failures": true }));
        f.settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Running, "the row begins anew");
    });
}

#[test]
fn a_till_that_was_imaged_anew_and_fails_again_is_not_two_that_fail_in_a_row() {
    on_both(|server| {
        let [mut a, mut b] = fleet::<2>(server);
        server.roll_out(&halting(&json!([{ "consecutive_failures": 2 }])));
        a.facts.image_id = Some("first".to_owned());
        a.settle(Health::Bad);
        a.facts.image_id = Some("second".to_owned());
        a.settle(Health::Bad);
        let counts = server.rollout("r").phases[0].counts;
        assert_eq!((counts.rolled_back, server.rollout("r").state), (1, RolloutState::Running));
        b.settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Paused);
    });
}

#[test]
fn silence_halts_when_its_timer_goes_off() {
    on_both(|server| {
        let mut tills = fleet::<3>(server);
        server.roll_out(&halting(&json!([{ "max_silent": 1 }, { "max_failures": 1, "action": "cancel" }])));
        switching(&mut tills[0]);
        switching(&mut tills[1]);
        server.advance(Duration::from_secs(15 * 60));
        wait::until("it is halted", || server.rollout("r").state == RolloutState::Paused);
        let reason = server.rollout("r").state_reason;
        assert_eq!(reason.as_deref(), Some("halt: 2 devices are silent (at most 1 may be)"));
        assert_eq!(tills[2].check_in().reason.code, "rollout_paused");
        // When they have timed out the harder rule trips, although it is paused.
        server.advance(Duration::from_secs(45 * 60));
        wait::until("it is cancelled", || server.rollout("r").state == RolloutState::Cancelled);
        let reason = server.rollout("r").state_reason;
        assert_eq!(reason.as_deref(), Some("halt: 2 devices failed (at most 1 may)"));
    });
}

#[test]
fn a_release_is_taken_back_from_exactly_the_devices_that_got_it() {
    on_both(|server| {
        let mut tills = fleet::<6>(server);
        let rule = json!({ "max_failures": 1, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
        server.roll_out(&halting(&json!([rule])));
        let [good, late, staged, untouched, bad, worse] = &mut tills;
        good.settle(Health::Good);
        let install = switching(late);
        staged.obey(Health::Good);
        bad.settle(Health::Bad);
        worse.settle(Health::Bad);
        let halted = server.rollout("r");
        assert_eq!(halted.state, RolloutState::Cancelled);
        let why = "halt: 2 devices failed (at most 1 may); rollout r-rollback brings pos-app@1.0.0 to the devices that got it";
        assert_eq!(halted.state_reason.as_deref(), Some(why));
        assert_eq!(log_of(server, "rollout.halted"), [why]);
        let back = server.rollout("r-rollback");
        assert_eq!(back.takes_back.as_ref().map(|name| name.as_str()), Some("r"));
        assert_eq!((back.state, back.phases[0].counts.size), (RolloutState::Running, 1));
        // Those that do not run it are left alone, and drop what they have of it.
        assert_eq!(staged.check_in().action, Action::Cancel);
        for till in [untouched, staged, bad, worse] {
            till.settle(Health::Good);
            assert_eq!(till.version_of("pos-app"), Some("1.0.0"), "{}", till.name);
        }
        assert_eq!(good.settle(Health::Good).action, Action::None);
        assert_eq!(good.version_of("pos-app"), Some("1.0.0"));
        assert_eq!(server.rollout("r-rollback").state, RolloutState::Completed);
        let counts = server.rollout("r").phases[0].counts;
        assert_eq!((counts.succeeded, counts.failed), (1, 0), "who goes back has not lost it");
        // Whoever was in the middle of it follows when it has arrived there, although the others are done.
        late.activate(&install, Health::Good);
        assert_eq!(server.rollout("r-rollback").state, RolloutState::Running);
        late.settle(Health::Good);
        assert_eq!(late.version_of("pos-app"), Some("1.0.0"));
        let done = server.rollout("r-rollback");
        assert_eq!((done.state, done.phases[0].counts.succeeded), (RolloutState::Completed, 2));
        let made = server.api().list::<Value>("rollouts/r-rollback/assignments");
        assert_eq!(made.len(), 2);
    });
}

#[test]
fn a_release_that_nobody_got_is_taken_back_from_nobody_and_names_stay_unique() {
    on_both(|server| {
        let mut tills = fleet::<1>(server);
        server.api().post::<Value>("rollouts", &rollout("r-rollback", "pos-app@1.0.0", &json!({})));
        let rule = json!({ "max_failures": 0, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
        server.roll_out(&halting(&json!([rule])));
        tills[0].settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Cancelled);
        let back = server.rollout("r-rollback-2");
        assert_eq!((back.state, back.phases[0].counts.size), (RolloutState::Completed, 0));
    });
}

#[test]
fn rules_that_could_not_be_carried_out_are_refused_all_at_once() {
    on_both(|server| {
        NewRelease::new("os", "1", 1).publish(server);
        NewRelease::new("pos-app", "0.9.0", 1).publish(server);
        NewRelease::new("pos-app", "1.0.0", 2).publish(server);
        NewRelease::new("pos-app", "2.0.0", 3).with(|release| release.min_floor = 2).publish(server);
        let back = |to: &str| json!({ "max_failures": 1, "action": "rollback_to", "rollback_to": to });
        let rules = json!([back("os@1"), back("pos-app@3.0.0"), back("pos-app@0.9.0"), back("pos-app@2.0.0"), {}]);
        let bad = rollout("r", "pos-app@2.0.0", &json!({ "halt": rules, "selector": "region ==" }));
        for path in ["rollouts", "rollouts/preview"] {
            let detail = server.api().try_post(path, &bad).problem(Code::BadSelector);
            for part in [
                "selector: column 9",
                "halt[0].rollback_to: os 1 is another product than pos-app 2.0.0; name an older release of pos-app",
                "halt[1].rollback_to: there is no release pos-app@3.0.0; name a published one",
                "halt[2].rollback_to: pos-app 0.9.0 has counter 1, and devices that got pos-app 2.0.0 refuse everything \
                 below 2; name a release at or above it",
                "halt[3].rollback_to: pos-app 2.0.0 is not older than pos-app 2.0.0; name an older release",
                "halt[4]: has no limit; give failure_percent, max_failures, consecutive_failures or max_silent",
            ] {
                assert!(detail.contains(part), "{path}: {detail}\ndoes not say {part}");
            }
        }
        server.api().post::<Value>("rollouts", &halting(&json!([back("pos-app@1.0.0")])));
    });
}

#[test]
fn a_device_that_could_not_go_back_is_found_before_anything_begins() {
    on_both(|server| {
        NewRelease::new("pos-app", "1.0.0", 1).publish(server);
        let newer = NewRelease::new("pos-app", "1.1.0", 2).with(|release| release.min_floor = 2).publish(server).sha256;
        NewRelease::new("pos-app", "2.0.0", 3).publish(server);
        let rule = json!({ "max_failures": 1, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
        let wanted = halting(&json!([rule]));
        server.api().post::<Value>("rollouts", &wanted);
        // It has committed a release below which it accepts nothing, and tells so after the rollout was made.
        let mut till = FakeDevice::enrol(server, "till-1");
        let release = till.fetch_release(newer);
        till.install(&release);
        till.check_in();
        let said = "halt[0].rollback_to: 1 of the devices could not go back to pos-app@1.0.0, such as till-1 (release \
                    counter 0.1 is below the device's floor 0.2)";
        refused(&server.api().try_post("rollouts/r/start", &json!({})), Code::Invalid, said);
        assert_eq!(server.rollout("r").state, RolloutState::Draft);
        refused(&server.api().try_post("rollouts/preview", &wanted), Code::Invalid, said);
        let other = rollout("other", "pos-app@2.0.0", &json!({ "halt": wanted["halt"] }));
        refused(&server.api().try_post("rollouts", &other), Code::Invalid, said);
        let without = json!({ "halt": wanted["halt"], "selector": "not name = till-1" });
        server.api().post::<Value>("rollouts", &rollout("other", "pos-app@2.0.0", &without));
    });
}

#[test]
fn a_halt_survives_the_death_of_the_server() {
    on_both(|server| {
        server.set_clock(time("2027-01-12T12:00:00Z"));
        let mut tills = fleet::<3>(server);
        let rule = json!({ "max_failures": 0, "action": "rollback_to", "rollback_to": "pos-app@1.0.0" });
        server.roll_out(&halting(&json!([rule])));
        let [good, bad, other] = &mut tills;
        good.settle(Health::Good);
        bad.settle(Health::Bad);
        server.restart_after_kill();
        for till in [&mut *good, &mut *bad, &mut *other] {
            till.follow(server);
        }
        assert_eq!(server.rollout("r").state, RolloutState::Cancelled);
        assert_eq!(other.check_in().action, Action::None);
        good.settle(Health::Good);
        assert_eq!(good.version_of("pos-app"), Some("1.0.0"));
        assert_eq!(server.rollout("r-rollback").state, RolloutState::Completed);
    });
}
