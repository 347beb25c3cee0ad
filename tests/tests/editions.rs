//! Two people edit the same thing: the second is told, and nothing of the first one's work is lost. Whoever asks again
//! gets only what is new.

use callboard_proto::problem::Code;
use callboard_tests::{
    http::{Request, Response},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

fn send(server: &TestServer, method: &str, path: &str, body: Option<&Value>, header: (&str, &str)) -> Response {
    let request = Request::new(method, format!("/api/v1/{path}")).header(header.0, header.1);
    server.api().send(match body {
        Some(body) => request.json(body),
        None => request,
    })
}

fn tag(server: &TestServer, path: &str) -> String {
    server.api().try_get(path).header("etag").unwrap_or_default().to_owned()
}

#[test]
fn a_change_of_what_was_edited_since_is_refused() {
    on_both(|server| {
        server.import_fleet();
        NewRelease::new("pos-app", "9.0.0", 9).publish(server);
        server.api().post::<Value>("rollouts", &rollout("patch", "pos-app@9.0.0", &json!({})));
        server.api().post::<Value>("users", &json!({ "name": "ada", "grants": [{ "role": "viewer" }] }));
        let hold = json!({ "reason": "r" });
        let edited = rollout("patch", "pos-app@9.0.0", &json!({ "priority": 7 }));
        let grants = json!({ "grants": [{ "role": "operator" }] });
        for (thing, method, path, body) in [
            ("rollouts/patch", "PATCH", "rollouts/patch", json!({ "spec": edited, "reason": "r" })),
            ("sites/NYC-001", "PUT", "sites/NYC-001/trading-hours", json!({ "trading_hours": [] })),
            ("sites/NYC-001", "PUT", "sites/NYC-001/hold", hold.clone()),
            ("devices/pos-nyc-001", "PUT", "devices/pos-nyc-001/hold", hold),
            ("users/ada", "PUT", "users/ada/grants", grants),
        ] {
            let seen = tag(server, thing);
            let stale = format!("\"{}.0\"", "0".repeat(32));
            refused(&send(server, method, path, Some(&body), ("if-match", &stale)), Code::PreconditionFailed, "");
            assert_eq!(tag(server, thing), seen, "{path}: nothing was changed");
            let done = send(server, method, path, Some(&body), ("if-match", &format!("{stale}, {seen}")));
            assert_eq!(done.status, 200, "{path}: {}", done.text());
            let now = tag(server, thing);
            assert_eq!(done.header("etag").unwrap_or_default().split('.').next(), now.split('.').next(), "{path}");
            if method == "PATCH" || path.ends_with("grants") || path.ends_with("hold") {
                assert_ne!(now.split('.').next(), seen.split('.').next(), "{path}");
                refused(&send(server, method, path, Some(&body), ("if-match", &seen)), Code::PreconditionFailed, "");
            }
            assert_eq!(send(server, method, path, Some(&body), ("if-match", "*")).status, 200, "{path}");
            refused(&send(server, method, path, Some(&body), ("if-match", "\"x\"")), Code::BadRequest, "");
        }
        // What somebody has approved or started is what that one has seen.
        let seen = tag(server, "rollouts/patch");
        let again = rollout("patch", "pos-app@9.0.0", &json!({ "priority": 8 }));
        let spec = json!({ "spec": again, "reason": "r" });
        assert_eq!(send(server, "PATCH", "rollouts/patch", Some(&spec), ("if-match", &seen)).status, 200);
        let start = |tag: &str| send(server, "POST", "rollouts/patch/start", Some(&json!({})), ("if-match", tag));
        refused(&start(&seen), Code::PreconditionFailed, "");
        assert_eq!(start(&tag(server, "rollouts/patch")).status, 200);
        // What has no edition of its own says so, and does not look away.
        let freeze = json!({ "name": "f", "from": "2030-01-01", "to": "2030-01-01", "reason": "r" });
        refused(&send(server, "POST", "freezes", Some(&freeze), ("if-match", &seen)), Code::BadRequest, "");
    });
}

#[test]
fn what_a_device_does_is_no_edit() {
    on_both(|server| {
        server.import_fleet();
        let seen = tag(server, "devices/pos-nyc-001");
        server.switch_on("pos-nyc-001").check_in();
        let now = tag(server, "devices/pos-nyc-001");
        assert_ne!(seen, now, "it has another answer");
        let hold = json!({ "reason": "r" });
        let done = send(server, "PUT", "devices/pos-nyc-001/hold", Some(&hold), ("if-match", &seen));
        assert_eq!(done.status, 200, "{}", done.text());
    });
}

#[test]
fn whoever_asks_again_gets_only_what_is_new() {
    on_both(|server| {
        server.import_fleet();
        for path in ["sites?limit=3", "sites/NYC-001", "devices", "trust/root", "openapi.json", "trust"] {
            let first = server.api().try_get(path);
            let tag = first.header("etag").unwrap_or_default().to_owned();
            assert_eq!(first.header("cache-control").unwrap_or_default(), "private, no-cache", "{path}");
            for has in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
                let again = send(server, "GET", path, None, ("if-none-match", &has));
                assert_eq!((again.status, again.text().as_str()), (304, ""), "{path}");
                assert_eq!(again.header("etag").unwrap_or_default(), tag, "{path}");
            }
            assert_eq!(send(server, "GET", path, None, ("if-none-match", "\"x\"")).status, 200, "{path}");
        }
        let seen = tag(server, "sites/NYC-001");
        server.api().try_put("sites/NYC-001/hold", &json!({ "reason": "r" }));
        assert_eq!(send(server, "GET", "sites/NYC-001", None, ("if-none-match", &seen)).status, 200);
        // Nobody learns by a tag what is not for him.
        let path = "/api/v1/sites/NYC-001";
        assert_eq!(server.api().send_raw(Request::get(path).header("if-none-match", "*")).status, 401);
    });
}
