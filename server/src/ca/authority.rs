//! A certificate authority: a self-signed certificate and the key that signs under it, in two files.

use std::{path::Path, time::Duration};

use callboard_proto::time::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{CaError, named, read, serial, write};
use crate::durable::{self, Access};

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Makes a new one in memory. So many authorities may stand between it and the leaves.
    pub(super) fn create(
        name: &str,
        between: u8,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CaError::Encode)?;
        let params = params(&key, name, between, not_before, not_after);
        let made = params.self_signed(&key).map_err(CaError::Encode)?;
        Ok(Self { certificate: made.der().clone(), pem: made.pem(), issuer: Issuer::new(params, key) })
    }

    /// Writes both files; neither may exist.
    pub(super) fn store(&self, certificate: &Path, key: &Path) -> Result<(), CaError> {
        write(durable::write_new, key, &self.issuer.key().serialize_pem(), Access::Owner)?;
        write(durable::write_new, certificate, &self.pem, Access::Everyone)
    }

    /// Reads both files and checks that they belong together.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self, CaError> {
        let unusable = |path: &Path, reason: String| CaError::Unusable { path: path.to_owned(), reason };
        let pem = read(certificate)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| unusable(certificate, format!("a certificate in PEM is wanted ({error})")))?;
        let pair = KeyPair::from_pem(&read(key)?)
            .map_err(|error| unusable(key, format!("a private key in PKCS#8 PEM is wanted ({error})")))?;
        if super::spki_sha256(&der)? != callboard_proto::digest::Digest::of(&pair.subject_public_key_info()) {
            return Err(unusable(key, format!("it is not the key of {}", certificate.display())));
        }
        let issuer = Issuer::from_ca_cert_der(&der, pair)
            .map_err(|error| unusable(certificate, format!("a CA certificate is wanted ({error})")))?;
        Ok(Self { issuer, certificate: der, pem })
    }

    /// A certificate of `other` by this one, in PEM: whoever trusts this one trusts what `other` signs. It ends with the
    /// earlier of both.
    pub(super) fn vouch_for(&self, other: &Self, name: &str, not_before: Timestamp) -> Result<String, CaError> {
        let not_after = super::end(&self.certificate)?.min(super::end(&other.certificate)?);
        let key = other.issuer.key();
        Ok(self.sign(&params(key, name, 0, not_before, not_after), key)?.pem())
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<rcgen::Certificate, CaError> {
        params.signed_by(key, &self.issuer).map_err(CaError::Encode)
    }
}

fn params(key: &KeyPair, name: &str, between: u8, not_before: Timestamp, not_after: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(between));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, not_before, not_after);
    params.serial_number = Some(serial(key, not_before));
    params
}

/// Sets both ends to the second, which is all that X.509 can say.
pub(super) fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |time: Timestamp| Duration::from_secs(u64::try_from(time.millis().div_euclid(1000)).unwrap_or(0));
    params.not_before = epoch + seconds(not_before);
    params.not_after = epoch + seconds(not_after);
}
