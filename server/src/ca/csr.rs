//! A device's certificate request: the proof that it holds a key, and nothing else.
//!
//! Names, extensions and attributes of the request are never read, so nothing in it can ask for more than a device
//! certificate.

use callboard_proto::digest::Digest;
use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject as _};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer as _};

/// A request whose sender holds the private key.
#[derive(Debug)]
pub(crate) struct Csr(SubjectPublicKeyInfo);

impl Csr {
    /// Reads a PKCS#10 request in PEM and verifies its signature by its own key, ECDSA P-256.
    pub(crate) fn verify(pem: &str) -> Result<Self, BadCsr> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|source| BadCsr::Pem(source.to_string()))?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|source| BadCsr::Request(source.to_string()))?;
        if !rest.is_empty() {
            return Err(BadCsr::Request("bytes follow the request".to_owned()));
        }
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw);
        let key = key.ok().filter(|key| key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256).ok_or(BadCsr::KeyType)?;
        match request.verify_signature() {
            Ok(()) => Ok(Self(key)),
            Err(_) => Err(BadCsr::Signature),
        }
    }

    /// The digest of the key, as it will name the device.
    pub(crate) fn spki_sha256(&self) -> Digest {
        Digest::of(&self.0.subject_public_key_info())
    }

    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.0
    }
}

/// Why a certificate request is not acceptable. The messages are for the one who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadCsr {
    #[error("the certificate request is not PEM with the label CERTIFICATE REQUEST: {0}")]
    Pem(String),
    #[error("the certificate request is not PKCS#10: {0}")]
    Request(String),
    #[error("the certificate request is for another kind of key; ECDSA P-256 is wanted")]
    KeyType,
    #[error("the certificate request is not signed by its own key")]
    Signature,
}
