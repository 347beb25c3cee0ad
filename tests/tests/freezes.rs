//! Freezes: on their days nothing is offered or installed.

use callboard_proto::{
    admin::{Event, Freeze, Page},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

/// The 13th and 14th of January, with `more` fields over the defaults.
fn inventory(more: &Value) -> Value {
    let mut body = json!({ "name": "inventory", "reason": "stock-taking", "from": "2027-01-13", "to": "2027-01-14" });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn make(server: &TestServer, more: &Value) -> Freeze {
    let answer = server.api().try_post("freezes", &inventory(more));
    assert_eq!(answer.status, 201);
    answer.json()
}

/// A till in New York and one in Los Angeles, and a rollout to all.
fn coasts(server: &TestServer) -> [FakeDevice; 2] {
    server.import_fleet();
    NewRelease::new("pos-app", "2.4.0", 100).publish(server);
    let tills = ["pos-nyc-001", "pos-la-001"].map(|name| server.switch_on(name));
    server.roll_out(&rollout("patch", "pos-app@2.4.0", &json!({})));
    tills
}

#[test]
fn nothing_is_offered_or_installed_on_the_days_of_a_freeze() {
    on_both(|server| {
        let [mut east, mut west] = coasts(server);
        let made = make(server, &json!({}));
        assert_eq!((made.created_by.as_str(), made.selector), ("first admin", None));
        assert_eq!(west.obey(Health::Good).action, Action::Download);
        // Midnight in New York; in Los Angeles the 12th has three hours left.
        server.set_clock(time("2027-01-13T05:00:00Z"));
        let none = east.check_in();
        assert_eq!((none.action, none.reason.code.as_str()), (Action::None, "frozen"));
        insta::assert_snapshot!(none.reason.text, @"rollout patch: freeze inventory (stock-taking) lasts until 2027-01-15T05:00:00Z (America/New_York, the site's zone)");
        assert_eq!(server.explain(&east).rollouts[0].reason, none.reason);
        let last_call = west.check_in();
        assert_eq!((last_call.action, last_call.not_after), (Action::Install, Some(time("2027-01-13T08:00:00Z"))));
        west.activate(&last_call, Health::Good);
        server.set_clock(time("2027-01-15T04:58:00Z"));
        let next = east.check_in().next_checkin_s;
        assert!((120..=300).contains(&next), "{next}");
        server.set_clock(time("2027-01-15T05:00:00Z"));
        east.settle(Health::Good);
        assert_eq!(east.version_of("pos-app"), Some("2.4.0"));
    });
}

#[test]
fn what_was_fetched_waits_and_what_has_begun_finishes() {
    on_both(|server| {
        let [mut east, mut west] = coasts(server);
        let offer = east.check_in();
        assert_eq!(offer.action, Action::Download);
        west.obey(Health::Good);
        let install = west.check_in();
        assert_eq!(install.action, Action::Install);
        make(server, &json!({ "from": "2027-01-12" }));
        let held = east.check_in();
        assert_eq!((held.action, held.assignment_id), (Action::Hold, offer.assignment_id));
        assert_eq!(west.check_in().action, Action::Install);
        west.activate(&install, Health::Good);
        assert_eq!(server.rollout("patch").phases[0].counts.succeeded, 1);
    });
}

#[test]
fn a_freeze_is_for_the_devices_of_its_selector_and_can_be_called_off() {
    on_both(|server| {
        let [mut east, mut west] = coasts(server);
        make(server, &json!({ "from": "2027-01-12", "selector": "region = northeast" }));
        assert_eq!(east.check_in().reason.code, "frozen");
        assert_eq!(west.check_in().action, Action::Download);
        server.api().try_delete("freezes/inventory").ok();
        assert_eq!(east.check_in().action, Action::Download);
        let listed: Page<Freeze> = server.api().get("freezes");
        assert_eq!(listed.items, []);
        let events: Page<Event> = server.api().get("events");
        let said = |kind: &str| events.items.iter().find(|one| one.kind == kind).unwrap().text.clone();
        insta::assert_snapshot!(said("freeze.created"), @"freeze inventory from 2027-01-12 to 2027-01-14 for region = northeast (stock-taking) by first admin");
        insta::assert_snapshot!(said("freeze.deleted"), @"freeze inventory from 2027-01-12 to 2027-01-14 for region = northeast (stock-taking) was deleted by first admin");
    });
}

#[test]
fn the_same_freeze_twice_is_one_and_another_of_its_name_is_refused() {
    on_both(|server| {
        let made = make(server, &json!({}));
        assert_eq!(make(server, &json!({})), made);
        let other = server.api().try_post("freezes", &inventory(&json!({ "to": "2027-01-15" })));
        refused(&other, Code::Conflict, "freeze inventory exists with other words");
        make(server, &json!({ "name": "another" }));
        let names: Vec<String> =
            server.api().list::<Freeze>("freezes?limit=1").iter().map(|freeze| freeze.name.to_string()).collect();
        assert_eq!(names, ["another", "inventory"]);
        server.restart_after_kill();
        assert_eq!(server.api().get::<Page<Freeze>>("freezes").items.len(), 2);
    });
}

#[test]
fn a_freeze_that_makes_no_sense_is_refused() {
    on_both(|server| {
        for (more, code, said) in [
            (json!({ "from": "13.1.2027" }), Code::Invalid, "from: \"13.1.2027\" is no date; YYYY-MM-DD"),
            (json!({ "to": "2027-01-12" }), Code::Invalid, "to: 2027-01-12 is before 2027-01-13"),
            (json!({ "from": "2027-01-01", "to": "2027-01-10" }), Code::Invalid, "to: 2027-01-10 has passed"),
            (json!({ "reason": " " }), Code::Invalid, "reason: 1 to 200 bytes of text"),
            (json!({ "selector": "region ==" }), Code::BadSelector, "selector: column 9"),
            (json!({ "selector": "status = online" }), Code::BadSelector, "status changes with every check-in"),
            (json!({ "name": "a b" }), Code::BadRequest, "is not a freeze name"),
            (json!({ "colour": "red" }), Code::BadRequest, "unknown field `colour`"),
        ] {
            refused(&server.api().try_post("freezes", &inventory(&more)), code, said);
        }
        refused(&server.api().try_delete("freezes/nothing"), Code::NotFound, "there is no freeze nothing");
        assert_eq!(server.api().get::<Page<Freeze>>("freezes").items, []);
    });
}

#[test]
fn freezes_are_made_listed_and_deleted_by_the_command_line() {
    on_both(|server| {
        let days = ["--from", "2027-01-13", "--to", "2027-01-14"];
        let create = |more: &[&str]| {
            server.cli(["freeze", "create", "inventory", "--reason", "stock-taking"].iter().chain(&days).chain(more))
        };
        let made = create(&["--selector", "region = northeast"]);
        assert!(made.ok().stdout.contains("first day  2027-01-13"), "{}", made.stdout);
        let listed = server.cli(["freeze", "list"]);
        assert!(listed.ok().stdout.contains("region = northeast  stock-taking"), "{}", listed.stdout);
        assert!(create(&[]).refused(1).contains("exists with other words"));
        server.cli(["freeze", "delete", "inventory"]).ok();
        assert!(server.cli(["freeze", "list"]).ok().stderr.contains("no freezes"));
    });
}
