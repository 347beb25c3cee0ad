//! What stands between two phases: soak, approval, and what operators may do about both.

use callboard_proto::{
    admin::{Device, Event, PhaseProgress, Rollout},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    browser::{Browser, text},
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    wait,
    world::rollout,
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{on_both, refused};

/// Four tills, the first of which is a canary, and a rollout with these phases.
fn four(server: &TestServer, phases: &Value) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let enrol = |n: i32| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0");
    let mut devices: Vec<FakeDevice> = (0..4).map(enrol).collect();
    devices.iter_mut().for_each(|device| drop(device.check_in()));
    let edit = json!({ "selector": "name = till-0", "set": { "canary": "true" } });
    server.api().post::<Value>("devices/labels", &edit);
    let spec = json!({ "policy": "progressive", "audience": "frozen", "phases": phases });
    server.roll_out(&rollout("r", "pos-app@2.0.0", &spec));
    devices
}

fn canary(more: &Value) -> Value {
    let mut canary = json!({ "name": "canary", "percent": 25 });
    for (key, value) in more.as_object().unwrap() {
        canary[key] = value.clone();
    }
    json!([canary, { "name": "half", "percent": 50 }, { "name": "all", "percent": 100 }])
}

fn phase(server: &TestServer, n: usize) -> PhaseProgress {
    server.rollout("r").phases[n].clone()
}

fn waits_for(server: &TestServer) -> String {
    phase(server, 0).gate.unwrap().text
}

fn events(server: &TestServer, kind: &str) -> Vec<String> {
    let log: Vec<Event> = server.api().list("events");
    log.into_iter().filter(|event| event.kind == kind).map(|event| event.text).collect()
}

fn post(server: &TestServer, verb: &str, body: &Value) -> callboard_tests::http::Response {
    server.api().try_post(&format!("rollouts/r/{verb}"), body)
}

#[test]
fn a_phase_soaks_and_is_approved_before_the_next_one_opens() {
    on_both(|server| {
        let mut devices = four(server, &canary(&json!({ "soak_min": 180, "approval": "manual" })));
        insta::assert_snapshot!(waits_for(server), @"phase half opens when 1 more device of phase canary succeeds, 3 h of soak have passed and somebody approves phase canary (0 of 1 completed, 1 is needed)");
        refused(&post(server, "approve", &json!({})), Code::WrongState, "there is nothing to approve yet");
        devices[0].settle(Health::Good);
        insta::assert_snapshot!(waits_for(server), @"phase half opens when the soak has run 3 h more (until 2027-01-12T15:00:00Z) and somebody approves phase canary (phase canary: 1 of 1 completed devices succeeded)");
        assert_eq!(phase(server, 0).gate_met_at, Some(server.clock.now()));
        refused(&post(server, "approve", &json!({})), Code::WrongState, "wait for the soak");
        // What a device waits for is told with the same numbers.
        let told =
            (1..4).map(|n| server.explain(&devices[n]).next.text).find(|told| told.contains("waits for phase half"));
        insta::assert_snapshot!(told.unwrap(), @"rollout r: it waits for phase half, and phase canary is the last one open; phase half opens when the soak has run 3 h more (until 2027-01-12T15:00:00Z) and somebody approves phase canary (phase canary: 1 of 1 completed devices succeeded)");

        server.advance(Duration::from_secs(3 * 3600));
        wait::until("the soak is over", || phase(server, 0).gate.unwrap().code == "gate_approval");
        assert_eq!(phase(server, 1).opened_at, None);
        server.restart_after_kill();
        let approved: Rollout = server.api().post("rollouts/r/approve", &json!({ "reason": "looks good" }));
        assert_eq!(approved.phases[1].opened_at, Some(server.clock.now()));
        let approval = approved.phases[0].approved.clone().unwrap();
        assert_eq!((approval.by.as_str(), approval.at), ("first admin", server.clock.now()));
        insta::assert_snapshot!(events(server, "rollout.phase_approved").join("\n"), @"phase canary: approved by first admin: looks good");
        insta::assert_snapshot!(events(server, "rollout.gate_met").join("\n"), @"the gate of phase canary is met: phase half opens when the soak has run 3 h more (until 2027-01-12T15:00:00Z) and somebody approves phase canary (phase canary: 1 of 1 completed devices succeeded)");
    });
}

#[test]
fn a_soak_ends_by_time_alone_or_by_an_operator_with_a_reason() {
    on_both(|server| {
        let phases = json!([
            { "name": "canary", "percent": 25, "soak_min": 60 },
            { "name": "half", "percent": 50, "soak_min": 60 },
            { "name": "all", "percent": 100 },
        ]);
        let mut devices = four(server, &phases);
        refused(&post(server, "skip-soak", &json!({ "reason": "hurry" })), Code::WrongState, "has not begun");
        devices[0].settle(Health::Good);
        server.advance(Duration::from_secs(3600));
        let half = wait::until_some("time alone opens the next phase", || {
            (1..4).find(|n| devices[*n].check_in().action == Action::Download)
        });
        devices[half].settle(Health::Good);
        refused(&post(server, "skip-soak", &json!({})), Code::Invalid, "say why the soak is skipped");
        assert_eq!(phase(server, 2).opened_at, None);
        let opened: Rollout = server.api().post("rollouts/r/skip-soak", &json!({ "reason": "hurry" }));
        assert_eq!(opened.phases[1].soak_skipped_at, Some(server.clock.now()));
        assert_eq!(opened.phases[2].opened_at, Some(server.clock.now()));
        insta::assert_snapshot!(events(server, "rollout.soak_skipped").join("\n"), @"phase half: its soak was skipped by first admin: hurry");
    });
}

#[test]
fn an_operator_opens_the_next_phase_whatever_the_gate_says() {
    on_both(|server| {
        let mut devices = four(server, &canary(&json!({ "success_percent": 100 })));
        let open = |phase: &str, reason: &str| post(server, "open-phase", &json!({ "phase": phase, "reason": reason }));
        refused(&open("all", "why not"), Code::WrongState, "phase half comes first");
        refused(&open("most", "why not"), Code::NotFound, "its phases are canary, half, all");
        refused(&open("half", " "), Code::Invalid, "say why the phase is opened by hand");
        // The canary fails, which pauses the rollout; the operator knows why, and goes on without it.
        devices[0].settle(Health::Bad);
        assert_eq!(
            open("half", "its drawer is broken").json::<Rollout>().phases[1].opened_at,
            Some(server.clock.now())
        );
        assert_eq!(open("half", "its drawer is broken").json::<Rollout>().phases[2].opened_at, None, "opened once");
        insta::assert_snapshot!(events(server, "rollout.phase_opened").join("\n"), @"phase half: opened by first admin: its drawer is broken; otherwise: phase canary: 1 of 1 failed, so 100 % success cannot be reached any more");
        assert!((1..4).all(|n| devices[n].check_in().action == Action::None), "it is paused still");
        server.tell_rollout("r", "resume");
        assert_eq!((1..4).filter(|n| devices[*n].check_in().action == Action::Download).count(), 1);
    });
}

#[test]
fn drafts_and_ended_rollouts_have_no_open_phase() {
    on_both(|server| {
        four(server, &canary(&json!({})));
        let spec = json!({ "policy": "progressive", "phases": canary(&json!({})) });
        server.api().post::<Value>("rollouts", &rollout("draft", "pos-app@2.0.0", &spec));
        let open = json!({ "phase": "half", "reason": "hurry" });
        refused(&server.api().try_post("rollouts/draft/open-phase", &open), Code::NotFound, "before it is started");
        refused(
            &server.api().try_post("rollouts/draft/approve", &json!({})),
            Code::WrongState,
            "rollout draft is draft",
        );
        server.tell_rollout("r", "cancel");
        refused(&post(server, "open-phase", &open), Code::WrongState, "rollout r is cancelled");
    });
}

#[test]
fn the_command_line_has_the_same_words() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut device = FakeDevice::enrol(server, "till-0").runs("pos-app", "1.0.0");
        device.check_in();
        let phases = ["canary=10%,soak=3h,approval=manual", "half=50%", "all=100%"].map(|phase| ["--phase", phase]);
        let what = ["rollout", "create", "r", "--release", "pos-app@2.0.0", "--policy", "progressive", "--start"];
        server.cli(what.iter().chain(phases.iter().flatten())).ok();
        assert!(server.cli(["rollout", "skip-soak", "r"]).refused(2).contains("--reason"));
        device.settle(Health::Good);
        let status = server.cli(["rollout", "status", "r"]);
        assert!(status.ok().stdout.contains("the soak has run 3 h more"), "{}", status.stdout);
        server.cli(["rollout", "skip-soak", "r", "--reason", "hurry"]).ok();
        server.cli(["rollout", "approve", "r", "--reason", "looks good"]).ok();
        server.cli(["rollout", "open-phase", "r", "all", "--reason", "nobody left"]).ok();
        let status = server.cli(["rollout", "status", "r"]);
        assert!(status.ok().stdout.contains("approved by first admin"), "{}", status.stdout);
    });
}

#[test]
fn the_page_of_a_rollout_has_the_same_buttons() {
    on_both(|server| {
        let mut devices = four(server, &canary(&json!({ "soak_min": 180, "approval": "manual" })));
        let pat = Browser::of(server, "approver");
        let has = |button: &str| pat.page("/rollouts/r").contains(&format!(">{button}…</summary>"));
        let send = |deed: &str, reason: &str| {
            pat.post("/rollouts/r/approve", &[("deed", deed), ("phase", "all"), ("reason", reason)])
        };
        let done = |deed: &str, said: &str| {
            let answer = send(deed, "hurry");
            assert_eq!(answer.status, 303, "{deed}: {}", answer.text());
            assert!(pat.page("/rollouts/r").contains(said), "{deed}");
        };
        assert!(!has("Skip the soak") && has("Open the next phase") && has("Approve the phase"));
        devices[0].settle(Health::Good);
        assert!(has("Skip the soak"));
        let wrong = send("skip-soak", " ");
        assert!(wrong.status == 422 && wrong.text().contains("say why the soak is skipped"), "{}", wrong.text());
        assert_eq!(phase(server, 0).soak_skipped_at, None);
        done("skip-soak", "The soak is over.");
        assert_eq!(phase(server, 0).soak_skipped_at, Some(server.clock.now()));
        assert_eq!((phase(server, 1).opened_at, has("Skip the soak")), (None, false));
        done("approve", "You have approved the phase.");
        assert_eq!((phase(server, 0).approved.unwrap().by.as_str(), has("Approve the phase")), ("approver", false));
        let wrong = send("open-phase", " ");
        assert!(wrong.status == 422 && wrong.text().contains("say why the phase is opened"), "{}", wrong.text());
        assert_eq!((phase(server, 1).opened_at, phase(server, 2).opened_at), (Some(server.clock.now()), None));
        done("open-phase", "The phase is open.");
        assert_eq!((phase(server, 2).opened_at, has("Open the next phase")), (Some(server.clock.now()), false));
        assert!((1..4).all(|n| devices[n].check_in().action == Action::Download));
        assert_eq!(events(server, "rollout.soak_skipped"), ["phase canary: its soak was skipped by approver: hurry"]);
    });
}

#[test]
fn a_phase_of_devices_that_were_never_seen_is_warned_of_before_and_at_the_start() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let device = |name: &str| json!({ "name": name, "labels": { "canary": (name == "new").to_string() } });
        let devices: Vec<_> = ["new", "till-1", "till-2"].map(device).into();
        server.api().post::<serde_json::Value>("devices/import", &json!({ "devices": devices, "dry_run": false }));
        for name in ["till-1", "till-2"] {
            FakeDevice::enrol_imported(server, name).runs("pos-app", "1.0.0").check_in();
        }
        let phases = json!([{ "name": "canary", "percent": 10 }, { "name": "all", "percent": 100 }]);
        let spec = rollout("r", "pos-app@2.0.0", &json!({ "policy": "progressive", "phases": phases }));
        let said = [
            "the one device of phase canary has not been seen lately, and the next phase waits for it; label devices that \
                     are there canary=true, or leave this one out by the selector",
        ];
        assert_eq!(server.preview(&spec).warnings, said);
        assert_eq!(server.roll_out(&spec).warnings, said);
    });
}

#[test]
fn those_that_a_rollout_waits_for_are_listed_and_counted_site_by_site() {
    on_both(|server| {
        NewRelease::new("pos-app", "9.0.0", 90).publish(server);
        server.import_fleet();
        let mut reached = server.switch_on("pos-nyc-001");
        server.roll_out(&rollout("r", "pos-app@9.0.0", &json!({})));
        let all: Vec<Device> = server.api().list("rollouts/r/unreached");
        assert_eq!(u32::try_from(all.len()).unwrap(), phase(server, 0).counts.unreached);
        assert_eq!(reached.check_in().action, Action::Download);
        let left: Vec<Device> = server.api().list("rollouts/r/unreached?limit=7");
        let wanted: Vec<&Device> = all.iter().filter(|one| one.name != reached.name).collect();
        assert_eq!(left.iter().collect::<Vec<_>>(), wanted);
        let said = server.cli(["rollout", "status", "r", "--unreached"]).ok().stdout.clone();
        assert!(!said.contains(reached.name.as_str()) && said.contains(left[0].name.as_str()), "{said}");

        let ada = Browser::of(server, "viewer");
        let page = text(&ada.page("/rollouts/r/devices?state=unreached"));
        assert!(page.contains(left[0].name.as_str()) && !page.contains(&format!(" {} ", reached.name)), "{page}");
        let site = left.last().unwrap().site.clone().unwrap();
        let waiting = left.iter().filter(|one| one.site.as_ref() == Some(&site)).count();
        let page = text(&ada.page("/rollouts/r/sites"));
        assert!(page.contains(&format!("{site} | {waiting} not reached yet")), "{page}");
        server.api().post::<Rollout>("rollouts/r/cancel", &json!({ "reason": "enough" }));
        assert_eq!(server.api().list::<Device>("rollouts/r/unreached"), []);
    });
}
