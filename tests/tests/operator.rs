//! A day of an operator, by the command line alone: from an empty data directory to an updated till.

use callboard_proto::{
    admin::{Device, Explanation, Imported, Page, Release, Rollout, RolloutState, Token},
    enrol::{Bundle, Enrolled},
};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health, Key, enrolment, try_enrol},
    http::Request,
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use crate::on_both;

/// A directory of a product, as a build would leave it.
fn product(server: &TestServer, version: &str) -> PathBuf {
    let dir = server.home().join(format!("pos-app-{version}"));
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::write(dir.join("VERSION"), version).unwrap();
    fs::write(dir.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Builds, signs and publishes a release.
fn release(server: &TestServer, version: &str, counter: &str) -> Release {
    let (from, out) = (product(server, version), server.home().join(format!("release-{version}")));
    let (from, out) = (from.to_str().unwrap(), out.to_str().unwrap());
    let what =
        ["--product", "pos-app", "--version", version, "--counter", counter, "--issued-at", "2026-01-01T00:00:00Z"];
    server.cli(["release", "build", from, "--out", out].iter().chain(&what)).ok();
    let unsigned = server.cli(["release", "publish", out]);
    assert!(unsigned.refused(2).contains("nobody has signed it yet"), "{}", unsigned.stderr);
    let key = server.dir().join("try-out-keys/release.key");
    server.cli(["release", "sign", "--key", key.to_str().unwrap(), out]).ok();
    let published = server.cli(["--output", "json", "release", "publish", out]);
    server.cli(["release", "publish", out]).ok();
    published.json()
}

fn till(server: &TestServer, name: &str) -> FakeDevice {
    let file = server.home().join(format!("{name}.bundle"));
    server.cli(["token", "create", "--device", name, "--bundle", file.to_str().unwrap()]).ok();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bundle: Bundle = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(bundle.server_url, server.device_url());
    assert_eq!(bundle.server_ca_pem, fs::read_to_string(server.dir().join("server-ca.pem")).unwrap());
    let request = enrolment(&bundle.token, &Key::new());
    let enrolled: Enrolled = try_enrol(server, &request.body).json();
    FakeDevice::of(server, request.key, enrolled).runs("pos-app", "2.1.0")
}

fn fleet(server: &TestServer) {
    let fleet = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fleet");
    for noun in ["site", "device"] {
        let file = fleet.join(format!("{noun}s.json"));
        let import = |more: &[&str]| {
            let args = ["--output", "json", noun, "import", file.to_str().unwrap()];
            server.cli(args.iter().chain(more)).json::<Imported>()
        };
        let (tried, done, again) = (import(&["--dry-run"]), import(&[]), import(&[]));
        assert_eq!((tried.created, tried.dry_run), (done.created, true));
        assert_eq!((again.created, again.unchanged), (0, done.created));
    }
}

#[test]
fn an_operator_gets_from_nothing_to_an_updated_till() {
    on_both(|server| {
        fleet(server);
        let published = release(server, "2.4.0", "100");
        assert_eq!((published.version.as_str(), published.counter), ("2.4.0", 100));
        let mut device = till(server, "pos-chicago-001");
        device.check_in();
        let selector = "region = midwest and version(\"pos-app\") < 2.2.0";
        let listed: Page<Device> = server.cli(["--output", "json", "device", "list", "--selector", selector]).json();
        assert_eq!(listed.items.len(), 2);
        let what = ["--release", "pos-app@2.4.0", "--policy", "immediate", "--selector", selector];
        server.cli(["rollout", "preview"].iter().chain(&what)).ok();
        let made = server.cli(["--output", "json", "rollout", "create", "midwest", "--start"].iter().chain(&what));
        assert_eq!(made.json::<Rollout>().state, RolloutState::Running);
        let why: Explanation = server.cli(["--output", "json", "device", "explain", "pos-chicago-001"]).json();
        assert_eq!(why.next.code, "offered");
        device.settle(Health::Good);
        let status: Rollout = server.cli(["--output", "json", "rollout", "status", "midwest"]).json();
        assert_eq!((status.phases[0].counts.succeeded, status.phases[0].counts.unreached), (1, 1));
        for verb in ["pause", "resume", "cancel"] {
            server.cli(["rollout", verb, "midwest", "--reason", "a test"]).ok();
        }
        let refused = server.cli(["rollout", "resume", "midwest"]);
        assert_eq!(refused.refused(1), "callboard: rollout midwest is cancelled, so it cannot become running");
        let events = server.cli(["event", "list"]);
        assert!(events.ok().stdout.contains("by first admin: a test"), "{}", events.stdout);
    });
}

#[test]
fn every_list_and_detail_is_shown_as_table_and_as_json() {
    on_both(|server| {
        fleet(server);
        release(server, "2.4.0", "100");
        till(server, "pos-nyc-001").check_in();
        server.cli(["freeze", "create", "f", "--from", "2027-02-01", "--to", "2027-02-01", "--reason", "a test"]).ok();
        server.cli(["rollout", "create", "r", "--release", "pos-app@2.4.0", "--policy", "immediate"]).ok();
        for command in [
            "freeze list",
            "site list",
            "site show NYC-001",
            "device list",
            "device show pos-nyc-001",
            "device explain pos-nyc-001",
            "token list",
            "release list",
            "release show pos-app@2.4.0",
            "rollout list",
            "rollout status r",
            "rollout preview r",
            "event list",
            "root show",
        ] {
            let args: Vec<&str> = command.split(' ').collect();
            let table = server.cli(&args);
            assert!(table.ok().stdout.lines().count() > 0, "{command}");
            server.cli(["--output", "json"].iter().chain(&args)).json::<Value>();
        }
    });
}

#[test]
fn a_failure_is_shown_as_one_on_the_command_line_and_on_the_page() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" })));
        device.settle(Health::Bad);
        let fields = |text: &str, row: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("no {row} in {text}"));
            line.split_whitespace().map(str::to_owned).collect()
        };
        let list = server.cli(["rollout", "list"]).ok().stdout.clone();
        assert_eq!(
            fields(&list, "NAME")[..7],
            ["NAME", "STATE", "RELEASE", "POLICY", "SUCCEEDED", "FAILED", "OF"],
            "{list}"
        );
        assert_eq!(fields(&list, "r ")[..7], ["r", "completed", "pos-app@2.0.0", "immediate", "0", "1", "1"], "{list}");
        let status = server.cli(["rollout", "status", "r"]).ok().stdout.clone();
        assert_eq!(fields(&status, "all")[2..8], ["[xxxxxxxxxx]", "0", "1", "1", "1", "rolled"], "{status}");
        let watched = server.cli(["rollout", "status", "r", "--watch"]);
        assert!(watched.refused(1).contains("0 succeeded, 1 rolled back"), "{}", watched.stderr);
        let watch = &watched.stdout;
        assert!(watch.contains("all: 0 succeeded, 1 failed of 1 (1 rolled back)"), "{watch}");
        let page = server.api().send_raw(Request::get("/rollouts/r")).text();
        assert!(page.contains("aria-label=\"0 succeeded, 1 failed, 0 at work, of 1\""), "{page}");
        assert!(page.contains("<rect class=\"failed\" x=\"0\" width=\"1\""), "{page}");
        assert!(page.contains("1 of 1 device is done: 0 succeeded, 1 rolled back"), "{page}");
    });
}

#[test]
fn labels_holds_and_decommissioning_are_commands() {
    on_both(|server| {
        fleet(server);
        let device = |name: &str| server.cli(["--output", "json", "device", "show", name]).json::<Device>();
        server.cli(["device", "label", "--set", "ring=early", "--selector", "site = BOS-001"]).ok();
        assert_eq!(device("pos-boston-001").labels["ring"], "early");
        server.cli(["device", "hold", "pos-boston-001", "--reason", "audit"]).ok();
        assert_eq!(device("pos-boston-001").hold.unwrap().reason, "audit");
        let hold = ["device", "hold", "pos-boston-001", "--reason", "audit", "--until"];
        server.cli(hold.iter().chain(&["2027-01-12T09:00:00-05:00"])).ok();
        assert_eq!(device("pos-boston-001").hold.unwrap().until, Some(time("2027-01-12T14:00:00Z")));
        // From the operator's clock, which is the real one.
        server.cli(hold.iter().chain(&["36500d"])).ok();
        assert!(device("pos-boston-001").hold.unwrap().until > Some(time("2100-01-01T00:00:00Z")));
        let bad = server.cli(hold.iter().chain(&["2027-01-12T09:00:00"]));
        assert!(bad.refused(2).contains("or a duration from now such as 2h or 3d"), "{}", bad.stderr);
        server.cli(["device", "decommission", "pos-boston-001", "--reason", "scrapped"]).ok();
        assert!(device("pos-boston-001").decommissioned);
    });
}

#[test]
fn a_revoked_token_is_of_no_use() {
    on_both(|server| {
        let token = server.enrolment_token(&serde_json::json!({}));
        let listed: Page<Token> = server.cli(["--output", "json", "token", "list"]).json();
        server.cli(["token", "revoke", &listed.items[0].id.to_string()]).ok();
        let refused = try_enrol(server, &enrolment(&token, &Key::new()).body);
        refused.problem(callboard_proto::problem::Code::TokenInvalid);
    });
}

#[test]
fn a_server_that_is_not_there_and_a_wrong_token_are_told_apart() {
    on_both(|server| {
        let wrong = server.cli(["--token", "cba_x_y", "device", "list"]);
        assert!(wrong.refused(1).contains("does not accept the token of --token"), "{}", wrong.stderr);
        let bad = server.cli(["--server", "ftp://x", "device", "list"]);
        assert!(bad.refused(2).contains("neither http nor https"), "{}", bad.stderr);
        let gone = format!("http://{}", server.api().address);
        server.stop();
        let silent = server.cli(["--server", &gone, "--token", "cba_x", "device", "list"]);
        assert!(silent.refused(1).contains(&format!("cannot reach {gone}")), "{}", silent.stderr);
        server.serve();
    });
}
