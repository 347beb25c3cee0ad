//! Requests that this device signs itself, because its certificate does not get through.

use std::{fmt, sync::Arc};

use callboard_proto::{
    digest::Digest,
    request::{
        CLIENT_CERT, CONTENT_DIGEST, Message, Params, SIGNATURE, SIGNATURE_INPUT, client_cert, content_digest, fixed,
        signature,
    },
    time::Timestamp,
};
use rustls::{SignatureScheme, crypto::ring::sign::any_ecdsa_type, sign::SigningKey};

use super::{Credentials, TlsError};
use crate::{
    clock::{Clock, boottime},
    dice,
};

/// A clock that was not set differs by less.
const SAME_CLOCK_MS: u64 = 5000;

/// Signs with the key of the device's certificate.
pub(super) struct Signer {
    key: Arc<dyn SigningKey>,
    key_id: Digest,
    certificate: String,
    /// How far the server's clock is ahead of the device's, in milliseconds, and how the device's stood to the time since
    /// boot when that was told: a signed answer has told the time since if that has changed.
    told: Option<(i64, i64)>,
}

impl Signer {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, TlsError> {
        let unusable = || TlsError::Pem { what: "the device's key" };
        let (certificate, key) = credentials.parts().ok_or_else(unusable)?;
        let key = any_ecdsa_type(key).map_err(TlsError::Credentials)?;
        let key_id = key.public_key().map(|spki| Digest::of(&spki)).ok_or_else(unusable)?;
        Ok(Self { key_id, key, certificate: client_cert(certificate), told: None })
    }

    /// Signs by this clock from now on. Nobody signed what it says: whoever wants to keep requests for later can have them
    /// signed for then, and gets no more by it than by keeping this device away.
    pub(super) fn set_clock(&mut self, own: &Clock, server: Timestamp) {
        self.told = Some((server.millis().saturating_sub(own.trusted_now().millis()), since_boot(own)));
    }

    /// The fields that a request gets.
    pub(super) fn fields(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        clock: &Clock,
    ) -> Result<[(&'static str, String); 4], String> {
        let nonce = dice::nonce().map_err(|error| error.to_string())?;
        let ahead = self.told.filter(|(_, stood)| stood.abs_diff(since_boot(clock)) < SAME_CLOCK_MS);
        let ahead = ahead.map_or(0, |(ahead, _)| ahead);
        let created = clock.trusted_now().millis().saturating_add(ahead).div_euclid(1000);
        let params = Params::new(created, nonce.0, self.key_id);
        let digest = content_digest(body);
        let message = Message { method, path, content_digest: &digest, client_cert: &self.certificate };
        let base = message.base(&params);
        let signer = self.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
        let signer = signer.ok_or("the device's key is not of P-256")?;
        let der = signer.sign(base.as_bytes()).map_err(|error| error.to_string())?;
        let made = fixed(&der).ok_or("the signature is not one of P-256")?;
        Ok([
            (CONTENT_DIGEST, digest),
            (CLIENT_CERT, self.certificate.clone()),
            (SIGNATURE_INPUT, params.field()),
            (SIGNATURE, signature(&made)),
        ])
    }
}

/// The device's time minus the time since boot, in milliseconds.
fn since_boot(clock: &Clock) -> i64 {
    let since_boot = i64::try_from(boottime().as_millis()).unwrap_or(i64::MAX);
    clock.trusted_now().millis().saturating_sub(since_boot)
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.key_id.short())
    }
}
