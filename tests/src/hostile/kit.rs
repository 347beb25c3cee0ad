//! What a thief has in hand, and the answers of an honest server made of it: each attack changes one of them.

use std::{collections::BTreeMap, fs, sync::Arc};

use callboard_proto::{
    check_in::CheckIn,
    digest::Digest,
    head::{Head, HeadProduct},
    ids::{AssignmentId, DeviceId},
    instruction::{Action, ActivateOn, Instruction, Reason},
    paths,
    payload::{CHUNK_SIZE, Chunker, Format},
    release::{Payload, Release},
    report::{Receipt, Reports},
    root::{HeadRole, Key, Root},
    signed::{Document, Envelope, key_id},
};
use data_encoding::BASE64;
use ed25519_dalek::{Signer as _, SigningKey, pkcs8::DecodePrivateKey as _};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{Answer, Asked};
use crate::{
    clock::{START, time},
    http::Request,
    release::{NewRelease, bytes},
    server::TestServer,
};

/// Everything that may be stolen.
pub struct Stolen {
    pub root_key: SigningKey,
    pub release_key: SigningKey,
    /// May sign releases of another product than the tills have.
    pub kiosk_key: SigningKey,
    pub head_key: SigningKey,
    pub online_key: SigningKey,
    /// A key that no root lists.
    pub own_key: SigningKey,
    /// The second root: it asks for a head.
    pub root: Root,
    pub root_envelope: Vec<u8>,
    pub head: Head,
    pub head_envelope: Vec<u8>,
    ca: (String, String),
    tls: Arc<ServerConfig>,
}

/// What is stolen, used against one device.
pub struct Kit {
    pub stolen: Arc<Stolen>,
    pub device: DeviceId,
    /// What the device is told to install.
    pub software: Software,
    /// Another release that the server has.
    pub other: Option<Software>,
}

/// A signed release with its payloads.
#[derive(Clone, Debug)]
pub struct Software {
    pub envelope: Vec<u8>,
    pub digest: Digest,
    /// By digest: payloads and their chunk lists.
    pub files: BTreeMap<Digest, Vec<u8>>,
    pub payloads: Vec<Payload>,
}

/// A document signed by hand, whatever it says.
pub fn seal(kind: &str, body: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    signed.extend_from_slice(body);
    let signature = |key: &&SigningKey| {
        serde_json::json!({
            "keyid": key_id(&key.verifying_key()),
            "sig": BASE64.encode(&key.sign(&signed).to_bytes()),
        })
    };
    let signatures: Vec<_> = keys.iter().map(signature).collect();
    let envelope = serde_json::json!({ "payloadType": kind, "payload": BASE64.encode(body), "signatures": signatures });
    serde_json::to_vec(&envelope).unwrap()
}

/// A tar in a zstd frame.
pub fn pack(tar: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(tar, 1).unwrap()
}

impl Stolen {
    /// Gives the server a root that asks for a head, and a head; steals everything.
    pub fn from(server: &TestServer) -> Self {
        let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
        let (kiosk_key, head_key, own_key) = (key(51), key(52), key(53));
        let (root_key, release_key) = (server.try_out_key("root.key"), server.try_out_key("release.key"));
        let mut root = Root { version: 2, ..(*server.root()).clone() };
        // Tills are to stay where the tests send them.
        root.servers.clear();
        for key in [&kiosk_key, &head_key] {
            let key = key.verifying_key();
            root.keys.insert(key_id(&key), Key::from_ed25519(&key));
        }
        let mut kiosk = root.roles.release[0].clone();
        (kiosk.name, kiosk.keyids) = ("kiosk".to_owned(), vec![key_id(&kiosk_key.verifying_key())]);
        kiosk.products = vec!["kiosk".parse().unwrap()];
        root.roles.release.push(kiosk);
        root.roles.head = Some(HeadRole { keyids: vec![key_id(&head_key.verifying_key())], threshold: 1, epoch: 0 });
        let head = Head {
            v: 1,
            issued_at: time(START),
            crit: Vec::new(),
            serial: 5,
            epoch: 0,
            expires: time("2027-02-01T00:00:00Z"),
            products: vec![HeadProduct {
                product: "pos-app".parse().unwrap(),
                epoch: 0,
                latest_counter: 11,
                min_counter: 3,
                revoked: vec![Digest::of(b"nothing")],
            }],
        };
        let root_envelope = document(&root, &[&root_key]);
        let head_envelope = document(&head, &[&head_key]);
        let publish = |path: &str, bytes: &[u8]| {
            server.api().send(Request::post(format!("/api/v1/trust/{path}")).body("application/json", bytes)).ok();
        };
        publish("root", &root_envelope);
        publish("head", &head_envelope);
        let read = |name: &str| fs::read_to_string(server.dir().join(name)).unwrap();
        let online_key = SigningKey::from_pkcs8_pem(&read("online.key")).unwrap();
        let tls = server_config(&read("server.pem"), &read("server.key"));
        let ca = (read("server-ca.pem"), read("server-ca.key"));
        Self {
            root_key,
            release_key,
            kiosk_key,
            head_key,
            online_key,
            own_key,
            root,
            root_envelope,
            head,
            head_envelope,
            ca,
            tls,
        }
    }

    /// The server's own certificate.
    pub fn tls(&self) -> Arc<ServerConfig> {
        self.tls.clone()
    }

    /// A certificate of the server's CA, or of another, for any name and time.
    pub fn certificate(&self, genuine: bool, name: &str, until: i32) -> Arc<ServerConfig> {
        let issuer = if genuine {
            Issuer::from_ca_cert_pem(&self.ca.0, KeyPair::from_pem(&self.ca.1).unwrap()).unwrap()
        } else {
            let mut own = CertificateParams::default();
            own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            Issuer::new(own, KeyPair::generate().unwrap())
        };
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into().unwrap()),
        }];
        leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        server_config(&certificate.pem(), &key.serialize_pem())
    }

    /// A certificate that nobody has issued.
    pub fn self_signed(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        server_config(&leaf.self_signed(&key).unwrap().pem(), &key.serialize_pem())
    }

    /// A release that does harm, with something changed, signed by the release key.
    pub fn software(&self, change: impl FnOnce(&mut Release)) -> Software {
        self.software_of(bytes("harm", 3000), change)
    }

    /// The same with this payload.
    pub fn software_of(&self, payload: Vec<u8>, change: impl FnOnce(&mut Release)) -> Software {
        let release = NewRelease::with_payload("pos-app", "6.6.6", 99, payload).with(change);
        let envelope = seal(Release::TYPE, &serde_json::to_vec(&release.document).unwrap(), &[&self.release_key]);
        Software::new(envelope, &release.document, &[release.payload])
    }

    /// A release whose payload is an archive.
    pub fn archive(&self, packed: Vec<u8>, change: impl FnOnce(&mut Payload)) -> Software {
        self.software_of(packed, |release| {
            let payload = &mut release.payloads[0];
            payload.name = "pos-app.tar.zst".to_owned();
            payload.format = Format::TarZst;
            (payload.unpacked_size, payload.entries) = (100_000, 10);
            change(payload);
        })
    }
}

impl Software {
    pub fn new(envelope: Vec<u8>, release: &Release, payloads: &[Vec<u8>]) -> Self {
        let mut files = BTreeMap::new();
        for payload in payloads {
            let mut chunker = Chunker::new(release.payloads.first().map_or(CHUNK_SIZE, |one| one.chunk_size));
            chunker.update(payload);
            let list = chunker.finish().list;
            files.insert(Digest::of(&list), list);
            files.insert(Digest::of(payload), payload.clone());
        }
        Self { digest: digest_in(&envelope), envelope, files, payloads: release.payloads.clone() }
    }
}

/// The digest of what an envelope carries.
fn digest_in(envelope: &[u8]) -> Digest {
    let envelope: serde_json::Value = serde_json::from_slice(envelope).unwrap();
    Digest::of(&BASE64.decode(envelope["payload"].as_str().unwrap().as_bytes()).unwrap())
}

fn document<T: Document>(document: &T, keys: &[&SigningKey]) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(document).unwrap();
    keys.iter().for_each(|key| envelope.sign(*key));
    envelope.to_json()
}

fn server_config(certificate: &str, key: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
    Arc::new(config.unwrap())
}

impl Kit {
    /// What an honest server of all this would answer.
    pub fn honest(&self, asked: &Asked) -> Answer {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        let software = [Some(&self.software), self.other.as_ref()];
        let mut software = software.into_iter().flatten();
        match asked.path.as_str() {
            paths::CHECK_IN => Answer::ok(self.order(asked, |_| {})),
            paths::REPORTS => Answer::ok(receipt(&asked.body)),
            paths::HEAD => Answer::ok(self.stolen.head_envelope.clone()),
            path if path == paths::root(2) => Answer::ok(self.stolen.root_envelope.clone()),
            path if path.starts_with("/v1/trust/releases/") => {
                let found = software.find(|one| one.digest.to_string() == last);
                found.map_or_else(|| Answer::status(404), |one| Answer::ok(one.envelope.clone()))
            }
            path if path.starts_with("/v1/payloads/") => {
                let found =
                    last.parse().ok().and_then(|digest: Digest| software.find_map(|one| one.files.get(&digest)));
                found.map_or_else(|| Answer::status(404), |file| Answer::part(file, asked.range.as_deref()))
            }
            _ => Answer::status(404),
        }
    }

    /// The order to install the software, with something changed.
    pub fn instruction(&self, asked: &Asked, change: impl FnOnce(&mut Instruction)) -> Instruction {
        let question: CheckIn = serde_json::from_slice(&asked.body).unwrap();
        let mut instruction = Instruction {
            v: 1,
            issued_at: time(START),
            crit: Vec::new(),
            device_id: self.device,
            nonce: question.nonce,
            request_sha256: Digest::of(&asked.body),
            server_time: time(START),
            action: Action::Install,
            reason: Reason { code: "activating".to_owned(), text: "because I can".to_owned() },
            release_sha256: Some(self.software.digest),
            assignment_id: Some(assignment(&self.software)),
            attempt: Some(1),
            not_before: None,
            not_after: None,
            offline_activation: false,
            activate_on: ActivateOn::Now,
            allow_downgrade: false,
            max_bytes_per_s: None,
            next_checkin_s: 10,
            root_version: 2,
            head_serial: Some(self.stolen.head.serial),
            want: Vec::new(),
        };
        change(&mut instruction);
        instruction
    }

    /// The same, signed by the online key.
    pub fn order(&self, asked: &Asked, change: impl FnOnce(&mut Instruction)) -> Vec<u8> {
        document(&self.instruction(asked, change), &[&self.stolen.online_key])
    }

    /// The body of the order, to be signed in another way.
    pub fn body(&self, asked: &Asked) -> Vec<u8> {
        serde_json::to_vec(&self.instruction(asked, |_| {})).unwrap()
    }
}

/// Always the same for the same software: what was refused is not begun again.
fn assignment(software: &Software) -> AssignmentId {
    AssignmentId::from_slice(&software.digest.as_bytes()[..16]).unwrap()
}

/// Takes every report.
fn receipt(body: &[u8]) -> Vec<u8> {
    let reports: Reports = serde_json::from_slice(body).unwrap();
    let accepted = reports.reports.iter().map(callboard_proto::report::Report::key).collect();
    serde_json::to_vec(&Receipt { accepted, refused: Vec::new() }).unwrap()
}
