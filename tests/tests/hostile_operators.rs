//! What strangers on the admin listener may not do: hold connections, fill the log, go unseen.

use std::io::Write as _;

use callboard_proto::{digest::Digest, problem::Code};
use callboard_tests::{
    http::{self, Plain, Request},
    server::TestServer,
    wait,
};

use crate::{on_both, on_both_with, refused};

/// Sends a head and the beginning of a body.
fn begin(server: &TestServer, head: &str, body: &str) -> Plain {
    let api = server.api();
    let mut stream = Plain::connect(api.address).unwrap();
    let head = format!("{head} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n", api.token);
    stream.write_all(format!("{head}content-type: application/json\r\n{body}").as_bytes()).unwrap();
    stream
}

#[test]
fn bodies_of_operators_that_drip_end_in_words() {
    on_both_with(&["request_timeout_s = 1"], |server| {
        let payload = format!("PUT /api/v1/payloads/{}", Digest::of(b"x"));
        for head in ["POST /api/v1/tokens", "POST /api/v1/releases", "POST /api/v1/trust/root", payload.as_str()] {
            let mut stream = begin(server, head, "content-length: 1000\r\n\r\n{");
            let answer = http::read(&mut stream, false).unwrap();
            refused(&answer, Code::Timeout, "the request did not arrive within 5 s");
        }
        assert_eq!(server.payload_files(), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn a_body_that_drips_onto_an_unknown_admin_path_does_not_hold_its_connection() {
    on_both_with(&["request_timeout_s = 1"], |server| {
        let mut stream = begin(server, "POST /api/v1/nothing", "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        assert_eq!(http::read(&mut stream, false).unwrap().status, 404);
        wait::until("the connection is cut off", || stream.write_all(b"1\r\nx\r\n").is_err());
    });
}

#[test]
fn wrong_tokens_are_counted_and_logged_but_neither_shown_nor_flooding() {
    on_both(|server| {
        let api = server.api();
        let ask = |token: &str| {
            let request = Request::get("/api/v1/devices").header("authorization", format!("Bearer {token}"));
            api.send_raw(request).problem(Code::Unauthorized)
        };
        let wrong = |n: u32| format!("{}{n}", &api.token[..api.token.len() - 4]);
        for n in 0..200 {
            ask(&wrong(n));
        }
        ask("letmein");
        let counted = api.metric("callboard_api_tokens_refused_total", "");
        assert!((counted - 201.0).abs() < 0.5, "{counted}");
        let log = server.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("an API token was refused")).collect();
        assert!((1..60).contains(&lines.len()), "{lines:?}");
        assert!(lines[0].contains("peer=127.0.0.1"), "{}", lines[0]);
        let secret = &api.token[api.token.len() - 20..api.token.len() - 4];
        assert!(!log.contains(secret) && !log.contains("letmein"));
        // Who sends none has not tried any.
        api.send_raw(Request::get("/api/v1/devices")).problem(Code::Unauthorized);
        assert!((api.metric("callboard_api_tokens_refused_total", "") - 201.0).abs() < 0.5);
    });
}
