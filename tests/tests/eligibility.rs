//! Edits of labels, devices and sites say for which rollouts they make devices eligible: nothing is installed silently.

use std::collections::BTreeMap;

use callboard_proto::{
    admin::{Device, Eligible, Imported, Site, SiteActivated, SiteState},
    instruction::Action,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::on_both;

/// Both tills of the shop in Chicago, of which the first runs 2.4.0 already, and one in New York.
fn shops(server: &TestServer) -> [FakeDevice; 3] {
    server.import_fleet();
    let new = NewRelease::new("pos-app", "2.4.0", 100).publish(server).sha256;
    let mut tills = ["pos-chicago-001", "pos-chicago-002", "pos-nyc-001"].map(|name| server.switch_on(name));
    let release = tills[0].fetch_release(new);
    tills[0].install(&release);
    tills.iter_mut().for_each(|till| drop(till.check_in()));
    tills
}

fn named(eligible: &[Eligible]) -> BTreeMap<String, u64> {
    eligible.iter().map(|one| (one.rollout.to_string(), one.devices)).collect()
}

fn only(rollout: &str, devices: u64) -> BTreeMap<String, u64> {
    [(rollout.to_owned(), devices)].into()
}

/// What an edit would do, which is what it does then.
fn edited(server: &TestServer, path: &str, body: &Value) -> BTreeMap<String, u64> {
    let mut body = body.clone();
    body["dry_run"] = json!(true);
    let would: Imported = server.api().post(path, &body);
    body["dry_run"] = json!(false);
    let done: Imported = server.api().post(path, &body);
    assert_eq!((done.created, done.updated, &done.eligible), (would.created, would.updated, &would.eligible));
    named(&done.eligible)
}

#[test]
fn only_rollouts_that_go_on_are_named_and_only_devices_that_would_get_something() {
    on_both(|server| {
        let [_, _, mut york] = shops(server);
        let off = json!({ "selector": "ring = early or name = pos-nyc-001", "priority": 900 });
        server.roll_out(&rollout("off", "pos-app@2.4.0", &off));
        assert_eq!(york.check_in().action, Action::Download);
        server.tell_rollout("off", "cancel");
        server.roll_out(&rollout("ring", "pos-app@2.4.0", &json!({ "selector": "ring = early" })));
        let frozen = json!({ "audience": "frozen", "selector": "site = CHI-001" });
        server.roll_out(&rollout("fixed", "pos-app@2.4.0", &frozen));
        let edit = json!({ "selector": "site = CHI-001", "set": { "ring": "early" } });
        assert_eq!(edited(server, "devices/labels", &edit), only("ring", 1), "the other till runs it already");
        let again = json!({ "selector": "site = CHI-001", "set": { "color": "red" } });
        assert_eq!(edited(server, "devices/labels", &again), BTreeMap::new());
    });
}

#[test]
fn devices_that_a_list_creates_are_named_and_those_out_of_service_are_not() {
    on_both(|server| {
        drop(shops(server));
        server.roll_out(&rollout("ring", "pos-app@2.4.0", &json!({ "selector": "ring = early" })));
        server.api().post::<Device>("devices/pos-nyc-002/decommission", &json!({ "reason": "scrapped" }));
        let early = |name: &str| json!({ "name": name, "site": "NYC-001", "labels": { "ring": "early" } });
        let list = json!({ "devices": [early("new-1"), early("new-2"), early("pos-nyc-002")] });
        assert_eq!(edited(server, "devices/import", &list), only("ring", 2));
    });
}

#[test]
fn who_comes_out_of_a_freeze_by_its_labels_is_named() {
    on_both(|server| {
        let [_, mut till, _] = shops(server);
        server
            .api()
            .post::<Imported>("devices/labels", &json!({ "selector": "site = CHI-001", "set": { "audit": "yes" } }));
        let (from, to) = ("2027-01-01", "2027-02-01");
        let freeze =
            json!({ "name": "audit", "reason": "an audit", "from": from, "to": to, "selector": "audit = yes" });
        server.api().try_post("freezes", &freeze).ok();
        server.roll_out(&rollout("base", "pos-app@2.4.0", &json!({ "selector": "site = CHI-001" })));
        assert_eq!(till.check_in().reason.code, "frozen");
        let edit = json!({ "selector": "site = CHI-001", "remove": ["audit"] });
        assert_eq!(edited(server, "devices/labels", &edit), only("base", 1));
        assert_eq!(till.check_in().action, Action::Download);
    });
}

#[test]
fn a_site_that_opens_again_says_what_begins_there() {
    on_both(|server| {
        let [_, mut till, _] = shops(server);
        let frozen = json!({ "audience": "frozen", "selector": "site = CHI-001", "priority": 900 });
        server.roll_out(&rollout("fixed", "pos-app@2.4.0", &frozen));
        server.roll_out(&rollout("base", "pos-app@2.4.0", &json!({})));
        assert_eq!(till.obey(Health::Good).action, Action::Download);
        for verb in ["suspend", "close"] {
            server.api().post::<Site>(&format!("sites/CHI-001/{verb}"), &json!({ "reason": "the roof leaks" }));
            let activate = |dry_run: bool| -> SiteActivated {
                server.api().post("sites/CHI-001/activate", &json!({ "dry_run": dry_run }))
            };
            let would = activate(true);
            assert_eq!((would.dry_run, would.site.state == SiteState::Active), (true, false), "{verb}");
            // Closing the site has completed the frozen one.
            let both = BTreeMap::from([("base".to_owned(), 1), ("fixed".to_owned(), 1)]);
            let expected = if verb == "suspend" { both } else { only("base", 1) };
            assert_eq!(named(&would.eligible), expected, "{verb}");
            let told = server.cli(["site", "activate", "CHI-001", "--dry-run"]);
            assert!(told.ok().stdout.contains("1 device would become eligible for rollout base\n"), "{}", told.stdout);
            let done = activate(false);
            assert_eq!((done.site.state, &done.eligible), (SiteState::Active, &would.eligible), "{verb}");
            assert_eq!(activate(false).eligible, Vec::new(), "{verb}: it is open");
        }
        let told = server.cli(["site", "activate", "CHI-001"]);
        assert!(told.ok().stdout.contains("active"), "{}", told.stdout);
        till.settle(Health::Good);
        assert_eq!(till.version_of("pos-app"), Some("2.4.0"));
    });
}
