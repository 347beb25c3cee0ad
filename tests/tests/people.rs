//! People: logging in and out, what a session is good for and for how long, codes, tries, and the second person.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use callboard_proto::{
    admin::{Event, Rollout, Session, TotpSecret, User, UserPassword, WhoAmI},
    problem::Code,
};
use callboard_tests::{
    api::Api,
    http::{Request, Response},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::{on_both, refused};

const PASSWORD: &str = "correct horse battery";

/// Somebody at a browser.
struct Browser {
    api: Api,
    cookie: String,
    me: WhoAmI,
}

impl Browser {
    fn send(&self, request: Request) -> Response {
        self.api.send_raw(request.header("cookie", format!("other=1; {}", self.cookie)))
    }

    fn get(&self, path: &str) -> Response {
        self.send(Request::get(format!("/api/v1/{path}")))
    }

    /// A change from a page of the server.
    fn tell(&self, method: &str, path: &str, body: &Value) -> Response {
        let request = Request::new(method, format!("/api/v1/{path}")).json(body);
        self.send(request.header("x-csrf-token", self.me.csrf_token.clone().unwrap()))
    }
}

fn made(server: &TestServer, name: &str, role: &str) {
    let body = json!({ "name": name, "password": PASSWORD, "grants": [{ "role": role }] });
    server.api().try_post("users", &body).ok();
}

fn try_login(server: &TestServer, body: &Value) -> Response {
    server.api().send_raw(Request::post("/api/v1/session").json(body))
}

fn login(server: &TestServer, name: &str) -> Browser {
    let answer = try_login(server, &json!({ "name": name, "password": PASSWORD }));
    let me: WhoAmI = answer.json();
    let set = answer.header("set-cookie").unwrap();
    let (cookie, rest) = set.split_once(';').unwrap();
    assert_eq!(rest, " Path=/; Max-Age=43200; HttpOnly; Secure; SameSite=Strict");
    Browser { api: server.api(), cookie: cookie.to_owned(), me }
}

fn texts(server: &TestServer) -> Vec<(String, String)> {
    server.api().list::<Event>("events").into_iter().map(|event| (event.kind, event.text)).collect()
}

#[test]
fn a_person_logs_in_does_what_the_role_allows_and_logs_out() {
    on_both(|server| {
        made(server, "Ada", "operator");
        let ada = login(server, " ada ");
        assert_eq!((ada.me.name.as_str(), ada.me.person.as_deref()), ("Ada", Some("Ada")));
        assert_eq!(ada.get("session").json::<WhoAmI>(), ada.me);
        let freeze = json!({ "name": "f", "reason": "a", "from": "2030-02-01", "to": "2030-02-01" });
        assert_eq!(ada.tell("POST", "freezes", &freeze).json::<Value>()["created_by"], "Ada");
        ada.tell("GET", "users", &json!({})).problem(Code::Forbidden);
        ada.tell("DELETE", "session", &json!({})).ok();
        refused(&ada.get("session"), Code::Unauthorized, "the session has ended; log in again");
        // A token says who it is too, and has no session to end.
        let me: WhoAmI = server.api().get("session");
        assert_eq!((me.name.as_str(), me.person, me.csrf_token), ("first admin", None, None));
        server.api().try_delete("session").problem(Code::WrongState);

        // Neither the database nor the logs know a secret.
        let secret = ada.cookie.rsplit('_').next().unwrap();
        let log = server.log();
        assert!(!log.contains(secret) && !log.contains(PASSWORD), "{log}");
        for (kind, text) in texts(server) {
            assert!(!text.contains(secret) && !text.contains(PASSWORD), "{kind} {text}");
        }
        let stored = server
            .sql_number("SELECT COUNT(*) AS number FROM users WHERE password LIKE '$argon2id$v=19$m=19456,t=2,p=1$%'");
        assert_eq!(stored, Some(1));
    });
}

#[test]
fn a_change_by_a_session_comes_from_a_page_of_the_server() {
    on_both(|server| {
        made(server, "ada", "admin");
        let ada = login(server, "ada");
        let body = json!({ "name": "t" });
        let request = || Request::post("/api/v1/api-tokens").json(&body);
        let said = "needs the header X-CSRF-Token";
        refused(&ada.send(request()), Code::Forbidden, said);
        refused(&ada.send(request().header("x-csrf-token", "wrong")), Code::Forbidden, said);
        refused(&ada.send(request().header("sec-fetch-site", "cross-site")), Code::Forbidden, said);
        refused(&ada.send(request().header("sec-fetch-site", "same-site")), Code::Forbidden, said);
        refused(&ada.send(request().header("sec-fetch-site", "none")), Code::Forbidden, said);
        ada.send(request().header("sec-fetch-site", "same-origin")).ok();
        ada.get("api-tokens").ok();
    });
}

#[test]
fn a_session_ends_by_itself_with_the_password_and_with_the_person() {
    on_both(|server| {
        made(server, "ada", "viewer");
        let minutes = |n: u64| server.advance(Duration::from_secs(60 * n));
        let idle = login(server, "ada");
        minutes(59);
        idle.get("devices").ok();
        minutes(59);
        idle.get("devices").ok();
        minutes(60);
        idle.get("devices").problem(Code::Unauthorized);
        let busy = login(server, "ada");
        for _ in 0..23 {
            minutes(30);
            busy.get("devices").ok();
        }
        minutes(30);
        busy.get("devices").problem(Code::Unauthorized);

        let (one, other) = (login(server, "ada"), login(server, "ada"));
        let listed: Vec<Session> = server.api().get("users/ada/sessions");
        assert_eq!((listed.len(), listed[0].source.as_deref()), (2, Some("127.0.0.1")));
        server.cli(["session", "end", &listed[0].id.to_string()]).ok();
        one.get("devices").problem(Code::Unauthorized);
        other.get("devices").ok();
        let third = login(server, "ada");
        let new = json!({ "old": PASSWORD, "new": "another horse battery" });
        let wrong = json!({ "old": "wrong horse battery", "new": "another horse battery" });
        refused(&third.tell("PUT", "session/password", &wrong), Code::Forbidden, "old is not the password");
        third.tell("PUT", "session/password", &new).ok();
        third.get("devices").ok();
        other.get("devices").problem(Code::Unauthorized);
        try_login(server, &json!({ "name": "ada", "password": PASSWORD })).problem(Code::Unauthorized);
        let set: UserPassword = server.cli(["--output", "json", "user", "password", "ada"]).json();
        third.get("devices").problem(Code::Unauthorized);
        let body = json!({ "name": "ada", "password": set.password.unwrap() });
        try_login(server, &body).ok();
        let disabled: Vec<User> = vec![server.cli(["--output", "json", "user", "disable", "ada"]).json()];
        assert!(disabled[0].disabled_at.is_some());
        refused(&try_login(server, &body), Code::Unauthorized, "name, password or code is wrong");
        server.cli(["user", "enable", "ada"]).ok();
        try_login(server, &body).ok();
    });
}

/// What an app shows for this secret now.
fn code(secret: &[u8], server: &TestServer) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).unwrap();
    mac.update(&(server.clock.now().millis() / 30_000).to_be_bytes());
    let bytes = mac.finalize().into_bytes();
    let offset = usize::from(bytes[19] & 0xf);
    let number = u32::from_be_bytes(bytes[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[test]
fn a_login_takes_a_code_once_where_there_is_a_secret() {
    on_both(|server| {
        made(server, "ada", "viewer");
        let made: TotpSecret = server.cli(["--output", "json", "user", "totp", "ada"]).json();
        assert!(made.uri.starts_with("otpauth://totp/Callboard:ada?secret="), "{}", made.uri);
        let secret = BASE32_NOPAD.decode(made.secret.as_bytes()).unwrap();
        let with =
            |code: Option<&str>| try_login(server, &json!({ "name": "ada", "password": PASSWORD, "code": code }));
        let said = "name, password or code is wrong";
        refused(&with(None), Code::Unauthorized, said);
        let now = code(&secret, server);
        let other = if now == "000000" { "000001" } else { "000000" };
        refused(&with(Some(other)), Code::Unauthorized, said);
        with(Some(&now)).ok();
        refused(&with(Some(&now)), Code::Unauthorized, said);
        server.advance(Duration::from_secs(60));
        with(Some(&code(&secret, server))).ok();
        assert_eq!(server.api().list::<User>("users").iter().map(|user| user.totp).collect::<Vec<_>>(), [true]);
        server.cli(["user", "totp", "ada", "--off"]).ok();
        with(None).ok();
    });
}

#[test]
fn a_person_switches_codes_on_and_off_with_a_code() {
    on_both(|server| {
        made(server, "ada", "viewer");
        let ada = login(server, "ada");
        let begin = |password: &str| ada.tell("POST", "session/totp", &json!({ "password": password }));
        let confirm = |code: &str| ada.tell("PUT", "session/totp", &json!({ "code": code }));
        let end = |code: &str| ada.tell("POST", "session/totp/disable", &json!({ "code": code }));
        let logs_in =
            |code: Option<&str>| try_login(server, &json!({ "name": "ada", "password": PASSWORD, "code": code }));
        refused(&confirm("123456"), Code::WrongState, "there is no secret to confirm");
        refused(&end("123456"), Code::WrongState, "takes no code as it is");
        refused(&begin("wrong horse battery"), Code::Forbidden, "password is not the right one");
        let made: TotpSecret = begin(PASSWORD).json();
        let secret = BASE32_NOPAD.decode(made.secret.as_bytes()).unwrap();
        // Whoever does not get the secret into an app is not locked out.
        logs_in(None).ok();
        let now = code(&secret, server);
        refused(
            &confirm(if now == "000000" { "000001" } else { "000000" }),
            Code::Forbidden,
            "code is not what the app",
        );
        confirm(&now).ok();
        refused(&logs_in(None), Code::Unauthorized, "name, password or code is wrong");
        refused(&logs_in(Some(&now)), Code::Unauthorized, "name, password or code is wrong");
        refused(&begin(PASSWORD), Code::WrongState, "takes a code already");
        refused(&end(&now), Code::Forbidden, "or it was used before");
        server.advance(Duration::from_secs(60));
        end(&code(&secret, server)).ok();
        logs_in(None).ok();
        server.api().try_post("session/totp", &json!({ "password": PASSWORD })).problem(Code::WrongState);
        let told = texts(server).into_iter().filter(|(kind, _)| kind == "user.totp").map(|(_, text)| text);
        assert_eq!(told.filter(|text| text.ends_with("by one's own wish, by ada")).count(), 2);
    });
}

#[test]
fn guessing_is_slowed_down_and_says_nothing_of_who_is_there() {
    on_both(|server| {
        made(server, "ada", "viewer");
        login(server, "ada");
        let wrong = |name: &str| try_login(server, &json!({ "name": name, "password": "wrong horse battery" }));
        let (known, unknown) = (wrong("ada"), wrong("bob"));
        assert_eq!((known.status, known.text()), (unknown.status, unknown.text()));
        assert!(
            texts(server).iter().any(|(kind, text)| {
                kind == "session.refused" && text == "a login as ada from 127.0.0.1 was refused"
            })
        );
        let answers: Vec<Response> = (0..30).map(|_| wrong("ada")).collect();
        let held_up: Vec<&Response> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert!(held_up.len() >= 10, "{} of 30", held_up.len());
        refused(held_up[0], Code::TooManyRequests, "too many logins were tried");
        assert_eq!(held_up[0].header("retry-after"), Some("60"));
        // Whoever is in stays in.
        server.api().try_get("users").ok();
    });
}

#[test]
fn people_are_made_known_with_good_passwords_and_names_of_their_own() {
    on_both(|server| {
        let post = |body: Value| server.api().try_post("users", &body);
        let grants = json!([{ "role": "viewer" }]);
        let of = |name: &str, password: &str| json!({ "name": name, "password": password, "grants": grants });
        refused(&post(of("ada", "short")), Code::Invalid, "the password has 5 bytes; 12 to 128 are allowed");
        refused(&post(of("lovelace", "Lovelace 1815")), Code::Invalid, "the password contains the name");
        refused(&post(of("a\u{7}", PASSWORD)), Code::Invalid, "printable ASCII characters");
        refused(&post(json!({ "name": "ada", "grants": [] })), Code::Invalid, "grants is empty");
        refused(&post(of("First Admin", PASSWORD)), Code::Conflict, "there is an API token \"First Admin\"");
        let arguments =
            ["--output", "json", "user", "create", "ada", "--role", "operator", "--selector", "region = north"];
        let made: UserPassword = server.cli(arguments).json();
        assert_eq!(made.password.unwrap().len(), 26);
        refused(&post(of("ADA", PASSWORD)), Code::Conflict, "there is a user \"ADA\" already");
        let token = server.api().try_post("api-tokens", &json!({ "name": "Ada" }));
        refused(&token, Code::Conflict, "there is a user \"Ada\"");
        refused(&server.api().try_put("users/bob/grants", &json!({ "grants": grants })), Code::NotFound, "no user bob");

        let mut child = Command::new(server.binaries().callboard);
        let env = server.command();
        child.envs(env.get_envs().filter_map(|(name, value)| Some((name, value?))));
        child.args(["user", "create", "eve", "--role", "admin", "--password-stdin", "--dir"]).arg(server.dir());
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success() && !String::from_utf8(done.stdout).unwrap().contains(PASSWORD));
        let eve = login(server, "eve");
        // The last admin stays one, whichever of token and person that is.
        server.api().try_delete("api-tokens/first%20admin?force=true").ok();
        let demote = json!({ "grants": grants });
        refused(&eve.tell("PUT", "users/eve/grants", &demote), Code::WrongState, "\"eve\" is the last admin");
        refused(&eve.tell("POST", "users/eve/disable", &json!({})), Code::WrongState, "\"eve\" is the last admin");
        eve.tell("PUT", "users/ada/grants", &json!({ "grants": [{ "role": "admin" }] })).ok();
        eve.tell("PUT", "users/eve/grants", &demote).ok();
        eve.get("users").problem(Code::Forbidden);
    });
}

#[test]
fn where_people_are_known_the_second_person_is_another_person() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        for name in ["ada", "bob"] {
            made(server, name, "admin");
        }
        let (ada, bob) = (login(server, "ada"), login(server, "bob"));
        let token = |browser: &Browser, name: &str| {
            let made: Value = browser.tell("POST", "api-tokens", &json!({ "name": name })).json();
            Api { address: server.api().address, token: made["token"].as_str().unwrap().to_owned() }
        };
        let (script, other) = (token(&ada, "adas script"), token(&ada, "adas other script"));
        let make = |name: &str| script.post::<Rollout>("rollouts", &rollout(name, "pos-app@2.0.0", &json!({})));
        make("r");
        let sign = json!({ "reason": "looked at it" });
        let said = "ada is behind adas script, who made or changed rollout r";
        refused(&ada.tell("POST", "rollouts/r/countersign", &sign), Code::WrongState, said);
        refused(&other.try_post("rollouts/r/countersign", &sign), Code::WrongState, said);
        let nobodys = server.api().try_post("rollouts/r/countersign", &sign);
        refused(&nobodys, Code::Forbidden, "first admin is a token behind which no person stands");
        let signed: Rollout = bob.tell("POST", "rollouts/r/countersign", &sign).json();
        assert_eq!(signed.countersigned.unwrap().by, "bob");
        make("s");
        let signed: Rollout = token(&bob, "bobs script").post("rollouts/s/countersign", &sign);
        assert_eq!(signed.countersigned.unwrap().by, "bobs script");
    });
}
