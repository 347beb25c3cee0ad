//! What operators do to running rollouts, and how devices see it.

use callboard_proto::{
    admin::{Assignment, Device, Event as Logged, RolloutState},
    instruction::{Action, Instruction},
    problem::Code,
    report::Event,
    state::AssignmentState,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{on_both, refused};

fn started(server: &TestServer) {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
}

fn till(server: &TestServer, name: &str) -> FakeDevice {
    FakeDevice::enrol(server, name).runs("pos-app", "1.0.0")
}

fn state(server: &TestServer, name: &str) -> AssignmentState {
    let all: Vec<Assignment> = server.api().list("rollouts/r/assignments");
    all.into_iter().find(|one| one.device.as_str() == name).unwrap().state
}

fn told(instruction: &Instruction) -> (Action, &str) {
    (instruction.action, &instruction.reason.code)
}

#[test]
fn a_pause_stops_both_grants_and_resuming_goes_on_where_it_was() {
    on_both(|server| {
        started(server);
        let [mut new, mut downloading, mut staged] = ["new", "downloading", "staged"].map(|name| till(server, name));
        let offer = downloading.check_in();
        staged.obey(Health::Good);
        assert_eq!(server.tell_rollout("r", "pause").state, RolloutState::Paused);
        assert_eq!(told(&new.check_in()), (Action::None, "rollout_paused"));
        let held = downloading.check_in();
        assert_eq!((told(&held), held.assignment_id), ((Action::Hold, "rollout_paused"), offer.assignment_id));
        assert_eq!(told(&staged.check_in()), (Action::Hold, "rollout_paused"));
        insta::assert_snapshot!(held.reason.text, @"rollout r: it is paused (by first admin: a test)");
        server.tell_rollout("r", "resume");
        let again = downloading.check_in();
        assert_eq!(
            (again.action, again.assignment_id, again.attempt),
            (Action::Download, offer.assignment_id, Some(1))
        );
        assert_eq!(staged.obey(Health::Good).action, Action::Install);
        assert_eq!(new.check_in().action, Action::Download);
    });
}

#[test]
fn what_is_being_activated_finishes_whatever_happens_to_the_rollout() {
    on_both(|server| {
        for verb in ["pause", "cancel"] {
            let name = format!("till-{verb}");
            if verb == "pause" {
                started(server);
            }
            let mut device = till(server, &name);
            device.obey(Health::Good);
            let install = device.check_in();
            assert_eq!(install.action, Action::Install);
            server.tell_rollout("r", verb);
            assert_eq!(device.check_in().action, Action::Install);
            device.activate(&install, Health::Good);
            assert_eq!(state(server, &name), AssignmentState::Succeeded);
            if verb == "pause" {
                server.tell_rollout("r", "resume");
            }
        }
    });
}

#[test]
fn a_cancelled_rollout_is_dropped_by_devices_that_have_not_begun_to_activate() {
    on_both(|server| {
        started(server);
        let [mut downloading, mut staged] = ["downloading", "staged"].map(|name| till(server, name));
        downloading.check_in();
        staged.obey(Health::Good);
        let cancelled = server.tell_rollout("r", "cancel");
        assert_eq!((cancelled.state, cancelled.ended_at), (RolloutState::Cancelled, Some(server.clock.now())));
        for device in [&mut downloading, &mut staged] {
            let drop_it = device.check_in();
            assert_eq!(told(&drop_it), (Action::Cancel, "rollout_cancelled"));
            device.report(&drop_it, Event::Cancelled);
            assert_eq!(state(server, device.name.as_str()), AssignmentState::Cancelled);
            assert_eq!(device.check_in().action, Action::None);
        }
        assert_eq!(till(server, "new").check_in().action, Action::None);
        refused(
            &server.api().try_post("rollouts/r/resume", &json!({})),
            Code::WrongState,
            "rollout r is cancelled, so it cannot become running",
        );
    });
}

#[test]
fn a_state_that_does_not_allow_it_is_said() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let spec = rollout("r", "pos-app@2.0.0", &json!({}));
        server.api().post::<Value>("rollouts", &spec);
        let tell = |verb: &str| server.api().try_post(&format!("rollouts/r/{verb}"), &json!({}));
        for verb in ["pause", "resume"] {
            refused(&tell(verb), Code::WrongState, "rollout r is draft");
        }
        tell("start").ok();
        tell("start").ok();
        // The same rollout again is the same; another one under its name is not.
        assert_eq!(server.api().post::<Value>("rollouts", &spec)["state"], "running");
        let other = server.api().try_post("rollouts", &rollout("r", "pos-app@2.0.0", &json!({ "priority": 1 })));
        refused(&other, Code::Conflict, "rollout r exists with another specification");
        tell("cancel").ok();
        refused(&tell("start"), Code::WrongState, "rollout r is cancelled; only a draft can be started");
        refused(&tell("pause"), Code::WrongState, "rollout r is cancelled");
        tell("cancel").ok();
        refused(&server.api().try_post("rollouts/x/start", &json!({})), Code::NotFound, "there is no rollout x");
    });
}

#[test]
fn who_changed_a_rollout_and_why_stands_in_the_log() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.api().post::<Value>("rollouts", &rollout("r", "pos-app@2.0.0", &json!({})));
        for verb in ["start", "pause", "resume", "cancel"] {
            let because = json!({ "reason": format!("{verb} it") });
            server.api().post::<Value>(&format!("rollouts/r/{verb}"), &because);
        }
        let log: Vec<Logged> = server.api().list("events");
        for (kind, said) in [
            ("rollout.started", "by first admin: start it"),
            ("rollout.paused", "by first admin: pause it"),
            ("rollout.resumed", "by first admin: resume it"),
            ("rollout.cancelled", "by first admin: cancel it"),
        ] {
            let event = log.iter().find(|event| event.kind == kind).unwrap();
            assert!(event.text.ends_with(said), "{kind}: {}", event.text);
        }
    });
}

#[test]
fn an_emergency_comes_before_a_release_that_waits() {
    on_both(|server| {
        let mut device = till(server, "till-1");
        for (version, counter) in [("2.0.0", 1), ("2.0.1", 2)] {
            NewRelease::new("pos-app", version, counter).publish(server);
        }
        let sunday =
            json!({ "policy": "scheduled", "windows": [{ "days": ["sun"], "start": "03:00", "duration_min": 60 }] });
        server.roll_out(&rollout("r", "pos-app@2.0.0", &sunday));
        assert_eq!(device.obey(Health::Good).action, Action::Download);
        assert_eq!(told(&device.check_in()), (Action::Hold, "install_window_closed"));
        server.roll_out(&rollout("emergency", "pos-app@2.0.1", &json!({ "priority": 900 })));
        let first = device.obey(Health::Good);
        assert_eq!(told(&first), (Action::Cancel, "superseded"));
        device.report(&first, Event::Cancelled);
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("2.0.1"));
        // The older release is not put over it when Sunday comes.
        server.advance(Duration::from_secs(7 * 86_400));
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("2.0.1"));
    });
}

#[test]
fn a_held_device_is_left_as_it_is_until_the_hold_ends() {
    on_both(|server| {
        let mut device = till(server, "till-1");
        started(server);
        let until = server.clock.now() + Duration::from_secs(3600);
        let hold = json!({ "reason": "audit in the shop", "until": until });
        let shown: Device = server.api().try_put("devices/till-1/hold", &hold).json();
        assert_eq!(shown.hold.unwrap().reason, "audit in the shop");
        let held = device.check_in();
        assert_eq!(told(&held), (Action::Hold, "held"));
        insta::assert_snapshot!(held.reason.text, @"the device is held until 2027-01-12T13:00:00Z: audit in the shop");
        server.set_clock(until);
        assert_eq!(device.check_in().action, Action::Download);
        let past = server.api().try_put("devices/till-1/hold", &json!({ "reason": "x", "until": until }));
        refused(&past, Code::Invalid, "which is past");
        refused(
            &server.api().try_put("devices/till-1/hold", &json!({ "reason": " " })),
            Code::Invalid,
            "reason is empty",
        );
    });
}

#[test]
fn a_decommissioned_device_leaves_the_rollout_and_no_gate_waits_for_it() {
    on_both(|server| {
        let mut devices: Vec<FakeDevice> = (0..2).map(|n| till(server, &format!("till-{n}"))).collect();
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" })));
        devices[0].settle(Health::Good);
        assert_eq!(server.rollout("r").state, RolloutState::Running);
        server.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "scrapped" }));
        let done = server.rollout("r");
        assert_eq!((done.state, done.phases[0].counts.excluded), (RolloutState::Completed, 1));
    });
}

#[test]
fn a_downgrade_needs_to_be_meant() {
    on_both(|server| {
        let mut device = till(server, "till-1");
        for (version, counter) in [("1.9.0", 1), ("2.0.0", 2)] {
            NewRelease::new("pos-app", version, counter).publish(server);
        }
        server.roll_out(&rollout("up", "pos-app@2.0.0", &json!({ "audience": "frozen" })));
        device.settle(Health::Good);
        server.api().post::<Value>("rollouts", &rollout("down", "pos-app@1.9.0", &json!({ "audience": "frozen" })));
        let down = server.api().try_post("rollouts/down/start", &json!({}));
        refused(&down, Code::Invalid, "no device that all matches can have it (1 downgrade)");
        server.roll_out(&rollout("live", "pos-app@1.9.0", &json!({})));
        assert_eq!(device.check_in().action, Action::None);
        server.roll_out(&rollout("meant", "pos-app@1.9.0", &json!({ "audience": "frozen", "allow_downgrade": true })));
        let offer = device.obey(Health::Good);
        assert_eq!((offer.action, offer.allow_downgrade), (Action::Download, true));
        device.settle(Health::Good);
        assert_eq!(device.version_of("pos-app"), Some("1.9.0"));
    });
}
