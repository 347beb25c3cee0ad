//! Handshakes in memory: client and server hand each other their bytes.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection, client::Resumption};
use rustls_pki_types::ServerName;

use super::*;
use crate::ca::{self, ServerCa, csr::Csr};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

fn device() -> DeviceId {
    "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c11".parse().unwrap()
}

/// A server's directory, and a till with a key.
struct Scene {
    dir: tempfile::TempDir,
    devices: DeviceCa,
    server: ServerCa,
    key: KeyPair,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let devices = DeviceCa::create(dir.path(), now()).unwrap();
        let server = ServerCa::create(dir.path(), now()).unwrap();
        server.issue_server(dir.path(), "updates.example.com", now()).unwrap();
        Self { dir, devices, server, key: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap() }
    }

    fn listener(&self, time: Timestamp) -> Arc<ServerConfig> {
        let (certificate, key) = (self.dir.path().join(ca::SERVER_CERT), self.dir.path().join(ca::SERVER_KEY));
        Arc::new(device_listener(&certificate, &key, &self.devices, &Clock::fixed(time)).unwrap())
    }

    /// The till's certificate as `devices` issues it.
    fn certificate(&self, devices: &DeviceCa) -> CertificateDer<'static> {
        let csr = CertificateParams::default().serialize_request(&self.key).unwrap().pem().unwrap();
        let (not_before, not_after) = DeviceCa::validity(now());
        let pem = devices.issue(&Csr::verify(&csr).unwrap(), device(), not_before, not_after).unwrap();
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn client(&self, certificate: Option<CertificateDer<'static>>, time: Timestamp) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.certificate().clone()).unwrap();
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(Clock::fixed(time)))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(roots);
        match certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        }
    }
}

/// Shakes hands until neither has anything to say, tickets included.
fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &'static str,
) -> Result<(ServerConnection, ClientConnection), rustls::Error> {
    let mut client = ClientConnection::new(client.clone(), ServerName::try_from(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        if answer.is_empty() && !client.wants_write() {
            return Ok((server, client));
        }
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
}

const NAME: &str = "updates.example.com";

#[test]
fn an_enrolled_device_is_known_by_key_and_id() {
    let scene = Scene::new();
    let client = Arc::new(scene.client(Some(scene.certificate(&scene.devices)), now()));
    let (server, client) = handshake(&scene.listener(now()), &client, NAME).unwrap();
    let peer = peer(server.peer_certificates().unwrap()).unwrap();
    assert_eq!(
        peer,
        Peer {
            spki_sha256: Digest::of(&scene.key.subject_public_key_info()),
            device: device(),
            not_after: DeviceCa::validity(now()).1,
            issuer: ca::name(scene.devices.certificate()).unwrap(),
        }
    );
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.alpn_protocol(), None, "none was asked for");
}

#[test]
fn a_device_without_a_certificate_is_let_in_nameless() {
    let scene = Scene::new();
    let (server, _) = handshake(&scene.listener(now()), &Arc::new(scene.client(None, now())), NAME).unwrap();
    assert!(server.peer_certificates().is_none());
    assert_eq!(peer(&[]), None);
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    let scene = Scene::new();
    let other = tempfile::tempdir().unwrap();
    let stranger = DeviceCa::create(other.path(), now()).unwrap();
    let client = Arc::new(scene.client(Some(scene.certificate(&stranger)), now()));
    assert!(matches!(
        handshake(&scene.listener(now()), &client, NAME).map(drop),
        Err(rustls::Error::InvalidCertificate(_))
    ));
}

#[test]
fn the_servers_own_certificate_does_not_pass_as_a_device() {
    let scene = Scene::new();
    let own = fs::read(scene.dir.path().join(ca::SERVER_CERT)).unwrap();
    assert_eq!(peer(&[CertificateDer::from_pem_slice(&own).unwrap()]), None);
}

#[test]
fn a_certificate_that_a_server_with_a_fast_clock_issued_is_good_when_the_clock_is_right() {
    let scene = Scene::new();
    let client = Arc::new(scene.client(Some(scene.certificate(&scene.devices)), now()));
    assert!(handshake(&scene.listener(now() - DAY * 300), &client, NAME).is_ok());
}

#[test]
fn an_expired_certificate_names_its_device_and_its_end_and_one_of_another_ca_does_not() {
    let scene = Scene::new();
    let client = Arc::new(scene.client(Some(scene.certificate(&scene.devices)), now()));
    let late = now() + DAY * 10_000;
    let (server, _) = handshake(&scene.listener(late), &client, NAME).unwrap();
    let peer = peer(server.peer_certificates().unwrap()).unwrap();
    assert!(peer.device == device() && peer.not_after < late);
    let other = tempfile::tempdir().unwrap();
    let stranger = DeviceCa::create(other.path(), now()).unwrap();
    let client = Arc::new(scene.client(Some(scene.certificate(&stranger)), now()));
    let refused = handshake(&scene.listener(late), &client, NAME).map(drop).unwrap_err();
    assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
}

#[test]
fn a_till_whose_clock_is_a_year_slow_trusts_the_server() {
    let scene = Scene::new();
    let client = Arc::new(scene.client(None, now() - DAY * 365));
    assert!(handshake(&scene.listener(now()), &client, NAME).is_ok());
    let client = Arc::new(scene.client(None, now() - DAY * 370));
    assert!(handshake(&scene.listener(now()), &client, NAME).is_err());
}

#[test]
fn the_server_answers_for_its_name_and_loopback_only() {
    let scene = Scene::new();
    let client = Arc::new(scene.client(None, now()));
    for name in [NAME, "localhost", "127.0.0.1", "::1"] {
        assert!(handshake(&scene.listener(now()), &client, name).is_ok(), "{name}");
    }
    assert!(handshake(&scene.listener(now()), &client, "evil.example.com").is_err());
}

#[test]
fn a_resumed_session_still_names_the_device_and_each_session_is_used_once() {
    let scene = Scene::new();
    let mut client = scene.client(Some(scene.certificate(&scene.devices)), now());
    client.resumption = Resumption::in_memory_sessions(16);
    let (client, listener) = (Arc::new(client), scene.listener(now()));
    for wanted in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let (server, client) = handshake(&listener, &client, NAME).unwrap();
        assert_eq!(server.handshake_kind(), Some(wanted));
        assert_eq!(client.tls13_tickets_received(), 1);
        assert_eq!(peer(server.peer_certificates().unwrap()).unwrap().device, device());
        assert!(!client.is_early_data_accepted());
    }
}

#[test]
fn tls_1_2_is_refused_for_devices_and_allowed_for_operators() {
    let scene = Scene::new();
    let mut roots = RootCertStore::empty();
    roots.add(scene.server.certificate().clone()).unwrap();
    let old = ClientConfig::builder_with_details(provider(), Arc::new(Clock::fixed(now())))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let old = Arc::new(old);
    assert!(handshake(&scene.listener(now()), &old, NAME).is_err());
    let (certificate, key) = (scene.dir.path().join(ca::SERVER_CERT), scene.dir.path().join(ca::SERVER_KEY));
    let admin = Arc::new(admin_listener(&certificate, &key, &Clock::fixed(now())).unwrap());
    assert!(handshake(&admin, &old, NAME).is_ok());
}

#[test]
fn unusable_files_are_named() {
    let scene = Scene::new();
    let path = |name| scene.dir.path().join(name);
    let admin = |certificate, key| admin_listener(&path(certificate), &path(key), &Clock::fixed(now())).unwrap_err();
    assert!(matches!(admin("missing.pem", ca::SERVER_KEY), TlsError::Read { .. }));
    assert!(matches!(admin(ca::SERVER_KEY, ca::SERVER_KEY), TlsError::Pem { .. }));
    assert!(matches!(admin(ca::SERVER_CERT, ca::SERVER_CERT), TlsError::Pem { .. }));
    assert!(matches!(admin(ca::SERVER_CERT, ca::DEVICE_CA_KEY), TlsError::Pair { .. }));
}
