//! The golden examples: each is what its type reads and writes, the signed ones verify, and all tell one story.
//!
//! `CALLBOARD_UPDATE=1 cargo test -p callboard-proto --test examples` writes what is computed: the four documents, their
//! envelopes and the bundle. The keys of the examples are public (bytes of 1, 2, 3 and 4) and must never be trusted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{fs, path::PathBuf};

use callboard_proto::{
    admin,
    check_in::CheckIn,
    digest::Digest,
    enrol::{Bundle, Enrol, Enrolled, Renew, Renewed},
    head::{Head, HeadProduct},
    instruction::{Action, ActivateOn, Instruction, Reason},
    payload::{CHUNK_SIZE, Format},
    problem::{Code, Problem},
    release::{Hook, Installer, Kind, Payload, Release, Restart, Rollback, Stage},
    report::{Receipt, Reports},
    root::{HeadRole, Key, ReleaseRole, Role, Roles, Root, Server},
    signed::{Envelope, key_id, verify},
    text::Check as _,
};
use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn pretty(value: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap())
}

/// Reads and writes an example: nothing may be lost, added or named otherwise.
fn round<T: DeserializeOwned + Serialize>(name: &str) -> String {
    let parsed: T = read(name);
    assert_eq!(serde_json::to_value(&parsed).unwrap(), read::<Value>(name), "{name}");
    name.to_owned()
}

/// The committed file is what is computed here.
fn computed(name: &str, value: &impl Serialize) {
    let wanted = pretty(value);
    if std::env::var_os("CALLBOARD_UPDATE").is_some() {
        fs::write(path(name), &wanted).unwrap();
    }
    let committed = fs::read_to_string(path(name)).unwrap_or_default();
    assert!(committed == wanted, "{name} is stale; run this test with CALLBOARD_UPDATE=1\n{wanted}");
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

const ROOT: u8 = 1;
const RELEASE: u8 = 2;
const ONLINE: u8 = 3;
const HEAD: u8 = 4;
const URL: &str = "https://updates.example.com:8443";

fn server_ca_pem() -> String {
    text("server-ca.pem")
}

fn root() -> Root {
    let keys = [ROOT, RELEASE, ONLINE, HEAD].map(|n| key(n).verifying_key());
    let role = |n: u8| Role { keyids: vec![key_id(&key(n).verifying_key())], threshold: 1 };
    let der: String = server_ca_pem().lines().filter(|line| !line.starts_with('-')).collect();
    Root {
        v: 1,
        issued_at: "2026-11-01T12:00:00Z".parse().unwrap(),
        crit: Vec::new(),
        version: 1,
        expires: "2028-05-01T12:00:00Z".parse().unwrap(),
        keys: keys.iter().map(|key| (key_id(key), Key::from_ed25519(key))).collect(),
        roles: Roles {
            root: role(ROOT),
            release: vec![ReleaseRole {
                name: "software".to_owned(),
                keyids: role(RELEASE).keyids,
                threshold: 1,
                epoch: 0,
                products: vec!["pos-app".parse().unwrap()],
                channels: vec!["stable".to_owned()],
            }],
            head: Some(HeadRole { keyids: role(HEAD).keyids, threshold: 1, epoch: 0 }),
            online: role(ONLINE),
        },
        servers: vec![Server { url: URL.to_owned(), ca_der: vec![der] }],
    }
}

fn release() -> Release {
    Release {
        v: 1,
        issued_at: "2026-11-20T09:30:00Z".parse().unwrap(),
        crit: vec!["hooks".to_owned()],
        product: "pos-app".parse().unwrap(),
        version: "2.4.0".parse().unwrap(),
        epoch: 0,
        counter: 42,
        min_floor: 41,
        channels: vec!["stable".to_owned()],
        hw: vec!["verifone-*".to_owned()],
        not_after: Some("2027-11-20T00:00:00Z".parse().unwrap()),
        kind: Kind::Security,
        advisory: Some("https://example.com/advisories/2026-11".to_owned()),
        requires_agent: Some("0.1.0".parse().unwrap()),
        requires_at_least: None,
        requires: Vec::new(),
        installer: Installer::Directory,
        restart: Restart::Service,
        hooks: vec![Hook { stage: Stage::PreActivate, path: "hooks/drain".to_owned(), timeout_s: 60 }],
        rollback: Rollback::Safe,
        needs_server_contact: false,
        max_postpone_s: Some(7 * 86_400),
        payloads: vec![Payload {
            name: "pos-app.tar.zst".to_owned(),
            sha256: Digest::of(b"the bytes of the payload"),
            size: 8 << 20,
            chunk_size: CHUNK_SIZE,
            chunks_sha256: Digest::of(b"its chunk list"),
            format: Format::TarZst,
            unpacked_size: 21_337_604,
            entries: 311,
        }],
    }
}

fn head() -> Head {
    Head {
        v: 1,
        issued_at: "2026-11-20T10:00:00Z".parse().unwrap(),
        crit: Vec::new(),
        serial: 12,
        epoch: 0,
        expires: "2026-12-04T10:00:00Z".parse().unwrap(),
        products: vec![HeadProduct {
            product: "pos-app".parse().unwrap(),
            epoch: 0,
            latest_counter: 42,
            min_counter: 40,
            revoked: vec![Digest::of(b"a release that lost receipts")],
        }],
    }
}

/// The answer to `check-in.json`, to the byte.
fn instruction() -> Instruction {
    let asked: CheckIn = read("check-in.json");
    let enrolled: Enrolled = read("enrolled.json");
    let progress = asked.progress.unwrap();
    Instruction {
        v: 1,
        issued_at: enrolled.server_time,
        crit: Vec::new(),
        device_id: enrolled.device_id,
        nonce: asked.nonce,
        request_sha256: Digest::of(text("check-in.json").as_bytes()),
        server_time: enrolled.server_time,
        action: Action::Download,
        reason: Reason {
            code: "downloading".to_owned(),
            text: "rollout pos-app-2.4.0: pos-app 2.4.0 is being downloaded; site NYC-001 has 250 kB/s for 2 downloads"
                .to_owned(),
        },
        release_sha256: Some(Envelope::unsigned(&release()).unwrap().digest()),
        assignment_id: Some(progress.assignment_id),
        attempt: Some(progress.attempt),
        not_before: None,
        not_after: None,
        offline_activation: false,
        activate_on: ActivateOn::Now,
        allow_downgrade: false,
        max_bytes_per_s: Some(125_000),
        next_checkin_s: 300,
        root_version: 1,
        head_serial: Some(head().serial),
        want: Vec::new(),
    }
}

fn signed<T: callboard_proto::signed::Document>(document: &T, by: u8) -> Value {
    let mut envelope = Envelope::unsigned(document).unwrap();
    envelope.sign(&key(by));
    serde_json::from_slice(&envelope.to_json()).unwrap()
}

#[test]
fn documents_and_envelopes_are_what_they_are_computed_from() {
    computed("root.json", &root());
    computed("root.envelope.json", &signed(&root(), ROOT));
    computed("release.json", &release());
    computed("release.envelope.json", &signed(&release(), RELEASE));
    computed("head.json", &head());
    computed("head.envelope.json", &signed(&head(), HEAD));
    computed("instruction.json", &instruction());
    computed("instruction.envelope.json", &signed(&instruction(), ONLINE));
    let token = read::<Enrol>("enrol.json").token;
    let bundle =
        Bundle { v: 1, server_url: URL.to_owned(), server_ca_pem: server_ca_pem(), root: signed(&root(), ROOT), token };
    computed("bundle.json", &bundle);
}

#[test]
fn every_example_is_what_its_type_reads_and_writes() {
    let mut known = vec![
        round::<Enrol>("enrol.json"),
        round::<Enrolled>("enrolled.json"),
        round::<Renew>("renew.json"),
        round::<Renewed>("renewed.json"),
        round::<Bundle>("bundle.json"),
        round::<CheckIn>("check-in.json"),
        round::<Instruction>("instruction.json"),
        round::<Reports>("reports.json"),
        round::<Receipt>("receipt.json"),
        round::<Root>("root.json"),
        round::<Release>("release.json"),
        round::<Head>("head.json"),
        round::<Problem>("problem.json"),
        round::<admin::ImportSites>("import-sites.json"),
        round::<admin::ImportDevices>("import-devices.json"),
        round::<admin::Imported>("imported.json"),
        round::<admin::EditLabels>("edit-labels.json"),
        round::<admin::Hold>("hold.json"),
        round::<admin::NewToken>("new-token.json"),
        round::<admin::RolloutSpec>("rollout-immediate.json"),
        round::<admin::RolloutSpec>("rollout-scheduled.json"),
        round::<admin::RolloutSpec>("rollout-progressive.json"),
        round::<admin::RolloutSpec>("rollout-on-connect.json"),
        round::<admin::Device>("device.json"),
        round::<admin::Explanation>("explanation.json"),
        round::<admin::Event>("event.json"),
    ];
    known.extend(["root", "release", "head", "instruction"].map(|kind| format!("{kind}.envelope.json")));
    known.sort();
    let names = fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut there: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    there.sort();
    assert_eq!(there, known, "an example without a test, or the reverse");
}

#[test]
fn a_device_that_has_the_bundle_accepts_the_release_and_the_instruction() {
    let bundle: Bundle = read("bundle.json");
    let root = Root::open_initial(&serde_json::to_vec(&bundle.root).unwrap()).unwrap();
    assert_eq!(root.servers[0].url, bundle.server_url);
    assert!(BASE64.decode(root.servers[0].ca_der[0].as_bytes()).is_ok());
    let envelope = Envelope::parse::<Release>(text("release.envelope.json").as_bytes()).unwrap();
    let release = root.verify_release(&envelope).unwrap();
    let envelope = Envelope::parse::<Instruction>(text("instruction.envelope.json").as_bytes()).unwrap();
    let (keys, threshold) = root.online();
    let instruction = verify::<Instruction>(&envelope, &keys, threshold).unwrap();
    assert_eq!(instruction.release_sha256, Some(release.digest()));
    let head = root.open_head(text("head.envelope.json").as_bytes()).unwrap();
    assert_eq!(instruction.head_serial, Some(head.serial));
    assert_eq!(head.allows(&release, release.digest()), Ok(()));
}

#[test]
fn the_examples_tell_one_story() {
    let (enrol, enrolled): (Enrol, Enrolled) = (read("enrol.json"), read("enrolled.json"));
    assert_eq!(enrol.name.as_ref(), Some(&enrolled.name));
    let asked: CheckIn = read("check-in.json");
    asked.check().unwrap();
    let told: Instruction = read("instruction.json");
    assert_eq!((told.device_id, told.nonce), (enrolled.device_id, asked.nonce));
    let reports: Reports = read("reports.json");
    for report in &reports.reports {
        assert_eq!((Some(report.assignment_id), Some(report.attempt)), (told.assignment_id, told.attempt));
        assert_eq!(Some(report.release_sha256), told.release_sha256);
    }
    let receipt: Receipt = read("receipt.json");
    let answered: Vec<_> =
        receipt.accepted.iter().chain(receipt.refused.iter().map(|refused| &refused.report)).copied().collect();
    assert_eq!(answered, reports.reports.iter().map(|report| report.key()).collect::<Vec<_>>());
    let device: admin::Device = read("device.json");
    assert_eq!((device.id, device.installed), (enrolled.device_id, asked.facts.installed));
    assert_eq!((device.hw, device.arch), (enrol.hw, enrol.arch));
    let problem: Problem = read("problem.json");
    let (code, title, status) = Code::BadSelector.row();
    assert_eq!((problem.code.as_str(), problem.title.as_str(), problem.status), (code, title, status));
}
