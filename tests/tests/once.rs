//! `Idempotency-Key`: what is sent again is answered as it was, and done once.

use callboard_proto::{admin::Token, problem::Code};
use callboard_tests::{
    api::Api,
    http::{Request, Response},
    server::{Engine, TestServer},
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{on_both, refused};

const KEY: &str = "5f0c9a52-7a1e-4f4b-9d0e-1c2b3a495867";

fn post(api: &Api, path: &str, body: &Value, key: &str) -> Response {
    api.send(Request::post(format!("/api/v1/{path}")).json(body).header("idempotency-key", key))
}

fn tokens(server: &TestServer) -> usize {
    server.api().list::<Token>("tokens").len()
}

#[test]
fn a_request_that_is_sent_again_is_answered_as_it_was() {
    on_both(|server| {
        let (api, body) = (server.api(), json!({ "max_uses": 3 }));
        let first = post(&api, "tokens", &body, KEY);
        assert_eq!(first.status, 201, "{}", first.text());
        let again = post(&api, "tokens", &body, KEY);
        assert_eq!((again.status, again.text()), (201, first.text()));
        assert_eq!(again.header("idempotent-replayed").unwrap_or_default(), "true");
        assert_eq!(tokens(server), 1);
        // A server that has ended in between knows it too, and the database does not know the secret.
        server.restart_after_kill();
        let api = server.api();
        assert_eq!(post(&api, "tokens", &body, KEY).text(), first.text());
        let secret = first.json::<Value>()["bundle"]["token"].as_str().unwrap().to_owned();
        if server.engine == Engine::Sqlite {
            for name in ["callboard.db", "callboard.db-wal"] {
                let bytes = std::fs::read(server.dir().join(name)).unwrap_or_default();
                assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{name} has the secret");
            }
        }
        // Another request under the same key, another path, another asker.
        refused(&post(&api, "tokens", &json!({ "max_uses": 4 }), KEY), Code::KeyReused, "");
        refused(&post(&api, "users", &body, KEY), Code::KeyReused, "");
        assert_eq!(post(&server.api_of("other"), "tokens", &body, KEY).status, 201);
        assert_eq!(tokens(server), 2);
        // What was refused because of what was asked stays refused; what the server could not do may be tried again.
        let bad = json!({ "max_uses": 0 });
        let no = post(&api, "tokens", &bad, "another-key-that-is-long-enough");
        refused(&no, Code::Invalid, "");
        let again = post(&api, "tokens", &bad, "another-key-that-is-long-enough");
        assert_eq!((again.status, again.text()), (422, no.text()));
        assert_eq!(again.header("content-type").unwrap_or_default(), "application/problem+json");
        for short in ["short", "with a space in the middle", ""] {
            refused(&post(&api, "tokens", &body, short), Code::BadRequest, "");
        }
        let nobody = Request::post("/api/v1/tokens").json(&body).header("idempotency-key", KEY);
        assert_eq!(api.send_raw(nobody).status, 401);
        // A day later the key is forgotten.
        server.advance(Duration::from_secs(24 * 3600));
        assert_eq!(post(&api, "tokens", &body, KEY).status, 201);
        assert_eq!(tokens(server), 3);
    });
}

#[test]
fn two_at_the_same_time_are_one() {
    on_both(|server| {
        let (api, body) = (server.api(), json!({ "max_uses": 3 }));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| post(&api, "tokens", &body, KEY).status)).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
        assert!(statuses.contains(&201), "{statuses:?}");
        assert_eq!(tokens(server), 1);
    });
}

#[test]
fn a_request_that_the_end_of_the_server_cut_short_is_not_carried_out_again() {
    on_both(|server| {
        let (api, body) = (server.api(), json!({ "max_uses": 3 }));
        post(&api, "tokens", &body, KEY);
        server.run_sql("UPDATE answers SET status = 0");
        let said = post(&api, "tokens", &body, KEY);
        refused(&said, Code::Conflict, "look whether it was done");
        assert_eq!(tokens(server), 1);
    });
}
