//! rustls settings of the two listeners, and who is at the other end of a device's connection.
//!
//! Devices: TLS 1.3 only. A client certificate is asked for but not demanded, because enrolment and trust documents
//! come before there is one; routes decide. A certificate that the device CA did not issue fails the handshake; one that
//! has ended reaches renewal and nothing else. A resumed session brings the certificate of its first handshake along without checking it again, and
//! an open connection outlives its end, so whether a device is still welcome is asked of the clock and of the registry
//! on every request, never of the handshake.
//!
//! Cost: the server's certificate is a single ECDSA P-256 leaf whose issuer the device has, so no intermediate travels but
//! one while the server's CA is exchanged; a full handshake is a fraction of a millisecond and resumption a bonus. 0-RTT stays off: it can be replayed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use callboard_proto::{digest::Digest, ids::DeviceId, time::Timestamp};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    server::{StoresServerSessions, WebPkiClientVerifier, danger::ClientCertVerifier},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _};
use x509_parser::{asn1_rs::Any, certificate::Validity, prelude::FromDer as _};

use crate::{
    ca::{DEVICE_URN, DeviceCa},
    clock::Clock,
};

mod lapsed;

/// Sessions that can be resumed. One node serves about so many devices, each keeping one session of about 1 KiB; what
/// does not fit costs a full handshake. More devices, or several nodes, want tickets under a shared key instead.
const SESSIONS: usize = 50_000;
/// rustls sends two by default; a device resumes once per connection and gets a new one there.
const TICKETS: usize = 1;
/// Our payload body and long-held check-ins are made for one request at a time per connection.
const ALPN: &[u8] = b"http/1.1";

/// Settings of the device listener.
pub(crate) fn device_listener(
    certificate: &Path,
    key: &Path,
    devices: &DeviceCa,
    clock: &Clock,
) -> Result<ServerConfig, TlsError> {
    let verifier = device_verifier(devices)?;
    let mut config = config(&[&rustls::version::TLS13], Some(verifier), certificate, key, clock)?;
    config.session_storage = Arc::new(Sessions(quick_cache::sync::Cache::new(SESSIONS)));
    config.send_tls13_tickets = TICKETS;
    config.max_early_data_size = 0;
    Ok(config)
}

/// What verifies devices' certificates, those that have ended among them.
pub(crate) fn device_verifier(devices: &DeviceCa) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in devices.certificates() {
        roots.add(certificate.clone()).map_err(TlsError::DeviceCa)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|source| TlsError::Verifier(source.to_string()))?;
    Ok(Arc::new(lapsed::LapsedToo(verifier)))
}

/// Settings of the admin listener: browsers and scripts, without client certificates.
pub(crate) fn admin_listener(certificate: &Path, key: &Path, clock: &Clock) -> Result<ServerConfig, TlsError> {
    config(rustls::ALL_VERSIONS, None, certificate, key, clock)
}

fn config(
    versions: &[&'static rustls::SupportedProtocolVersion],
    clients: Option<Arc<dyn ClientCertVerifier>>,
    certificate: &Path,
    key: &Path,
    clock: &Clock,
) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { path: certificate.to_owned(), reason: source.to_string() })?;
    if chain.is_empty() {
        let reason = "it holds no certificate".to_owned();
        return Err(TlsError::Pem { path: certificate.to_owned(), reason });
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|source| TlsError::Pem { path: key.to_owned(), reason: source.to_string() })?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(versions)
        .map_err(TlsError::Rustls)?
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(chain, private)
        .map_err(|source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Certificates are valid by the server's clock, like everything else that it decides.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.now().millis()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

/// Sessions by their id. rustls's own memory cache searches a list of all sessions, under one lock, whenever a TLS 1.3
/// session is taken out: 120 us with fifty thousand in it, where this one takes 1 us and a full handshake not much more
/// than the search.
struct Sessions(quick_cache::sync::Cache<Box<[u8]>, Box<[u8]>>);

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        // Boxed: rustls grows its vectors to twice what they hold.
        self.0.insert(key.into(), value.into());
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).map(Vec::from)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.remove(key).map(|(_, value)| value.into())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.0.len())
    }
}

/// The device at the other end, by the certificate that the handshake verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Digest of its public key: what the registry knows it by.
    pub(crate) spki_sha256: Digest,
    /// The id that the certificate was issued for.
    pub(crate) device: DeviceId,
    /// When the certificate ends.
    pub(crate) not_after: Timestamp,
    /// The digest of its issuer's name.
    pub(crate) issuer: Digest,
}

/// The SubjectPublicKeyInfo of a certificate, in DER.
pub(crate) fn spki(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    Some(webpki::EndEntityCert::try_from(der).ok()?.subject_public_key_info().to_vec())
}

/// Reads the leaf of a verified chain, by the parser that verified it: reading every extension would take a fifth of a
/// handshake. `None` where there is none or it is not one of a device.
pub(crate) fn peer(chain: &[CertificateDer<'_>]) -> Option<Peer> {
    let der = chain.first()?;
    let leaf = webpki::EndEntityCert::try_from(der).ok()?;
    let mut names = leaf.valid_uri_names();
    let (Some(uri), None) = (names.next(), names.next()) else {
        return None;
    };
    let device = uri.strip_prefix(DEVICE_URN)?.parse().ok()?;
    let (issuer, not_after) = issued(der)?;
    Some(Peer { spki_sha256: Digest::of(&leaf.subject_public_key_info()), device, not_after, issuer })
}

/// The digest of a certificate's issuer's name, and when the certificate ends. Only what stands before is stepped over:
/// version, serial number, algorithm.
fn issued(der: &[u8]) -> Option<(Digest, Timestamp)> {
    let (_, certificate) = Any::from_der(der).ok()?;
    let (_, signed) = Any::from_der(certificate.data).ok()?;
    let mut rest = signed.data;
    for _ in 0..3 {
        (rest, _) = Any::from_der(rest).ok()?;
    }
    let (after, _) = Any::from_der(rest).ok()?;
    let issuer = rest.get(..rest.len() - after.len())?;
    let (_, validity) = Validity::from_der(after).ok()?;
    let not_after = Timestamp::from_millis(validity.not_after.timestamp().saturating_mul(1000));
    Some((Digest::of(issuer), not_after))
}

fn not_after(der: &[u8]) -> Option<Timestamp> {
    issued(der).map(|(_, not_after)| not_after)
}

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("use {path:?}, PEM is wanted: {reason}")]
    Pem { path: PathBuf, reason: String },
    #[error("use {certificate:?} with {key:?}")]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("trust the device CA")]
    DeviceCa(#[source] rustls::Error),
    #[error("verify devices: {0}")]
    Verifier(String),
    #[error("set up TLS")]
    Rustls(#[source] rustls::Error),
}

#[cfg(test)]
mod tests;
