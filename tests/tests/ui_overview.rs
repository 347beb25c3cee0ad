//! The overview: what it shows, that nothing in it can do harm, and who may look.

use std::{collections::BTreeSet, net::UdpSocket};

use callboard_proto::{
    admin::{Device, Imported, Rollout},
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    browser,
    clock::START,
    device::{FakeDevice, Health, anonymous},
    http::{Request, Response},
    release::NewRelease,
    server::TestServer,
    wait,
    world::rollout,
};
use data_encoding::BASE64;
use serde_json::json;

use crate::{on_both, refused};

/// The page as a browser at the server itself gets it.
#[track_caller]
fn page(server: &TestServer) -> Response {
    let page = server.api().send_raw(Request::get("/"));
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{}", page.text());
    page
}

fn text(page: &Response) -> String {
    browser::text(&page.text())
}

/// The words that begin a tag, and those that are attributes.
fn vocabulary(html: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut tags, mut attributes) = (BTreeSet::new(), BTreeSet::new());
    for part in html.split('<').skip(1).filter(|part| !part.starts_with(['/', '!'])) {
        let tag = part.split('>').next().unwrap();
        let mut outside_quotes = tag.split('"').step_by(2).flat_map(str::split_whitespace);
        tags.insert(outside_quotes.next().unwrap().to_owned());
        attributes.extend(outside_quotes.map(|word| word.trim_end_matches(['=', '/']).to_owned()));
    }
    attributes.remove("");
    (tags, attributes)
}

/// Two tills that have checked in among ten, one of them in the first phase of a rollout.
fn shop(server: &TestServer) -> Vec<FakeDevice> {
    server.import_fleet();
    NewRelease::new("pos-app", "2.4.0", 1).publish(server);
    let mut tills: Vec<FakeDevice> = ["pos-nyc-001", "pos-denver-001"].map(|name| server.switch_on(name)).into();
    tills.iter_mut().for_each(|till| drop(till.check_in()));
    let first = json!({ "name": "pilot", "selector": "name = pos-denver-001", "success_percent": 100 });
    let phases = json!([first, { "name": "all", "percent": 100 }]);
    server.roll_out(&rollout("spring", "pos-app@2.4.0", &json!({ "policy": "progressive", "phases": phases })));
    wait::until("the check-ins are written", || text(&page(server)).contains("2 | online"));
    tills
}

#[test]
fn the_overview_shows_devices_by_status_versions_open_rollouts_and_what_happened() {
    on_both(|server| {
        let mut tills = shop(server);
        server.api().post::<Device>("devices/pos-miami-001/decommission", &json!({ "reason": "sold" }));
        assert_eq!(tills[1].check_in().action, Action::Download);
        // What a gate waits for is said in the words of the API.
        let gate = server.rollout("spring").phases[0].gate.clone().unwrap().text;
        let shown = text(&page(server)).replace(&gate, "(the gate)");
        let begins = shown.split("Needs attention").next().unwrap();
        insta::assert_snapshot!(begins, @r"
        Overview | server time 2027-01-12T12:00:00Z
        2 | online
        0 | offline
        7 | unknown
        0 | abandoned
        0 | check-ins a minute
        Open rollouts
        spring | pos-app@2.4.0 | running
        pilot
        0 succeeded, 0 failed of 1, 1 at work | (the gate)
        all
        0 succeeded, 0 failed of 8
        ");
        assert!(shown.contains("2.3.1 | 3\n"), "{shown}");
        assert!(shown.contains("Nothing waits for anybody."), "{shown}");
        assert!(shown.contains("rollout started | spring"), "{shown}");
        // Check-ins are counted by the minute.
        server.advance(std::time::Duration::from_secs(60));
        assert!(text(&page(server)).contains("3 | check-ins a minute"), "{}", text(&page(server)));
    });
}

#[test]
fn open_rollouts_are_shown_the_running_ones_first_and_failures_are_told_one_by_one() {
    on_both(|server| {
        let mut tills = shop(server);
        NewRelease::new("other", "1.0.0", 1).publish(server);
        let draft = rollout("draft", "other@1.0.0", &json!({}));
        server.api().post::<Rollout>("rollouts", &draft);
        server.roll_out(&rollout("halted", "other@1.0.0", &json!({ "selector": "name = pos-la-001" })));
        server.tell_rollout("halted", "pause");
        let shown = text(&page(server));
        let names: Vec<&str> =
            shown.lines().filter(|line| line.contains("@1.0.0 | ") || line.contains("@2.4.0 | ")).collect();
        assert_eq!(names, ["spring | pos-app@2.4.0 | running", "halted | other@1.0.0 | paused"], "{shown}");
        tills[1].settle(Health::Bad);
        let told = text(&page(server));
        assert!(told.contains("pos-denver-001 | rolled back in spring | "), "{told}");
        assert!(told.contains("0 succeeded, 1 failed of 1"), "{told}");
        assert!(page(server).text().contains("<details id=\"burn-up-spring\""), "{}", page(server).text());
    });
}

#[test]
fn the_page_loads_itself_again_and_follows_the_rollout() {
    on_both(|server| {
        let mut tills = shop(server);
        assert!(page(server).text().contains("<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>"));
        assert!(text(&page(server)).contains("0 succeeded, 0 failed of 1"), "{}", text(&page(server)));
        tills[1].settle(Health::Good);
        assert!(text(&page(server)).contains("1 succeeded, 0 failed of 1"), "{}", text(&page(server)));
        tills[0].settle(Health::Bad);
        assert!(text(&page(server)).contains("0 succeeded, 1 failed of 9"), "{}", text(&page(server)));
        server.tell_rollout("spring", "cancel");
        let open = text(&page(server)).split("Needs attention").next().unwrap().to_owned();
        assert!(open.contains("Open rollouts\nNone."), "{open}");
    });
}

#[test]
fn an_empty_fleet_gets_a_page_that_says_how_to_begin() {
    on_both(|server| {
        let text = text(&page(server));
        for wanted in ["There is no device yet", "callboard device import --help", "None."] {
            assert!(text.contains(wanted), "{text}");
        }
    });
}

/// What an attacker would like to have on an operator's page.
const HOSTILE: [&str; 4] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'></svg><svg onload=alert(1)>",
    "</td></table><iframe src=//evil.example.com>",
];

#[test]
fn hostile_names_and_labels_are_text_on_the_page() {
    on_both(|server| {
        shop(server);
        for name in HOSTILE {
            let device = json!({ "devices": [{ "name": name }] });
            refused(&server.api().try_post("devices/import", &device), Code::BadRequest, "is not a device name");
            let spec = json!({ "name": name, "release": "pos-app@2.4.0", "policy": "immediate" });
            refused(&server.api().try_post("rollouts", &spec), Code::BadRequest, "is not a rollout name");
        }
        let labels = json!({ "a": HOSTILE[0], "b": HOSTILE[1], "c": HOSTILE[2], "d": HOSTILE[3] });
        let device = json!({ "devices": [{ "name": "hostile", "description": HOSTILE[0], "labels": labels }] });
        server.api().post::<Imported>("devices/import", &device);
        let mut till = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0\"><b>x</b>");
        till.facts.hw = HOSTILE[1].to_owned();
        till.check_in();
        let phase = |name: &str, percent: u32| json!({ "name": name, "percent": percent });
        let phases = json!([phase(HOSTILE[0], 10), phase(HOSTILE[1], 50), phase(HOSTILE[2], 100)]);
        server.roll_out(&rollout("r", "pos-app@2.4.0", &json!({ "policy": "progressive", "phases": phases })));
        let reason = json!({ "reason": HOSTILE[3] });
        server.api().try_post("rollouts/r/pause", &reason).ok();

        let mut all = String::new();
        for path in ["/", "/devices", "/devices/hostile", "/devices/till-1", "/attention", "/enrolment"] {
            let html = server.api().send_raw(Request::get(path)).text();
            let (tags, attributes) = vocabulary(&html);
            let foreign = ["img", "iframe", "object", "style", "embed", "base"];
            assert!(!foreign.iter().any(|tag| tags.contains(*tag)), "{path}: {tags:?}");
            assert!(!attributes.iter().any(|name| name.starts_with("on") || name == "style"), "{path}: {attributes:?}");
            assert_eq!(html.matches("<script").count(), 1, "{path}: {html}");
            for hostile in HOSTILE {
                assert!(!html.contains(hostile), "{path}: {html}");
            }
            all += &html;
        }
        for hostile in HOSTILE {
            let escaped: String = hostile.chars().map(escaped).collect();
            assert!(all.contains(&escaped), "{escaped} is nowhere");
        }
        assert!(all.contains("1.0&#34;&#62;&#60;b&#62;x"));
    });
}

fn escaped(c: char) -> String {
    match c {
        '<' | '>' | '"' | '\'' | '&' => format!("&#{};", u32::from(c)),
        c => c.to_string(),
    }
}

#[test]
fn a_browser_may_neither_run_nor_fetch_nor_keep_nor_frame_anything() {
    on_both(|server| {
        shop(server);
        let page = page(server);
        let wanted = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        assert_eq!(page.header("content-security-policy"), Some(wanted));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("same-origin"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        // Style and script are kept for ever under names that change with them.
        let html = page.text();
        let assets: Vec<&str> = html.split('"').filter(|part| part.starts_with("/assets/")).collect();
        assert_eq!(assets.len(), 3, "{html}");
        for asset in assets {
            let answer = server.api().send_raw(Request::get(asset));
            assert_eq!(
                (answer.status, answer.header("cache-control")),
                (200, Some("public, max-age=31536000, immutable"))
            );
            assert_eq!(answer.header("content-security-policy"), Some(wanted));
        }
        assert_eq!(server.api().send_raw(Request::get("/assets/other.css")).status, 404);
        // What that policy forbids is not there either.
        let (tags, attributes) = vocabulary(&html);
        assert!(!["style", "img", "iframe", "object", "base"].iter().any(|tag| tags.contains(*tag)), "{tags:?}");
        assert!(!html.contains("<script>"), "{html}");
        assert!(!attributes.iter().any(|name| name == "style" || name.starts_with("on")), "{attributes:?}");
    });
}

fn looks(server: &TestServer, headers: &[(&str, &str)]) -> Response {
    let request = headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(name, *value));
    server.api().send_raw(request)
}

#[test]
fn a_page_elsewhere_that_points_its_name_here_gets_nothing_without_a_token() {
    on_both(|server| {
        let port = server.api().address.port();
        let own = |name: &str| [name.to_owned(), format!("{name}:{port}")];
        for host in ["localhost", "127.0.0.1", "[::1]"].into_iter().flat_map(own) {
            assert_eq!(looks(server, &[("host", &host)]).status, 200, "{host}");
        }
        let foreign = ["evil.example.com", "localhost.evil.example.com", "127.0.0.1.evil.example.com", "localhostx"];
        for host in foreign.into_iter().flat_map(own).chain(["".to_owned()]) {
            let answer = looks(server, &[("host", &host)]);
            refused(&answer, Code::Unauthorized, "send Authorization: Bearer and an API token");
            assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"callboard\""), "{host}");
        }
        // A proxy speaks for somebody who is not here.
        for passed_on in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"] {
            looks(server, &[(passed_on, "203.0.113.9")]).problem(Code::Unauthorized);
        }
    });
}

#[test]
fn with_a_token_the_page_is_shown_under_any_name() {
    on_both(|server| {
        let token = server.api().token;
        let basic = |token: &str| format!("Basic {}", BASE64.encode(format!("me:{token}").as_bytes()));
        let with = |authorization: &str| {
            looks(server, &[("host", "callboard.example.com"), ("authorization", authorization)]).status
        };
        assert_eq!(with(&format!("Bearer {token}")), 200);
        // What a browser sends when it has asked for a password.
        assert_eq!(with(&basic(&token)), 200);
        for wrong in
            [basic("wrong"), basic(&token[..token.len() - 1]), "Basic x".to_owned(), format!("Bearer {token}x")]
        {
            assert_eq!(with(&wrong), 401, "{wrong}");
        }
    });
}

#[test]
fn who_is_not_at_the_server_needs_a_token_whatever_name_he_uses() {
    on_both(|server| {
        // The address that this machine would use towards others; nothing is sent.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let Some(here) = socket.connect("192.0.2.1:9").ok().and_then(|()| socket.local_addr().ok()) else {
            eprintln!("skipped: needs a network");
            return;
        };
        server.stop();
        let (dir, url) = (server.dir(), format!("https://{}:8443", here.ip()));
        let renew =
            ["certificate", "renew", "--fixed-clock", START, "--public-url", &url, "--dir", dir.to_str().unwrap()];
        server.cli(renew).ok();
        server.configure(&["admin_tls_cert = \"server.pem\"", "admin_tls_key = \"server.key\""]);
        server.listen_for_operators_on("0.0.0.0:0");
        server.serve();
        let port = server.api().address.port();
        let get = |ip: std::net::IpAddr, authorization: &str| {
            let mut wire = anonymous(server);
            wire.reconnect_to((ip, port).into());
            wire.send(&Request::get("/").header("authorization", authorization))
        };
        assert_eq!(get([127, 0, 0, 1].into(), "").status, 200);
        get(here.ip(), "").problem(Code::Unauthorized);
        let token = format!("Bearer {}", server.api().token);
        assert_eq!(get(here.ip(), &token).status, 200);
    });
}

#[test]
fn the_page_can_be_looked_at_and_nothing_else() {
    on_both(|server| {
        for path in ["/", "/healthz", "/readyz", "/metrics"] {
            for method in ["POST", "PUT", "DELETE"] {
                let answer = server.api().send(Request::new(method, path));
                refused(&answer, Code::MethodNotAllowed, "but not with this method");
            }
        }
    });
}
