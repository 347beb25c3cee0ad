//! A second person: rollouts for many devices, and security rollouts in a freeze.

use callboard_proto::{
    admin::{Event as Logged, Rollout, RolloutState},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    api::Api,
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, on_both_with, refused};

fn tills(server: &TestServer, many: usize) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    NewRelease::new("os", "13", 1).publish(server);
    (0..many).map(|n| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0")).collect()
}

#[test]
fn a_rollout_for_many_devices_starts_only_with_the_approval_of_somebody_else() {
    on_both_with(&["second_person_above = 2"], |server| {
        let mut tills = tills(server, 3);
        let own = server.api();
        let start = || own.try_post("rollouts/r/start", &json!({}));
        own.post::<Value>("rollouts", &rollout("small", "os@13", &json!({ "selector": "name in (till-0, till-1)" })));
        server.tell_rollout("small", "start");
        own.post::<Value>("rollouts", &rollout("r", "pos-app@2.0.0", &json!({})));
        let warnings = server.preview(&rollout("x", "pos-app@2.0.0", &json!({}))).warnings;
        assert_eq!(warnings, ["3 devices are more than 2: a second person has to countersign it before it starts"]);
        let said = "rollout r is for 3 devices, and more than 2 need a second person's approval: somebody other than \
                    first admin has to countersign it first (callboard rollout countersign r)";
        refused(&start(), Code::WrongState, said);
        let said =
            server.cli(["rollout", "create", "r", "--release", "pos-app@2.0.0", "--policy", "immediate", "--start"]);
        assert!(said.refused(1).contains("second person's approval"), "{}", said.stderr);
        let countersign = |api: &Api| api.try_post("rollouts/r/countersign", &json!({ "reason": "looked at it" }));
        refused(&countersign(&own), Code::WrongState, "was made by first admin; a second person has to approve it");
        refused(&start(), Code::WrongState, "second person's approval");
        let ada = server.api_of("Ada");
        let approved: Rollout = countersign(&ada).json();
        let by = approved.countersigned.unwrap();
        assert_eq!((by.by.as_str(), by.at), ("Ada", time("2027-01-12T12:00:00Z")));
        let again: Rollout = countersign(&server.api_of("Bob")).json();
        assert_eq!(again.countersigned.unwrap().by, "Ada", "the first one counts");
        assert_eq!(start().json::<Rollout>().state, RolloutState::Running);
        assert_eq!(tills[2].check_in().action, Action::Download);
        let log: Vec<Logged> = own.list("events");
        let text = log.iter().find(|event| event.kind == "rollout.countersigned").unwrap().text.as_str();
        assert_eq!(text, "approved by a second person: by Ada: looked at it");
        let status = server.cli(["rollout", "status", "r"]).ok().stdout.clone();
        assert!(status.contains("by Ada at 2027-01-12T12:00:00Z") && status.contains("by first admin"), "{status}");
        server.tell_rollout("r", "pause");
        assert_eq!(server.tell_rollout("r", "resume").state, RolloutState::Running);
    });
}

#[test]
fn a_live_rollout_does_not_outgrow_the_number_unseen() {
    on_both_with(&["second_person_above = 1"], |server| {
        let mut tills = tills(server, 1);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        assert_eq!(tills[0].check_in().action, Action::Download);
        let mut late = FakeDevice::enrol(server, "late").runs("pos-app", "1.0.0");
        let told = late.check_in();
        assert_eq!((told.action, told.reason.code.as_str()), (Action::None, "rollout_paused"));
        let paused = server.rollout("r");
        assert_eq!((paused.state, paused.phases[0].counts.size), (RolloutState::Paused, 1));
        let why = paused.state_reason.unwrap();
        assert!(why.starts_with("another device wants to join its 1, and more than 1 need"), "{why}");
        server.api_of("Ada").post::<Rollout>("rollouts/r/countersign", &json!({}));
        server.tell_rollout("r", "resume");
        assert_eq!(late.check_in().action, Action::Download);
    });
}

#[test]
fn a_freeze_lets_a_security_rollout_pass_with_a_second_persons_approval_and_nothing_else() {
    on_both(|server| {
        let mut tills = tills(server, 2);
        let freeze = json!({ "name": "sale", "reason": "sale", "from": "2027-01-12", "to": "2027-01-13" });
        server.api().post::<Value>("freezes", &freeze);
        server.roll_out(&rollout("patch", "pos-app@2.0.0", &json!({ "security": true, "priority": 900 })));
        server.roll_out(&rollout("feature", "os@13", &json!({})));
        let told = tills[0].check_in();
        assert_eq!((told.action, told.reason.code.as_str()), (Action::None, "frozen"));
        assert!(told.reason.text.ends_with("; a second person's approval lets this security rollout pass"), "{told:?}");
        let ada = server.api_of("Ada");
        for name in ["patch", "feature"] {
            ada.post::<Rollout>(&format!("rollouts/{name}/countersign"), &json!({}));
        }
        tills[0].settle(Health::Good);
        assert_eq!((tills[0].version_of("pos-app"), tills[0].version_of("os")), (Some("2.0.0"), None));
        assert_eq!(tills[0].check_in().reason.code, "frozen");
        // A hold is another matter.
        server.api().try_put("devices/till-1/hold", &json!({ "reason": "repair" })).ok();
        assert_eq!(tills[1].check_in().reason.code, "held");
    });
}

#[test]
fn what_is_over_needs_nobodys_approval() {
    on_both(|server| {
        tills(server, 1);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        server.tell_rollout("r", "cancel");
        let late = server.api_of("Ada").try_post("rollouts/r/countersign", &json!({}));
        refused(&late, Code::WrongState, "rollout r is cancelled; there is nothing to approve");
    });
}
