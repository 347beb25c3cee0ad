//! Logging in by an identity provider: a real one (`tests/oidc`), and one that lies.

use std::{
    io::{BufRead as _, BufReader},
    net::IpAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use callboard_proto::{
    admin::{Event, User, WhoAmI},
    problem::Code,
};
use callboard_tests::{
    http::{Request, Response, connect_from, exchange},
    server::TestServer,
};
use serde_json::json;

mod liar;

use crate::{on_both, refused};
use liar::{Liar, Lie};

/// A provider that ends with the test.
struct Provider {
    child: Child,
    issuer: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The provider of `tests/oidc`; none where it is not installed.
fn provider(redirect: &str, claims: &str) -> Option<Provider> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc");
    if !dir.join("node_modules/oidc-provider").exists() {
        assert!(std::env::var_os("CI").is_none(), "npm ci --prefix tests/oidc was not run");
        eprintln!("skipped: needs npm ci --prefix tests/oidc");
        return None;
    }
    let mut command = Command::new("node");
    command.arg("provider.js").arg(redirect).env("CLAIMS", claims).current_dir(dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("node");
    let mut issuer = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut issuer).unwrap();
    Some(Provider { child, issuer: issuer.trim().to_owned() })
}

/// A browser that keeps the cookies of one host. Each has an address of its own, for an address has few tries.
struct Cookies(Vec<(String, String)>, IpAddr);

impl Default for Cookies {
    fn default() -> Self {
        static ADDRESSES: AtomicU8 = AtomicU8::new(2);
        Self(Vec::new(), IpAddr::from([127, 0, 0, ADDRESSES.fetch_add(1, Ordering::Relaxed)]))
    }
}

impl Cookies {
    fn get(&mut self, url: &str) -> Response {
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let own: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::get(format!("/{path}")).header("host", address).header("cookie", own.join("; "));
        let answer = exchange(&mut connect_from(self.1, address.parse().unwrap()).unwrap(), &request).unwrap();
        for set in &answer.cookies {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.0.retain(|(known, _)| known != name);
            self.0.push((name.to_owned(), value.to_owned()));
        }
        answer
    }

    /// Where an answer sends the browser.
    fn follow(&mut self, url: &str) -> String {
        let answer = self.get(url);
        let place = answer.header("location");
        let place = place.unwrap_or_else(|| panic!("{url} answered {}: {}", answer.status, answer.text()));
        if place.starts_with('/') {
            let host = url.split('/').take(3).collect::<Vec<_>>().join("/");
            return format!("{host}{place}");
        }
        place.to_owned()
    }
}

fn base(server: &TestServer) -> String {
    format!("http://{}", server.api().address)
}

/// Lets the server know the provider, at the address that it has already.
fn knows(server: &mut TestServer, issuer: &str) {
    let address = server.api().address.to_string();
    server.listen_for_operators_on(&address);
    server.stop();
    std::fs::write(server.dir().join("oidc.secret"), "not guessed\n").unwrap();
    let settings = format!(
        "[oidc]\nissuer = {issuer:?}\nclient_id = \"callboard\"\nclient_secret_file = \"oidc.secret\"\n\
         admin_url = \"http://{address}\"\ngrants = [{{ group = \"till-operators\", role = \"operator\", selector = \
         \"region = north\" }}, {{ group = \"everybody\", role = \"viewer\" }}]"
    );
    server.configure(&[&settings]);
    server.serve();
}

/// From the login page to the answer of the server to the browser that comes back.
fn log_in(server: &TestServer, name: &str) -> (Cookies, Response) {
    let (mut here, mut there) = (Cookies::default(), Cookies::default());
    let at_the_provider = here.follow(&format!("{}/login/provider", base(server)));
    assert!(at_the_provider.contains("code_challenge_method=S256"), "{at_the_provider}");
    let page = there.follow(&at_the_provider);
    let back = there.follow(&format!("{page}?as={name}"));
    let answer = there.follow(&back);
    let answer = here.get(&answer);
    (here, answer)
}

fn session(server: &TestServer, cookies: &mut Cookies) -> Response {
    cookies.get(&format!("{}/api/v1/session", base(server)))
}

fn told(server: &TestServer, wanted: &str) -> Vec<String> {
    let all = server.api().list::<Event>("events").into_iter();
    all.filter(|event| event.kind == wanted).map(|event| event.text).collect()
}

#[test]
fn people_log_in_by_a_real_provider_and_may_what_their_groups_may() {
    on_both(|server| {
        let redirect = format!("{}/login/provider/callback", base(server));
        // Once with everything in the token, once with the provider's page about the person.
        let claims = if server.engine == callboard_tests::server::Engine::Sqlite { "in-token" } else { "" };
        let Some(provider) = provider(&redirect, claims) else { return };
        knows(server, &provider.issuer);
        let (mut ada, answer) = log_in(server, "ada");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("You are logged in") && answer.text().contains("0;url=/"), "{}", answer.text());
        let set = answer.cookies.join("\n");
        assert!(set.contains("callboard-session=cbs_") && set.contains("SameSite=Strict"), "{set}");
        let me: WhoAmI = session(server, &mut ada).json();
        let roles: Vec<String> =
            me.grants.iter().map(|grant| format!("{} {:?}", grant.role, grant.selector.as_deref())).collect();
        assert_eq!(
            (me.name.as_str(), roles.join(", ").as_str()),
            ("ada", "operator Some(\"region = north\"), viewer None")
        );
        let user: Vec<User> = server.api().list("users");
        assert_eq!(user[0].provider.as_deref(), Some(provider.issuer.as_str()));
        let began = told(server, "session.began");
        assert!(began[0].starts_with(&format!("ada logged in by {} from 127.0.0.", provider.issuer)), "{began:?}");

        // People read what was wrong on the login page, which has the button.
        let page = Cookies::default().get(&format!("{}/login", base(server))).text();
        assert!(page.contains("href=\"/login/provider\"") && page.contains("Log in with your organisation"), "{page}");
        let back = Request::get("/login/provider/callback?state=x").header("accept", "text/html");
        let said = server.api().send_raw(back).text();
        assert!(said.contains("this browser has not begun the login"), "{said}");

        // What the provider decides is not decided here as well.
        let grants = json!({ "grants": [{ "role": "admin" }] });
        for (path, body) in [("users/ada/grants", grants), ("users/ada/password", json!({}))] {
            refused(&server.api().try_put(path, &body), Code::WrongState, "ada logs in by http://127.0.0.1");
        }
        let login = json!({ "name": "ada", "password": "correct horse battery" });
        server.api().send_raw(Request::post("/api/v1/session").json(&login)).problem(Code::Unauthorized);

        // The same person again is no other one; nobody without a group gets in, nor who is kept out, nor a double.
        log_in(server, "ada").1.ok();
        assert_eq!(server.api().list::<User>("users").len(), 1);
        refused(&log_in(server, "bob").1, Code::Forbidden, "none of the groups of bob has a role here");
        server.api().try_post("users/ada/disable", &json!({})).ok();
        session(server, &mut ada).problem(Code::Unauthorized);
        refused(&log_in(server, "ada").1, Code::Forbidden, "ada is kept out by an admin");
        server.api().try_post("users", &json!({ "name": "Eve", "grants": [{ "role": "viewer" }] })).ok();
        refused(&log_in(server, "eve").1, Code::Forbidden, "there is a user \"eve\" already");
        assert_eq!(told(server, "session.refused").len(), 4);
        assert!(!server.log().contains("not guessed"));
    });
}

#[test]
fn what_a_lying_provider_or_browser_brings_is_refused_and_new_keys_are_taken() {
    on_both(|server| {
        let liar = Liar::start();
        knows(server, &liar.issuer);
        let begin = |cookies: &mut Cookies| {
            let url = cookies.follow(&format!("{}/login/provider", base(server)));
            let part = |name: &str| {
                let value = url.split(['?', '&']).find_map(|part| part.strip_prefix(&format!("{name}=")));
                value.unwrap().to_owned()
            };
            (part("state"), part("nonce"))
        };
        let back = |cookies: &mut Cookies, state: &str| {
            cookies.get(&format!("{}/login/provider/callback?code=x&state={state}", base(server)))
        };
        let tells = |lie: Lie| {
            let mut cookies = Cookies::default();
            let (state, nonce) = begin(&mut cookies);
            liar.tell(lie, &nonce);
            back(&mut cookies, &state)
        };
        tells(Lie::None).ok();
        for (lie, said) in [
            (Lie::Nonce, "Invalid nonce"),
            (Lie::Audience, "Invalid audiences"),
            (Lie::Issuer, "Invalid issuer"),
            (Lie::Expired, "Expired"),
            (Lie::Signature, "Signature verification failed"),
            (Lie::Unsigned, "Signature verification failed"),
            (Lie::SignedWithTheSecret, "Signature verification failed"),
            (Lie::NoToken, "it has no ID token"),
            (Lie::NoName, "it has no claim preferred_username"),
        ] {
            refused(&tells(lie), Code::Unauthorized, said);
        }
        refused(&tells(Lie::TerminalName), Code::Forbidden, "the name is not usable");
        // Another browser's answer, and one that nobody asked for.
        let (mut one, mut other) = (Cookies::default(), Cookies::default());
        let (state, nonce) = begin(&mut one);
        begin(&mut other);
        liar.tell(Lie::None, &nonce);
        let again = "this browser has not begun the login that comes back here";
        refused(&back(&mut other, &state), Code::BadRequest, again);
        refused(&back(&mut Cookies::default(), &state), Code::BadRequest, again);
        refused(&back(&mut one, "wrong"), Code::BadRequest, again);
        let no = format!("{}/login/provider/callback?error=access_denied&state={state}", base(server));
        refused(&one.get(&no), Code::Forbidden, "the identity provider did not log you in: access_denied");
        back(&mut one, &state).ok();
        // It is over with the first time.
        refused(&back(&mut one, &state), Code::BadRequest, again);

        // An honest one changes its keys, and is away at times.
        liar.change_keys();
        tells(Lie::None).ok();
        refused(&tells(Lie::Away), Code::Unavailable, "the identity provider cannot be asked");
    });
}
