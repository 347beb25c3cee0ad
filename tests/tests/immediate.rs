//! The immediate policy and audiences: who is offered a release, what everybody is told, and what a preview promises.

use std::collections::BTreeSet;

use callboard_proto::{
    admin::{ComesFirst, DeviceStatus, Explanation, Imported, Preview, RolloutState},
    instruction::Action,
    report::{Event, FailureClass},
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    wait,
    world::rollout,
};
use serde_json::{Value, json};

use crate::on_both;

const ONLINE: [&str; 6] =
    ["pos-nyc-001", "pos-nyc-002", "pos-chicago-001", "pos-chicago-002", "pos-austin-001", "pos-boston-001"];

/// The fleet with its six terminals that are online, each checked in once.
fn fleet(server: &TestServer) -> Vec<FakeDevice> {
    server.import_fleet();
    let mut devices: Vec<FakeDevice> = ONLINE.iter().map(|name| server.switch_on(name)).collect();
    devices.iter_mut().for_each(|device| drop(device.check_in()));
    devices
}

fn names<'a>(devices: impl IntoIterator<Item = &'a FakeDevice>) -> BTreeSet<String> {
    devices.into_iter().map(|device| device.name.to_string()).collect()
}

/// Lets everybody do what they are told, and says who runs `version` then.
fn who_runs(devices: &mut [FakeDevice], version: &str) -> BTreeSet<String> {
    devices.iter_mut().for_each(|device| drop(device.settle(Health::Good)));
    names(devices.iter().filter(|device| device.version_of("pos-app") == Some(version)))
}

fn previewed(server: &TestServer, spec: &Value) -> BTreeSet<String> {
    let preview = server.preview(spec);
    preview.phases.iter().flat_map(|phase| phase.devices.iter().map(ToString::to_string)).collect()
}

fn told(explanation: &Explanation) -> String {
    let rollouts = explanation.rollouts.iter().map(|one| format!("{}: {}", one.reason.code, one.reason.text));
    rollouts.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_security_patch_reaches_everybody_who_checks_in() {
    on_both(|server| {
        let mut devices = fleet(server);
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        let spec = rollout("patch", "pos-app@2.4.0", &json!({ "audience": "frozen", "selector": "status = online" }));
        let promised = previewed(server, &spec);
        assert_eq!(promised, names(&devices));
        let started = server.roll_out(&spec);
        assert_eq!((started.state, started.phases[0].counts.size), (RolloutState::Running, 6));
        assert_eq!(who_runs(&mut devices, "2.4.0"), promised);
        let done = server.rollout("patch");
        assert_eq!((done.state, done.phases[0].counts.succeeded), (RolloutState::Completed, 6));
        assert_eq!(done.ended_at, Some(server.clock.now()));
        for device in &mut devices {
            assert_eq!(device.check_in().action, Action::None);
        }
        // A terminal that comes back later was not online when it began.
        let mut late = server.switch_on("pos-la-001");
        assert_eq!(who_runs(std::slice::from_mut(&mut late), "2.4.0"), BTreeSet::new());
    });
}

#[test]
fn only_one_region_is_updated_and_the_others_are_told_why() {
    on_both(|server| {
        let mut devices = fleet(server);
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        let spec = rollout("east", "pos-app@2.4.0", &json!({ "selector": "region = northeast" }));
        let promised = previewed(server, &spec);
        server.roll_out(&spec);
        let reached = who_runs(&mut devices, "2.4.0");
        assert_eq!(reached, promised);
        assert_eq!(reached, ["pos-boston-001", "pos-nyc-001", "pos-nyc-002"].map(str::to_owned).into());
        let chicago = devices.iter().find(|device| device.name.as_str() == "pos-chicago-001").unwrap();
        insta::assert_snapshot!(told(&server.explain(chicago)), @"not_in_audience: rollout east: it is not for this device (region = northeast: it is midwest)");
        let boston = devices.iter().find(|device| device.name.as_str() == "pos-boston-001").unwrap();
        insta::assert_snapshot!(told(&server.explain(boston)), @"succeeded: rollout east: pos-app 2.4.0 was installed");
    });
}

#[test]
fn only_old_versions_are_updated_and_stay_members_when_they_are_old_no_more() {
    on_both(|server| {
        let mut devices = fleet(server);
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        let spec = rollout("old", "pos-app@2.4.0", &json!({ "selector": "version(\"pos-app\") < 2.2.0" }));
        let preview = server.preview(&spec);
        // Denver and Seattle are known by the import, though they were never seen.
        assert_eq!((preview.devices, preview.online), (4, 2));
        server.roll_out(&spec);
        let reached = who_runs(&mut devices, "2.4.0");
        assert_eq!(reached, ["pos-chicago-001", "pos-chicago-002"].map(str::to_owned).into());
        let counts = server.rollout("old").phases[0].counts;
        assert_eq!((counts.size, counts.succeeded, counts.unreached), (4, 2, 2));
    });
}

#[test]
fn a_live_audience_takes_late_joiners_and_a_frozen_one_does_not() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        NewRelease::new("os", "12", 1).publish(server);
        server.roll_out(&rollout("live", "pos-app@2.0.0", &json!({})));
        FakeDevice::enrol(server, "early").check_in();
        server.roll_out(&rollout("frozen", "os@12", &json!({ "audience": "frozen" })));
        let mut late = FakeDevice::enrol(server, "late").runs("pos-app", "1.0.0").runs("os", "11");
        late.settle(Health::Good);
        assert_eq!((late.version_of("pos-app"), late.version_of("os")), (Some("2.0.0"), Some("11")));
        assert_eq!(server.rollout("live").phases[0].counts.size, 2);
        assert_eq!(server.rollout("frozen").phases[0].counts.size, 1);
        let why: Explanation = server.explain(&late);
        let frozen = why.rollouts.iter().find(|one| one.rollout.as_str() == "frozen").unwrap();
        assert!(frozen.reason.text.contains("its audience was fixed when it started"), "{}", frozen.reason.text);
    });
}

#[test]
fn devices_that_have_it_or_cannot_have_it_are_counted_apart_with_the_reason() {
    on_both(|server| {
        let mut old = FakeDevice::enrol(server, "old").runs("pos-app", "1.0.0");
        let mut other_hw = FakeDevice::enrol(server, "other-hw").runs("pos-app", "1.0.0");
        other_hw.facts.hw = "ingenico-ict".to_owned();
        let mut beta = FakeDevice::enrol(server, "beta").runs("pos-app", "1.0.0");
        beta.facts.channels = vec!["beta".to_owned()];
        let mut current = FakeDevice::enrol(server, "current");
        let release = NewRelease::new("pos-app", "2.0.0", 7).with(|doc| doc.hw = vec!["verifone-*".to_owned()]);
        release.publish(server);
        let document = current.fetch_release(release.signed(server).digest());
        current.install(&document);
        let mut newer = FakeDevice::enrol(server, "newer").runs("pos-app", "3.0.0");
        newer.facts.installed[0].counter = 9;
        for device in [&mut old, &mut other_hw, &mut beta, &mut current, &mut newer] {
            assert_eq!(device.check_in().action, Action::None);
        }
        let spec = rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" }));
        let preview = server.preview(&spec);
        assert_eq!((preview.devices, preview.online, preview.already_installed), (5, 5, 1));
        let texts: Vec<String> =
            preview.incompatible_devices.iter().map(|one| format!("{}: {}", one.device, one.reason.text)).collect();
        insta::assert_snapshot!(texts.join("\n"), @r#"
        other-hw: the release is for hardware verifone-*, the device is "ingenico-ict"
        beta: the release is on channel stable, the device accepts beta
        newer: pos-app 3.0.0 is newer than 2.0.0, and the rollout does not allow a downgrade
        "#);
        let counts = server.roll_out(&spec).phases[0].counts;
        assert_eq!((counts.size, counts.excluded, counts.unreached), (5, 4, 1));
        for device in [&mut other_hw, &mut beta, &mut current, &mut newer] {
            assert_eq!(device.check_in().action, Action::None);
        }
        old.settle(Health::Good);
        assert_eq!(server.rollout("r").state, RolloutState::Completed);
    });
}

#[test]
fn a_preview_shows_rollouts_that_are_in_the_way() {
    on_both(|server| {
        let mut devices = fleet(server);
        for (version, counter) in [("2.4.0", 100), ("2.5.0", 101)] {
            NewRelease::new("pos-app", version, counter).publish(server);
        }
        server.roll_out(&rollout("east", "pos-app@2.4.0", &json!({ "selector": "region = northeast" })));
        let preview = server.preview(&rollout("all", "pos-app@2.5.0", &json!({})));
        let conflicts = |preview: &Preview| -> Vec<(String, u32, ComesFirst)> {
            preview.conflicts.iter().map(|one| (one.rollout.to_string(), one.devices, one.comes_first)).collect()
        };
        assert_eq!(conflicts(&preview), [("east".to_owned(), 3, ComesFirst::This)]);
        assert_eq!((preview.devices, preview.phases[0].online), (10, 6));
        let later = server.preview(&rollout("all", "pos-app@2.5.0", &json!({ "priority": 499 })));
        assert_eq!(conflicts(&later), [("east".to_owned(), 3, ComesFirst::Other)]);
        let shown = server.cli(["rollout", "preview", "--release", "pos-app@2.5.0", "--policy", "immediate"]);
        assert!(shown.ok().stdout.contains("COMES FIRST"), "{}", shown.stdout);
        assert!(shown.stdout.contains("this one"), "{}", shown.stdout);
        // Who is through with the other rollout is not in common, whatever came of it.
        let offer = devices[0].check_in();
        assert_eq!(offer.action, Action::Download);
        devices[0].report_failure(&offer, Event::Failed, FailureClass::Permanent, "no_space");
        assert_eq!(server.preview(&rollout("all", "pos-app@2.5.0", &json!({}))).conflicts[0].devices, 2);
        drop(who_runs(&mut devices, "2.4.0"));
        assert_eq!(server.preview(&rollout("all", "pos-app@2.5.0", &json!({}))).conflicts, Vec::new());
    });
}

#[test]
fn labels_never_start_an_install_silently() {
    on_both(|server| {
        let mut devices = fleet(server);
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        server.roll_out(&rollout("ring", "pos-app@2.4.0", &json!({ "selector": "ring = early" })));
        let edit =
            |dry_run: bool| json!({ "selector": "site = CHI-001", "set": { "ring": "early" }, "dry_run": dry_run });
        let told: Value = server.api().post("devices/labels", &edit(true));
        assert_eq!((&told["updated"], &told["eligible"]), (&json!(2), &json!([{ "rollout": "ring", "devices": 2 }])));
        assert_eq!(who_runs(&mut devices, "2.4.0"), BTreeSet::new());
        let done: Value = server.api().post("devices/labels", &edit(false));
        assert_eq!(done["eligible"], told["eligible"]);
        assert_eq!(who_runs(&mut devices, "2.4.0").len(), 2);
    });
}

#[test]
fn a_till_that_leaves_the_audience_before_it_is_offered_anything_is_not_offered_it_any_more() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut tills: Vec<FakeDevice> =
            (0..3).map(|n| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0")).collect();
        let label = |name: &str, ring: &str| {
            let edit = json!({ "selector": format!("name = {name}"), "set": { "ring": ring } });
            server.api().post::<Imported>("devices/labels", &edit);
        };
        (0..3).for_each(|n| label(&format!("till-{n}"), "early"));
        server.roll_out(&rollout("patch", "pos-app@2.0.0", &json!({ "selector": "ring = early" })));
        assert_eq!(tills[0].check_in().action, Action::Download);
        label("till-0", "late");
        label("till-1", "late");
        assert_eq!(tills[1].check_in().action, Action::None);
        let said = "left_audience: rollout patch: it is not for this device any more (ring = early: it is late)";
        let considered = server.explain(&tills[1]).rollouts.remove(0).reason;
        assert_eq!(format!("{}: {}", considered.code, considered.text), said);
        let phase = server.rollout("patch").phases.remove(0);
        assert_eq!((phase.counts.size, phase.excluded), (3, [("left_audience".to_owned(), 1)].into()));
        // Who has begun is brought to the end of it, and who comes back counts again.
        assert_eq!(tills[0].settle(Health::Good).action, Action::None);
        label("till-1", "early");
        (1..3).for_each(|n| drop(tills[n].settle(Health::Good)));
        assert!(tills.iter().all(|till| till.version_of("pos-app") == Some("2.0.0")));
        let phase = server.rollout("patch").phases.remove(0);
        assert_eq!((phase.counts.succeeded, phase.excluded.len()), (3, 0));
    });
}

#[test]
fn the_fleet_is_counted_by_status() {
    on_both(|server| {
        drop(fleet(server));
        let listed: Vec<callboard_proto::admin::Device> = server.api().list("devices?limit=3");
        let online = listed.iter().filter(|device| device.status == DeviceStatus::Online).count();
        assert_eq!((listed.len(), online), (10, 6));
        // Gauges count what is in the database, which is a second behind.
        let gauge = |status: &str| server.api().metric("callboard_devices", &format!("status=\"{status}\""));
        wait::until("the gauges show the fleet", || {
            (gauge("online") - 6.0).abs() < 0.1 && (gauge("unknown") - 4.0).abs() < 0.1
        });
    });
}
