//! Gates that must not open: behind phases without devices, behind failures that somebody acknowledged, and behind
//! the last phase; and selectors that look like mistakes.

use callboard_proto::{
    admin::{Counts, Rollout, RolloutState},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Health, Key, enrolment},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

/// Tills that have reported, of which these are canaries.
fn tills(server: &TestServer, many: usize, canaries: &[usize]) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let enrol = |n: usize| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0");
    let mut devices: Vec<FakeDevice> = (0..many).map(enrol).collect();
    devices.iter_mut().for_each(|device| drop(device.check_in()));
    for n in canaries {
        let edit = json!({ "selector": format!("name = till-{n}"), "set": { "canary": "true" } });
        server.api().post::<Value>("devices/labels", &edit);
    }
    devices
}

fn phased(name: &str, audience: &str, phases: &Value) -> Value {
    rollout(name, "pos-app@2.0.0", &json!({ "policy": "progressive", "audience": audience, "phases": phases }))
}

fn post(server: &TestServer, verb: &str, body: &Value) -> callboard_tests::http::Response {
    server.api().try_post(&format!("rollouts/r/{verb}"), body)
}

#[test]
fn a_mistake_in_the_selector_of_a_pilot_does_not_release_to_everybody() {
    for audience in ["frozen", "live"] {
        on_both(|server| {
            let mut devices = tills(server, 2, &[]);
            let phases = json!([
                { "name": "pilot", "selector": "name = till-00", "soak_min": 60 },
                { "name": "all", "percent": 100 },
            ]);
            let started = server.roll_out(&phased("r", audience, &phases));
            assert_eq!(started.state, RolloutState::Paused);
            insta::assert_snapshot!(started.state_reason.unwrap(), @"the selector of phase pilot takes no device that needs the release, so nothing can be learned from it; open-phase opens phase all regardless");
            devices.iter_mut().for_each(|device| assert_eq!(device.check_in().action, Action::None));
            refused(&post(server, "resume", &json!({})), Code::WrongState, "takes no device");
            // It may be meant.
            let open = json!({ "phase": "all", "reason": "there is no pilot shop any more" });
            server.api().post::<Rollout>("rollouts/r/open-phase", &open);
            server.tell_rollout("r", "resume");
            devices.iter_mut().for_each(|device| assert_eq!(device.check_in().action, Action::Download));
        });
    }
}

#[test]
fn a_canary_label_or_a_late_joiner_does_not_get_into_a_phase_whose_selector_does_not_take_it() {
    on_both(|server| {
        let mut devices = tills(server, 2, &[1]);
        let phases = json!([{ "name": "pilot", "selector": "name = till-0" }, { "name": "all", "percent": 100 }]);
        let started = server.roll_out(&phased("r", "live", &phases));
        let sizes: Vec<u32> = started.phases.iter().map(|phase| phase.counts.size).collect();
        assert_eq!(sizes, [1, 1]);
        assert_eq!(devices[1].check_in().reason.code, "phase_not_open");
        let mut late = FakeDevice::enrol(server, "till-2").runs("pos-app", "1.0.0");
        assert_eq!(late.check_in().reason.code, "phase_not_open");
        devices[0].settle(Health::Good);
        assert_eq!(late.check_in().action, Action::Download);
        assert_eq!(devices[1].check_in().action, Action::Download);
    });
}

#[test]
fn acknowledged_failures_are_no_successes() {
    on_both(|server| {
        let mut devices = tills(server, 3, &[0, 1]);
        let phases = json!([
            { "name": "canary", "percent": 60, "success_percent": 50 },
            { "name": "all", "percent": 100 },
        ]);
        server.roll_out(&phased("r", "frozen", &phases));
        devices[0].settle(Health::Bad);
        devices[1].settle(Health::Bad);
        assert_eq!(server.rollout("r").state, RolloutState::Paused);
        let detail = post(server, "resume", &json!({ "acknowledge_failures": true })).problem(Code::WrongState);
        insta::assert_snapshot!(detail, @"phase canary: acknowledged failures (2) are no successes, and its other devices (0) are fewer than must be through (1); open-phase opens phase all regardless");
        assert_eq!(devices[2].check_in().action, Action::None);
        assert_eq!(server.rollout("r").phases[0].counts.acknowledged, 0, "a refusal changes nothing");
    });
}

#[test]
fn a_failed_last_phase_pauses_and_does_not_complete() {
    on_both(|server| {
        let mut devices = tills(server, 2, &[0]);
        let phases = json!([
            { "name": "canary", "percent": 50, "success_percent": 100 },
            { "name": "all", "percent": 100, "success_percent": 100 },
        ]);
        server.roll_out(&phased("r", "frozen", &phases));
        devices[0].settle(Health::Good);
        devices[1].settle(Health::Bad);
        let stopped = server.rollout("r");
        assert_eq!(stopped.state, RolloutState::Paused, "{:?}", stopped.state_reason);
        let watched = server.cli(["rollout", "status", "r", "--watch"]);
        assert!(watched.refused(1).contains("1 of 1 failed"), "{}", watched.stderr);
        // An operator takes note of it: then the rest of the fleet is what counts.
        let resumed: Rollout = server.api().post("rollouts/r/resume", &json!({ "acknowledge_failures": true }));
        assert_eq!(resumed.state, RolloutState::Completed);
        insta::assert_snapshot!(resumed.state_reason.unwrap(), @"2 of 2 devices are done: 1 succeeded, 1 rolled back");
        server.cli(["rollout", "status", "r", "--watch"]).ok();
    });
}

#[test]
fn what_a_gate_allows_to_fail_is_told_at_the_end() {
    on_both(|server| {
        let mut devices = tills(server, 2, &[]);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" })));
        devices[0].settle(Health::Good);
        devices[1].settle(Health::Bad);
        let ended = server.rollout("r");
        assert_eq!(ended.state, RolloutState::Completed);
        assert_eq!(ended.state_reason.as_deref(), Some("2 of 2 devices are done: 1 succeeded, 1 rolled back"));
        let watched = server.cli(["rollout", "status", "r", "--watch"]);
        assert!(watched.ok().stdout.contains("1 rolled back"), "{}", watched.stdout);
        NewRelease::new("pos-app", "2.1.0", 2).publish(server);
        server.roll_out(&rollout("bad", "pos-app@2.1.0", &json!({ "audience": "frozen" })));
        devices.iter_mut().for_each(|device| drop(device.settle(Health::Bad)));
        let watched = server.cli(["rollout", "status", "bad", "--watch"]);
        assert!(watched.refused(1).contains("0 succeeded, 2 rolled back"), "without a gate, but nothing succeeded");
    });
}

#[test]
fn a_selector_that_looks_like_a_mistake_is_told() {
    on_both(|server| {
        server.import_fleet();
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let asked =
            |selector: &str| rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen", "selector": selector }));
        let empty = server.api().try_post("rollouts", &asked(" "));
        refused(&empty, Code::BadSelector, "selector: is empty; write all for every device");
        let typo = "(regoin = northeast or site in (NYC-001, NYC-00)) and version(\"pos-ap\") < 2.0.0";
        let said = server.preview(&asked(typo)).warnings.join("\n");
        insta::assert_snapshot!(said, @"
        no device has a label regoin
        no device has site = NYC-00
        no device reports product pos-ap
        ");
        let made: Rollout = server.api().post("rollouts", &asked(typo));
        assert_eq!(made.warnings.join("\n"), said);
        let refusal = server.api().try_post("rollouts/r/start", &json!({}));
        refused(&refusal, Code::Invalid, "matches no device, and a frozen audience has nobody join later");
        assert_eq!(server.rollout("r").state, RolloutState::Draft);
        assert_eq!(server.preview(&asked("site = NYC-001")).warnings, Vec::<String>::new());
        assert_eq!(server.preview(&asked("all")).warnings, Vec::<String>::new());
        let what = ["--release", "pos-app@2.0.0", "--policy", "immediate", "--selector", "regoin = northeast"];
        let previewed = server.cli(["rollout", "preview"].iter().chain(&what));
        assert_eq!(previewed.ok().stderr.trim(), "warning: no device has a label regoin");
        let created = server.cli(["rollout", "create", "s"].iter().chain(&what));
        assert_eq!(created.ok().stderr.trim(), "warning: no device has a label regoin");
    });
}

#[test]
fn the_name_of_a_rollout_that_is_over_is_taken() {
    on_both(|server| {
        let mut devices = tills(server, 1, &[]);
        let asked = rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" }));
        let made: Rollout = server.api().post("rollouts", &asked);
        let again: Rollout = server.api().post("rollouts", &asked);
        assert_eq!(again.id, made.id);
        server.tell_rollout("r", "cancel");
        refused(
            &server.api().try_post("rollouts", &asked),
            Code::Conflict,
            "exists and is cancelled; choose another name",
        );
        let other = rollout("s", "pos-app@2.0.0", &json!({ "audience": "frozen" }));
        server.roll_out(&other);
        devices[0].settle(Health::Good);
        refused(&server.api().try_post("rollouts", &other), Code::Conflict, "exists and is completed");
    });
}

#[test]
fn who_has_not_reported_yet_is_shown_apart_and_leaves_with_a_word() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut known = FakeDevice::enrol(server, "known").runs("pos-app", "1.0.0");
        known.check_in();
        let token = server.enrolment_token(&json!({ "max_uses": 2 }));
        let mut new =
            ["new-1", "new-2"].map(|name| FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named(name)));
        let asked = rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" }));
        let seen = server.preview(&asked);
        assert_eq!((seen.devices, seen.unreported, seen.phases[0].size), (3, 2, 3));
        let names: Vec<&str> = seen.unreported_devices.iter().map(|name| name.as_str()).collect();
        assert_eq!(names, ["new-1", "new-2"]);
        server.roll_out(&asked);
        // One turns out to run the release already.
        let release = known.settle(Health::Good).release_sha256;
        assert_eq!(release, None, "it is through");
        let installed = known.next_check_in().facts.installed;
        new[0].set_installed(installed[0].clone());
        assert_eq!(new[0].check_in().action, Action::None);
        let counts: Counts = server.rollout("r").phases[0].counts;
        assert_eq!((counts.size, counts.excluded, counts.succeeded), (3, 1, 1));
        let log: Vec<callboard_proto::admin::Event> = server.api().list("events");
        let text = log.iter().find(|event| event.kind == "rollout.excluded").map(|event| event.text.as_str());
        assert_eq!(text, Some("does not count: it has the release already"));
    });
}

#[test]
fn status_and_explanation_say_what_one_asks_for() {
    on_both(|server| {
        let mut devices = tills(server, 2, &[0]);
        let phases = ["canary=50%", "all=100%"].map(|phase| ["--phase", phase]);
        let what = [
            "rollout",
            "create",
            "r",
            "--release",
            "pos-app@2.0.0",
            "--policy",
            "progressive",
            "--audience",
            "frozen",
            "--window",
            "00:00 +7d site",
            "--expected-install",
            "15m",
            "--ends-at",
            "2027-03-01T00:00:00Z",
            "--start",
        ];
        server.cli(what.iter().chain(phases.iter().flatten())).ok();
        devices[0].settle(Health::Bad);
        let status = server.cli(["rollout", "status", "r"]).ok().stdout.clone();
        for said in [
            "audience  frozen: fixed at the start",
            "windows   daily 00:00 +10080m site; an install takes 15 min",
            "ends      2027-03-01T00:00:00Z",
            "OPENED",
        ] {
            assert!(status.contains(said), "{said:?} is not in\n{status}");
        }
        let explained = server.explain(&devices[0]);
        let failure = explained.rollouts[0].failure.clone().unwrap();
        assert_eq!(failure.code, "health_check");
        let shown = server.cli(["device", "explain", "till-0"]).ok().stdout.clone();
        assert!(shown.contains(&format!("health_check: {}", failure.text)), "{shown}");
    });
}
