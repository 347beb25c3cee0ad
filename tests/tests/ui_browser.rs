//! Stories of operators in a real browser: `tests/browser`. What is the same on both engines is tested over HTTP; these
//! run on SQLite.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use callboard_proto::admin::{Imported, Rollout};
use callboard_tests::{
    browser::PASSWORD,
    device::{FakeDevice, Health, Key, enrolment, try_enrol},
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::json;

use crate::BINARIES;

/// Programs by which Debian and others know the browser.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A story that is being played; its process ends with it.
pub(crate) struct Story {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Drop for Story {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the browser is; none where it or its driver is not installed.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = BROWSERS.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|file| file.exists());
    let driver = dir().join("node_modules/playwright-core").exists();
    if found.is_none() || !driver {
        assert!(
            std::env::var_os("CI").is_none(),
            "chromium is not installed, or npm ci --prefix tests/browser was not run"
        );
        eprintln!("skipped: needs chromium, and npm ci --prefix tests/browser");
        return None;
    }
    found
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser")
}

/// A server with somebody of each of these roles, named like it; none without a browser.
pub(crate) fn server(roles: &[&str]) -> Option<TestServer> {
    browser()?;
    let server = TestServer::start(BINARIES, Engine::Sqlite, &[])?;
    for role in roles {
        let user = json!({ "name": role, "password": PASSWORD, "grants": [{ "role": role }] });
        server.api().try_post("users", &user).ok();
    }
    Some(server)
}

/// Begins a story.
pub(crate) fn begin(server: &TestServer, name: &str, variables: &[(&str, &str)]) -> Story {
    let mut command = Command::new("node");
    command.arg(format!("{name}.js")).current_dir(dir()).env("URL", format!("http://{}", server.api().address));
    command.env("CHROMIUM", browser().unwrap()).envs(variables.iter().copied());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("node");
    let lines = BufReader::new(child.stdout.take().unwrap());
    Story { child, lines }
}

impl Story {
    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{}", self.said());
        line.trim().to_owned()
    }

    /// Waits for its end, which is to be a good one.
    #[track_caller]
    pub(crate) fn ends_well(mut self) {
        let said = self.said();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{said}");
    }

    fn said(&mut self) -> String {
        let errors = self.child.stderr.take();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            errors.map(|mut errors| errors.read_to_string(&mut text));
            text
        });
        let mut said = String::new();
        let _ = self.lines.read_to_string(&mut said);
        said + &reader.join().unwrap()
    }
}

/// Plays a story to its end.
#[track_caller]
pub(crate) fn play(server: &TestServer, name: &str, variables: &[(&str, &str)]) {
    begin(server, name, variables).ends_well();
}

#[test]
fn the_first_person_of_a_new_server_gets_in() {
    let Some(server) = server(&[]) else { return };
    play(&server, "first_start", &[("TOKEN", &server.api().token)]);
}

#[test]
fn a_till_is_enrolled_by_the_token_of_the_page_and_appears_there() {
    let Some(server) = server(&["operator"]) else { return };
    server.import_fleet();
    let mut story = begin(&server, "enrol", &[]);
    let token = story.line();
    FakeDevice::enrol_with(&server, &enrolment(&token, &Key::new()).named("till-by-page")).check_in();
    story.ends_well();
}

#[test]
fn somebody_finds_out_why_a_till_waits_and_holds_a_shop() {
    let Some(server) = server(&["operator"]) else { return };
    fleet(&server);
    let why = server.api().get::<callboard_proto::admin::Explanation>("devices/pos-boston-001/explain").next.text;
    play(&server, "why", &[("WHY", &why)]);
}

#[test]
fn a_viewer_is_refused_and_a_form_survives_the_end_of_a_session() {
    let Some(server) = server(&["viewer", "operator"]) else { return };
    server.import_fleet();
    play(&server, "viewer", &[]);
}

#[test]
fn a_release_is_uploaded_and_started_by_each_policy() {
    let Some(server) = server(&["admin"]) else { return };
    server.import_fleet();
    // As `callboard release build` leaves it.
    let release = NewRelease::new("pos-app", "3.0.0", 3);
    let (document, payload) = (server.home().join("release.json"), release.payload.clone());
    std::fs::write(&document, release.signed(&server).to_json()).unwrap();
    let file = server.home().join(callboard_proto::digest::Digest::of(&payload).to_string());
    std::fs::write(&file, payload).unwrap();
    let [document, file] = [document, file].map(|path| path.to_str().unwrap().to_owned());
    play(&server, "policies", &[("RELEASE", &document), ("PAYLOAD", &file)]);
    let states = server.api().list::<Rollout>("rollouts");
    let running = states.iter().filter(|one| one.state == callboard_proto::admin::RolloutState::Running);
    assert_eq!(running.count(), 4);
}

#[test]
fn a_progressive_rollout_halts_by_itself_while_somebody_watches_and_is_rolled_back() {
    let Some(server) = server(&["operator"]) else { return };
    let old = NewRelease::new("pos-app", "1.0.0", 1).publish(&server).sha256;
    NewRelease::new("pos-app", "2.0.0", 2).publish(&server);
    let till = |n: usize| {
        let mut till = FakeDevice::enrol(&server, &format!("till-{n}"));
        let release = till.fetch_release(old);
        till.install(&release);
        till.check_in();
        till
    };
    let mut tills: Vec<FakeDevice> = (0..4).map(till).collect();
    let mut story = begin(&server, "halt", &[]);
    assert_eq!(story.line(), "started");
    let canary = |till: &mut FakeDevice| till.check_in().action == callboard_proto::instruction::Action::Download;
    let canaries: Vec<usize> = (0..4).filter(|n| canary(&mut tills[*n])).collect();
    tills[canaries[0]].settle(Health::Good);
    tills[canaries[1]].settle(Health::Bad);
    assert_eq!(story.line(), "rolled back");
    tills[canaries[0]].settle(Health::Good);
    assert_eq!(tills[canaries[0]].version_of("pos-app"), Some("1.0.0"));
    story.ends_well();
}

/// Pages that are looked at; ones with nothing on them too.
const PAGES: [&str; 31] = [
    "/",
    "/devices",
    "/devices?selector=status+%3D+online&column=status&column=hw&column=serial",
    "/devices/pos-denver-001",
    "/devices/hostile",
    "/attention",
    "/attention/attacks",
    "/enrolment",
    "/releases",
    "/releases/pos-app@2.4.0",
    "/releases/new",
    "/rollouts",
    "/rollouts/spring",
    "/rollouts/summer",
    "/rollouts/summer/preview",
    "/rollouts/spring/edit",
    "/rollouts/spring/devices",
    "/rollouts/spring/sites",
    "/rollouts/new",
    "/rollouts/new?as=file",
    "/audit",
    "/audit/check",
    "/settings",
    "/settings/people",
    "/settings/people/admin",
    "/settings/tokens",
    "/settings/webhooks",
    "/settings/freezes",
    "/settings/sites",
    "/settings/sites/NYC-001",
    "/login",
];

#[test]
fn every_page_is_there_for_everybody_in_both_themes_and_on_a_telephone() {
    let Some(server) = server(&["admin"]) else { return };
    fleet(&server);
    play(&server, "pages", &[("PAGES", &json!(PAGES).to_string())]);
}

/// A fleet in the middle of its work: some tills are there, a rollout goes on, one till has failed, one waits to be let
/// in, one tells of attacks, and one has been given what an attacker would like to see on a page.
pub(crate) fn fleet(server: &TestServer) {
    server.import_fleet();
    for (version, counter) in [("2.3.9", 1), ("2.4.0", 2)] {
        NewRelease::new("pos-app", version, counter).publish(server);
    }
    let names =
        ["pos-nyc-001", "pos-denver-001", "pos-boston-001", "pos-seattle-001", "pos-austin-001", "pos-miami-001"];
    let mut tills: Vec<FakeDevice> = names.map(|name| server.switch_on(name)).into();
    tills.iter_mut().for_each(|till| drop(till.check_in()));
    let first = json!({ "name": "pilot", "selector": "region in (mountain, southwest)", "success_percent": 100 });
    let phases = json!([first, { "name": "a half", "percent": 50 }, { "name": "all", "percent": 100 }]);
    server.roll_out(&rollout("spring", "pos-app@2.4.0", &json!({ "policy": "progressive", "phases": phases })));
    let windows = json!([{ "start": "02:00", "duration_min": 120 }]);
    let night = json!({ "selector": "site = MIA-001", "windows": windows, "policy": "scheduled" });
    server.roll_out(&rollout("at-night", "pos-app@2.3.9", &night));
    tills[1].settle(Health::Bad);
    tills[4].settle(Health::Good);
    tills[5].attacks.insert("nonce_mismatch".to_owned(), 2);
    tills[5].check_in();
    let token = server.enrolment_token(&json!({ "auto_approve": false, "site": "LA-001", "max_uses": 3 }));
    let request = enrolment(&token, &Key::new()).named("pos-la-009").serial("SN-0099");
    assert_eq!(try_enrol(server, &request.body).status, 403);
    server.enrolment_token(&json!({ "serial_pattern": "VF-*", "max_uses": 40 }));
    let labels = json!({ "a": "<img src=x onerror=alert(1)>", "b": "\u{202e}evil\u{2066}", "long": "W".repeat(128) });
    let hostile = json!({ "name": "hostile", "description": "<script>alert(1)</script>", "labels": labels });
    server.api().post::<Imported>("devices/import", &json!({ "devices": [hostile] }));
    let draft = rollout("summer", "pos-app@2.4.0", &json!({ "selector": "region = west" }));
    server.api().post::<Rollout>("rollouts", &draft);
    wait::until("the check-ins are written", || {
        let overview: callboard_proto::admin::Overview = server.api().get("overview");
        overview.devices["online"] == 6
    });
}
