//! The vectors that are kept as files.

use callboard_proto::{
    digest::Digest,
    head::{Head, HeadProduct},
    instruction::{Action, ActivateOn, Instruction, Nonce, Reason},
    payload::Format,
    release::{Hook, Installer, Kind as Why, Payload, Release, Requirement, Restart, Rollback, Stage},
    root::{HeadRole, Key, ReleaseRole, Role, Roles, Root},
    signed::{Document, Envelope, Sign, Signature},
    time::Timestamp,
};
use data_encoding::{BASE64, BASE64URL};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::{Kind, Vector, wrapped};

pub(super) fn ed(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(super) fn p256(n: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_bytes(&[n; 32].into()).unwrap()
}

// Who is who: 1 to 3 and 11 (P-256) sign roots, 4 and 12 (P-256) releases, 5 heads, 6 instructions.
const RELEASE: u8 = 4;
const HEAD: u8 = 5;
const ONLINE: u8 = 6;

/// A root of two of three keys, one of them of P-256; releases of `pos-app` need two keys, those of `os` one.
pub(super) fn root() -> Root {
    let (a, b, c) = (ed(1).public(), ed(2).public(), p256(11).public());
    let (release, other) = (ed(RELEASE).public(), p256(12).public());
    let (head, online) = (ed(HEAD).public(), ed(ONLINE).public());
    let keys = [&a, &b, &c, &release, &other, &head, &online];
    let role = |name: &str, keyids: Vec<Digest>, threshold: u32| ReleaseRole {
        name: name.to_owned(),
        keyids,
        threshold,
        epoch: 1,
        products: vec![name.parse().unwrap()],
        channels: vec!["stable".to_owned()],
    };
    Root {
        v: 1,
        issued_at: "2026-11-01T12:00:00Z".parse().unwrap(),
        crit: Vec::new(),
        version: 1,
        expires: "2028-05-01T12:00:00Z".parse().unwrap(),
        keys: keys.iter().map(|key| (key.id(), Key::new(key))).collect(),
        roles: Roles {
            root: Role { keyids: vec![a.id(), b.id(), c.id()], threshold: 2 },
            release: vec![role("pos-app", vec![release.id(), other.id()], 2), role("os", vec![release.id()], 1)],
            head: Some(HeadRole { keyids: vec![head.id()], threshold: 1, epoch: 2 }),
            online: Role { keyids: vec![online.id()], threshold: 1 },
        },
        servers: Vec::new(),
    }
}

/// The root as a device has it.
pub(super) fn trusted() -> Vec<u8> {
    signed(&root(), &[&ed(1), &p256(11)])
}

pub(super) fn release() -> Release {
    Release {
        v: 1,
        issued_at: "2026-11-20T09:30:00Z".parse().unwrap(),
        crit: Vec::new(),
        product: "pos-app".parse().unwrap(),
        version: "2.4.0".parse().unwrap(),
        epoch: 1,
        counter: 42,
        min_floor: 41,
        channels: vec!["stable".to_owned()],
        hw: vec!["*".to_owned()],
        not_after: None,
        kind: Why::Security,
        advisory: None,
        requires_agent: None,
        requires_at_least: None,
        requires: Vec::new(),
        installer: Installer::Directory,
        restart: Restart::Service,
        hooks: Vec::new(),
        rollback: Rollback::Safe,
        needs_server_contact: false,
        max_postpone_s: None,
        payloads: vec![Payload {
            name: "pos-app.tar.zst".to_owned(),
            sha256: Digest::of(b"payload"),
            size: 8 << 20,
            chunk_size: 1 << 20,
            chunks_sha256: Digest::of(b"chunks"),
            format: Format::TarZst,
            unpacked_size: 21_337_604,
            entries: 311,
        }],
    }
}

pub(super) fn head() -> Head {
    Head {
        v: 1,
        issued_at: "2026-11-20T10:00:00Z".parse().unwrap(),
        crit: Vec::new(),
        serial: 12,
        epoch: 2,
        expires: "2026-12-04T10:00:00Z".parse().unwrap(),
        products: vec![HeadProduct {
            product: "pos-app".parse().unwrap(),
            epoch: 1,
            latest_counter: 42,
            min_counter: 40,
            revoked: vec![Digest::of(b"revoked")],
        }],
    }
}

pub(super) fn instruction() -> Instruction {
    let server_time: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
    Instruction {
        v: 1,
        issued_at: server_time,
        crit: Vec::new(),
        device_id: "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c01".parse().unwrap(),
        nonce: Nonce([7; 32]),
        request_sha256: Digest::of(b"request"),
        server_time,
        action: Action::Install,
        reason: Reason { code: "install_now".to_owned(), text: "a vector".to_owned() },
        release_sha256: Some(Digest::of(b"release")),
        assignment_id: Some("0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c77".parse().unwrap()),
        attempt: Some(1),
        not_before: None,
        not_after: None,
        offline_activation: false,
        activate_on: ActivateOn::Now,
        allow_downgrade: false,
        max_bytes_per_s: None,
        next_checkin_s: 300,
        root_version: 1,
        head_serial: Some(12),
        want: Vec::new(),
    }
}

pub(super) fn signed<T: Document>(document: &T, keys: &[&dyn Sign]) -> Vec<u8> {
    envelope(document, keys).to_json()
}

fn envelope<T: Document>(document: &T, keys: &[&dyn Sign]) -> Envelope {
    let mut envelope = wrapped::<T>(&serde_json::to_vec(document).unwrap());
    sign(&mut envelope, keys);
    envelope
}

pub(super) fn sign(envelope: &mut Envelope, keys: &[&dyn Sign]) {
    for key in keys {
        let signature = key.signature(&envelope.signed_bytes());
        envelope.attach(key.public().id(), &signature);
    }
}

/// A vector under the trusted root.
fn under(name: &str, kind: Kind, document: &[u8], accept: bool) -> Vector {
    Vector::new(name, kind, Some(&trusted()), document, accept)
}

pub(super) fn all() -> Vec<Vector> {
    [first_roots(), next_roots(), keys(), envelopes(), signatures(), releases(), heads(), instructions()].concat()
}

fn first_roots() -> Vec<Vector> {
    let first = |name: &str, change: &dyn Fn(&mut Root), by: &[&dyn Sign], accept| {
        let mut root = root();
        change(&mut root);
        Vector::new(format!("first-root-{name}"), Kind::FirstRoot, None, &signed(&root, by), accept)
    };
    let two: &[&dyn Sign] = &[&ed(1), &p256(11)];
    let all: &[&dyn Sign] = &[&ed(1), &ed(2), &p256(11)];
    vec![
        first("of-two-algorithms", &|_| {}, two, true),
        first("by-all-its-keys", &|_| {}, all, true),
        first("by-one-of-two", &|_| {}, &[&ed(1)], false),
        first("unsigned", &|_| {}, &[], false),
        first("by-a-release-key-and-one-of-its-own", &|_| {}, &[&ed(1), &ed(RELEASE)], false),
        first("version-0", &|root| root.version = 0, all, false),
        first("threshold-0", &|root| root.roles.root.threshold = 0, all, false),
        first("threshold-above-its-keys", &|root| root.roles.root.threshold = 4, all, false),
        first("release-threshold-0", &|root| root.roles.release[1].threshold = 0, all, false),
        first("online-threshold-2", &|root| root.roles.online.threshold = 2, all, false),
        first("head-threshold-0", &|root| root.roles.head.as_mut().unwrap().threshold = 0, all, false),
        first("without-a-head-role", &|root| root.roles.head = None, all, true),
        first("a-role-names-a-key-twice", &|root| root.roles.root.keyids[1] = root.roles.root.keyids[0], all, false),
        first("a-role-names-a-missing-key", &|root| drop(root.keys.pop_first()), all, false),
        first("a-key-under-another-id", &|root| wrong_id(root), all, false),
        first("format-2", &|root| root.v = 2, all, false),
        first("critical-and-known", &|root| root.crit = vec!["servers".to_owned()], all, true),
        first("critical-and-unknown", &|root| root.crit = vec!["later".to_owned()], all, false),
    ]
}

fn wrong_id(root: &mut Root) {
    let id = root.roles.online.keyids[0];
    let key = root.keys.remove(&id).unwrap();
    root.keys.insert(Digest::of(b"another"), key);
    root.roles.online.keyids[0] = Digest::of(b"another");
}

fn next_roots() -> Vec<Vector> {
    let next = |name: &str, change: &dyn Fn(&mut Root), by: &[&dyn Sign], accept| {
        let mut root = Root { version: 2, ..root() };
        change(&mut root);
        under(&format!("next-root-{name}"), Kind::NextRoot, &signed(&root, by), accept)
    };
    let others = |root: &mut Root| {
        let (d, e) = (ed(21).public(), p256(22).public());
        root.keys.extend([&d, &e].map(|key| (key.id(), Key::new(key))));
        root.roles.root = Role { keyids: vec![d.id(), e.id()], threshold: 2 };
    };
    let lowered = |root: &mut Root| root.roles.root.threshold = 1;
    let raised = |root: &mut Root| root.roles.root.threshold = 3;
    vec![
        next("by-two-of-three", &|_| {}, &[&ed(2), &p256(11)], true),
        next("by-one-of-three", &|_| {}, &[&ed(2)], false),
        next("by-old-and-new-keys", &others, &[&ed(1), &ed(2), &ed(21), &p256(22)], true),
        next("by-old-keys-only", &others, &[&ed(1), &ed(2), &p256(11)], false),
        next("by-new-keys-only", &others, &[&ed(21), &p256(22)], false),
        next("threshold-lowered-by-one", &lowered, &[&ed(1)], false),
        next("threshold-lowered-by-two", &lowered, &[&ed(1), &ed(2)], true),
        next("threshold-raised-by-two", &raised, &[&ed(1), &ed(2)], false),
        next("threshold-raised-by-three", &raised, &[&ed(1), &ed(2), &p256(11)], true),
        next("the-same-version", &|root| root.version = 1, &[&ed(1), &ed(2)], false),
        next("a-version-left-out", &|root| root.version = 3, &[&ed(1), &ed(2)], false),
        next("expired", &|root| root.expires = root.issued_at, &[&ed(1), &ed(2)], true),
    ]
}

/// Keys in a root that is otherwise right.
fn keys() -> Vec<Vector> {
    let with = |name: &str, alg: &str, public: &str, accept| {
        let mut root = root();
        // Its own id where it is a key, so that nothing else is wrong with it.
        let key = Key { alg: alg.to_owned(), public: public.to_owned() };
        let id = key.read().and_then(Result::ok).map_or(Digest::of(b"any"), |key| key.id());
        root.keys.insert(id, key);
        let document = signed(&root, &[&ed(1), &ed(2)]);
        Vector::new(format!("key-{name}"), Kind::FirstRoot, None, &document, accept)
    };
    let point = p256(31).public().raw();
    let mut off_curve = point.clone();
    off_curve[64] ^= 1;
    let compressed = [&[2 | (point[64] & 1)][..], &point[1..33]].concat();
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let order8 = hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    let identity = [&[1_u8][..], &[0; 31]].concat();
    let beyond = [&[0xf0_u8][..], &[0xff; 30], &[0x7f]].concat();
    let b64 = |bytes: &[u8]| BASE64.encode(bytes);
    let mut counted = root();
    let id = ed(2).public().id();
    counted.keys.get_mut(&id).unwrap().alg = "ml-dsa-65".to_owned();
    vec![
        with("ed25519", "ed25519", &b64(&ed(31).public().raw()), true),
        with("p-256", "ecdsa-p256", &b64(&point), true),
        with("of-an-unknown-algorithm", "ml-dsa-65", "AAAA", true),
        with("p-256-off-the-curve", "ecdsa-p256", &b64(&off_curve), false),
        with("p-256-compressed", "ecdsa-p256", &b64(&compressed), false),
        with("p-256-at-infinity", "ecdsa-p256", "AA==", false),
        with("ed25519-identity", "ed25519", &b64(&identity), false),
        with("ed25519-of-order-8", "ed25519", &b64(&order8), false),
        with("ed25519-not-canonical", "ed25519", &b64(&beyond), false),
        with("ed25519-too-short", "ed25519", "AAAA", false),
        with("not-base64", "ed25519", "not base64", false),
        Vector::new(
            "key-of-an-unknown-algorithm-is-not-counted",
            Kind::FirstRoot,
            None,
            &signed(&counted, &[&ed(1), &ed(2)]),
            false,
        ),
        Vector::new(
            "key-of-an-unknown-algorithm-beside-enough-others",
            Kind::FirstRoot,
            None,
            &signed(&counted, &[&ed(1), &ed(2), &p256(11)]),
            true,
        ),
    ]
}

/// Envelopes around an instruction that is signed rightly.
fn envelopes() -> Vec<Vector> {
    let good = signed(&instruction(), &[&ed(ONLINE)]);
    let text = String::from_utf8(good.clone()).unwrap();
    let of = |name: &str, document: &str, accept| {
        under(&format!("envelope-{name}"), Kind::Instruction, document.as_bytes(), accept)
    };
    let value: Value = serde_json::from_slice(&good).unwrap();
    let payload = value["payload"].as_str().unwrap();
    let urlsafe = BASE64URL.encode(&BASE64.decode(payload.as_bytes()).unwrap());
    let mut many = value.clone();
    many["signatures"] = Value::Array(vec![value["signatures"][0].clone(); 17]);
    let mut sixteen = value.clone();
    sixteen["signatures"] = Value::Array(vec![value["signatures"][0].clone(); 16]);
    let mut more = value.clone();
    more["later"] = json!({ "anything": [1] });
    let mut hidden = value.clone();
    hidden["signatures"][0]["keyid"] = json!("somebody else");
    let bare = json!({ "payload": payload, "signatures": value["signatures"] });
    let release = Release::TYPE;
    vec![
        of("good", &text, true),
        of("url-safe-alphabet", &text.replace(payload, &urlsafe), true),
        of("white-space-around-it", &format!(" {text}\n"), true),
        of("unknown-fields", &more.to_string(), true),
        of("a-wrong-hint", &hidden.to_string(), true),
        of("sixteen-signatures", &sixteen.to_string(), true),
        of("seventeen-signatures", &many.to_string(), false),
        of("white-space-in-the-payload", &text.replace(payload, &format!("{payload} ")), false),
        of("a-field-twice", &text.replacen('{', &format!("{{\"payload\":\"{payload}\","), 1), false),
        of("an-unknown-field-twice", &text.replacen('{', "{\"x\":1,\"x\":1,", 1), false),
        of("something-behind-it", &format!("{text}{{}}"), false),
        of("of-another-type", &text.replace(Instruction::TYPE, release), false),
        of("without-a-type", &bare.to_string(), false),
        of("empty", "", false),
        of("no-object", "[]", false),
    ]
}

/// Signatures on an instruction.
fn signatures() -> Vec<Vector> {
    let plain = envelope(&instruction(), &[]);
    let good = ed(ONLINE).signature(&plain.signed_bytes());
    let with = |name: &str, signatures: &[&[u8]], accept| {
        let mut envelope = plain.clone();
        let one = |bytes: &&[u8]| Signature { keyid: String::new(), sig: BASE64.encode(bytes) };
        envelope.signatures = signatures.iter().map(one).collect();
        under(&format!("signature-{name}"), Kind::Instruction, &envelope.to_json(), accept)
    };
    let mut flipped = good;
    flipped[10] ^= 4;
    let bare = ed(ONLINE).signature(&plain.payload);
    vec![
        with("good", &[&good], true),
        with("beside-bad-ones", &[b"", b"short", &flipped, &good], true),
        with("flipped", &[&flipped], false),
        with("not-canonical-s", &[&beyond_the_order(&good)], false),
        with("one-byte-longer", &[&[&good[..], &[0]].concat()], false),
        with("without-the-pae", &[&bare], false),
        with("of-zeros", &[&[0; 64]], false),
        with("by-a-release-key", &[&ed(RELEASE).signature(&plain.signed_bytes())], false),
    ]
}

/// The same signature with `S + L`.
fn beyond_the_order(signature: &[u8; 64]) -> [u8; 64] {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut sum = *signature;
    let mut carry = 0_u16;
    for (byte, l) in sum[32..].iter_mut().zip(L) {
        carry += u16::from(*byte) + u16::from(l);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    sum
}

#[expect(clippy::too_many_lines, reason = "one entry for each vector")]
fn releases() -> Vec<Vector> {
    let two: &[&dyn Sign] = &[&ed(RELEASE), &p256(12)];
    let of = |name: &str, change: &dyn Fn(&mut Release), by: &[&dyn Sign], accept| {
        let mut release = release();
        change(&mut release);
        under(&format!("release-{name}"), Kind::Release, &signed(&release, by), accept)
    };
    let payload = |name: &str, change: &dyn Fn(&mut Payload)| {
        of(&format!("payload-{name}"), &|release| change(&mut release.payloads[0]), two, false)
    };
    let by_program = |name: &str, change: &dyn Fn(&mut Release), accept| {
        let raw = |release: &mut Release| {
            release.installer = Installer::Command;
            (release.payloads[0].format, release.payloads[0].entries) = (Format::Raw, 1);
            change(release);
        };
        of(name, &raw, two, accept)
    };
    let known = Release::FIELDS.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
    let mut twice = envelope(&release(), &[&ed(RELEASE)]);
    twice.signatures.push(twice.signatures[0].clone());
    let mut malleable = envelope(&release(), &[&p256(12)]);
    let signature = p256::ecdsa::Signature::from_slice(&p256(12).signature(&malleable.signed_bytes())).unwrap();
    let negated = p256::ecdsa::Signature::from_scalars(*signature.r(), -*signature.s()).unwrap();
    malleable.signatures.push(Signature { keyid: String::new(), sig: BASE64.encode(&negated.to_bytes()) });
    let mut other_s = envelope(&release(), &[&ed(RELEASE)]);
    let signature = p256::ecdsa::Signature::from_slice(&p256(12).signature(&other_s.signed_bytes())).unwrap();
    let negated = p256::ecdsa::Signature::from_scalars(*signature.r(), -*signature.s()).unwrap();
    other_s.signatures.push(Signature { keyid: String::new(), sig: BASE64.encode(&negated.to_bytes()) });
    let mut der = envelope(&release(), &[&ed(RELEASE)]);
    der.signatures.push(Signature { keyid: String::new(), sig: BASE64.encode(signature.to_der().as_bytes()) });
    vec![
        of("by-both", &|_| {}, two, true),
        of("by-one-of-two", &|_| {}, &[&p256(12)], false),
        of("of-another-role-by-one", &|release| release.product = "os".parse().unwrap(), &[&ed(RELEASE)], true),
        of("by-a-key-of-another-role", &|release| release.product = "os".parse().unwrap(), &[&p256(12)], false),
        of("of-a-product-without-a-role", &|release| release.product = "kiosk".parse().unwrap(), two, false),
        of("for-a-channel-out-of-scope", &|release| release.channels.push("beta".to_owned()), two, false),
        of("of-another-epoch", &|release| release.epoch = 2, two, false),
        of("critical-and-known", &|release| release.crit = known.clone(), two, true),
        of("critical-and-unknown", &|release| release.crit = vec!["later".to_owned()], two, false),
        of("without-hardware", &|release| release.hw.clear(), two, false),
        of("without-a-channel", &|release| release.channels.clear(), two, false),
        of("without-a-payload", &|release| release.payloads.clear(), two, false),
        of("a-payload-name-twice", &|release| release.payloads = vec![release.payloads[0].clone(); 2], two, false),
        of("counter-0", &|release| (release.counter, release.min_floor) = (0, 0), two, false),
        of("counter-2-to-the-63", &|release| release.counter = 1 << 63, two, false),
        of("min-floor-above-its-counter", &|release| release.min_floor = 43, two, false),
        of("a-stepping-stone-that-is-itself", &|release| release.requires_at_least = Some(42), two, false),
        payload("out-of-its-directory", &|payload| payload.name = "../x".to_owned()),
        payload("with-a-slash", &|payload| payload.name = "a/b".to_owned()),
        payload("with-a-dot-first", &|payload| payload.name = ".x".to_owned()),
        payload("with-a-zero-byte", &|payload| payload.name = "a\0b".to_owned()),
        payload("with-a-long-name", &|payload| payload.name = "a".repeat(201)),
        payload("of-no-bytes", &|payload| payload.size = 0),
        payload("too-large", &|payload| payload.size = 1 << 63),
        payload("chunks-of-0", &|payload| payload.chunk_size = 0),
        payload("chunks-of-no-power-of-two", &|payload| payload.chunk_size = 1_000_000),
        payload("chunks-too-small", &|payload| payload.chunk_size = 2048),
        by_program("for-an-installer-program", &|_| {}, true),
        by_program("an-archive-for-an-installer-program", &|one| one.payloads[0].format = Format::TarZst, false),
        by_program("that-reboots-for-an-installer-program", &|one| one.restart = Restart::Reboot, false),
        by_program(
            "hooks-for-an-installer-program",
            &|one| {
                one.hooks = vec![every(Stage::Health)];
                one.crit = vec!["hooks".to_owned()];
            },
            false,
        ),
        of("that-reboots", &|release| release.restart = Restart::Reboot, two, true),
        of("put-off-for-no-time", &|release| release.max_postpone_s = Some(0), two, true),
        of("put-off-for-too-long", &|release| release.max_postpone_s = Some(90 * 86_400 + 1), two, false),
        under("release-one-key-twice", Kind::Release, &twice.to_json(), false),
        under("release-one-ecdsa-key-with-both-values-of-s", Kind::Release, &malleable.to_json(), false),
        under("release-the-other-value-of-s", Kind::Release, &other_s.to_json(), true),
        under("release-a-signature-in-der", Kind::Release, &der.to_json(), false),
        under("release-shown-as-a-root", Kind::NextRoot, &signed(&release(), &[&ed(1), &ed(2)]), false),
    ]
    .into_iter()
    .chain(conduct())
    .chain(texts())
    .collect()
}

/// Releases that say how the update itself is to go.
fn conduct() -> Vec<Vector> {
    let with = |name: &str, change: &dyn Fn(&mut Release), accept| {
        let mut release = release();
        release.hooks = vec![
            Hook { stage: Stage::Backup, path: "hooks/backup".to_owned(), timeout_s: 600 },
            Hook { stage: Stage::PreActivate, path: "hooks/drain".to_owned(), timeout_s: 60 },
            Hook { stage: Stage::Restore, path: "hooks/restore".to_owned(), timeout_s: 3600 },
        ];
        (release.rollback, release.needs_server_contact) = (Rollback::NeedsBackup, true);
        release.crit = release.critical().into_iter().map(str::to_owned).collect();
        change(&mut release);
        under(&format!("release-{name}"), Kind::Release, &signed(&release, &[&ed(RELEASE), &p256(12)]), accept)
    };
    let path =
        |path: &str| with(&format!("hook-at-{}", name_of(path)), &|one| one.hooks[1].path = path.to_owned(), false);
    let uncritical = |field: &str| {
        with(&format!("{}-not-critical", field.replace('_', "-")), &|one| one.crit.retain(|name| name != field), false)
    };
    let requires = |name: &str, products: &[&str], accept| {
        let one = |product: &&str| Requirement { product: product.parse().unwrap(), at_least: "2".parse().unwrap() };
        with(name, &|release| release.requires = products.iter().map(one).collect(), accept)
    };
    vec![
        with("with-hooks", &|_| {}, true),
        with("with-every-hook", &|one| one.hooks = Stage::ALL.map(every).to_vec(), true),
        with("without-a-way-back", &|one| (one.rollback, one.hooks) = (Rollback::Forbidden, Vec::new()), true),
        uncritical("hooks"),
        uncritical("rollback"),
        uncritical("needs_server_contact"),
        with("two-hooks-of-one-stage", &|one| one.hooks[1].stage = Stage::Backup, false),
        with("a-backup-without-a-restore", &|one| drop(one.hooks.pop()), false),
        with("a-restore-without-a-backup", &|one| drop(one.hooks.remove(0)), false),
        with("a-backup-that-nobody-asked-for", &|one| one.rollback = Rollback::Safe, false),
        with("hook-of-no-time", &|one| one.hooks[0].timeout_s = 0, false),
        with("hook-of-too-much-time", &|one| one.hooks[0].timeout_s = 3601, false),
        path("/bin/sh"),
        path("hooks/../../drain"),
        path("hooks//drain"),
        path("hooks/"),
        path(""),
        path("hooks/.drain"),
        path("hooks/drain now"),
        path(&"a".repeat(101)),
        requires("that-requires-other-products", &["os", "driver"], true),
        requires("that-requires-itself", &["pos-app"], false),
        requires("that-requires-a-product-twice", &["os", "os"], false),
    ]
}

fn every(stage: Stage) -> Hook {
    Hook { stage, path: format!("hooks/{stage}"), timeout_s: 1 }
}

/// A path as a part of a file's name.
fn name_of(path: &str) -> String {
    let plain = path.replace('/', "-slash-").replace('.', "-dot-").replace(' ', "-space-");
    let plain = plain.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    match plain.len() {
        0 => "nowhere".to_owned(),
        1..=60 => plain,
        _ => "a-path-too-long".to_owned(),
    }
}

/// Bodies that a careless reader would read in two ways, or not at all.
fn texts() -> Vec<Vector> {
    let text = serde_json::to_string(&release()).unwrap();
    let of = |name: &str, body: String, accept| {
        let mut envelope = wrapped::<Release>(body.as_bytes());
        sign(&mut envelope, &[&ed(RELEASE), &p256(12)]);
        under(&format!("body-{name}"), Kind::Release, &envelope.to_json(), accept)
    };
    let with = |more: &str| text.replacen('{', &format!("{{{more},"), 1);
    let upper = Digest::of(b"payload").to_string();
    vec![
        of("an-unknown-field", with(r#""later":{"a":[1,"x",null,true]}"#), true),
        of("a-field-twice", with(r#""counter":42"#), false),
        of("an-unknown-field-twice", with(r#""x":1,"x":1"#), false),
        of("an-unknown-field-twice-by-an-escape", with(r#""x":1,"\u0078":1"#), false),
        of("eight-levels", with(&format!(r#""x":{}1{}"#, "[".repeat(7), "]".repeat(7))), true),
        of("nine-levels", with(&format!(r#""x":{}1{}"#, "[".repeat(8), "]".repeat(8))), false),
        of("a-fraction", with(r#""x":1.5"#), false),
        of("an-exponent", text.replace("\"counter\":42", "\"counter\":42e0"), false),
        of("a-number-beyond-64-bits", with(r#""x":18446744073709551616"#), false),
        of("minus-zero", with(r#""x":-0"#), false),
        of("not-a-number", with(r#""x":NaN"#), false),
        of("half-of-a-surrogate-pair", with(r#""x":"\ud800""#), false),
        of("a-control-character", with("\"x\":\"\u{1}\""), false),
        of("null-for-what-is-optional", with(r#""advisory":null"#), true),
        of("null-for-a-list", with(r#""crit":null"#), false),
        of("an-unknown-installer", text.replace("\"directory\"", "\"script\""), false),
        of("an-unknown-format", text.replace("\"tar_zst\"", "\"zip\""), false),
        of("a-time-with-an-offset", with(r#""not_after":"2027-01-01T00:00:00+01:00""#), false),
        of("a-digest-in-upper-case", text.replace(&upper, &upper.to_uppercase()), false),
        of("a-digest-too-short", text.replace(&upper, &upper[1..]), false),
        of("something-behind-it", format!("{text}1"), false),
        of("empty", String::new(), false),
        of("no-list-of-hardware", text.replace(r#""hw":["*"],"#, ""), false),
        of("letters-beyond-ascii", text.replace("\"*\"", "\"\u{e4}*\""), true),
        of("a-hook", hooked(&text, r#"{"stage":"health","path":"x","timeout_s":1}"#), true),
        of("an-unknown-stage", hooked(&text, r#"{"stage":"before","path":"x","timeout_s":1}"#), false),
        of(
            "a-hook-with-an-unknown-field",
            hooked(&text, r#"{"stage":"health","path":"x","timeout_s":1,"user":1}"#),
            false,
        ),
        of("an-unknown-way-back", text.replace(r#""crit":[]"#, r#""crit":["rollback"],"rollback":"maybe""#), false),
        latin1(&text),
    ]
}

fn hooked(text: &str, hook: &str) -> String {
    text.replace(r#""crit":[]"#, &format!(r#""crit":["hooks"],"hooks":[{hook}]"#))
}

/// Not UTF-8.
fn latin1(text: &str) -> Vector {
    let body: Vec<u8> = text.bytes().map(|c| if c == b'*' { 0xe4 } else { c }).collect();
    let mut envelope = wrapped::<Release>(&body);
    sign(&mut envelope, &[&ed(RELEASE), &p256(12)]);
    under("body-not-utf-8", Kind::Release, &envelope.to_json(), false)
}

fn heads() -> Vec<Vector> {
    let of = |name: &str, change: &dyn Fn(&mut Head), by: u8, accept| {
        let mut head = head();
        change(&mut head);
        under(&format!("head-{name}"), Kind::Head, &signed(&head, &[&ed(by)]), accept)
    };
    let mut without = root();
    without.roles.head = None;
    let without = signed(&without, &[&ed(1), &ed(2)]);
    let nobody = Vector::new("head-nobody-may-sign", Kind::Head, Some(&without), &signed(&head(), &[&ed(HEAD)]), false);
    vec![
        of("good", &|_| {}, HEAD, true),
        of("without-products", &|head| head.products.clear(), HEAD, true),
        of("by-the-online-key", &|_| {}, ONLINE, false),
        of("of-another-epoch", &|head| head.epoch = 1, HEAD, false),
        of("serial-0", &|head| head.serial = 0, HEAD, false),
        of("serial-2-to-the-63", &|head| head.serial = 1 << 63, HEAD, false),
        of("that-ends-before-it-begins", &|head| head.expires = head.issued_at, HEAD, false),
        of("a-product-twice", &|head| head.products = vec![head.products[0].clone(); 2], HEAD, false),
        of("a-minimum-above-the-latest", &|head| head.products[0].min_counter = 43, HEAD, false),
        nobody,
    ]
}

fn instructions() -> Vec<Vector> {
    let of = |name: &str, change: &dyn Fn(&mut Instruction), by: &dyn Sign, accept| {
        let mut instruction = instruction();
        change(&mut instruction);
        under(&format!("instruction-{name}"), Kind::Instruction, &signed(&instruction, &[by]), accept)
    };
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let mut ecdsa = root();
    let key = p256(41).public();
    ecdsa.keys.insert(key.id(), Key::new(&key));
    ecdsa.roles.online.keyids.push(key.id());
    let ecdsa = signed(&ecdsa, &[&ed(1), &ed(2)]);
    let by_ecdsa = signed(&instruction(), &[&p256(41)]);
    vec![
        of("good", &|_| {}, &ed(ONLINE), true),
        of("by-a-root-key", &|_| {}, &ed(1), false),
        of("install-without-a-release", &|one| one.release_sha256 = None, &ed(ONLINE), false),
        of("nothing-to-do", &|one| nothing(one), &ed(ONLINE), true),
        of("a-right-without-times", &|one| one.offline_activation = true, &ed(ONLINE), false),
        of("a-rate-without-a-download", &|one| one.max_bytes_per_s = Some(1), &ed(ONLINE), false),
        of(
            "times-in-the-wrong-order",
            &|one| {
                one.not_before = at("2026-11-24T00:00:00Z");
                one.not_after = at("2026-11-23T00:00:00Z");
            },
            &ed(ONLINE),
            false,
        ),
        Vector::new(
            "instruction-by-an-ecdsa-key-in-the-online-role",
            Kind::Instruction,
            Some(&ecdsa),
            &by_ecdsa,
            false,
        ),
    ]
}

fn nothing(instruction: &mut Instruction) {
    instruction.action = Action::None;
    (instruction.release_sha256, instruction.assignment_id, instruction.attempt) = (None, None, None);
}
