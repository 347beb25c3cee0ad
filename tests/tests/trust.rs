//! Roots, heads and keys from end to end: operators' commands, the server, and a real till.

use std::time::Duration;

use callboard_proto::{
    admin::{AuditEntry, Explanation, Release, Trust},
    digest::Digest,
    paths,
    problem::Code,
    root::Root,
    signed::Envelope,
    state::AssignmentState,
};
use callboard_tests::{
    browser::Browser,
    clock::START,
    device::{FakeDevice, anonymous},
    http::Request,
    release::NewRelease,
    server::TestServer,
    till::Till,
    world::rollout,
};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use crate::{on_both, refused};

const DAY: Duration = Duration::from_secs(86_400);

/// Runs a command line; `{}` stands for the time of the tests.
#[track_caller]
fn run(server: &TestServer, line: &str) -> callboard_tests::server::Output {
    let output = server.cli(line.replace("{}", START).split_whitespace());
    output.ok();
    output
}

/// Makes the root after `from`, signs it by the root key and publishes it.
#[track_caller]
fn rotate(server: &TestServer, from: &str, to: &str, change: &str) {
    run(server, &format!("root rotate {from} {change} --key data/try-out-keys/root.key --out {to} --fixed-clock {{}}"));
    run(server, &format!("root publish {to}"));
}

/// The root that a till trusts.
fn trusted(till: &Till) -> u64 {
    let bytes = std::fs::read(till.state_dir().join("root.json")).unwrap();
    Envelope::parse::<Root>(&bytes).unwrap().claim::<Root>().unwrap().version
}

fn roll_out(server: &TestServer, till: &Till, version: &str) -> AssignmentState {
    let name = format!("to-{version}");
    server.roll_out(&rollout(&name, &format!("pos-app@{version}"), &json!({})));
    till.once().ok();
    server.outcome(&name, till).state
}

fn trust(server: &TestServer) -> Trust {
    run(server, "trust status --output json").json()
}

fn reason(server: &TestServer, device: &str) -> String {
    server.api().get::<Explanation>(&format!("devices/{device}/explain")).next.code
}

#[test]
fn the_online_key_is_rotated_without_an_interruption() {
    on_both(|server| {
        let (till, sleeper) = (server.till("till-1"), server.till("till-2"));
        till.once().ok();
        run(server, "online-key new --dir data");
        let again = server.cli(["online-key", "new", "--dir", "data"]);
        assert!(again.refused(2).contains("is there already"), "{}", again.stderr);
        let early = server.cli(["online-key", "finish", "--dir", "data"]);
        assert!(early.refused(2).contains("does not list the next key"), "{}", early.stderr);

        rotate(server, "data/root.json", "root-2.json", "--add-online-key data/online-next.key.pub");
        let keys = trust(server).online_keys;
        assert_eq!(keys.iter().map(|key| (key.listed, key.signs)).collect::<Vec<_>>(), [(true, false), (true, true)]);
        till.once().ok();
        assert_eq!((trusted(&till), trusted(&sleeper)), (2, 1));
        let early = server.cli(["online-key", "finish", "--dir", "data"]);
        assert!(early.refused(2).contains("still lists the earlier key"), "{}", early.stderr);

        rotate(server, "root-2.json", "root-3.json", "--drop-online-key data/online.key.pub");
        run(server, "online-key finish --dir data");
        till.once().ok();
        assert_eq!(trusted(&till), 3);
        // It slept through all of it, and knows none of the keys that sign now.
        sleeper.once().ok();
        assert_eq!(trusted(&sleeper), 3);
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        assert_eq!(roll_out(server, &till, "1.1.0"), AssignmentState::Succeeded);
        server.stop();
        server.serve();
        assert_eq!(trust(server).online_keys.len(), 1);
        server.till("till-3").once().ok();
        // What was done in the data directory is in the audit like everything else.
        run(server, "ca new device --dir data");
        run(server, "certificate renew --dir data");
        let audit: Vec<AuditEntry> = server.api().list("audit");
        let home = audit.iter().filter(|entry| entry.who == "whoever has the data directory");
        let kinds: Vec<&str> = home.map(|entry| entry.kind.as_str()).collect();
        assert_eq!(kinds, ["online_key.made", "online_key.switched", "ca.made", "certificate.renewed"]);
    });
}

#[test]
fn a_server_publishes_only_the_root_that_follows_and_serves_every_one() {
    on_both(|server| {
        let publish =
            |bytes: &[u8]| server.api().send(Request::post("/api/v1/trust/root").body("application/json", bytes));
        let first = server.root();
        let key = server.try_out_key("root.key");
        let next = |version: u64, by: &SigningKey, change: &dyn Fn(&mut Root)| {
            let mut root = Root { version, ..(*first).clone() };
            change(&mut root);
            let mut envelope = Envelope::unsigned(&root).unwrap();
            envelope.sign(by);
            envelope.to_json()
        };
        let stranger = SigningKey::from_bytes(&[9; 32]);
        refused(&publish(&next(3, &key, &|_| {})), Code::Conflict, "so root 2 comes next, not root 3");
        refused(&publish(&next(1, &key, &|root| root.servers.clear())), Code::Conflict, "not root 1");
        refused(&publish(&next(2, &stranger, &|_| {})), Code::DocumentRefused, "root 2 does not follow root 1");
        let foreign = next(2, &key, &|root| root.roles.online.keyids = root.roles.release[0].keyids.clone());
        refused(&publish(&foreign), Code::DocumentRefused, "does not list this server's online key");
        let expired = next(2, &key, &|root| root.expires = root.issued_at);
        refused(&publish(&expired), Code::DocumentRefused, "the root expired at");

        let second = next(2, &key, &|_| {});
        publish(&second).ok();
        publish(&second).ok();
        publish(&std::fs::read(server.dir().join("root.json")).unwrap()).ok();
        let get = |path: &str| anonymous(server).send(&Request::get(path));
        assert_eq!(get(&paths::root(2)).body, second);
        assert_eq!(get(&paths::root(1)).body, std::fs::read(server.dir().join("root.json")).unwrap());
        assert_eq!(get(paths::ROOT).body, second);
        assert_eq!(get(&paths::root(3)).status, 404);
        assert_eq!(trust(server).root.unwrap().version, 2);
    });
}

#[test]
fn a_release_of_two_people_with_different_keys_needs_both_and_says_who_is_missing() {
    on_both(|server| {
        run(server, "key new --out ann.key");
        run(server, "key new --out bob.key --alg ecdsa-p256");
        run(server, "key new --out eve.key");
        let role = "--release-role pos=ann.key.pub+bob.key.pub,threshold=2,products=pos-app,channels=stable";
        rotate(server, "data/root.json", "root-2.json", &format!("{role} --drop-release-role release"));
        let till = server.till("till-1");
        std::fs::create_dir(server.home().join("app")).unwrap();
        std::fs::write(server.home().join("app/file"), "contents").unwrap();
        let build = |product: &str| {
            run(server, &format!("release build app --product {product} --version 1.1.0 --counter 1 --out {product}"));
        };
        build("pos-app");
        build("kiosk");
        let stranger = server.cli("release sign --key eve.key --root root-2.json pos-app".split_whitespace());
        assert!(stranger.refused(2).contains("may not sign pos-app for stable"), "{}", stranger.stderr);
        let scope = server.cli("release sign --key ann.key --root root-2.json kiosk".split_whitespace());
        assert!(scope.refused(2).contains("no release role of root 2 may sign kiosk"), "{}", scope.stderr);

        let one = run(server, "release sign --key ann.key --root root-2.json pos-app");
        assert!(one.stdout.contains("release role \"pos\": 1 of 2 signatures, 1 still missing"), "{}", one.stdout);
        let early = server.cli(["release", "publish", "pos-app"]);
        assert!(early.refused(1).contains("1 valid signatures of trusted keys, 2 are needed"), "{}", early.stderr);
        // The second key is somewhere else: a command has it.
        let signer = format!("{} key sign --key bob.key", crate::BINARIES.callboard);
        let both = server.cli([
            "release",
            "sign",
            "--signer",
            &signer,
            "--public-key",
            "bob.key.pub",
            "--root",
            "root-2.json",
            "pos-app",
        ]);
        assert!(both.ok().stdout.contains("2 of 2 signatures, none is missing"), "{}", both.stdout);
        let lying = server.cli(["release", "sign", "--signer", &signer, "--public-key", "eve.key.pub", "pos-app"]);
        assert!(lying.refused(1).contains("another key?"), "{}", lying.stderr);
        run(server, "release publish pos-app");
        assert_eq!(roll_out(server, &till, "1.1.0"), AssignmentState::Succeeded);
    });
}

#[test]
fn a_root_that_several_people_sign_says_how_many_are_missing_until_it_is_complete() {
    on_both(|server| {
        for name in ["ann", "bob", "eve"] {
            run(server, &format!("key new --out {name}.key --alg ecdsa-p256"));
        }
        let add = ["ann", "bob", "eve"].map(|name| format!("--add-root-key {name}.key.pub")).join(" ");
        run(server, &format!("root rotate data/root.json {add} --threshold 3 --out root-2.json --fixed-clock {{}}"));
        let sign =
            |key: &str| run(server, &format!("root sign --key {key} --previous data/root.json root-2.json")).stdout;
        let said = sign("ann.key");
        assert!(said.contains("root keys of root 1: 0 of 1 signatures, 1 still missing"), "{said}");
        assert!(said.contains("root keys of root 2: 1 of 3 signatures, 2 still missing"), "{said}");
        sign("bob.key");
        let early = server.cli(["root", "publish", "root-2.json"]);
        assert!(early.refused(1).contains("root 2 does not follow root 1"), "{}", early.stderr);
        let said = sign("data/try-out-keys/root.key");
        assert!(said.contains("root keys of root 1: 1 of 1 signatures, none is missing"), "{said}");
        assert!(said.contains("root keys of root 2: 3 of 3 signatures, none is missing"), "{said}");
        run(server, "root publish root-2.json");
        let till = server.till("till-1");
        till.once().ok();
        assert_eq!(trusted(&till), 2, "enrolled under it");
        let stranger = server.cli("root sign --key data/try-out-keys/release.key root-2.json".split_whitespace());
        assert!(stranger.refused(2).contains("is no root key of root 2"), "{}", stranger.stderr);
    });
}

/// A server whose root asks for heads, with a till that knows of none yet.
fn with_head(server: &TestServer) -> Till {
    run(server, "key new --out head.key");
    let till = server.till("till-1");
    rotate(server, "data/root.json", "root-2.json", "--head-key head.key.pub");
    till
}

fn publish_head(server: &TestServer, file: &str, more: &str) {
    run(server, &format!("head new {more} --key head.key --out {file} --fixed-clock {{}}"));
    run(server, &format!("head publish {file}"));
}

#[test]
fn a_root_that_asks_for_a_head_holds_everything_until_there_is_one() {
    on_both(|server| {
        let till = with_head(server);
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        server.roll_out(&rollout("go", "pos-app@1.1.0", &json!({})));
        till.once().ok();
        assert_eq!(reason(server, "till-1"), "head_missing");
        assert_eq!(till.version(), "none");
        assert_eq!(anonymous(server).send(&Request::get(paths::HEAD)).status, 404);
        publish_head(server, "head.json", "--latest pos-app=0.1");
        let served = anonymous(server).send(&Request::get(paths::HEAD)).body;
        assert_eq!(served, std::fs::read(server.home().join("head.json")).unwrap());
        till.once().ok();
        assert_eq!(server.outcome("go", &till).state, AssignmentState::Succeeded);
        assert_eq!(std::fs::read(till.state_dir().join("head.json")).unwrap(), served, "the bytes received");
    });
}

#[test]
fn a_server_alarms_from_half_of_a_heads_life_on_and_holds_after_its_end() {
    on_both(|server| {
        let till = with_head(server);
        publish_head(server, "head.json", "--latest pos-app=0.1 --valid-for 10d");
        till.once().ok();
        let alarm = || server.api().metric("callboard_expiry_alarm", "head") == 1.0;
        let said = || trust(server).ahead.into_iter().find(|one| one.text.starts_with("the head expires")).unwrap();
        server.advance(5 * DAY - Duration::from_secs(1));
        assert_eq!((alarm(), said().alarm), (false, false));
        server.advance(Duration::from_secs(1));
        assert_eq!((alarm(), said().alarm), (true, true));
        callboard_tests::wait::until("the log warns of the head", || server.log().contains("the head expires at"));
        server.advance(5 * DAY + Duration::from_secs(1));
        till.once().ok();
        assert_eq!(reason(server, "till-1"), "head_expired");
        let human = run(server, "trust status").stdout;
        assert!(human.contains("the head expires: from then on devices install nothing new"), "{human}");
    });
}

#[test]
fn a_revoked_release_is_neither_published_nor_rolled_out_nor_granted() {
    on_both(|server| {
        let till = with_head(server);
        publish_head(server, "head.json", "--latest pos-app=0.2");
        let bad: Release = NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        server.roll_out(&rollout("go", "pos-app@1.1.0", &json!({})));
        let unpublished = NewRelease::new("pos-app", "1.2.0", 2);
        server.api().upload(&unpublished.payload).ok();
        let digest: Digest = unpublished.signed(server).digest();
        let revoke = format!("--from head.json --revoke pos-app={} --revoke pos-app={digest}", bad.sha256);
        // By the page, where the head comes from wherever its key is.
        run(server, &format!("head new {revoke} --key head.key --out head-2.json --fixed-clock {{}}"));
        let head = std::fs::read_to_string(server.home().join("head-2.json")).unwrap();
        let ada = Browser::of(server, "releaser");
        let page = ada.submit("/releases/head", &[("head", &head), ("release", "pos-app@1.1.0")]);
        assert!(page.contains("Head 2 is published") && page.contains("head 2 revokes it"), "{page}");
        assert_eq!(anonymous(server).send(&Request::get(paths::HEAD)).body, head.as_bytes());

        let answer = server.try_publish(&unpublished.signed(server).to_json());
        refused(&answer, Code::DocumentRefused, "pos-app 1.2.0 cannot be published: head 2 revokes it");
        let spec = rollout("again", "pos-app@1.1.0", &json!({}));
        let answer = server.api().try_post("rollouts", &spec);
        refused(&answer, Code::WrongState, "pos-app 1.1.0 cannot be rolled out: head 2 revokes it");
        till.once().ok();
        assert_eq!((till.version().as_str(), server.assignment("go", &till).is_none()), ("none", true));
        let shown: Release = server.api().get("releases/pos-app@1.1.0");
        assert_eq!(shown.distrusted.as_deref(), Some("head 2 revokes it"));
        assert_eq!(trust(server).distrusted_releases, ["pos-app@1.1.0"]);
    });
}

#[test]
fn heads_are_taken_only_from_the_head_role_and_only_forward() {
    on_both(|server| {
        let publish = |file: &str| server.cli(["head", "publish", file]);
        run(server, "head new --key data/try-out-keys/root.key --out early.json --fixed-clock {}");
        assert!(publish("early.json").refused(1).contains("names nobody who may sign a head"));
        let _till = with_head(server);
        assert!(publish("early.json").refused(1).contains("0 valid signatures of trusted keys"));
        publish_head(server, "head-5.json", "--serial 5");
        run(server, "head publish head-5.json");
        run(server, "head new --serial 5 --latest pos-app=0.1 --key head.key --out other.json --fixed-clock {}");
        run(server, "head new --serial 4 --key head.key --out older.json --fixed-clock {}");
        for file in ["other.json", "older.json"] {
            assert!(publish(file).refused(1).contains("head 5 of epoch 0 is published"), "{file}");
        }
        run(server, "head new --serial 6 --out unsigned.json --fixed-clock {}");
        let said = run(server, "head sign --key head.key --root root-2.json unsigned.json").stdout;
        assert!(said.contains("head keys of root 2: 1 of 1 signatures, none is missing"), "{said}");
        run(server, "head publish unsigned.json");
        assert_eq!(trust(server).head.unwrap().serial, 6);
    });
}

#[test]
fn releases_that_a_new_root_does_not_accept_are_kept_shown_and_not_offered() {
    on_both(|server| {
        let till = server.till("till-1");
        NewRelease::new("pos-app", "1.1.0", 1).publish(server);
        server.roll_out(&rollout("go", "pos-app@1.1.0", &json!({})));
        run(server, "key new --out new.key");
        rotate(server, "data/root.json", "root-2.json", "--release-role release=new.key.pub");
        till.once().ok();
        assert_eq!((till.version(), reason(server, "till-1")), ("none".to_owned(), "release_untrusted".to_owned()));
        let listed: Vec<Release> = server.api().list("releases");
        assert!(listed[0].distrusted.as_ref().is_some_and(|why| why.contains("root 2 does not accept it")));
        // Signed anew by who may sign now, it is the same release.
        let key = std::fs::read_to_string(server.home().join("new.key")).unwrap();
        let key = <SigningKey as ed25519_dalek::pkcs8::DecodePrivateKey>::from_pkcs8_pem(&key).unwrap();
        server.try_publish(&NewRelease::new("pos-app", "1.1.0", 1).signed_by(&key).to_json()).ok();
        till.once().ok();
        assert_eq!(server.outcome("go", &till).state, AssignmentState::Succeeded);
    });
}

#[test]
fn trust_status_says_who_signs_what_and_what_would_break_when() {
    on_both(|server| {
        let status = trust(server);
        let root = status.root.unwrap();
        let roles: Vec<(&str, u32, i64)> =
            root.roles.iter().map(|role| (role.kind.as_str(), role.threshold, role.spare)).collect();
        assert_eq!(roles, [("root", 1, 0), ("release", 1, 0), ("online", 1, 0)]);
        assert!(status.ahead.iter().any(|one| one.text.starts_with("the root expires: from then on devices install")));
        assert!(status.ahead.iter().any(|one| one.text.starts_with("the root role needs 1 of its 1 keys")));
        assert!(status.ahead.iter().any(|one| one.text.starts_with("the root names no head role")));
        let human = run(server, "trust status").stdout;
        for wanted in ["ROLE", "1 of 1", "every product in every channel", "ONLINE KEY", "WHAT BREAKS"] {
            assert!(human.contains(wanted), "{wanted}: {human}");
        }
        let json: Value = run(server, "trust status --output json").json();
        assert_eq!(json["root"]["version"], 1);
        let _device = FakeDevice::enrol(server, "till-1");
    });
}
