//! TLS 1.3 by ring, against the CA of the enrolment bundle and nothing else.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio_rustls::TlsConnector;

use crate::clock::Clock;

/// What the device shows of itself.
pub(crate) struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read {what}: not PEM of the right kind")]
    Pem { what: &'static str },
    #[error("read network.extra_ca_file {path}: {source}")]
    ExtraCa { path: PathBuf, source: std::io::Error },
    #[error("use the server's CA certificate: {0}")]
    Ca(String),
    #[error("use the device's certificate and key: {0}")]
    Credentials(rustls::Error),
    #[error("set up TLS: {0}")]
    Setup(rustls::Error),
}

impl Credentials {
    /// The device's certificate and its key.
    pub(super) fn parts(&self) -> Option<(&CertificateDer<'static>, &PrivateKeyDer<'static>)> {
        Some((self.chain.first()?, &self.key))
    }

    /// The same once more.
    pub(super) fn again(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }

    /// Reads certificate and key.
    pub(crate) fn from_pem(certificate_pem: &str, key_pem: &[u8]) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key_pem);
        Ok(Self {
            chain: certificates(certificate_pem, "the device's certificate")?,
            key: key.map_err(|_invalid| TlsError::Pem { what: "the device's key" })?,
        })
    }
}

/// Whether the certificate was issued for the key.
pub(crate) fn belong_together(certificate_pem: &str, key_pem: &[u8]) -> bool {
    let provider = ring::default_provider();
    Credentials::from_pem(certificate_pem, key_pem)
        .is_ok_and(|own| CertifiedKey::from_der(own.chain, own.key, &provider).is_ok())
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    all.ok().filter(|all| !all.is_empty()).ok_or(TlsError::Pem { what })
}

/// The two ways to connect.
#[derive(Clone)]
pub(super) struct Connectors {
    /// As everybody does.
    pub(super) strict: TlsConnector,
    /// With the certificates' dates ignored.
    pub(super) recovery: TlsConnector,
}

impl Connectors {
    pub(super) fn new(ca_pem: &str, credentials: Option<&Credentials>, clock: &Arc<Clock>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_pem, "the server's CA certificate")? {
            roots.add(certificate).map_err(|error| TlsError::Ca(error.to_string()))?;
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Ca(error.to_string()))?;
        let recovery = Arc::new(DatesIgnored { inner: Arc::clone(&inner) });
        let mut recovery = config(&provider, clock, recovery, credentials)?;
        // A session from here must not be resumed: its chain would not be looked at again.
        recovery.resumption = Resumption::disabled();
        let strict = config(&provider, clock, inner, credentials)?;
        Ok(Self { strict: TlsConnector::from(Arc::new(strict)), recovery: TlsConnector::from(Arc::new(recovery)) })
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    clock: &Arc<Clock>,
    verifier: Arc<dyn ServerCertVerifier>,
    credentials: Option<&Credentials>,
) -> Result<ClientConfig, TlsError> {
    let time = Arc::clone(clock);
    let builder = ClientConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some(own) => {
            builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).map_err(TlsError::Credentials)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The same CA, the same name, the same signatures; only the dates of the certificates do not count. For a device
/// whose clock is wrong and whose next answer will tell it the time.
struct DatesIgnored {
    inner: Arc<WebPkiServerVerifier>,
}

impl fmt::Debug for DatesIgnored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatesIgnored")
    }
}

/// A moment at which the certificate that was complained about is valid.
fn inside(reason: &CertificateError) -> Option<UnixTime> {
    match reason {
        CertificateError::ExpiredContext { not_after, .. } => {
            let second_before = Duration::from_secs(not_after.as_secs().saturating_sub(1));
            Some(UnixTime::since_unix_epoch(second_before))
        }
        CertificateError::NotValidYetContext { not_before, .. } => Some(*not_before),
        _ => None,
    }
}

impl ServerCertVerifier for DatesIgnored {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |at| self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        let mut verdict = verify(now);
        // Once for the server's certificate and once for each that issued it.
        for _ in 0..=intermediates.len().min(4) {
            match &verdict {
                Err(rustls::Error::InvalidCertificate(reason)) => match inside(reason) {
                    Some(at) => verdict = verify(at),
                    None => break,
                },
                _ => break,
            }
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
