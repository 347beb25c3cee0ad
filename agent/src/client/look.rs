//! A look at the certificate that is shown at the server's address, whoever shows it: for people who wonder why it is
//! not accepted. Nothing is sent over such a connection.

use std::sync::{Arc, Mutex, PoisonError};

use callboard_proto::time::Timestamp;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Endpoint, plain, way};
use crate::{clock::Clock, config::Network};

/// Names are short; whoever shows the certificate wrote them.
const MAX_NAME: usize = 200;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) not_after: Timestamp,
}

/// The certificate at the server's address, if one is shown in time.
pub(crate) async fn look(endpoint: &Endpoint, network: &Network, clock: &Arc<Clock>) -> Option<Seen> {
    let shown = Arc::new(Shown::default());
    let (time, verifier) = (Arc::clone(clock), Arc::clone(&shown));
    let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), time);
    let config = builder
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let handshake = async {
        let stream = way::open(endpoint, &network.way).await.ok()?;
        TlsConnector::from(Arc::new(config)).connect(endpoint.name().clone(), stream).await.ok()
    };
    // It always fails: the certificate is looked at, never accepted.
    let _failed = timeout(network.connect, handshake).await;
    let der = shown.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let not_after = certificate.validity().not_after.timestamp().saturating_mul(1000);
    Some(Seen {
        subject: plain(&certificate.subject().to_string(), MAX_NAME),
        issuer: plain(&certificate.issuer().to_string(), MAX_NAME),
        not_after: Timestamp::from_millis(not_after),
    })
}

/// Keeps what is shown, and accepts nothing.
#[derive(Debug, Default)]
struct Shown(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Err(Error::General("only looked at".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
