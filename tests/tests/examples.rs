//! What the protocol's pages show is what the server takes.

use std::{fs, path::Path};

use callboard_proto::{admin::RolloutState, problem::Code};
use callboard_tests::{clock::time, http::Request, release::NewRelease};

use crate::on_both;

fn example(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto-docs/examples").join(name)).unwrap()
}

#[test]
fn the_examples_of_the_admin_api_are_taken_as_they_are() {
    on_both(|server| {
        server.set_clock(time("2026-11-23T15:00:00Z"));
        NewRelease::new("pos-app", "2.4.0", 42).publish(server);
        let mut imported = String::from_utf8(example("import-devices.json")).unwrap();
        imported = imported.replace("\"dry_run\": true", "\"dry_run\": false");
        for (method, path, body) in [
            ("POST", "sites/import", example("import-sites.json")),
            ("POST", "devices/import", example("import-devices.json")),
            ("POST", "devices/import", imported.into_bytes()),
            ("POST", "devices/labels", example("edit-labels.json")),
            ("PUT", "devices/pos-nyc-001/hold", example("hold.json")),
            ("POST", "tokens", example("new-token.json")),
            ("POST", "rollouts/preview", example("rollout-progressive.json")),
            ("POST", "rollouts", example("rollout-immediate.json")),
            ("POST", "rollouts", example("rollout-scheduled.json")),
            ("POST", "rollouts", example("rollout-progressive.json")),
            ("POST", "rollouts", example("rollout-on-connect.json")),
        ] {
            let answer =
                server.api().send(Request::new(method, format!("/api/v1/{path}")).body("application/json", body));
            assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
        }
        assert_eq!(server.rollout("security-patch").state, RolloutState::Draft);
    });
}

#[test]
fn the_public_keys_of_the_examples_are_not_trusted() {
    on_both(|server| {
        server.try_publish(&example("release.envelope.json")).problem(Code::DocumentRefused);
        let root = Request::post("/api/v1/trust/root").body("application/json", example("root.envelope.json"));
        server.api().send(root).problem(Code::DocumentRefused);
    });
}
