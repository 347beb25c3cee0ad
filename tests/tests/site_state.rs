//! Sites that are held, suspended or closed: that wins over every rollout.

use std::time::Duration;

use callboard_proto::{
    admin::{
        Assignment, Device, DeviceStatus, Event, Overview, Page, Preview, RolloutState, Site, SiteActivated, SiteState,
    },
    instruction::Action,
    problem::Code,
    state::AssignmentState,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    wait,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, on_both_with, refused};

const DAY: Duration = Duration::from_secs(86_400);

/// A till in New York, which has fetched a release, and one in Boston, which has not.
fn shops(server: &TestServer) -> [FakeDevice; 2] {
    server.import_fleet();
    NewRelease::new("pos-app", "2.4.0", 100).publish(server);
    let [mut york, boston] = ["pos-nyc-001", "pos-boston-001"].map(|name| server.switch_on(name));
    let spec = json!({ "audience": "frozen", "priority": 1000, "selector": "name in (pos-nyc-001, pos-boston-001)" });
    server.roll_out(&rollout("patch", "pos-app@2.4.0", &spec));
    assert_eq!(york.obey(Health::Good).action, Action::Download);
    [york, boston]
}

fn tell(server: &TestServer, verb: &str, body: &Value) -> Site {
    server.api().post(&format!("sites/NYC-001/{verb}"), body)
}

fn activate(server: &TestServer, site: &str) -> SiteActivated {
    server.api().post(&format!("sites/{site}/activate"), &json!({}))
}

fn because() -> Value {
    json!({ "reason": "the roof leaks" })
}

#[test]
fn a_held_site_keeps_what_it_has_until_the_hold_ends() {
    on_both(|server| {
        let [mut york, mut boston] = shops(server);
        let until = server.clock.now() + Duration::from_secs(3600);
        let hold = json!({ "reason": "audit", "until": until });
        let held: Site = server.api().try_put("sites/NYC-001/hold", &hold).json();
        assert_eq!(held.hold.map(|hold| (hold.reason, hold.until)), Some(("audit".to_owned(), Some(until))));
        let told = york.check_in();
        assert_eq!((told.action, told.reason.code.as_str()), (Action::Hold, "site_held"));
        insta::assert_snapshot!(told.reason.text, @"its site NYC-001 is held until 2027-01-12T13:00:00Z: audit");
        let explained = server.explain(&york);
        assert_eq!(
            (explained.next.code.as_str(), explained.rollouts[0].reason.code.as_str()),
            ("site_held", "site_held")
        );
        assert_eq!(boston.check_in().action, Action::Download);
        server.set_clock(until);
        assert_eq!(server.api().get::<Site>("sites/NYC-001").hold, None);
        assert_eq!(york.obey(Health::Good).action, Action::Install);
    });
}

#[test]
fn a_hold_of_a_site_can_be_lifted() {
    on_both(|server| {
        let [mut york, _] = shops(server);
        server.api().try_put("sites/NYC-001/hold", &json!({ "reason": "audit" })).ok();
        assert_eq!(york.check_in().action, Action::Hold);
        server.api().try_delete("sites/NYC-001/hold").ok();
        assert_eq!(york.check_in().action, Action::Install);
        let events: Page<Event> = server.api().get("events");
        let said: Vec<&str> =
            events.items.iter().filter(|one| one.kind.starts_with("site.")).map(|one| one.text.as_str()).collect();
        assert_eq!(
            said[..2],
            ["the hold of site NYC-001 was lifted by first admin", "site NYC-001 is held by first admin: audit"]
        );
    });
}

#[test]
fn a_suspension_wins_over_every_rollout_but_not_over_a_switch_that_has_begun() {
    on_both(|server| {
        let [mut york, mut boston] = shops(server);
        let install = york.check_in();
        assert_eq!(install.action, Action::Install);
        assert_eq!(tell(server, "suspend", &because()).state, SiteState::Suspended);
        server.api().try_post("sites/BOS-001/suspend", &because()).ok();
        assert_eq!(york.check_in().action, Action::Install);
        york.activate(&install, Health::Good);
        let told = boston.check_in();
        assert_eq!((told.action, told.reason.code.as_str()), (Action::Hold, "site_suspended"));
        insta::assert_snapshot!(told.reason.text, @"its site BOS-001 is suspended: the roof leaks");
        let back = activate(server, "BOS-001").site;
        assert_eq!((back.state, back.state_reason), (SiteState::Active, None));
        boston.settle(Health::Good);
        assert_eq!(server.rollout("patch").state, RolloutState::Completed);
    });
}

#[test]
fn nobody_is_abandoned_while_a_site_is_suspended() {
    on_both(|server| {
        let [mut york, mut boston] = shops(server);
        boston.check_in();
        york.check_in();
        let seen = || server.api().get::<Page<Device>>("devices?selector=exists%20last_seen").items.len();
        wait::until("the check-ins are in the database", || seen() == 2);
        let status = |name: &str| server.api().get::<Device>(&format!("devices/{name}")).status;
        let abandoned = || {
            let listed: Page<Device> = server.api().get("devices?selector=status%20%3D%20abandoned");
            let counted: Overview = server.api().get("overview");
            assert_eq!(counted.devices["abandoned"], u64::try_from(listed.items.len()).unwrap());
            assert_eq!(counted.devices.values().sum::<u64>(), 10);
            listed.items.iter().map(|device| device.name.to_string()).collect::<Vec<_>>()
        };
        server.advance(DAY * 10);
        tell(server, "suspend", &because());
        server.advance(DAY * 40);
        assert_eq!([status("pos-nyc-001"), status("pos-boston-001")], [DeviceStatus::Offline, DeviceStatus::Abandoned]);
        assert_eq!(abandoned(), ["pos-boston-001"]);
        // Ten days had passed before; the clock goes on now.
        activate(server, "NYC-001");
        server.advance(DAY * 20 - Duration::from_secs(1));
        assert_eq!((status("pos-nyc-001"), abandoned().len()), (DeviceStatus::Offline, 1));
        server.advance(Duration::from_secs(1));
        assert_eq!((status("pos-nyc-001"), abandoned().len()), (DeviceStatus::Abandoned, 2));
    });
}

#[test]
fn after_how_many_days_a_device_is_abandoned_is_a_setting() {
    on_both_with(&["abandoned_after_days = 2"], |server| {
        let [mut york, _] = shops(server);
        york.check_in();
        let status = || server.api().get::<Device>("devices/pos-nyc-001").status;
        let seen = || server.api().get::<Page<Device>>("devices?selector=exists%20last_seen").items.len();
        wait::until("the check-in is in the database", || seen() == 1);
        server.advance(DAY * 2 - Duration::from_secs(1));
        assert_eq!(status(), DeviceStatus::Offline);
        server.advance(Duration::from_secs(1));
        assert_eq!(status(), DeviceStatus::Abandoned);
        let found = || server.api().get::<Page<Device>>("devices?selector=status%20%3D%20abandoned").items.len();
        wait::until("selectors see it", || found() == 1);
        let counted: Overview = server.api().get("overview");
        assert_eq!(counted.devices["abandoned"], 1);
    });
}

#[test]
fn the_devices_of_a_closed_site_are_in_no_rollout() {
    on_both(|server| {
        let [mut york, mut boston] = shops(server);
        assert_eq!(tell(server, "close", &because()).state, SiteState::Closed);
        assert_eq!(york.check_in().reason.code, "site_closed");
        boston.settle(Health::Good);
        let done = server.rollout("patch");
        assert_eq!((done.state, done.phases[0].counts.cancelled), (RolloutState::Completed, 1));
        NewRelease::new("pos-app", "2.5.0", 101).publish(server);
        let preview: Preview = server.preview(&rollout("next", "pos-app@2.5.0", &json!({})));
        assert_eq!(preview.devices, 8, "both tills of the shop are left out");
        server.roll_out(&rollout("next", "pos-app@2.5.0", &json!({})));
        assert_eq!(york.check_in().action, Action::Hold);
        let suspended = server.api().try_post("sites/NYC-001/suspend", &because());
        refused(&suspended, Code::WrongState, "site NYC-001 is closed; activate it first");
        // It opens again: a live rollout takes its devices in.
        activate(server, "NYC-001");
        york.settle(Health::Good);
        assert_eq!(york.version_of("pos-app"), Some("2.5.0"));
    });
}

#[test]
fn a_closed_site_that_opens_after_all_goes_on_with_what_it_was_in() {
    on_both(|server| {
        let [mut york, mut boston] = shops(server);
        NewRelease::new("pos-app", "2.5.0", 101).publish(server);
        server.roll_out(&rollout("base", "pos-app@2.5.0", &json!({ "priority": 1 })));
        tell(server, "close", &because());
        assert_eq!(server.rollout("patch").phases[0].counts.cancelled, 1);
        assert_eq!(york.check_in().reason.code, "site_closed");
        activate(server, "NYC-001");
        let counts = server.rollout("patch").phases[0].counts;
        assert_eq!((counts.cancelled, counts.unreached), (0, 2));
        york.settle(Health::Good);
        assert_eq!(york.version_of("pos-app"), Some("2.5.0"));
        let states: Vec<Assignment> = server.api().list("rollouts/patch/assignments");
        assert_eq!(states[0].state, AssignmentState::Succeeded, "it had both, one after the other");
        // What somebody wanted to end stays ended.
        let cancel = json!({ "devices": ["pos-boston-001"], "reason": "sold" });
        assert_eq!(boston.obey(Health::Good).action, Action::Download);
        server.api().post::<Value>("rollouts/patch/devices/cancel", &cancel);
        for verb in ["close", "activate"] {
            server.api().try_post(&format!("sites/BOS-001/{verb}"), &because()).ok();
        }
        assert_eq!(server.rollout("patch").phases[0].counts.cancelled, 1);
    });
}

#[test]
fn a_till_that_moves_out_of_a_closed_shop_goes_on_with_what_it_was_in() {
    on_both(|server| {
        let [mut york, _] = shops(server);
        tell(server, "close", &because());
        let mut moved = callboard_tests::world::devices().into_iter().find(|one| one.name == york.name).unwrap();
        moved.site = Some("BOS-001".parse().unwrap());
        server.api().try_post("devices/import", &json!({ "devices": [moved] })).ok();
        york.settle(Health::Good);
        assert_eq!(york.version_of("pos-app"), Some("2.4.0"));
    });
}

#[test]
fn an_import_leaves_state_and_hold_as_they_are() {
    on_both(|server| {
        server.import_fleet();
        tell(server, "suspend", &because());
        server.api().try_put("sites/NYC-001/hold", &json!({ "reason": "audit" })).ok();
        let site = json!({ "id": "NYC-001", "name": "Times Square", "tz": "America/New_York" });
        server.api().try_post("sites/import", &json!({ "sites": [site] })).ok();
        let shown: Site = server.api().get("sites/NYC-001");
        assert_eq!((shown.name.as_str(), shown.state), ("Times Square", SiteState::Suspended));
        assert_eq!((shown.state_reason.as_deref(), shown.hold.is_some()), (Some("the roof leaks"), true));
        server.restart_after_kill();
        assert_eq!(server.api().get::<Site>("sites/NYC-001"), shown);
    });
}

#[test]
fn a_reason_is_wanted() {
    on_both(|server| {
        server.import_fleet();
        let post = |verb: &str, body: Value| server.api().try_post(&format!("sites/NYC-001/{verb}"), &body);
        refused(&post("suspend", json!({})), Code::Invalid, "reason is empty; say why the site is suspended");
        refused(&post("close", json!({ "reason": " " })), Code::Invalid, "reason is empty; say why the site is closed");
        refused(&post("close", json!({ "why": "x" })), Code::BadRequest, "unknown field `why`");
        let hold = server.api().try_put("sites/NYC-001/hold", &json!({ "reason": "" }));
        refused(&hold, Code::Invalid, "reason is empty; say what the hold is for");
        let past = json!({ "reason": "x", "until": "2027-01-12T12:00:00Z" });
        refused(&server.api().try_put("sites/NYC-001/hold", &past), Code::Invalid, "which is past");
        refused(&server.api().try_post("sites/XX/close", &because()), Code::NotFound, "there is no site XX");
    });
}

#[test]
fn sites_are_held_suspended_and_closed_by_the_command_line() {
    on_both(|server| {
        server.import_fleet();
        let site = |args: &[&str]| server.cli(["site"].iter().chain(args)).ok().stdout.clone();
        let held = site(&["hold", "NYC-001", "--reason", "audit"]);
        assert!(held.contains("held       audit"), "{held}");
        assert!(site(&["list"]).contains("active, held"));
        assert!(!site(&["unhold", "NYC-001"]).contains("audit"));
        let suspended = site(&["suspend", "NYC-001", "--reason", "the season is over"]);
        assert!(suspended.contains("suspended: the season is over"), "{suspended}");
        assert!(site(&["activate", "NYC-001"]).contains("active"));
        assert!(site(&["close", "NYC-001", "--reason", "the lease has ended"]).contains("closed: the lease has ended"));
        assert!(server.cli(["site", "close", "NYC-001"]).refused(2).contains("--reason"));
    });
}
