//! How commands end: one rule for all of them, one line that says why, and JSON for whoever asks for it.

use callboard_proto::problem::Code;
use callboard_tests::server::{Engine, Output, TestServer};
use serde_json::Value;
use std::{net::TcpListener, process::Command};

use crate::{BINARIES, on_both};

/// Every command, and arguments with which it could do its work: against a server, or without one.
const REMOTE: &[&str] = &[
    "webhook create w --url http://127.0.0.1:9/",
    "webhook delete w",
    "webhook deliveries w",
    "webhook list",
    "webhook resend 0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01",
    "webhook test w",
    "audit export",
    "audit head",
    "audit list",
    "audit verify",
    "user create ada",
    "user disable ada",
    "user enable ada",
    "user list",
    "user password ada",
    "user role ada",
    "user show ada",
    "session end 0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01",
    "session list ada",
    "user totp ada",
    "api-token create ada",
    "api-token list",
    "api-token revoke ada",
    "attention attacks acknowledge --device till-1 --reason r",
    "attention attacks list",
    "attention list",
    "device allow-reenrol till-1 --no-more",
    "device clone keep till-1 --reason r",
    "device clone list",
    "device decommission till-1 --reason r",
    "device explain till-1",
    "device history till-1",
    "device hold till-1 --reason r",
    "device import fleet.csv",
    "device label --selector all --set a=b",
    "device list",
    "device hold --selector all --reason r",
    "device release-hold --selector all",
    "device release-hold till-1",
    "device serial till-1 --clear",
    "device show till-1",
    "enrolment accept 0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01",
    "enrolment list",
    "enrolment reject 0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01",
    "event list",
    "freeze create f --from 2027-01-01 --to 2027-01-01 --reason r",
    "freeze delete f",
    "freeze list",
    "release list",
    "release publish built",
    "release show a@1",
    "rollout approve r",
    "rollout cancel r",
    "rollout rollback r --to pos-app@1 --reason r",
    "rollout countersign r",
    "rollout create r --release a@1 --policy immediate",
    "rollout diff --file rollout.toml",
    "rollout edit --file rollout.toml",
    "rollout export r",
    "rollout list",
    "rollout open-phase r all --reason r",
    "rollout pause r",
    "rollout preview r",
    "rollout resume r",
    "rollout retry r --device till-1 --reason r",
    "rollout simulate --release a@1 --policy immediate",
    "rollout skip r --device till-1 --reason r",
    "rollout skip-soak r --reason r",
    "rollout start r",
    "rollout status r",
    "rollout forecast r",
    "head publish head.json",
    "head show",
    "trust status",
    "root publish root.json",
    "root show",
    "site activate A",
    "site close A --reason r",
    "site hold A --reason r",
    "site hours A none",
    "site bandwidth A none",
    "site import sites.csv",
    "site list",
    "site release-hold A",
    "site show A",
    "site suspend A --reason r",
    "token create",
    "token list",
    "token revoke 01890000-0000-7000-8000-000000000000",
    "top --once",
];

const LOCAL: &[&str] = &[
    "backup --dir data --to copy",
    "ca finish device --dir data",
    "ca new device --dir data",
    "ca switch device --dir data",
    "certificate renew --dir data",
    "completions bash",
    "demo",
    "init --dir new --no-profile",
    "head new --out new-head.json",
    "head sign --key a.key head.json",
    "key new --out new.key",
    "key show a.key.pub",
    "key sign --key a.key",
    "man pages",
    "online-key finish --dir data",
    "online-key new --dir data",
    "release build app --product app --version 1 --counter 1 --out new",
    "release sign --key a.key built",
    "rollout schema",
    "root init --root-key a.key --release-key a.key.pub --online-key data/online.key.pub --server-url https://localhost:8443 \
     --server-ca data/server-ca.pem --out new.json",
    "root rotate root.json --out next.json",
    "root sign --key data/try-out-keys/root.key root.json",
    "serve --dir data",
];

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The commands that a help lists.
fn listed(server: &TestServer, noun: &[&str]) -> Vec<String> {
    let help = server.cli(noun.iter().chain(&["--help"]));
    let (_, below) = help.ok().stdout.split_once("Commands:\n").unwrap_or_default();
    let names = below.lines().take_while(|line| line.starts_with("  ")).filter_map(|line| {
        // Descriptions that go on in the next line are indented further.
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next()
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn commands(server: &TestServer) -> Vec<String> {
    let mut found = Vec::new();
    for noun in listed(server, &[]) {
        let verbs = listed(server, &[&noun]);
        if verbs.is_empty() {
            found.push(noun.clone());
        }
        for verb in verbs {
            let more = listed(server, &[&noun, &verb]);
            if more.is_empty() {
                found.push(format!("{noun} {verb}"));
            }
            found.extend(more.into_iter().map(|third| format!("{noun} {verb} {third}")));
        }
    }
    found.sort();
    found
}

fn one_line(done: &Output, line: &str) {
    assert_eq!((done.stderr.lines().count(), done.stdout.as_str()), (1, ""), "{line}: {}", done.stderr);
    assert!(done.stderr.starts_with("callboard: "), "{line}: {}", done.stderr);
}

/// A machine on which all those commands find what they need.
fn prepared() -> TestServer {
    let server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    let write = |name: &str, text: &str| std::fs::write(server.home().join(name), text).unwrap();
    write("fleet.csv", "name\ntill-1\n");
    write("sites.csv", "id,tz\nA,UTC\n");
    write("rollout.toml", "name = \"r\"\nrelease = \"a@1\"\npolicy = \"immediate\"\n");
    std::fs::create_dir(server.home().join("app")).unwrap();
    write("app/file", "contents");
    server.cli(["init", "--dir", "data"]).ok();
    std::fs::copy(server.home().join("data/root.json"), server.home().join("root.json")).unwrap();
    server.cli(words("key new --out a.key")).ok();
    server.cli(words("release build app --product app --version 1 --counter 1 --out built")).ok();
    server.cli(words("release sign --key a.key built")).ok();
    server.cli(words("head new --key a.key --out head.json")).ok();
    server
}

#[test]
fn every_command_is_in_the_lists_of_this_test() {
    let server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    let found = commands(&server);
    let mut known: Vec<String> = Vec::new();
    for line in REMOTE.iter().chain(LOCAL) {
        let line = words(line).join(" ");
        known.extend(
            found.iter().filter(|command| line == **command || line.starts_with(&format!("{command} "))).cloned(),
        );
    }
    known.sort();
    known.dedup();
    assert_eq!(known, found);
}

#[test]
fn what_is_no_argument_ends_every_command_with_2_and_one_line() {
    let server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    for line in REMOTE.iter().chain(LOCAL) {
        let done = server.cli(words(line).into_iter().chain(["--no-such-flag"]));
        let said = done.refused(2);
        assert!(said.contains("unexpected argument '--no-such-flag' found"), "{line}: {said}");
        let noun = words(line)[0];
        assert!(said.contains(&format!("(see callboard {noun}")) && said.ends_with("--help)"), "{line}: {said}");
        one_line(&done, line);
        let json = server.cli(words(line).into_iter().chain(["--no-such-flag", "--output", "json"]));
        let error: Value = serde_json::from_str(json.refused(2)).unwrap();
        assert_eq!(error["exit_code"], 2, "{line}");
        assert!(error["error"].as_str().unwrap().contains("--no-such-flag"), "{line}: {error}");
    }
    let missing = server.cli(["device", "hold", "till-1"]);
    let said = "callboard: the following required arguments were not provided: --reason <REASON> (see callboard device hold --help)";
    assert_eq!(missing.refused(2), said);
    let verb = server.cli(["device"]);
    assert!(verb.refused(2).contains("requires a subcommand but one was not provided [subcommands: list, show"));
    one_line(&verb, "device");
    let verb: Value = serde_json::from_str(server.cli(["--output", "json", "device"]).refused(2)).unwrap();
    assert_eq!(verb["exit_code"], 2);
    // Whoever types nothing wants to know what there is.
    let nothing = Command::new(BINARIES.callboard).env_clear().output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8(nothing.stderr).unwrap().contains("Commands:"));
}

#[test]
fn a_server_that_is_not_there_ends_every_command_with_1_and_one_line() {
    let server = prepared();
    let nobody = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for line in REMOTE {
        let done = server.cli(words(line).into_iter().chain(["--server", &nobody, "--token", "cba_x"]));
        let said = done.refused(1);
        assert!(said.contains(&format!("cannot reach {nobody}")), "{line}: {said}");
        one_line(&done, line);
    }
}

#[test]
fn a_token_that_is_not_accepted_ends_every_command_with_1_and_one_line() {
    let mut server = prepared();
    server.serve();
    for line in REMOTE {
        let done = server.cli(words(line).into_iter().chain(["--token", "cba_x"]));
        let said = done.refused(1);
        assert!(said.contains("does not accept the token of --token (another one:"), "{line}: {said}");
        one_line(&done, line);
        let json = server.cli(words(line).into_iter().chain(["--token", "cba_x", "--output", "json"]));
        let error: Value = serde_json::from_str(json.refused(1)).unwrap();
        assert_eq!((&error["exit_code"], &error["code"]), (&Value::from(1), &Value::from("unauthorized")), "{line}");
    }
}

#[test]
fn files_that_are_not_there_are_bad_input_whatever_they_are_for() {
    let server = prepared();
    for (line, file) in [
        ("backup --dir nowhere --to copy", "nowhere"),
        ("ca new server --dir nowhere", "nowhere"),
        ("certificate renew --dir nowhere", "nowhere"),
        ("device import nowhere.csv", "nowhere.csv"),
        ("head publish nowhere", "nowhere"),
        ("head sign --key a.key nowhere", "nowhere"),
        ("key new --out no/where", "no/where"),
        ("key show nowhere", "nowhere"),
        ("key sign --key nowhere", "nowhere"),
        ("online-key new --dir nowhere", "nowhere"),
        ("release build nowhere --product app --version 1 --counter 1 --out new", "nowhere"),
        ("release publish nowhere", "nowhere"),
        ("release sign --key nowhere built", "nowhere"),
        ("release sign --key a.key nowhere", "nowhere"),
        ("rollout create --file nowhere.toml", "nowhere.toml"),
        ("rollout diff --file nowhere.toml", "nowhere.toml"),
        ("root publish nowhere", "nowhere"),
        ("root rotate nowhere", "nowhere"),
        ("root sign --key a.key nowhere", "nowhere"),
        ("serve --dir nowhere", "nowhere"),
        ("site import nowhere.json", "nowhere.json"),
        ("site list --profile no/where", "no/where"),
        ("site list --server https://localhost:1 --token cba_x --ca nowhere", "nowhere"),
        ("token create --bundle no/where", "no/where"),
    ] {
        let done = server.cli(words(line));
        assert!(done.refused(2).contains(file), "{line}: {}", done.stderr);
        one_line(&done, line);
    }
}

#[test]
fn what_the_server_refuses_is_told_with_the_flags_that_were_typed() {
    on_both(|server| {
        for (line, said) in [
            ("token create --uses 0", "--uses is 0; 1 to 100000 are allowed"),
            ("token create --ttl 5s", "--ttl is 5; 60 to"),
            ("device list --selector region", "--selector: column"),
            ("freeze create f --from 2020-01-01 --to 2020-01-01 --reason r", "--to: 2020-01-01 has passed"),
        ] {
            let done = server.cli(words(line));
            assert!(done.refused(2).starts_with(&format!("callboard: {said}")), "{line}: {}", done.stderr);
            let json = server.cli(words(line).into_iter().chain(["--output", "json"]));
            let error: Value = serde_json::from_str(json.refused(2)).unwrap();
            assert!(error["error"].as_str().unwrap().starts_with(said), "{error}");
        }
        let json = server.cli(words("device show nobody --output json"));
        let error: Value = serde_json::from_str(json.refused(1)).unwrap();
        assert_eq!(error["code"], Code::NotFound.as_str());
        assert_eq!(error["error"], "there is no device nobody");
    });
}
