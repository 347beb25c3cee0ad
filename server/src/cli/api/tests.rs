//! What is sent, and what is made of the answers.

use callboard_proto::admin::{Because, Labels, Site, SiteState, StoredPayload};

use super::{stub, *};
use crate::cli::exit::{BAD_INPUT, FAILED, code_of, one_line};

fn problem(status: u16, code: &str, detail: &str) -> (u16, String) {
    let problem = Problem {
        kind: format!("urn:callboard:problem:{code}"),
        title: "No".to_owned(),
        status,
        code: code.to_owned(),
        detail: detail.to_owned(),
        request_id: None,
    };
    (status, serde_json::to_string(&problem).expect("JSON"))
}

fn site(id: &str) -> String {
    let site = Site {
        id: id.parse().expect("an id"),
        name: String::new(),
        tz: "UTC".to_owned(),
        labels: Labels::new(),
        trading_hours: Vec::new(),
        bandwidth: Vec::new(),
        state: SiteState::Active,
        state_reason: None,
        hold: None,
    };
    serde_json::to_string(&site).expect("JSON")
}

#[test]
fn a_list_is_read_page_by_page_up_to_the_limit() {
    let first = format!(r#"{{"items": [{}, {}], "next": "k 2"}}"#, site("a"), site("b"));
    let second = format!(r#"{{"items": [{}], "next": "k3"}}"#, site("c"));
    let (api, serving) = stub::serve(vec![(200, first), (200, second)]);
    let args = PageArgs { limit: 3, after: None };
    let page: Page<Site> = api.list(&Path::new(["sites"]), &args).expect("a list");
    assert_eq!((page.items.len(), page.next.as_deref()), (3, Some("k3")));
    let seen = serving.join().expect("served");
    assert_eq!(seen[0].line, "GET /api/v1/sites?limit=3");
    assert_eq!(seen[1].line, "GET /api/v1/sites?limit=1&after=k%202");
    assert!(seen[0].headers.contains("authorization: bearer cba_secret"));
}

#[test]
fn the_servers_words_are_the_error_and_its_code_is_the_exit_code() {
    for (answer, code, words) in [
        (problem(422, "bad_selector", "column 8: expected a value"), BAD_INPUT, "column 8: expected a value"),
        (problem(409, "wrong_state", "rollout patch is paused"), FAILED, "rollout patch is paused"),
        (problem(404, "not_found", ""), FAILED, "No"),
    ] {
        let (api, _serving) = stub::serve(vec![answer]);
        let path = Path::new(["rollouts", "patch", "start"]);
        let error = api.post::<Site>(&path, &Because::default()).expect_err("a problem");
        assert_eq!((code_of(&error), one_line(&error).as_str()), (code, words));
    }
}

#[test]
fn nothing_there_is_not_an_error_when_looking_for_it() {
    let (api, _serving) =
        stub::serve(vec![problem(404, "not_found", "no such payload"), problem(403, "forbidden", "no")]);
    assert_eq!(api.find::<StoredPayload>(&Path::new(["payloads", "x"])).expect("looked"), None);
    assert!(api.find::<StoredPayload>(&Path::new(["payloads", "x"])).is_err());
}

#[test]
fn other_servers_and_other_versions_are_told_apart() {
    let (api, _serving) = stub::serve(vec![(502, "<html>".to_owned()), (200, "{\"new\": 1}".to_owned())]);
    let error = api.get::<Site>(&Path::new(["sites"])).expect_err("a proxy");
    assert!(one_line(&error).contains("answered 502"), "{error:#}");
    let error = api.get::<Site>(&Path::new(["sites"])).expect_err("another version");
    assert!(one_line(&error).contains("same version"), "{error:#}");
    let error = api.get::<Site>(&Path::new(["sites"])).expect_err("nobody");
    assert!(one_line(&error).starts_with("cannot reach http://127.0.0.1:"), "{error:#}");
    assert_eq!(code_of(&error), FAILED);
}

#[test]
fn a_stream_is_sent_with_its_length_and_as_it_is() {
    let digest = callboard_proto::digest::Digest::of(b"");
    let stored = format!(r#"{{"sha256": "{digest}", "size": 3, "chunks_sha256": "{digest}"}}"#);
    let (api, serving) = stub::serve(vec![(201, stored)]);
    api.put_stream::<StoredPayload>(&Path::new(["payloads", "x"]), 3, &mut &b"abc"[..]).expect("stored");
    let seen = serving.join().expect("served");
    assert_eq!((seen[0].line.as_str(), seen[0].body.as_slice()), ("PUT /api/v1/payloads/x", &b"abc"[..]));
    assert!(seen[0].headers.contains("content-type: application/octet-stream"));
    assert!(!seen[0].headers.contains("transfer-encoding"));
}
