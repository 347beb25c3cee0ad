//! Certificates that have ended: the handshake takes them, so that a device that stood in a warehouse can renew its own.
//!
//! Whatever else makes a certificate bad still fails the handshake, since the same verifier runs again at the moment of
//! the certificate's end. What a device with such a certificate may ask for is decided on each request.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::not_after;

/// A verifier that forgives the end of a device's certificate.
#[derive(Debug)]
pub(super) struct LapsedToo(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for LapsedToo {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verify = |at| self.0.verify_client_cert(end_entity, intermediates, at);
        match verify(now) {
            Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                let end = not_after(end_entity).and_then(|end| u64::try_from(end.millis()).ok());
                let end = end.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
                verify(UnixTime::since_unix_epoch(std::time::Duration::from_millis(end)))
            }
            verdict => verdict,
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
