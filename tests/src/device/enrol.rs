//! Enrolment from the device's side.

use std::sync::Arc;

use callboard_proto::{
    admin::TokenCreated,
    enrol::{Bundle, Enrol},
    paths,
};
use rcgen::{CertificateParams, KeyPair};
use serde::Serialize;

use super::anonymous;
use crate::{
    http::{Request, Response},
    server::TestServer,
};

/// A device's key, made on the device.
#[derive(Clone)]
pub struct Key(Arc<KeyPair>);

impl Key {
    /// ECDSA P-256, as the protocol wants it.
    #[expect(clippy::new_without_default, reason = "a key is not a default: each one is another")]
    pub fn new() -> Self {
        Self::of(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// Of any algorithm.
    pub fn of(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        Self(Arc::new(KeyPair::generate_for(algorithm).unwrap()))
    }

    /// A key that somebody else has made.
    pub fn from_pem(pem: &str) -> Self {
        Self(Arc::new(KeyPair::from_pem(pem).unwrap()))
    }

    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A certificate request, in PEM.
    pub fn csr_pem(&self) -> String {
        CertificateParams::default().serialize_request(&*self.0).unwrap().pem().unwrap()
    }
}

/// A request to enrol, and the key that it is for.
#[derive(Clone)]
pub struct Enrolment {
    pub body: Enrol,
    pub key: Key,
}

/// The request that the protocol's pages show, with this token and key, and without name and serial number.
pub fn enrolment(token: &str, key: &Key) -> Enrolment {
    let example: Enrol = serde_json::from_str(include_str!("../../../proto-docs/examples/enrol.json")).unwrap();
    let body = Enrol { token: token.to_owned(), csr_pem: key.csr_pem(), name: None, serial: None, ..example };
    Enrolment { body, key: key.clone() }
}

impl Enrolment {
    pub fn named(mut self, name: &str) -> Self {
        self.body.name = Some(name.parse().unwrap());
        self
    }

    pub fn serial(mut self, serial: &str) -> Self {
        self.body.serial = Some(serial.to_owned());
        self
    }
}

/// Sends any body as an enrolment, as a client without a certificate.
pub fn try_enrol(server: &TestServer, body: &impl Serialize) -> Response {
    anonymous(server).send(&Request::post(paths::ENROL).json(body))
}

impl TestServer {
    /// A bundle, from the fields of a token's request.
    #[track_caller]
    pub fn bundle(&self, new: &serde_json::Value) -> Bundle {
        self.api().post::<TokenCreated>("tokens", new).bundle
    }

    /// An enrolment token.
    #[track_caller]
    pub fn enrolment_token(&self, new: &serde_json::Value) -> String {
        self.bundle(new).token
    }
}
