//! The list of devices, the page of one, and what is done to them from there.

use std::time::Duration;

use callboard_proto::admin::{Device, Event, Imported};
use callboard_tests::{
    browser::{Browser, text},
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::on_both;

fn names(page: &str) -> Vec<String> {
    let rows = page.split("<th scope=\"row\" class=\"name\"><a href=\"").skip(1);
    rows.map(|row| row.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()).collect()
}

fn device(server: &TestServer, name: &str) -> Device {
    server.api().get(&format!("devices/{name}"))
}

#[test]
fn the_list_is_narrowed_paged_and_has_the_columns_that_were_chosen() {
    on_both(|server| {
        server.import_fleet();
        let ada = Browser::of(server, "operator");
        let page = ada.page("/devices");
        assert_eq!(names(&page).len(), 10);
        let page = ada.page("/devices?selector=region+%3D+northeast&column=serial&column=description");
        assert_eq!(names(&page), ["pos-nyc-001", "pos-nyc-002", "pos-boston-001"]);
        assert!(page.contains("Times Square Store - Terminal 1") && !page.contains("priority=high"), "{page}");
        assert!(page.contains("value=\"region = northeast\""), "{page}");
        // What is wrong is pointed at, and what was typed stays.
        let wrong = ada.get("/devices?selector=region+%3D+(");
        assert_eq!(wrong.status, 422);
        let shown = wrong.text();
        assert!(shown.contains("column 10: expected"), "{shown}");
        assert!(shown.contains("region = (\n         ^</pre>"), "{shown}");
        // A page of rows, and the way to the next one with the same filter.
        let more: Vec<Value> =
            (0..60).map(|n| json!({ "name": format!("x-{n:02}"), "labels": { "many": "yes" } })).collect();
        server.api().post::<Imported>("devices/import", &json!({ "devices": more }));
        let first = ada.page("/devices?selector=many+%3D+yes&column=site");
        assert_eq!(names(&first).len(), 50);
        let next = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
        assert!(next.starts_with("/devices?selector=many%20=%20yes&column=site&after="), "{next}");
        let second = ada.page(&next);
        assert_eq!((names(&second).len(), names(&second)[9].as_str()), (10, "x-59"));
        assert!(second.contains("First page") && !second.contains("Next page"), "{second}");
    });
}

#[test]
fn what_may_come_next_in_a_selector_is_offered() {
    on_both(|server| {
        server.import_fleet();
        let ada = Browser::of(server, "viewer");
        let offered = |text: &str| {
            let answer = ada.get(&format!("/fleet/complete?text={}", callboard_tests::api::escape(text)));
            let offer: Value = answer.json();
            (offer["from"].as_u64().unwrap(), serde_json::from_value::<Vec<String>>(offer["options"].clone()).unwrap())
        };
        assert_eq!(offered("reg"), (0, vec!["region".to_owned()]));
        assert_eq!(offered("region = north").1, ["northeast", "northwest"]);
        assert_eq!(offered("site in (BOS"), (9, vec!["BOS-001".to_owned()]));
        assert_eq!(offered("version(\"pos-app\") < 2.3").1, ["2.3.0", "2.3.1"]);
        assert_eq!(offered("status = o").1, ["online", "offline"]);
        let east = json!([{ "role": "viewer", "selector": "region = northeast" }]);
        let east = Browser::with(server, "east", &east);
        assert!(east.get("/fleet/complete?text=site+%3D+").text().contains("[\"BOS-001\",\"NYC-001\"]"));
        assert_eq!(names(&east.page("/devices")).len(), 3);
        assert_eq!(east.get("/devices/pos-la-001").status, 404);
    });
}

#[test]
fn one_device_is_explained_held_labelled_and_taken_out_of_service() {
    on_both(|server| {
        server.import_fleet();
        NewRelease::new("pos-app", "2.4.0", 1).publish(server);
        let mut till = server.switch_on("pos-denver-001");
        let spec = json!({ "selector": "name in (pos-denver-001, pos-la-001)" });
        server.roll_out(&rollout("spring", "pos-app@2.4.0", &spec));
        let ada = Browser::of(server, "operator");
        let path = "/devices/pos-denver-001";
        let said = server.explain(&till);
        let shown = text(&ada.page(path));
        assert!(shown.contains(&said.next.text) && shown.contains("spring"), "{}\n{shown}", said.next.text);
        till.settle(Health::Bad);
        let page = ada.page(path);
        assert!(text(&page).contains("rolled back | attempt 1,"), "{page}");
        assert!(page.contains("Try again</button>"), "{page}");
        let denied = ada.submit(&format!("{path}/deal"), &[("rollout", "spring"), ("deed", "retry"), ("reason", "")]);
        assert!(denied.contains("reason is empty"), "{denied}");
        let deal = [("rollout", "spring"), ("deed", "skip"), ("reason", "looked at it")];
        assert!(ada.submit(&format!("{path}/deal"), &deal).contains("That is done."));
        let kinds: Vec<String> =
            server.api().list::<Event>("devices/pos-denver-001/history").into_iter().map(|event| event.kind).collect();
        assert!(kinds.contains(&"assignment.skipped".to_owned()), "{kinds:?}");

        // A form that is wrong keeps what was typed.
        let wrong = ada.post(&format!("{path}/hold"), &[("reason", " "), ("for", "480")]);
        assert_eq!(wrong.status, 422);
        assert!(wrong.text().contains("reason is empty"), "{}", wrong.text());
        assert!(wrong.text().contains("<option value=\"480\" selected>"), "{}", wrong.text());
        let held = ada.submit(&format!("{path}/hold"), &[("reason", "waits for a <part>"), ("for", "480")]);
        assert!(held.contains("pos-denver-001 is held.") && held.contains("waits for a &#60;part&#62;"), "{held}");
        let until = device(server, "pos-denver-001").hold.unwrap().until.unwrap();
        assert_eq!(until, server.clock.now() + Duration::from_secs(8 * 3600));
        assert!(ada.submit(&format!("{path}/unhold"), &[]).contains("The hold of pos-denver-001 is lifted."));

        // Labels: two at once see each other.
        let was = "priority=low\ntype=standard\n";
        assert!(ada.page(path).contains(&format!("name=\"was\" value=\"{was}\"")), "{}", ada.page(path));
        let labels = |typed: &str| ada.post(&format!("{path}/labels"), &[("was", was), ("labels", typed)]);
        assert_eq!(labels("ring").status, 422);
        assert_eq!(labels("ring=early\r\ntype=standard").status, 303);
        assert_eq!(device(server, "pos-denver-001").labels["ring"], "early");
        let conflict = labels("priority=low\ntype=standard\nring=late");
        assert_eq!(conflict.status, 409);
        let shown = conflict.text();
        assert!(shown.contains("somebody else changed the labels meanwhile"), "{shown}");
        assert!(shown.contains("ring=early\ntype=standard") && shown.contains("ring=late"), "{shown}");
        assert_eq!(device(server, "pos-denver-001").labels["ring"], "early");

        let out = ada.submit(&format!("{path}/decommission"), &[("reason", "sold")]);
        assert!(out.contains("pos-denver-001 is out of service.") && out.contains("decommissioned"), "{out}");
        assert!(device(server, "pos-denver-001").decommissioned);
    });
}

#[test]
fn many_devices_are_changed_after_what_it_would_do_was_shown() {
    on_both(|server| {
        server.import_fleet();
        let ada = Browser::of(server, "operator");
        let bulk = |fields: &[(&str, &str)]| ada.post("/fleet/bulk", fields);
        let none = bulk(&[("deed", "hold"), ("whom", "ticked"), ("selector", "all")]);
        assert_eq!(none.header("location"), Some("/devices?selector=all"));
        assert!(ada.page("/devices").contains("Tick the devices that are meant"));
        let ticked = bulk(&[("deed", "hold"), ("whom", "ticked"), ("device", "pos-la-001"), ("device", "pos-nyc-001")]);
        let page = ticked.text();
        assert!(page.contains("<h2 id=\"h-which\">2 devices</h2>"), "{page}");
        let selector = "name in (pos-la-001, pos-nyc-001)";
        assert!(page.contains(&format!("name=\"selector\" value=\"{selector}\"")), "{page}");
        let all = [("deed", "hold"), ("selector", selector), ("for", "")];
        assert_eq!(bulk(&[&all[..], &[("reason", ""), ("step", "preview")]].concat()).status, 422);
        let preview = bulk(&[&all[..], &[("reason", "rebuilt"), ("step", "preview")]].concat()).text();
        assert!(preview.contains("2 devices: no rollout touches them until the hold is lifted"), "{preview}");
        assert!(device(server, "pos-la-001").hold.is_none(), "nothing is done yet");
        let done = ada.submit("/fleet/bulk", &[&all[..], &[("reason", "rebuilt"), ("step", "sure")]].concat());
        assert!(done.contains("2 devices held."), "{done}");
        assert_eq!(device(server, "pos-nyc-001").hold.unwrap().reason, "rebuilt");
        let lift = [("deed", "unhold"), ("selector", "all"), ("step", "sure")];
        assert!(ada.submit("/fleet/bulk", &lift).contains("The holds of 2 devices were lifted."));

        let label = |set: &str, step: &str| {
            bulk(&[("deed", "label"), ("selector", "region = west"), ("set", set), ("remove", "type"), ("step", step)])
        };
        assert!(label("nonsense", "preview").text().contains("is not key=value"));
        assert!(label("ring=early", "preview").text().contains("1 device change"));
        assert_eq!(label("ring=early", "sure").status, 303);
        let labels = device(server, "pos-la-001").labels;
        assert_eq!((labels.get("ring").map(String::as_str), labels.get("type")), (Some("early"), None));
        // Nobody holds what is not theirs.
        let west = json!([{ "role": "viewer" }, { "role": "operator", "selector": "region = west" }]);
        let west = Browser::with(server, "west", &west);
        let done =
            west.submit("/fleet/bulk", &[("deed", "hold"), ("selector", "all"), ("reason", "x"), ("step", "sure")]);
        assert!(done.contains("1 device held."), "{done}");
        assert!(device(server, "pos-nyc-001").hold.is_none());
    });
}

#[test]
fn a_failure_of_many_devices_is_tried_again_from_the_list() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.4.0", 1).publish(server);
        let mut tills: Vec<FakeDevice> =
            ["a", "b"].map(|name| FakeDevice::enrol(server, name).runs("pos-app", "2.0.0")).into();
        server.roll_out(&rollout("spring", "pos-app@2.4.0", &json!({})));
        tills.iter_mut().for_each(|till| drop(till.settle(Health::Bad)));
        let ada = Browser::of(server, "operator");
        let begun = ada.post("/fleet/bulk", &[("deed", "retry"), ("whom", "all"), ("selector", "name = a")]).text();
        assert!(begun.contains("<option value=\"spring\">spring</option>"), "{begun}");
        let fields = [("deed", "retry"), ("selector", "name = a"), ("rollout", "spring"), ("reason", "a new image")];
        let preview = ada.post("/fleet/bulk", &[&fields[..], &[("step", "preview")]].concat()).text();
        assert!(preview.contains("1 device begin anew with spring"), "{preview}");
        assert!(
            ada.submit("/fleet/bulk", &[&fields[..], &[("step", "sure")]].concat()).contains("1 device begin anew.")
        );
        let waiting = ada.page("/attention");
        assert!(waiting.contains("spring/b") && !waiting.contains("spring/a"), "{waiting}");
    });
}
