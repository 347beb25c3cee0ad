//! The two built-in certificate authorities: one names devices, the other the server's own TLS certificate.
//!
//! They are apart on purpose. The device CA works while the server runs, since enrolment issues certificates; what it
//! signs opens nothing but the device listener. Devices pin the server CA, so its key is needed only when the server's
//! certificate is renewed. Neither can sign a release. Times are arguments; revocation is the database's business.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::{digest::Digest, ids::DeviceId, time::Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, DnsName};

mod authority;
pub(crate) mod csr;
pub(crate) mod rotation;

use crate::durable::{self, Access};
use authority::Authority;
use csr::Csr;

/// Certificate of the device CA, in PEM.
pub(crate) const DEVICE_CA_CERT: &str = "device-ca.pem";
/// Its key.
pub(crate) const DEVICE_CA_KEY: &str = "device-ca.key";
/// Certificate that devices pin: the issuer of the server's, in PEM.
pub(crate) const SERVER_CA_CERT: &str = "server-ca.pem";
/// Its key.
pub(crate) const SERVER_CA_KEY: &str = "server-ca.key";
/// The device listener's certificate, in PEM.
pub(crate) const SERVER_CERT: &str = "server.pem";
/// Its key.
pub(crate) const SERVER_KEY: &str = "server.key";

/// What stands before the device's id in the name of its certificate.
pub(crate) const DEVICE_URN: &str = "urn:callboard:device:";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A till whose clock lost a year still sees our certificates as valid; one at 1970 needs the agent's recovery mode.
const BACK_DATED: Duration = DAY.saturating_mul(366);
/// Longer than tills stand in shops: whatever is off while a CA is replaced may have to be visited.
const CA_LIFE: Duration = DAY.saturating_mul(20 * 365);
/// The certificate is pinned by its issuer and replaced by `callboard certificate renew`; nothing renews it unasked.
const SERVER_LIFE: Duration = DAY.saturating_mul(5 * 365);
/// Half a year.
const DEVICE_LIFE: Duration = DAY.saturating_mul(180);
/// Renewal is due at two thirds of it: two months remain for a till that is switched off, or a server that is.
const RENEWED_BEFORE_END: Duration = DAY.saturating_mul(60);
/// 2000-01-01: a device's certificate says until when it is good, not since when. One that a server with a fast clock has
/// issued must not lock its device out once the clock is right.
const DEVICE_NOT_BEFORE: Timestamp = Timestamp::from_millis(946_684_800_000);

/// Issues device certificates, and knows which others did or will.
pub(crate) struct DeviceCa {
    own: Authority,
    /// The next one and the former one, while they are exchanged.
    others: Vec<CertificateDer<'static>>,
}

impl DeviceCa {
    /// Makes certificate and key in `dir`; they must not exist there.
    pub(crate) fn create(dir: &Path, now: Timestamp) -> Result<Self, CaError> {
        let authority = Authority::create(
            "Callboard device CA",
            rotation::Kind::Device.between(),
            now - BACK_DATED,
            now + CA_LIFE,
        )?;
        authority.store(&dir.join(DEVICE_CA_CERT), &dir.join(DEVICE_CA_KEY))?;
        Ok(Self { own: authority, others: Vec::new() })
    }

    /// Reads certificate and key from `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, CaError> {
        let own = Authority::load(&dir.join(DEVICE_CA_CERT), &dir.join(DEVICE_CA_KEY))?;
        Ok(Self { own, others: rotation::others(dir, rotation::Kind::Device)? })
    }

    /// The certificates that verify devices; the first one issues.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(self.own.certificate()).chain(&self.others)
    }

    /// The certificate that issues.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        self.own.certificate()
    }

    /// From when to when a certificate issued at `now` is valid.
    pub(crate) fn validity(now: Timestamp) -> (Timestamp, Timestamp) {
        (DEVICE_NOT_BEFORE, now + DEVICE_LIFE)
    }

    /// Issues a certificate, in PEM. Of the request only the key counts.
    pub(crate) fn issue(
        &self,
        csr: &Csr,
        device: DeviceId,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<String, CaError> {
        let urn = format!("{DEVICE_URN}{device}").try_into().map_err(CaError::Encode)?;
        let mut params = leaf(&device.to_string(), ExtendedKeyUsagePurpose::ClientAuth, not_before, not_after);
        params.subject_alt_names = vec![SanType::URI(urn)];
        params.serial_number = Some(serial(csr.key(), not_after));
        // No key identifiers: the leaf travels in every full handshake, and its issuer is known.
        self.own.sign(&params, csr.key()).map(|certificate| certificate.pem())
    }
}

/// Issues the device listener's certificate.
pub(crate) struct ServerCa(Authority);

impl ServerCa {
    /// Makes certificate and key in `dir`; they must not exist there.
    pub(crate) fn create(dir: &Path, now: Timestamp) -> Result<Self, CaError> {
        let authority = Authority::create(
            "Callboard server CA",
            rotation::Kind::Server.between(),
            now - BACK_DATED,
            now + CA_LIFE,
        )?;
        authority.store(&dir.join(SERVER_CA_CERT), &dir.join(SERVER_CA_KEY))?;
        Ok(Self(authority))
    }

    /// Reads certificate and key from `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, CaError> {
        Authority::load(&dir.join(SERVER_CA_CERT), &dir.join(SERVER_CA_KEY)).map(Self)
    }

    #[cfg(test)]
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        self.0.certificate()
    }

    /// Makes key and certificate of the server in `dir`; earlier ones are kept beside, as `.old`.
    ///
    /// `host` is the host of the public URL, a name or an address; loopback is always included. While the CA is exchanged,
    /// what the former one says of it comes along.
    pub(crate) fn issue_server(&self, dir: &Path, host: &str, now: Timestamp) -> Result<(), CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CaError::Encode)?;
        let not_before = now - BACK_DATED;
        let mut params = leaf("Callboard server", ExtendedKeyUsagePurpose::ServerAuth, not_before, now + SERVER_LIFE);
        params.subject_alt_names = server_names(host)?;
        params.serial_number = Some(serial(&key, now));
        params.use_authority_key_identifier_extension = true;
        let chain = self.0.sign(&params, &key)?.pem() + &rotation::vouched(dir)?;
        keep_earlier(&dir.join(SERVER_KEY), Access::Owner)?;
        keep_earlier(&dir.join(SERVER_CERT), Access::Everyone)?;
        write(durable::replace, &dir.join(SERVER_KEY), &key.serialize_pem(), Access::Owner)?;
        write(durable::replace, &dir.join(SERVER_CERT), &chain, Access::Everyone)
    }
}

fn keep_earlier(path: &Path, access: Access) -> Result<(), CaError> {
    if !path.exists() {
        return Ok(());
    }
    let mut kept = path.as_os_str().to_owned();
    kept.push(".old");
    write(durable::replace, Path::new(&kept), &read(path)?, access)
}

/// The digest of what certificates of this CA name as their issuer. CAs of one kind have different names.
pub(crate) fn name(certificate: &CertificateDer<'_>) -> Result<Digest, CaError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|source| CaError::Certificate(source.to_string()))?;
    Ok(Digest::of(parsed.tbs_certificate.subject.as_raw()))
}

/// When a device's certificate was issued that ends then.
pub(crate) fn issued_at(not_after: Timestamp) -> Timestamp {
    not_after - DEVICE_LIFE
}

/// From when on a device should renew the certificate that ends then.
pub(crate) fn renew_at(not_after: Timestamp) -> Timestamp {
    not_after - RENEWED_BEFORE_END
}

/// The digest of a certificate's SubjectPublicKeyInfo: what names a device.
pub(crate) fn spki_sha256(certificate: &CertificateDer<'_>) -> Result<Digest, CaError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|source| CaError::Certificate(source.to_string()))?;
    Ok(Digest::of(parsed.tbs_certificate.subject_pki.raw))
}

/// The first certificate of a PEM text, in DER.
fn der(pem: &str) -> Result<CertificateDer<'static>, CaError> {
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|source| CaError::Certificate(source.to_string()))
}

/// A certificate in PEM.
pub(crate) fn pem(der: &CertificateDer<'_>) -> String {
    pem::encode_config(
        &pem::Pem::new("CERTIFICATE", der.to_vec()),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

/// The digests of all certificates of a PEM text.
pub(crate) fn digests(pem: &str) -> Vec<Digest> {
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().map(|der| Digest::of(&der)).collect()
}

/// When a certificate in PEM ends.
pub(crate) fn not_after(pem: &str) -> Result<Timestamp, CaError> {
    end(&der(pem)?)
}

/// When a certificate ends.
pub(crate) fn end(der: &[u8]) -> Result<Timestamp, CaError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(der).map_err(|source| CaError::Certificate(source.to_string()))?;
    Ok(Timestamp::from_millis(parsed.validity().not_after.timestamp().saturating_mul(1000)))
}

/// Names and addresses that a certificate in PEM is for.
pub(crate) fn names(pem: &str) -> Result<Vec<String>, CaError> {
    use x509_parser::extensions::GeneralName;
    let bad = |source: String| CaError::Certificate(source);
    let der = der(pem)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|source| bad(source.to_string()))?;
    let names = parsed.subject_alternative_name().map_err(|source| bad(source.to_string()))?;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
        GeneralName::IPAddress(bytes) => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        _ => None,
    };
    Ok(names.map(|names| names.value.general_names.iter().filter_map(text).collect()).unwrap_or_default())
}

fn server_names(host: &str) -> Result<Vec<SanType>, CaError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut names: Vec<SanType> = Vec::new();
    for name in [host, "localhost", "127.0.0.1", "::1"] {
        let name = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                let name = DnsName::try_from(name).ok().ok_or_else(|| CaError::Host { host: host.to_owned() })?;
                SanType::DnsName(name.as_ref().try_into().map_err(CaError::Encode)?)
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn leaf(name: &str, usage: ExtendedKeyUsagePurpose, not_before: Timestamp, not_after: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    authority::set_validity(&mut params, not_before, not_after);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Unique per key and time, and nothing is drawn: 20 bytes at most, positive, as RFC 5280 wants it.
fn serial(key: &impl PublicKeyData, at: Timestamp) -> SerialNumber {
    let mut seed = key.subject_public_key_info();
    seed.extend_from_slice(&at.millis().to_be_bytes());
    let digest = Digest::of(&seed);
    let bytes = digest.as_bytes().iter().take(16).copied();
    SerialNumber::from(std::iter::once(0x01).chain(bytes).collect::<Vec<u8>>())
}

fn write(
    how: impl Fn(&Path, &[u8], Access) -> io::Result<()>,
    path: &Path,
    text: &str,
    access: Access,
) -> Result<(), CaError> {
    how(path, text.as_bytes(), access).map_err(|source| CaError::Write { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, CaError> {
    fs::read_to_string(path).map_err(|source| CaError::Read { path: path.to_owned(), source })
}

/// Why a certificate or a CA could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    #[error("read {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("write {path:?}")]
    Write { path: PathBuf, source: io::Error },
    #[error("make a certificate")]
    Encode(#[source] rcgen::Error),
    #[error("use {path:?}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("name the server {host:?}: a host name or an IP address is wanted")]
    Host { host: String },
    #[error("parse a certificate: {0}")]
    Certificate(String),
}

#[cfg(test)]
mod tests;
