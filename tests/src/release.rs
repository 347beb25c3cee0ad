//! Releases for tests: built, signed with the keys for trying out, and published over the API.

use callboard_proto::{
    admin,
    digest::Digest,
    payload::{CHUNK_SIZE, Chunker, Format},
    release::{Installer, Kind, Payload, Release, Restart, Rollback},
    signed::Envelope,
};
use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey as _};

use crate::{clock::START, http::Request, server::TestServer};

/// A release that is not published yet.
#[derive(Clone, Debug)]
pub struct NewRelease {
    pub document: Release,
    pub payload: Vec<u8>,
}

/// Bytes that look random and are the same in every run.
pub fn bytes(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 32);
    let mut block = Digest::of(seed.as_bytes());
    while bytes.len() < len {
        bytes.extend_from_slice(block.as_bytes());
        block = Digest::of(block.as_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl NewRelease {
    /// A small release of `product`.
    pub fn new(product: &str, version: &str, counter: u64) -> Self {
        Self::with_payload(product, version, counter, bytes(&format!("{product} {version}"), 3000))
    }

    /// A release with this payload.
    pub fn with_payload(product: &str, version: &str, counter: u64, payload: Vec<u8>) -> Self {
        let mut chunker = Chunker::new(CHUNK_SIZE);
        chunker.update(&payload);
        let chunked = chunker.finish();
        let document = Release {
            v: 1,
            issued_at: START.parse().unwrap(),
            crit: Vec::new(),
            product: product.parse().unwrap(),
            version: version.parse().unwrap(),
            epoch: 0,
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
                name: format!("{product}.bin"),
                sha256: chunked.sha256,
                size: chunked.size,
                chunk_size: CHUNK_SIZE,
                chunks_sha256: Digest::of(&chunked.list),
                format: Format::Raw,
                unpacked_size: chunked.size,
                entries: 1,
            }],
        };
        Self { document, payload }
    }

    /// The same with something changed.
    pub fn with(mut self, change: impl FnOnce(&mut Release)) -> Self {
        change(&mut self.document);
        self
    }

    /// Signed by the key for trying out.
    pub fn signed(&self, server: &TestServer) -> Envelope {
        self.signed_by(&server.try_out_key("release.key"))
    }

    /// Signed by any key.
    pub fn signed_by(&self, key: &SigningKey) -> Envelope {
        let mut envelope = Envelope::unsigned(&self.document).unwrap();
        envelope.sign(key);
        envelope
    }

    /// Uploads and publishes.
    #[track_caller]
    pub fn publish(&self, server: &TestServer) -> admin::Release {
        server.api().upload(&self.payload).ok();
        server.try_publish(&self.signed(server).to_json()).json()
    }
}

impl TestServer {
    /// Sends any bytes as a signed release.
    pub fn try_publish(&self, envelope: &[u8]) -> crate::http::Response {
        self.api().send(Request::post("/api/v1/releases").body("application/json", envelope))
    }

    /// A key that `init` made.
    pub fn try_out_key(&self, name: &str) -> SigningKey {
        let pem = std::fs::read_to_string(self.dir().join("try-out-keys").join(name)).unwrap();
        SigningKey::from_pkcs8_pem(&pem).unwrap()
    }
}
