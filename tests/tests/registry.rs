//! Which device a serial number names: what enrolments and imports may change of it, and how an operator decides.

use callboard_proto::{
    admin::{Device, Event, Imported, Page, Token},
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Key, enrolment, try_enrol},
    server::TestServer,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

fn sites(server: &TestServer) {
    let sites = json!({ "sites": [{ "id": "NYC-001", "tz": "UTC" }, { "id": "BOS-001", "tz": "UTC" }] });
    server.api().post::<Imported>("sites/import", &sites);
}

fn import(server: &TestServer, devices: &Value) -> Imported {
    server.api().post("devices/import", &json!({ "devices": devices }))
}

/// What a dry run and the run say, which is the same, and that nothing was changed.
fn import_refused(server: &TestServer, devices: &Value) -> String {
    let before: Vec<Device> = server.api().list("devices");
    let said = [true, false].map(|dry_run| {
        let answer = server.api().try_post("devices/import", &json!({ "devices": devices, "dry_run": dry_run }));
        answer.problem(Code::Conflict)
    });
    assert_eq!(said[0], said[1]);
    assert_eq!(server.api().list::<Device>("devices"), before);
    said[0].clone()
}

fn serial(server: &TestServer, name: &str) -> Option<String> {
    server.api().get::<Device>(&format!("devices/{name}")).serial
}

/// Enrols with an open token a device that tells a serial number.
fn enrolled(server: &TestServer, name: &str, serial: &str) -> FakeDevice {
    let token = server.enrolment_token(&json!({}));
    FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).named(name).serial(serial))
}

/// Types the command that a message ends with.
fn do_as_told(server: &TestServer, message: &str) {
    let (_, command) = message.rsplit_once("callboard ").unwrap();
    server.cli(command.replace('"', "").split(' ')).ok();
}

#[test]
fn a_token_for_one_site_takes_over_no_device_of_another_by_its_serial_number() {
    on_both(|server| {
        sites(server);
        import(
            server,
            &json!([
                { "name": "till-ny", "site": "NYC-001", "serial": "S1" },
                { "name": "till-bos", "site": "BOS-001", "serial": "S2" },
                { "name": "till-nowhere", "serial": "S3" },
            ]),
        );
        let token = server.enrolment_token(&json!({ "site": "NYC-001" }));
        for (serial, name) in [("S2", "till-bos"), ("S3", "till-nowhere")] {
            let answer = try_enrol(server, &enrolment(&token, &Key::new()).serial(serial).body);
            let detail = answer.problem(Code::IdentityConflict);
            assert!(detail.contains("does not stand at NYC-001, for which the token is; a token made for"), "{detail}");
            // Whoever guesses numbers does not learn names; the operator does.
            assert!(!detail.contains(name), "{detail}");
            assert!(server.log().contains(name), "{}", server.log());
            assert_eq!(server.api().get::<Device>(&format!("devices/{name}")).enrolled_at, None);
        }
        assert_eq!(server.api().list::<Token>("tokens")[0].uses, 0);
        let device = FakeDevice::enrol_with(server, &enrolment(&token, &Key::new()).serial("S1"));
        assert_eq!(device.name.as_str(), "till-ny");
        let open = server.enrolment_token(&json!({}));
        let device = FakeDevice::enrol_with(server, &enrolment(&open, &Key::new()).serial("S2"));
        assert_eq!(device.name.as_str(), "till-bos");
    });
}

#[test]
fn a_token_for_a_device_carries_no_site_and_no_labels() {
    on_both(|server| {
        sites(server);
        import(server, &json!([{ "name": "till-1" }]));
        for more in [json!({ "site": "NYC-001" }), json!({ "labels": { "a": "b" } })] {
            let mut token = json!({ "device": "till-1" });
            token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            refused(&server.api().try_post("tokens", &token), Code::Invalid, "the device keeps its own");
        }
    });
}

#[test]
fn a_machine_with_another_serial_number_than_the_registrys_is_not_taken_for_the_device() {
    on_both(|server| {
        import(server, &json!([{ "name": "till-1", "serial": "S1" }]));
        let token = server.enrolment_token(&json!({ "device": "till-1" }));
        let request = enrolment(&token, &Key::new()).serial("S2");
        let detail = try_enrol(server, &request.body).problem(Code::IdentityConflict);
        assert!(detail.contains("has serial number \"S1\" in the registry, and this machine says \"S2\""), "{detail}");
        assert_eq!(
            (serial(server, "till-1").as_deref(), server.api().list::<Token>("tokens")[0].uses),
            (Some("S1"), 0)
        );
        do_as_told(server, &detail);
        FakeDevice::enrol_with(server, &request).check_in();
        assert_eq!(serial(server, "till-1").as_deref(), Some("S2"));
    });
}

#[test]
fn an_import_gives_an_enrolled_device_no_other_serial_number() {
    on_both(|server| {
        let mut device = enrolled(server, "till-1", "S1");
        let mut silent = FakeDevice::enrol(server, "till-2");
        let detail = import_refused(server, &json!([{ "name": "till-1", "serial": "S9" }]));
        assert!(detail.starts_with("device till-1: it has enrolled as \"S1\", and the list says \"S9\""), "{detail}");
        let none = import_refused(server, &json!([{ "name": "till-2", "serial": "S2" }]));
        assert!(none.starts_with("device till-2: it has enrolled without a serial number, and the list"), "{none}");
        // What says nothing of it leaves it, and so does the same.
        for row in [json!({ "name": "till-1", "description": "a" }), json!({ "name": "till-1", "serial": "S1" })] {
            import(server, &json!([row]));
            assert_eq!(serial(server, "till-1").as_deref(), Some("S1"));
        }
        do_as_told(server, &none);
        assert_eq!(import(server, &json!([{ "name": "till-2", "serial": "S2" }])).unchanged, 1);
        device.check_in();
        silent.check_in();
    });
}

#[test]
fn an_imported_device_that_has_not_enrolled_gets_the_serial_number_of_the_newest_list() {
    on_both(|server| {
        for (row, wanted) in [
            (json!({ "name": "till-1", "serial": "S1" }), Some("S1")),
            (json!({ "name": "till-1", "serial": "S2" }), Some("S2")),
            (json!({ "name": "till-1" }), None),
        ] {
            import(server, &json!([row]));
            assert_eq!(serial(server, "till-1").as_deref(), wanted);
        }
    });
}

#[test]
fn a_device_that_claims_a_serial_number_does_not_block_its_import_for_ever() {
    on_both(|server| {
        let mut squatter = enrolled(server, "device-x", "S1");
        let list = json!([{ "name": "till-1", "serial": "S1" }]);
        let detail = import_refused(server, &list);
        let said = "device till-1: serial number \"S1\" is that of device device-x, which has enrolled with it";
        assert!(detail.starts_with(said), "{detail}");
        do_as_told(server, &detail);
        assert_eq!(import(server, &list).created, 1);
        assert_eq!((serial(server, "device-x"), serial(server, "till-1")), (None, Some("S1".to_owned())));
        let events: Vec<Event> = server.api().list("devices/device-x/history");
        assert_eq!(events[0].kind, "device.serial");
        assert_eq!(events[0].text, "serial number none instead of \"S1\", by first admin");
        // It is the device that it was; the number is another one's.
        squatter.check_in();
        let real = enrolled(server, "y", "S1");
        assert_eq!(real.name.as_str(), "till-1");
    });
}

#[test]
fn the_serial_number_of_a_decommissioned_device_is_free_when_an_operator_says_so() {
    on_both(|server| {
        enrolled(server, "till-1", "S1");
        server.api().post::<Device>("devices/till-1/decommission", &json!({ "reason": "sold" }));
        let list = json!([{ "name": "till-2", "serial": "S1" }]);
        let detail = import_refused(server, &list);
        assert!(detail.contains("is that of device till-1, which was decommissioned"), "{detail}");
        do_as_told(server, &detail);
        assert_eq!(import(server, &list).created, 1);
    });
}

#[test]
fn rows_are_judged_by_the_registry_before_the_import_and_all_that_are_refused_are_told() {
    on_both(|server| {
        let rows = |shift: usize| -> Value {
            (0..7).map(|n| json!({ "name": format!("till-{n}"), "serial": format!("S{}", n + shift) })).collect()
        };
        assert_eq!(import(server, &rows(0)).created, 7);
        // Each number but the last is that of the next row's device, whatever the order.
        let detail = import_refused(server, &rows(1));
        assert_eq!(detail.matches("; name that device").count(), 5, "{detail}");
        assert!(
            detail.contains("serial number \"S1\" is that of device till-1, which has not enrolled yet"),
            "{detail}"
        );
        assert!(detail.ends_with("; and 1 more like these"), "{detail}");
        let mut turned = rows(1);
        turned.as_array_mut().unwrap().reverse();
        assert!(import_refused(server, &turned).ends_with("; and 1 more like these"));
    });
}

#[test]
fn an_operator_gives_and_takes_serial_numbers() {
    on_both(|server| {
        import(server, &json!([{ "name": "till-1", "serial": "S1" }, { "name": "till-2" }]));
        let put = |name: &str, body: Value| server.api().try_put(&format!("devices/{name}/serial"), &body);
        let detail = put("till-2", json!({ "serial": "S1" })).problem(Code::Conflict);
        assert!(detail.starts_with("serial number \"S1\" is that of device till-1"), "{detail}");
        refused(&put("till-9", json!({ "serial": "S9" })), Code::NotFound, "there is no device till-9");
        refused(&put("till-2", json!({})), Code::BadRequest, "missing field `serial`");
        put("till-1", json!({ "serial": "S1" })).json::<Device>();
        put("till-2", json!({ "serial": "S2" })).json::<Device>();
        assert_eq!(serial(server, "till-2").as_deref(), Some("S2"));
        server.api().try_delete("devices/till-2/serial").json::<Device>();
        assert_eq!(serial(server, "till-2"), None);
        let both = server.cli(["device", "serial", "till-2", "--set", "S3", "--clear"]);
        assert!(both.refused(2).contains("cannot be used with"), "{}", both.stderr);
        assert!(server.cli(["device", "serial", "till-2"]).refused(2).contains("--set <SERIAL>"));
    });
}

#[test]
fn the_history_of_a_device_is_read_page_by_page() {
    on_both(|server| {
        import(server, &json!([{ "name": "till-1" }]));
        for n in 0..5 {
            server.cli(["device", "serial", "till-1", "--set", &format!("S{n}")]).ok();
        }
        let whole: Vec<Event> = server.api().list("devices/till-1/history");
        assert_eq!(whole.len(), 5);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let args =
                ["--output", "json", "device", "history", "till-1", "--limit", "2"].map(str::to_owned).into_iter();
            let page: Page<Event> =
                server.cli(args.chain(after.into_iter().flat_map(|key| ["--after".to_owned(), key]))).json();
            assert!(page.items.len() <= 2);
            found.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, whole);
    });
}
