//! What operators get wrong: every message says what was wrong and what would be right, and nothing is changed.

use callboard_proto::{
    admin::{Device, Rollout, Site},
    problem::Code,
};
use callboard_tests::{
    api::escape,
    http::{Request, Response},
    release::NewRelease,
    server::TestServer,
    world::devices,
};
use serde_json::{Value, json};
use std::fs;

use crate::{on_both, refused};

/// Everything that an operator can see, to be compared.
fn registry(server: &TestServer) -> (Vec<Site>, Vec<Device>, Vec<Rollout>) {
    (server.api().list("sites"), server.api().list("devices"), server.api().list("rollouts"))
}

/// Runs `attempts`, none of which may change anything.
fn nothing_changes(server: &TestServer, attempts: impl Fn()) {
    server.import_fleet();
    NewRelease::new("pos-app", "2.4.0", 100).publish(server);
    let before = registry(server);
    attempts();
    assert_eq!(registry(server), before);
}

#[test]
fn a_bad_selector_is_explained_with_its_column() {
    on_both(|server| {
        nothing_changes(server, || {
            for (selector, said) in [
                ("region =", "selector: column 9: expected"),
                ("region = northeast and", "selector: column 23: expected"),
                ("(region = a", "selector: column 12: expected"),
                ("region == a", "selector: column 9: expected"),
                ("version() < 2", "selector: column 9: expected"),
                ("last_seen > yesterday", "selector: column 13: expected"),
                ("status = asleep", "selector: column 10: expected"),
                ("region = \"open", "selector: column"),
                (&"not ".repeat(40), "selector: column"),
                (&format!("name in ({})", vec!["x"; 600].join(",")), "selector: column"),
                (&"x".repeat(9000), "selector: column"),
            ] {
                let listed = server.api().try_get(&format!("devices?selector={}", escape(selector)));
                assert_eq!(listed.status, 422, "{selector}");
                refused(&listed, Code::BadSelector, said);
                let labels = json!({ "selector": selector, "set": { "a": "b" } });
                refused(&server.api().try_post("devices/labels", &labels), Code::BadSelector, said);
                let spec =
                    json!({ "name": "r", "release": "pos-app@2.4.0", "policy": "immediate", "selector": selector });
                for path in ["rollouts", "rollouts/preview"] {
                    refused(
                        &server.api().try_post(path, &spec),
                        Code::BadSelector,
                        said.trim_start_matches("selector: "),
                    );
                }
                let listed = server.cli(["device", "list", "--selector", selector]);
                assert!(listed.refused(2).contains(said), "{}", listed.stderr);
            }
        });
    });
}

fn rollout_refused(server: &TestServer, more: Value, said: &str) {
    let mut spec = json!({ "name": "r", "release": "pos-app@2.4.0", "policy": "immediate" });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    for path in ["rollouts", "rollouts/preview"] {
        refused(&server.api().try_post(path, &spec), Code::Invalid, said);
    }
}

#[test]
fn impossible_policies_are_explained_field_by_field() {
    on_both(|server| {
        nothing_changes(server, || {
            let refuse = |more: Value, said: &str| rollout_refused(server, more, said);
            let phases = |phases: Value| json!({ "policy": "progressive", "phases": phases });
            let one = |percent: i32| json!([{ "name": "a", "percent": percent }]);
            refuse(phases(one(50)), "phases[0].percent: the last phase must be 100 percent");
            refuse(phases(one(0)), "phases[0].percent: is 0; 1 to 100 is allowed");
            refuse(phases(json!([])), "phases: there are 0; 1 to 32 are wanted");
            let falling = json!([{ "name": "a", "percent": 60 }, { "name": "b", "percent": 50 }, { "name": "c", "percent": 100 }]);
            refuse(phases(falling), "phases[1].percent: is 50, after 60: percents are cumulative");
            let twice = json!([{ "name": "a", "percent": 50 }, { "name": "a", "percent": 100 }]);
            refuse(phases(twice), "phases[1].name: \"a\" stands twice");
            refuse(
                phases(json!([{ "name": "a", "percent": 100, "success_percent": 0 }])),
                "phases[0].success_percent: is 0",
            );
            refuse(phases(json!([{ "name": "a" }])), "phases[0]: needs either a percent or a selector");
            refuse(json!({ "phases": one(100) }), "phases: only the progressive policy has phases");

            let window = |window: Value| json!({ "policy": "scheduled", "windows": [window] });
            refuse(window(json!({ "start": "02:00", "duration_min": 0 })), "windows[0].duration_min: is 0; 1 to 10080");
            refuse(
                window(json!({ "start": "26:00", "duration_min": 5 })),
                "windows[0].start: \"26:00\" is no time of day",
            );
            refuse(
                window(json!({ "start": "02:00", "duration_min": 5, "tz": "Mars/Olympus" })),
                "windows[0].tz: \"Mars/Olympus\" is no time zone; an IANA name such as America/New_York is wanted, or `site`",
            );
            refuse(
                window(json!({ "start": "02:00", "duration_min": 5, "days": ["someday"] })),
                "\"someday\" is no day",
            );
            refuse(window(json!({ "start": "02:00", "duration_min": 5, "gates": [] })), "windows[0].gates: is empty");
            refuse(window(json!({ "cron": "0 0 30 2 *", "duration_min": 5 })), "windows[0].cron");
            refuse(window(json!({ "duration_min": 5 })), "windows[0]: needs either start or cron");
            let mut tight = window(json!({ "start": "02:00", "duration_min": 30 }));
            refuse(json!({ "unit": "site" }), "unit: site only means something with the progressive policy");
            refuse(
                json!({ "expected_install_min": 1441 }),
                "expected_install_min: is 1441; 0 to 1440 minutes are allowed",
            );
            tight["expected_install_min"] = json!(31);
            refuse(tight, "expected_install_min: 31 minutes are longer than every window");

            refuse(json!({ "policy": "scheduled" }), "start_at: the scheduled policy needs a start, windows, or both");
            let times =
                json!({ "policy": "scheduled", "start_at": "2027-03-02T00:00:00Z", "ends_at": "2027-03-01T00:00:00Z" });
            refuse(times, "start_at: 2027-03-02T00:00:00Z is not before the end of the rollout (2027-03-01T00:00:00Z)");
            refuse(
                json!({ "start_at": "2027-03-02T00:00:00Z" }),
                "start_at: only means something with the scheduled policy",
            );
            refuse(json!({ "default_tz": "Nowhere" }), "default_tz: \"Nowhere\" is no time zone");
            refuse(json!({ "priority": 1001 }), "priority: is 1001; 0 to 1000 is allowed");
            refuse(json!({ "max_attempts": 0 }), "max_attempts: is 0; 1 to 10 is allowed");
            refuse(json!({ "policy": "on_connect", "min_absence_s": 0 }), "min_absence_s: must be at least 1");
            // All that is wrong is said at once.
            let both = json!({ "priority": 1001, "max_attempts": 11 });
            refuse(both.clone(), "priority: is 1001");
            refuse(both, "max_attempts: is 11");
        });
    });
}

#[test]
fn a_rollout_of_nothing_or_in_the_past_is_refused() {
    on_both(|server| {
        nothing_changes(server, || {
            let post = |spec: &Value| server.api().try_post("rollouts", spec);
            let spec = |release: &str| json!({ "name": "r", "release": release, "policy": "immediate" });
            refused(&post(&spec("pos-app@9.9.9")), Code::NotFound, "there is no release pos-app@9.9.9");
            refused(&post(&spec(&"0".repeat(64))), Code::NotFound, "there is no release 0000");
            refused(&post(&spec("pos-app")), Code::Invalid, "a digest or product@version is wanted");
            let mut past = json!({ "name": "r", "release": "pos-app@2.4.0", "policy": "immediate", "ends_at": "2027-01-12T11:59:59Z" });
            refused(
                &post(&past),
                Code::Invalid,
                "ends_at: 2027-01-12T11:59:59Z has passed; it is 2027-01-12T12:00:00Z",
            );
            // A deadline that was copied from last year would open every window.
            past["ends_at"] = Value::Null;
            past["deadline"] = json!("2026-12-24T00:00:00Z");
            past["windows"] = json!([{ "tz": "site", "start": "02:00", "duration_min": 120 }]);
            let said = "deadline: 2026-12-24T00:00:00Z has passed";
            refused(&post(&past), Code::Invalid, said);
            refused(&server.api().try_post("rollouts/preview", &past), Code::Invalid, said);
            let simulated = json!({ "rollout": past, "assume": {} });
            refused(&server.api().try_post("rollouts/simulate", &simulated), Code::Invalid, said);
            let live = json!({ "name": "r", "release": "pos-app@2.4.0", "policy": "immediate", "selector": "status = online" });
            refused(&post(&live), Code::BadSelector, "allowed only with a frozen audience");
        });
    });
}

#[test]
fn imports_are_taken_whole_or_not_at_all() {
    on_both(|server| {
        nothing_changes(server, || {
            let sites = |sites: Value| server.api().try_post("sites/import", &json!({ "sites": sites }));
            let zone = sites(json!([{ "id": "A", "tz": "Asia/Tokyo" }, { "id": "B", "tz": "Asia/Atlantis" }]));
            refused(&zone, Code::Invalid, "\"Asia/Atlantis\" is not an IANA time zone, such as America/New_York");
            refused(
                &sites(json!([{ "id": "A", "tz": "UTC" }, { "id": "A", "tz": "UTC" }])),
                Code::Invalid,
                "site A stands twice",
            );
            refused(&sites(json!([{ "id": "A/B", "tz": "UTC" }])), Code::BadRequest, "is not a site name");

            let devices = |devices: Value| server.api().try_post("devices/import", &json!({ "devices": devices }));
            refused(
                &devices(json!([{ "name": "x" }, { "name": "x" }])),
                Code::Invalid,
                "device x stands twice in the list",
            );
            let serials = json!([{ "name": "x", "serial": "S" }, { "name": "y", "serial": "S" }]);
            refused(&devices(serials), Code::Invalid, "serial number \"S\" stands twice in the list");
            let taken = json!([{ "name": "x", "serial": "SN-0001" }]);
            refused(
                &devices(taken),
                Code::Conflict,
                "device x: serial number \"SN-0001\" is that of device pos-nyc-001",
            );
            let nowhere = json!([{ "name": "x" }, { "name": "y", "site": "ATL-001" }]);
            refused(&devices(nowhere), Code::Invalid, "device y: there is no site ATL-001; import sites first");
            let label = json!([{ "name": "x", "labels": { "1st": "a" } }]);
            refused(&devices(label), Code::Invalid, "device x: label key \"1st\" is not allowed");
            let many: Vec<Value> = (0..5001).map(|n| json!({ "name": format!("x{n}") })).collect();
            refused(&devices(json!(many)), Code::Invalid, "5001 devices; at most 5000 at a time");
        });
    });
}

#[test]
fn importing_the_same_again_changes_nothing_and_a_dry_run_writes_nothing() {
    on_both(|server| {
        let import = |dry_run: bool| {
            let body = json!({ "devices": devices().iter().map(|one| json!({ "name": one.name, "labels": one.labels })).collect::<Vec<_>>(), "dry_run": dry_run });
            server.api().post::<Value>("devices/import", &body)
        };
        let counts = |answer: &Value| ["created", "updated", "unchanged"].map(|key| answer[key].as_u64().unwrap());
        assert_eq!(counts(&import(true)), [10, 0, 0]);
        assert_eq!(server.api().list::<Device>("devices").len(), 0);
        assert_eq!(counts(&import(false)), [10, 0, 0]);
        let before: Vec<Device> = server.api().list("devices");
        assert_eq!(counts(&import(false)), [0, 0, 10]);
        assert_eq!(server.api().list::<Device>("devices"), before);
    });
}

#[test]
fn unknown_fields_wrong_types_and_oversize_bodies_are_errors_for_operators() {
    on_both(|server| {
        nothing_changes(server, || {
            let post = |path: &str, body: Value| server.api().try_post(path, &body);
            refused(&post("tokens", json!({ "colour": "red" })), Code::BadRequest, "unknown field `colour`");
            refused(&post("tokens", json!({ "max_uses": "two" })), Code::BadRequest, "invalid type: string \"two\"");
            refused(&post("rollouts", json!({ "name": "r" })), Code::BadRequest, "missing field `release`");
            let policy = json!({ "name": "r", "release": "x", "policy": "sometimes" });
            refused(&post("rollouts", policy), Code::BadRequest, "unknown variant `sometimes`");
            refused(&post("devices/labels", json!({ "selector": "all", "set": [] })), Code::BadRequest, "invalid type");
            refused(&post("devices/labels", json!({ "selector": " " })), Code::Invalid, "selector is empty");
            let large = Request::post("/api/v1/devices/import").body("application/json", vec![b' '; (8 << 20) + 1]);
            server.api().send(large).problem(Code::TooLarge);
            let text = Request::post("/api/v1/tokens").body("text/plain", *b"{}");
            server.api().send(text).problem(Code::BadRequest);
            let broken = Request::post("/api/v1/tokens").body("application/json", *b"{\"max_uses\": 1");
            refused(&server.api().send(broken), Code::BadRequest, "EOF");
        });
    });
}

/// Every operation of the admin API: method, path with something that is there, whether its body is JSON of ours, and
/// whether it has a query.
fn operations() -> Vec<(String, String, bool, bool)> {
    let document: Value = serde_json::from_str(include_str!("../../proto-docs/openapi.json")).unwrap();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{device}", "pos-nyc-001").replace("{site}", "NYC-001").replace("{rollout}", "r");
        for (method, operation) in methods.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let parameters = operation["parameters"].as_array();
            let query = parameters.is_some_and(|all| all.iter().any(|one| one["in"] == "query"));
            found.push((method.to_uppercase(), format!("/api/v1{path}"), schema["$ref"].is_string(), query));
        }
    }
    found
}

#[test]
fn every_operation_refuses_fields_that_it_does_not_know_and_bodies_of_other_types() {
    on_both(|server| {
        let operations = operations();
        let (bodies, queries) = (operations.iter().filter(|one| one.2).count(), operations.iter().filter(|one| one.3));
        assert!(bodies >= 12 && queries.count() >= 6, "{operations:?}");
        nothing_changes(server, || {
            for (method, path, has_body, has_query) in &operations {
                let send = |body: Value| server.api().send(Request::new(method, path).json(&body));
                if *has_body {
                    refused(&send(json!({ "colour": "red" })), Code::BadRequest, "unknown field `colour`");
                    for (body, kind) in [
                        (json!([]), "sequence"),
                        (json!([{}]), "sequence"),
                        (json!("x"), "string \"x\""),
                        (json!(7), "integer `7`"),
                        (json!(null), "null"),
                    ] {
                        let said = format!("invalid type: {kind}, expected a JSON object");
                        refused(&send(body), Code::BadRequest, &said);
                    }
                    let empty = Request::new(method, path).body("application/json", *b"");
                    refused(&server.api().send(empty), Code::BadRequest, "EOF");
                }
                if *has_query {
                    let asked = server.api().send(Request::new(method, format!("{path}?colour=red")));
                    refused(&asked, Code::BadRequest, "unknown field `colour`");
                }
            }
        });
    });
}

#[test]
fn limits_of_lists_and_tokens_are_said() {
    on_both(|server| {
        let get = |path: &str| server.api().try_get(path);
        for limit in ["0", "1001"] {
            let answer = get(&format!("devices?limit={limit}"));
            refused(&answer, Code::BadRequest, &format!("limit is {limit}; 1 to 1000 are allowed"));
        }
        refused(&get("devices?limit=x"), Code::BadRequest, "invalid digit");
        refused(&get("devices?after=x"), Code::BadRequest, "after");
        refused(&get("devices?colour=red"), Code::BadRequest, "unknown field `colour`");
        refused(&get("rollouts?state=asleep"), Code::BadRequest, "unknown variant `asleep`");
        refused(&get("devices/nobody"), Code::NotFound, "there is no device nobody");
        refused(&get("sites/NYC"), Code::NotFound, "there is no site NYC");
        refused(&get("nonsense"), Code::NotFound, "nothing under this path");
        let token = |body: Value| server.api().try_post("tokens", &body);
        refused(&token(json!({ "ttl_s": 59 })), Code::Invalid, "ttl_s is 59; 60 to 31622400 seconds are allowed");
        refused(&token(json!({ "max_uses": 0 })), Code::Invalid, "max_uses is 0; 1 to 100000 are allowed");
        refused(&token(json!({ "device": "nobody" })), Code::NotFound, "there is no device nobody");
        refused(&token(json!({ "site": "NYC" })), Code::NotFound, "there is no site NYC");
        let wrong: Response = server.api().send(Request::new("PATCH", "/api/v1/devices"));
        refused(&wrong, Code::MethodNotAllowed, "but not with this method");
    });
}

#[test]
fn a_file_with_a_mistake_is_not_imported_and_the_message_says_where_it_is() {
    on_both(|server| {
        server.import_fleet();
        let before = registry(server);
        let import = |noun: &str, name: &str, text: &str, said: &str| {
            let file = server.home().join(name);
            fs::write(&file, text).unwrap();
            let output = server.cli([noun, "import", file.to_str().unwrap()]);
            let message = output.refused(2);
            assert!(message.contains(said), "{message:?} does not say {said:?}");
        };
        import(
            "device",
            "a.csv",
            "name,colour\nx,red\n",
            "line 1, column 2: \"colour\" is not known; columns are name",
        );
        import("device", "b.csv", "name,site\nx,NYC-001\n\ny\n", "line 4: 1 columns, but the header has 2");
        import("device", "c.csv", "name\nx\ny\nx\n", "\"x\" stands twice, in lines 2 and 4");
        import("device", "d.csv", "name\na/b\n", "line 2, column name: \"a/b\" is not a device name");
        import("device", "e.json", "[{\"name\": \"x\"},\n {\"nam\": \"y\"}]", "unknown field `nam`");
        import("device", "f.json", "{\"devices\": [}", "line 1 column 14");
        import("device", "g.txt", "", "the name must end in .csv or .json");
        import("device", "h.csv", "name\n", "there are no devices in it");
        import("site", "i.csv", "id\nX\n", "column \"tz\" is missing");
        import("site", "j.csv", "id,tz\nX,Mars/Olympus\n", "\"Mars/Olympus\" is not an IANA time zone");
        import("site", "missing.csv", "id,tz\n\n\n", "there are no sites in it");
        assert_eq!(registry(server), before);
    });
}
