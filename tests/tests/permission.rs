//! Who may do what: every route for every role, and where a permission that is limited to a part of the fleet ends.

use std::{collections::BTreeSet, fs, time::Duration};

use callboard_proto::{
    admin::{
        Attention, Device, Event, Freeze, Overview, Page, Permission, Preview, Role, Rollout, Site, Token,
        TokenCreated, WaitingEnrolment,
    },
    problem::Code,
    report::{Event as Reported, FailureClass},
};
use callboard_tests::{
    api::{Api, escape},
    device::{FakeDevice, Health, Key, enrolment, try_enrol},
    http::Request,
    release::NewRelease,
    server::TestServer,
    wait,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

/// Served without standing in the description: itself, and the clock of demonstrations and tests.
const NOT_DESCRIBED: [(&str, &str); 2] = [("GET", "/openapi.json"), ("PUT", "/clock")];

/// For whoever is not known yet.
const FOR_EVERYBODY: (&str, &str) = ("POST", "/session");

/// An operation of the admin API and the permission that it names.
struct Operation {
    method: String,
    path: String,
    permission: Permission,
}

fn operations(server: &TestServer) -> Vec<Operation> {
    let document: Value = server.api().send_raw(Request::get("/api/v1/openapi.json")).json();
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().filter_map(move |(method, operation)| {
            let method = method.to_uppercase();
            if (method.as_str(), path.as_str()) == FOR_EVERYBODY {
                return None;
            }
            let word = &operation["security"][0]["bearer"][0];
            let permission = Permission::ALL.into_iter().find(|known| word == known.as_str());
            let permission = permission.unwrap_or_else(|| panic!("{method} {path} names no permission: {word}"));
            Some(Operation { method, path: path.clone(), permission })
        })
    });
    all.collect()
}

/// A token with these grants.
fn with(server: &TestServer, name: &str, grants: &Value) -> Api {
    let made: Value = server.api().post("api-tokens", &json!({ "name": name, "grants": grants }));
    Api { address: server.api().address, token: made["token"].as_str().unwrap().to_owned() }
}

fn limited(server: &TestServer, name: &str, roles: &[Role], selector: &str) -> Api {
    let grants: Vec<Value> = roles.iter().map(|role| json!({ "role": role, "selector": selector })).collect();
    with(server, name, &json!(grants))
}

/// The routes that the program has, from the table in its source.
fn routes() -> BTreeSet<(String, String)> {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../server/src/http.rs")).unwrap();
    let table = source.split("fn api_routes").nth(1).unwrap().split("\n}\n").next().unwrap();
    let mut found = BTreeSet::new();
    for statement in table.split(';').filter(|statement| statement.contains("(\"/")) {
        let path = statement.split("(\"").nth(1).unwrap().split('"').next().unwrap();
        for method in ["get", "put", "post", "patch", "delete"] {
            if statement.contains(&format!("{method}()")) {
                found.insert((method.to_uppercase(), path.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_route_is_for_the_roles_that_its_description_names_and_for_no_other() {
    on_both(|server| {
        let operations = operations(server);
        let described: BTreeSet<(String, String)> =
            operations.iter().map(|one| (one.method.clone(), one.path.clone())).collect();
        let mut served = routes();
        for (method, path) in NOT_DESCRIBED.into_iter().chain([FOR_EVERYBODY]) {
            assert!(served.remove(&(method.to_owned(), path.to_owned())), "{method} {path}");
        }
        assert_eq!(served, described);
        assert!(operations.len() > 60, "only {} operations", operations.len());

        let holders = Role::ALL.map(|role| (role, with(server, role.as_str(), &json!([{ "role": role }]))));
        let nobody = Api { token: format!("cba_{0}_{0}", "a".repeat(26)), ..server.api() };
        let clock =
            Operation { method: "PUT".to_owned(), path: "/clock".to_owned(), permission: Permission::Administer };
        for Operation { method, path, permission } in operations.iter().chain([&clock]) {
            // Nothing of that name exists, and the body says nothing: whoever may do it changes nothing by it.
            let path: Vec<&str> =
                path.split('/').map(|part| if part.starts_with('{') { "nobody" } else { part }).collect();
            let request = || {
                let request = Request::new(method, format!("/api/v1{}", path.join("/")));
                match method.as_str() {
                    // It would go on.
                    "GET" if request.path.ends_with("/stream") => request.header("last-event-id", "nobody"),
                    "GET" => request,
                    _ => request.json(&json!({})),
                }
            };
            nobody.send(request()).problem(Code::Unauthorized);
            server.api().send_raw(request()).problem(Code::Unauthorized);
            for (role, api) in &holders {
                let answer = api.send(request());
                if role.allows(*permission) {
                    assert!(
                        ![401, 403].contains(&answer.status) && answer.status < 500,
                        "{method} {path:?} as {role}: {}",
                        answer.text()
                    );
                } else {
                    let said = format!("this takes the permission {permission}, which ");
                    refused(&answer, Code::Forbidden, &said);
                    refused(&answer, Code::Forbidden, &format!("; {role} is {role}"));
                }
            }
        }
    });
}

/// Two regions with a shop and a till each, and a till that stands nowhere.
fn two_regions(server: &TestServer) -> [FakeDevice; 3] {
    let site = |id: &str, region: &str| json!({ "id": id, "name": id, "tz": "UTC", "labels": { "region": region } });
    let sites = [site("N-1", "north"), site("S-1", "south")];
    server.api().try_post("sites/import", &json!({ "sites": sites })).ok();
    let devices = json!([{ "name": "n", "site": "N-1" }, { "name": "s", "site": "S-1" }, { "name": "x" }]);
    server.api().try_post("devices/import", &json!({ "devices": devices })).ok();
    ["n", "s", "x"].map(|name| FakeDevice::enrol_imported(server, name).runs("pos-app", "1.0.0"))
}

fn names(api: &Api, path: &str) -> Vec<String> {
    api.list::<Device>(path).into_iter().map(|device| device.name.to_string()).collect()
}

#[test]
fn a_regions_operator_sees_and_touches_that_region_alone() {
    on_both(|server| {
        let mut tills = two_regions(server);
        for till in &mut tills {
            till.check_in();
        }
        let north = limited(server, "north", &[Role::Operator], "region = north");
        let hold = json!({ "reason": "a test" });
        assert_eq!(names(&north, "devices"), ["n"]);
        assert_eq!(names(&north, &format!("devices?selector={}", escape("name = s or name = n"))), ["n"]);
        for path in ["devices/s", "devices/s/history", "devices/s/explain", "sites/S-1"] {
            let name = path.split('/').nth(1).unwrap();
            refused(&north.try_get(path), Code::NotFound, &format!(" {name}"));
        }
        north.try_get("devices/n/explain").ok();
        for path in ["devices/s/hold", "devices/x/hold", "sites/S-1/hold"] {
            north.try_put(path, &hold).problem(Code::NotFound);
        }
        north.try_post("devices/s/clone/keep", &hold).problem(Code::NotFound);
        north.try_delete("devices/s/reenrolment").problem(Code::NotFound);
        north.try_put("devices/n/hold", &hold).ok();
        north.try_delete("devices/n/hold").ok();
        north.try_put("sites/N-1/hold", &hold).ok();
        north.try_delete("sites/N-1/hold").ok();
        let sites: Vec<String> = north.list::<Site>("sites").into_iter().map(|site| site.id.to_string()).collect();
        assert_eq!(sites, ["N-1"]);

        // Whoever sees more than that is told what the limit is.
        let grants = json!([{ "role": "viewer" }, { "role": "operator", "selector": "region = north" }]);
        let both = with(server, "both", &grants);
        assert_eq!(names(&both, "devices"), ["n", "s", "x"]);
        let said = "device s is outside of what you may do this for, which is region = north";
        refused(&both.try_put("devices/s/hold", &hold), Code::Forbidden, said);
        refused(&both.try_post("sites/S-1/close", &hold), Code::Forbidden, "site S-1 is outside of");

        // In bulk, and out of the region.
        let labels = |selector: &str, set: Value| json!({ "selector": selector, "set": set, "remove": [] });
        let edited: Value = both.post("devices/labels", &labels("all", json!({ "a": "b" })));
        assert_eq!(edited["updated"], 1);
        let away = both.try_post("devices/labels", &labels("all", json!({ "region": "south" })));
        refused(&away, Code::Forbidden, "device n as it would be then is outside of");
        let import = |device: Value| north.try_post("devices/import", &json!({ "devices": [device] }));
        import(json!({ "name": "n-2", "site": "N-1" })).ok();
        import(json!({ "name": "s-2", "site": "S-1" })).problem(Code::Forbidden);
        import(json!({ "name": "s", "site": "N-1" })).problem(Code::NotFound);
        server.api().try_put("devices/s/serial", &json!({ "serial": "SN-S" })).ok();
        let hidden = "serial number \"SN-S\" is that of another device; whoever operates that one";
        refused(&import(json!({ "name": "n-3", "site": "N-1", "serial": "SN-S" })), Code::Conflict, hidden);
        refused(&north.try_put("devices/n/serial", &json!({ "serial": "SN-S" })), Code::Conflict, hidden);
        import(json!({ "name": "n", "site": "S-1" })).problem(Code::Forbidden);
        let moved = json!({ "sites": [{ "id": "S-1", "name": "S-1", "tz": "UTC", "labels": { "region": "north" } }] });
        north.try_post("sites/import", &moved).problem(Code::Forbidden);

        // A shop with a till that is not of the region.
        let odd = json!({ "name": "odd", "site": "N-1", "labels": { "region": "south" } });
        server.api().try_post("devices/import", &json!({ "devices": [odd] })).ok();
        north.try_get("sites/N-1").ok();
        refused(&north.try_post("sites/N-1/close", &hold), Code::Forbidden, "site N-1 is outside of");

        // What was seen last is written within a second.
        let numbers = |api: &Api| {
            let seen: Overview = api.get("overview");
            (seen.devices["online"], seen.devices["unknown"])
        };
        wait::until("the devices are counted", || (numbers(&north), numbers(&server.api())) == ((1, 1), (3, 2)));
        let events: Vec<Event> = north.list("events");
        assert!(!events.is_empty());
        assert!(
            events.iter().all(|event| event.device.as_ref().is_some_and(|name| name.as_str() == "n")),
            "{events:?}"
        );
        let short: Page<Event> = north.get("events?limit=1");
        assert_eq!((short.items.len(), short.next.is_some()), (1, true));
    });
}

#[test]
fn what_a_regions_operator_rolls_out_stays_in_the_region() {
    on_both(|server| {
        let mut tills = two_regions(server);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let north = limited(server, "north", &[Role::Operator], "region = north");
        let spec = rollout("r", "pos-app@2.0.0", &json!({ "selector": "name = n or name = s", "audience": "frozen" }));
        let preview: Preview = north.post("rollouts/preview", &spec);
        assert_eq!(preview.devices, 1);
        let made: Rollout = north.post("rollouts", &spec);
        assert_eq!(made.spec.selector.as_deref(), Some("(name = n or name = s) and region = north"));
        north.try_post("rollouts", &spec).ok();
        let everywhere =
            json!({ "spec": rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" })), "reason": "" });
        let request = Request::new("PATCH", "/api/v1/rollouts/r".to_owned()).json(&everywhere);
        let edited: Rollout = north.send(request).json();
        assert_eq!(edited.spec.selector.as_deref(), Some("region = north"));
        let started: Rollout = north.post("rollouts/r/start", &json!({}));
        assert_eq!(started.phases[0].counts.size, 1);
        assert_eq!(tills[0].check_in().action, callboard_proto::instruction::Action::Download);

        // One for everybody is not theirs, but what became of their own till in it is.
        server.tell_rollout("r", "cancel");
        tills[0].obey(Health::Good);
        server.roll_out(&rollout("all", "pos-app@2.0.0", &json!({})));
        for path in ["rollouts/all", "rollouts/all/preview", "rollouts/all/progress", "rollouts/all/assignments"] {
            refused(&north.try_get(path), Code::NotFound, "there is no rollout all");
        }
        north.try_post("rollouts/all/pause", &json!({ "reason": "a test" })).problem(Code::NotFound);
        let rollouts: Vec<Rollout> = north.list("rollouts");
        assert_eq!(rollouts.iter().map(|one| one.spec.name.as_str()).collect::<Vec<_>>(), ["r"]);
        for till in &mut tills[..2] {
            let told = till.check_in();
            till.report_failure(&told, Reported::Failed, FailureClass::Permanent, "disk_full");
        }
        let failed: Vec<Attention> = north.list("attention");
        assert_eq!(failed.iter().map(|one| one.device.as_str()).collect::<Vec<_>>(), ["n"]);
        let both = |what: Value| {
            let mut body = json!({ "reason": "a test" });
            body.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
            north.post::<Value>("rollouts/all/devices/skip", &body)
        };
        // Who has no till in it learns nothing of it.
        let theirs = json!({ "devices": ["s"], "reason": "a test" });
        for (name, verb) in [("all", "retry"), ("all", "cancel"), ("none", "retry")] {
            let told = north.try_post(&format!("rollouts/{name}/devices/{verb}"), &theirs);
            refused(&told, Code::NotFound, &format!("there is no rollout {name}"));
        }
        assert_eq!(both(json!({ "selector": "all" }))["devices"], json!(["n"]));
        server.roll_out(&rollout("elsewhere", "pos-app@2.0.0", &json!({ "selector": "region = south" })));
        let why = |api: &Api| api.try_get("devices/n/explain").text();
        assert!(why(&server.api()).contains("region = south") && why(&north).contains("\"all\""));
        assert!(!why(&north).contains("elsewhere") && !why(&north).contains("south"), "{}", why(&north));
        server.tell_rollout("elsewhere", "cancel");
        assert_eq!(server.api().list::<Attention>("attention").len(), 1);

        // Freezes are seen by all; theirs are about the region, and the others are not theirs.
        let freeze = |name: &str| json!({ "name": name, "reason": "a", "from": "2030-02-01", "to": "2030-02-01" });
        assert_eq!(north.post::<Freeze>("freezes", &freeze("own")).selector.as_deref(), Some("region = north"));
        server.api().post::<Freeze>("freezes", &freeze("everywhere"));
        assert_eq!(north.list::<Freeze>("freezes").len(), 2);
        north.try_delete("freezes/own").ok();
        refused(&north.try_delete("freezes/everywhere"), Code::Forbidden, "freeze everywhere is outside of");
    });
}

#[test]
fn a_regions_operator_lets_in_devices_of_the_region() {
    on_both(|server| {
        two_regions(server);
        let north = limited(server, "north", &[Role::Operator], "region = north");
        let said = "a device that enrols with this token (give it a site, or labels) is outside of";
        refused(&north.try_post("tokens", &json!({})), Code::Forbidden, said);
        north.try_post("tokens", &json!({ "site": "S-1" })).problem(Code::Forbidden);
        north.try_post("tokens", &json!({ "device": "s" })).problem(Code::NotFound);
        north.try_post("tokens", &json!({ "device": "n" })).ok();
        north.try_post("tokens", &json!({ "labels": { "region": "north" } })).ok();
        let before: Vec<Token> = north.list("tokens");
        let theirs = |token: &&Token| token.device.as_ref().is_some_and(|name| name.as_str() == "s");
        let all: Vec<Token> = server.api().list("tokens");
        let other = all.iter().find(theirs).unwrap();
        assert!(!before.iter().any(|token| token.id == other.id) && before.len() < all.len());
        refused(&north.try_delete(&format!("tokens/{}", other.id)), Code::NotFound, "there is no token");

        let waits = |site: &str, name: &str| {
            let token = server.enrolment_token(&json!({ "site": site, "auto_approve": false }));
            try_enrol(server, &enrolment(&token, &Key::new()).named(name).body).problem(Code::EnrolmentPending);
        };
        waits("N-1", "new-n");
        waits("S-1", "new-s");
        let waiting: Vec<WaitingEnrolment> = north.list("enrolments");
        assert_eq!(waiting.iter().map(|one| one.name.as_ref().unwrap().as_str()).collect::<Vec<_>>(), ["new-n"]);
        assert_eq!(north.get::<Overview>("overview").enrolments_waiting, 1);
        let all: Vec<WaitingEnrolment> = server.api().list("enrolments");
        let other = all.iter().find(|one| one.id != waiting[0].id).unwrap();
        north.try_post(&format!("enrolments/{}/accept", other.id), &json!({})).problem(Code::NotFound);
        let as_other = json!({ "device": "s" });
        north.try_post(&format!("enrolments/{}/accept", waiting[0].id), &as_other).problem(Code::NotFound);
        north.try_post(&format!("enrolments/{}/accept", waiting[0].id), &json!({})).ok();
    });
}

#[test]
fn a_token_of_a_regions_operator_takes_over_no_device_elsewhere() {
    on_both(|server| {
        two_regions(server);
        let imported = |name: &str, site: &str, serial: &str| {
            let device = json!({ "name": name, "site": site, "serial": serial });
            server.api().try_post("devices/import", &json!({ "devices": [device] })).ok();
        };
        imported("sou-till", "S-1", "SOU-1");
        imported("nor-till", "N-1", "NOR-1");
        let north = limited(server, "north", &[Role::Operator], "region = north");
        let told = json!({ "labels": { "region": "north" }, "max_uses": 9 });
        let token = north.post::<TokenCreated>("tokens", &told).bundle.token;
        let tries = |serial: Option<&str>, name: &str| {
            let mut asked = enrolment(&token, &Key::new()).named(name);
            asked.body.serial = serial.map(str::to_owned);
            try_enrol(server, &asked.body)
        };
        let elsewhere = "does not stand where whoever made the token may let devices in";
        refused(&tries(Some("SOU-1"), "new"), Code::IdentityConflict, elsewhere);
        let until = json!({ "until": server.clock.now() + Duration::from_secs(3600) });
        for name in ["s", "sou-till"] {
            server.api().try_put(&format!("devices/{name}/reenrolment"), &until).ok();
        }
        refused(&tries(Some("SOU-1"), "new"), Code::IdentityConflict, elsewhere);
        refused(&tries(None, "s"), Code::IdentityConflict, elsewhere);
        // Somebody else decides on them.
        assert!(north.list::<WaitingEnrolment>("enrolments").is_empty());
        let waiting: Vec<WaitingEnrolment> = server.api().list("enrolments");
        assert_eq!(
            waiting.iter().map(|one| one.device.as_ref().unwrap().as_str()).collect::<Vec<_>>(),
            ["s", "sou-till", "sou-till"]
        );
        // The part of the fleet is that of the time when the token was made.
        server.api().try_delete("api-tokens/north").ok();
        let own: Value = tries(Some("NOR-1"), "new").json();
        assert_eq!(own["name"], "nor-till");
        server.api().try_put("devices/n/reenrolment", &until).ok();
        assert_eq!(tries(None, "n").json::<Value>()["name"], "n");
    });
}

#[test]
fn grants_and_ends_of_tokens_are_checked_shown_and_kept_to() {
    on_both(|server| {
        let post = |body: Value| server.api().try_post("api-tokens", &body);
        for (grants, code, said) in [
            (json!([]), Code::Invalid, "grants is empty"),
            (json!([{ "role": "admin", "selector": "all" }]), Code::Invalid, "admin is a role for the whole fleet"),
            (json!([{ "role": "viewer", "selector": "a =" }]), Code::BadSelector, "grants[0].selector: column"),
            (json!([{ "role": "viewer", "selector": "status = online" }]), Code::Invalid, "something that stays"),
            (json!([{ "role": "owner" }]), Code::BadRequest, "unknown variant `owner`"),
        ] {
            refused(&post(json!({ "name": "t", "grants": grants })), code, said);
        }
        refused(&post(json!({ "name": "t", "ttl_s": 5 })), Code::Invalid, "ttl_s is 5; 60 to");
        refused(&post(json!({ "name": "The server" })), Code::Conflict, "the audit means somebody else by the name");
        let user = json!({ "name": "a person at the server", "grants": [{ "role": "viewer" }] });
        refused(&server.api().try_post("users", &user), Code::Conflict, "the audit means somebody else by the name");
        let arguments = ["--output", "json", "api-token", "create", "t", "--ttl", "1h"];
        let more = ["--role", "viewer", "--role", "operator", "--selector", "region = north"];
        let made: Value = server.cli(arguments.into_iter().chain(more)).json();
        assert_eq!(made["grants"][1], json!({ "role": "operator", "selector": "region = north" }));
        let shown = server.cli(["api-token", "list"]).ok().stdout.clone();
        assert!(shown.contains("viewer for region = north and operator for region = north"), "{shown}");
        let api = Api { address: server.api().address, token: made["token"].as_str().unwrap().to_owned() };
        api.try_get("devices").ok();
        server.advance(Duration::from_secs(3599));
        api.try_get("devices").ok();
        server.advance(Duration::from_secs(1));
        refused(&api.try_get("devices"), Code::Unauthorized, "the API token ended at");
        // One that ends, or that is no admin's, keeps nobody in.
        post(json!({ "name": "a", "ttl_s": 3600 })).ok();
        post(json!({ "name": "b", "grants": [{ "role": "operator" }] })).ok();
        refused(&server.api().try_delete("api-tokens/first%20admin"), Code::WrongState, "is the last one");
        server.api().try_delete("api-tokens/b").ok();
        let said = server.cli(["api-token", "create", "u", "--role", "boss"]);
        assert!(said.refused(2).contains("is no role; one is viewer"), "{}", said.stderr);
    });
}

#[test]
fn a_second_person_of_the_region_approves_what_is_of_the_region() {
    on_both(|server| {
        two_regions(server);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let approver = limited(server, "north approver", &[Role::Approver], "region = north");
        for (name, selector) in [("n", "region = north and name = n"), ("all", "all")] {
            let spec = rollout(name, "pos-app@2.0.0", &json!({ "selector": selector }));
            server.api().post::<Rollout>("rollouts", &spec);
        }
        let body = json!({ "reason": "looked at it" });
        let signed: Rollout = approver.post("rollouts/n/countersign", &body);
        assert_eq!(signed.countersigned.unwrap().by, "north approver");
        approver.try_post("rollouts/all/countersign", &body).problem(Code::NotFound);
        approver.try_post("rollouts/n/start", &body).problem(Code::Forbidden);
    });
}
