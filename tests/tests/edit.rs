//! Changing rollouts: what is safe takes effect at once, the rest is refused with the reason.

use callboard_proto::{
    admin::{Event as Logged, Rollout, RolloutState},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    http::{Request, Response},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, on_both_with, refused};

fn tills(server: &TestServer, many: usize) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    NewRelease::new("pos-app", "2.1.0", 2).publish(server);
    (0..many).map(|n| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0")).collect()
}

fn edit(server: &TestServer, more: &Value) -> Response {
    let body = json!({ "spec": rollout("r", "pos-app@2.0.0", more), "reason": "a test" });
    server.api().send(Request::new("PATCH", "/api/v1/rollouts/r").json(&body))
}

#[test]
fn a_limit_that_is_lifted_or_set_holds_from_the_next_decision_on() {
    on_both(|server| {
        let mut tills = tills(server, 3);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "caps": { "downloads": { "max_in_flight": 1 } } })));
        assert_eq!(tills[0].check_in().action, Action::Download);
        assert_eq!(tills[1].check_in().reason.code, "downloads_full");
        let changed: Rollout = edit(server, &json!({ "priority": 700 })).json();
        assert_eq!((changed.spec.priority, changed.edited_by.as_deref()), (700, Some("first admin")));
        assert_eq!(tills[1].check_in().action, Action::Download);
        // By night only, from now on; the shop is open.
        let night = json!({ "priority": 700, "windows": [{ "tz": "UTC", "start": "02:00", "duration_min": 60, "gates": ["download", "install"] }] });
        edit(server, &night).json::<Rollout>();
        assert_eq!(tills[2].check_in().reason.code, "download_window_closed");
        let log: Vec<Logged> = server.api().list("events");
        let texts: Vec<&str> =
            log.iter().filter(|event| event.kind == "rollout.edited").map(|event| event.text.as_str()).collect();
        assert_eq!(texts.len(), 2);
        assert_eq!(
            texts[1],
            "changed by first admin: a test; caps.downloads.max_in_flight: 1 -> null; priority: 500 -> 700"
        );
        edit(server, &night).json::<Rollout>();
        let again: Vec<Logged> = server.api().list("events");
        assert_eq!(again.len(), log.len(), "the same again is no change");
    });
}

#[test]
fn what_devices_were_chosen_by_or_told_stays_and_each_is_told_why() {
    on_both(|server| {
        tills(server, 1);
        let phases = |second: u32, success: u32| json!([{ "name": "a", "percent": second, "success_percent": success }, { "name": "b", "percent": 100 }]);
        let spec = |phases: Value| json!({ "policy": "progressive", "phases": phases });
        server.roll_out(&rollout("r", "pos-app@2.0.0", &spec(phases(50, 90))));
        let mut other = spec(phases(60, 90));
        other["selector"] = json!("region = west");
        other["offline_activation"] = json!(true);
        other["release"] = json!("pos-app@2.1.0");
        let detail = edit(server, &other).problem(Code::WrongState);
        for part in [
            "selector: who is in it, and in which phase, was fixed when it started",
            "phases[0].percent: the phases were cut when it started; only their gates can change",
            "offline_activation: devices have been told when they may install by themselves",
            "release: devices have been offered it",
            "these cannot be changed while rollout r is running, so make another rollout for that",
        ] {
            assert!(detail.contains(part), "{detail}\ndoes not say {part}");
        }
        let changed: Rollout = edit(server, &spec(phases(50, 70))).json();
        assert_eq!(changed.spec.phases[0].success_percent, 70);
        refused(
            &edit(server, &json!({ "priority": 2000, "policy": "progressive", "phases": phases(50, 70) })),
            Code::Invalid,
            "priority: is 2000",
        );
        server.tell_rollout("r", "cancel");
        refused(&edit(server, &spec(phases(50, 75))), Code::WrongState, "rollout r is cancelled; make another one");
    });
}

#[test]
fn a_gate_that_is_met_and_asks_for_more_devices_from_now_on_is_met_no_longer() {
    on_both(|server| {
        let mut tills = tills(server, 3);
        let spec = |completed: u32, soak: u32| {
            let first = json!({ "name": "a", "percent": 66, "completed_percent": completed, "soak_min": soak });
            json!({ "policy": "progressive", "phases": [first, { "name": "b", "percent": 100 }] })
        };
        server.roll_out(&rollout("r", "pos-app@2.0.0", &spec(50, 60)));
        let mut first =
            tills.iter_mut().filter_map(|till| (till.check_in().action == Action::Download).then_some(till));
        first.next().unwrap().settle(Health::Good);
        let met = || server.rollout("r").phases[0].gate_met_at;
        let began = met();
        assert_eq!(began, Some(server.clock.now()));
        edit(server, &spec(50, 90)).json::<Rollout>();
        assert_eq!(met(), began, "another soak changes nothing about when it began");
        edit(server, &spec(100, 90)).json::<Rollout>();
        assert_eq!(met(), None, "one of two is not enough any more");
        first.next().unwrap().settle(Health::Good);
        assert_eq!(met(), Some(server.clock.now()));
    });
}

#[test]
fn a_draft_can_become_anything_but_another_name() {
    on_both(|server| {
        let mut tills = tills(server, 1);
        server.api().post::<Value>("rollouts", &rollout("r", "pos-app@2.0.0", &json!({ "selector": "name = nobody" })));
        let other = json!({ "selector": "name = till-0", "release": "pos-app@2.1.0" });
        let changed: Rollout = edit(server, &other).json();
        assert_eq!((changed.state, changed.spec.release.as_str()), (RolloutState::Draft, "pos-app@2.1.0"));
        let named = json!({ "spec": rollout("s", "pos-app@2.0.0", &json!({})) });
        let answer = server.api().send(Request::new("PATCH", "/api/v1/rollouts/r").json(&named));
        refused(&answer, Code::WrongState, "name: a rollout keeps its name");
        server.tell_rollout("r", "start");
        tills[0].settle(Health::Good);
        assert_eq!(tills[0].version_of("pos-app"), Some("2.1.0"));
    });
}

#[test]
fn a_rule_that_would_stop_it_at_once_is_refused() {
    on_both(|server| {
        let mut tills = tills(server, 2);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        tills[0].settle(Health::Bad);
        let rule = json!({ "halt": [{ "max_failures": 0, "action": "cancel" }] });
        let said = "it would be cancelled at once (halt: 1 device failed (at most 0 may)); pause or cancel it";
        refused(&edit(server, &rule), Code::WrongState, said);
        assert_eq!(server.rollout("r").state, RolloutState::Running);
        assert!(server.rollout("r").spec.halt.is_empty());
        edit(server, &json!({ "halt": [{ "max_failures": 1 }] })).json::<Rollout>();
        tills[1].settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Paused);
    });
}

#[test]
fn a_deadline_that_has_passed_stays_and_none_is_set_in_the_past() {
    on_both(|server| {
        tills(server, 1);
        let with = |deadline: &str, priority: u32| {
            let night = json!([{ "tz": "UTC", "start": "02:00", "duration_min": 60 }]);
            json!({ "windows": night, "deadline": deadline, "priority": priority })
        };
        let spec = rollout("r", "pos-app@2.0.0", &with("2027-01-12T18:00:00Z", 500));
        server.api().post::<Value>("rollouts", &spec);
        server.api().post::<Value>("rollouts", &rollout("late", "pos-app@2.0.0", &with("2027-01-12T18:00:00Z", 500)));
        server.tell_rollout("r", "start");
        server.set_clock(time("2027-01-12T19:00:00Z"));
        let changed: Rollout = edit(server, &with("2027-01-12T18:00:00Z", 700)).json();
        assert_eq!(changed.spec.priority, 700);
        let said = "deadline: 2027-01-12T17:00:00Z has passed; it is 2027-01-12T19:00:00Z";
        refused(&edit(server, &with("2027-01-12T17:00:00Z", 700)), Code::Invalid, said);
        edit(server, &with("2027-01-12T20:00:00Z", 700)).json::<Rollout>();
        edit(server, &with("2027-01-12T20:00:00Z", 500)).json::<Rollout>();
        // The same again is the same rollout, however late it is; one that never started is too late.
        server.set_clock(time("2027-01-12T21:00:00Z"));
        let again = rollout("r", "pos-app@2.0.0", &with("2027-01-12T20:00:00Z", 500));
        server.api().post::<Value>("rollouts", &again);
        let start = server.api().try_post("rollouts/late/start", &json!({ "reason": "a test" }));
        refused(&start, Code::Invalid, "deadline: 2027-01-12T18:00:00Z has passed");
        refused(&server.api().send(Request::get("/api/v1/rollouts/late/preview")), Code::Invalid, "has passed");
    });
}

#[test]
fn an_edit_voids_the_second_persons_approval() {
    on_both_with(&["second_person_above = 1"], |server| {
        tills(server, 2);
        server.api().post::<Value>("rollouts", &rollout("r", "pos-app@2.0.0", &json!({})));
        let ada = server.api_of("Ada");
        ada.post::<Rollout>("rollouts/r/countersign", &json!({}));
        server.tell_rollout("r", "start");
        let more = json!({ "priority": 900 });
        refused(&edit(server, &more), Code::WrongState, "second person's approval");
        server.tell_rollout("r", "pause");
        let changed: Rollout = edit(server, &more).json();
        assert_eq!((changed.state, changed.countersigned), (RolloutState::Paused, None));
        let resume = server.api().try_post("rollouts/r/resume", &json!({}));
        refused(&resume, Code::WrongState, "second person's approval");
        ada.post::<Rollout>("rollouts/r/countersign", &json!({}));
        assert_eq!(server.tell_rollout("r", "resume").state, RolloutState::Running);
    });
}

#[test]
fn the_command_changes_what_the_file_says() {
    on_both(|server| {
        server.set_clock(time("2027-01-12T12:00:00Z"));
        tills(server, 1);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let file = server.home().join("r.toml");
        let text = "name = \"r\"\nrelease = \"pos-app@2.0.0\"\npolicy = \"immediate\"\n";
        std::fs::write(&file, format!("{text}max_attempts = 5\n")).unwrap();
        let args = ["--output", "json", "rollout", "edit", "-f", file.to_str().unwrap(), "--reason", "a bad line"];
        let changed: Rollout = server.cli(args).json();
        assert_eq!(changed.spec.max_attempts, 5);
        std::fs::write(&file, format!("{text}selector = \"region = west\"\n")).unwrap();
        let said = server.cli(["rollout", "edit", "-f", file.to_str().unwrap()]);
        assert!(said.refused(1).contains("selector: who is in it"), "{}", said.stderr);
    });
}
