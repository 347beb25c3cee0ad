//! Keys and documents for unit tests.

pub(crate) mod server;

use std::{collections::BTreeMap, rc::Rc, sync::OnceLock};

use callboard_proto::{
    digest::Digest,
    instruction::{Action, ActivateOn, Instruction, Nonce, Reason},
    payload::{Chunker, Format},
    release::{Installer, Kind, Payload, Release, Restart, Rollback},
    root::{Key, ReleaseRole, Role, Roles, Root},
    signed::{Document, Envelope, Verified, key_id},
    time::Timestamp,
};
use ed25519_dalek::SigningKey;

use crate::{
    Program,
    agent::Agent,
    config::{InstalledBy, ProductSettings, Settings},
    fs::Disk,
    identity::Identity,
    itself::Process,
    journal::Attempt,
    layout::{ProductDir, StateDir},
    machine::Order,
};

/// The time in these tests.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// One key for each role.
pub(crate) struct Keys {
    pub(crate) root: SigningKey,
    pub(crate) release: SigningKey,
    pub(crate) online: SigningKey,
}

impl Keys {
    /// Always the same keys.
    pub(crate) fn fixed() -> Self {
        let key = |n| SigningKey::from_bytes(&[n; 32]);
        Self { root: key(1), release: key(2), online: key(3) }
    }
}

/// The envelope of `document`, signed by `keys`.
pub(crate) fn signed<T: Document>(document: &T, keys: &[&SigningKey]) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(document).expect("an acceptable document");
    for key in keys {
        envelope.sign(*key);
    }
    envelope.to_json()
}

/// The first root as a document.
pub(crate) fn first_root(keys: &Keys) -> Root {
    root(keys).into_inner()
}

/// A root in which each of `keys` has its role alone.
pub(crate) fn root(keys: &Keys) -> Verified<Root> {
    Root::open_initial(&root_envelope(keys)).expect("a root")
}

/// The envelope of [`root`].
pub(crate) fn root_envelope(keys: &Keys) -> Vec<u8> {
    let id = |key: &SigningKey| key_id(&key.verifying_key());
    let role = |key: &SigningKey| Role { keyids: vec![id(key)], threshold: 1 };
    let all = [&keys.root, &keys.release, &keys.online];
    let document = Root {
        v: 1,
        issued_at: Timestamp::from_millis(0),
        crit: Vec::new(),
        version: 1,
        expires: NOW + std::time::Duration::from_secs(86_400 * 300),
        keys: all.iter().map(|key| (id(key), Key::from_ed25519(&key.verifying_key()))).collect::<BTreeMap<_, _>>(),
        roles: Roles {
            root: role(&keys.root),
            release: vec![ReleaseRole {
                name: "all".to_owned(),
                keyids: vec![id(&keys.release)],
                threshold: 1,
                epoch: 1,
                products: Vec::new(),
                channels: Vec::new(),
            }],
            head: None,
            online: role(&keys.online),
        },
        servers: Vec::new(),
    };
    signed(&document, &[&keys.root])
}

/// Release `counter` of pos-app, with one payload that nobody has.
pub(crate) fn release(counter: u64) -> Release {
    Release {
        v: 1,
        issued_at: Timestamp::from_millis(0),
        crit: Vec::new(),
        product: "pos-app".parse().expect("a name"),
        version: format!("1.{counter}").parse().expect("a version"),
        epoch: 1,
        counter,
        min_floor: 0,
        channels: vec!["stable".to_owned()],
        hw: vec!["*".to_owned()],
        not_after: None,
        kind: Kind::Feature,
        advisory: None,
        requires_agent: None,
        requires_at_least: None,
        requires: Vec::new(),
        installer: Installer::Directory,
        restart: Restart::None,
        hooks: Vec::new(),
        rollback: Rollback::Safe,
        needs_server_contact: false,
        max_postpone_s: None,
        payloads: vec![Payload {
            name: "app".to_owned(),
            sha256: Digest::of(b"payload"),
            size: 7,
            chunk_size: 4096,
            chunks_sha256: Digest::of(Digest::of(b"payload").as_bytes()),
            format: Format::Raw,
            unpacked_size: 7,
            entries: 1,
        }],
    }
}

/// An order for release `counter` under attempt `attempt` of always the same assignment.
pub(crate) fn order(counter: u64, attempt: u32) -> Order {
    let release = Digest::of(&counter.to_le_bytes());
    Order {
        attempt: Attempt { assignment_id: "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c77".parse().expect("an id"), attempt },
        release,
        product: "pos-app".parse().expect("a name"),
        version: format!("1.{counter}").parse().expect("a version"),
        epoch: 1,
        counter,
        min_floor: 0,
        restart: false,
        reboot: false,
        hooks: Vec::new(),
        rollback: Rollback::Safe,
        needs_contact: false,
        max_postpone_s: None,
        dir: release.short(),
        bytes_total: 7,
        trial_tries: 3,
    }
}

/// A product in `directory` that is committed after one look.
pub(crate) fn product(directory: &std::path::Path) -> ProductSettings {
    ProductSettings {
        installed_by: InstalledBy::Agent(directory.to_owned()),
        service: None,
        health: None,
        health_timeout: std::time::Duration::from_secs(5),
        trial: std::time::Duration::ZERO,
        trial_tries: 3,
        contact: std::time::Duration::from_secs(1800),
        factory_version: None,
        floor: Default::default(),
    }
}

/// A process that no launcher has started, on a machine like any other.
pub(crate) fn process() -> Process {
    Process { program: Program::OURS, launched_from: None, running: None, machine: None }
}

/// The answer that there is nothing to do, to the question with this nonce and digest.
pub(crate) fn instruction(nonce: Nonce, request_sha256: Digest) -> Instruction {
    Instruction {
        v: 1,
        issued_at: NOW,
        crit: Vec::new(),
        device_id: identity().0.device_id,
        nonce,
        request_sha256,
        server_time: NOW,
        action: Action::None,
        reason: Reason { code: "nothing".to_owned(), text: "a test".to_owned() },
        release_sha256: None,
        assignment_id: None,
        attempt: None,
        not_before: None,
        not_after: None,
        offline_activation: false,
        activate_on: ActivateOn::Now,
        allow_downgrade: false,
        max_bytes_per_s: None,
        next_checkin_s: 86_400,
        root_version: 1,
        head_serial: None,
        want: Vec::new(),
    }
}

/// A raw payload of these bytes.
pub(crate) fn payload(name: &str, bytes: &[u8]) -> Payload {
    let mut chunker = Chunker::new(4096);
    chunker.update(bytes);
    let chunked = chunker.finish();
    Payload {
        name: name.to_owned(),
        sha256: chunked.sha256,
        size: chunked.size,
        chunk_size: 4096,
        chunks_sha256: Digest::of(&chunked.list),
        format: if name.ends_with(".tar.zst") { Format::TarZst } else { Format::Raw },
        unpacked_size: chunked.size,
        entries: 1,
    }
}

/// A state directory and a product's directory, empty but for what must be there.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) state_dir: StateDir,
    pub(crate) dirs: ProductDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = StateDir::new(&dir.path().join("state"));
        let dirs = ProductDir::new(&dir.path().join("pos"));
        for path in state_dir.directories().iter().chain([&dirs.versions()]) {
            std::fs::create_dir_all(path).expect("made");
        }
        Self { _dir: dir, state_dir, dirs }
    }
}

/// Who the agent is, and its key.
pub(crate) fn identity() -> (Identity, &'static str) {
    static KEY: OnceLock<(String, String)> = OnceLock::new();
    let (certificate, key) = KEY.get_or_init(|| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    });
    let identity = Identity {
        device_id: "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c01".parse().expect("an id"),
        name: "till-1".parse().expect("a name"),
        site: None,
        server_url: "https://127.0.0.1:1".to_owned(),
        server_ca_pem: certificate.clone(),
        server_root: 1,
        certificate_pem: certificate.clone(),
        expires_at: NOW,
        renew_at: None,
    };
    (identity, key)
}

/// An agent on the real disk of `world`, with one product.
pub(crate) fn agent(world: &World) -> Agent {
    let (identity, key) = identity();
    std::fs::write(world.state_dir.key(), key).expect("written");
    std::fs::write(world.state_dir.identity(), serde_json::to_vec(&identity).expect("JSON")).expect("written");
    std::fs::write(world.state_dir.root(), root_envelope(&Keys::fixed())).expect("written");
    let (state_dir, directory) = (world.state_dir.path().display(), world.dirs.path().display());
    let text = format!("state_dir = '{state_dir}'\n[products.pos-app]\ndirectory = '{directory}'\ntrial_s = 0");
    let settings = Settings::parse(&text).expect("settings");
    crate::run::open(settings, Rc::new(Disk), identity, process()).expect("an agent")
}
