//! Devices whose TLS is opened on the way: they sign each request instead of showing a certificate in the handshake.
//!
//! The certificate comes in a field, and is verified as the handshake would have. Whoever opens TLS can read what is
//! said, keep it away, and change nothing: the signature covers method, path, body and certificate, a request is taken
//! once, and answers are signed anyway.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{
    HttpMessage as _,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    middleware::Next,
    web::{self, Bytes},
};
use callboard_proto::{
    ids::DeviceId,
    problem::Code,
    request::{
        CLIENT_CERT, CONTENT_DIGEST, Message, Params, SIGNATURE, SIGNATURE_INPUT, WINDOW, certificate, content_digest,
    },
    time::Timestamp,
};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{
    auth::{PeerCertificate, PeerIdentity},
    problem::{ApiProblem, ApiResult},
};
use crate::{app::App, tls};

/// The largest body of a device's request; the path may allow less.
const MAX_BODY: usize = callboard_proto::report::MAX_BYTES;
/// Requests of one device within the window at most; it is told to slow down long before.
const MAX_NONCES: usize = 4096;
/// From so many devices on those that have said nothing within the window are forgotten.
const SWEEP: usize = 10_000;

/// When a request was made, and the digest of what makes it unlike all others.
type Nonce = (i64, [u8; 32]);

/// Whether requests may be signed, and which ones were received.
pub(crate) struct Signatures {
    /// `None` where they may not.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    seen: Mutex<BTreeMap<DeviceId, VecDeque<Nonce>>>,
}

impl Signatures {
    pub(crate) fn new(verifier: Option<Arc<dyn ClientCertVerifier>>) -> Self {
        Self { verifier, seen: Mutex::default() }
    }

    /// Remembers a nonce for as long as a request with it would be taken; says whether it is new.
    fn is_new(&self, device: DeviceId, params: &Params, now: i64) -> ApiResult<bool> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |created: i64| created.saturating_add(window()) < now;
        if seen.len() >= SWEEP && !seen.contains_key(&device) {
            seen.retain(|_, nonces| nonces.iter().any(|(created, _)| !over(*created)));
        }
        let nonces = seen.entry(device).or_default();
        nonces.retain(|(created, _)| !over(*created));
        if nonces.iter().any(|(_, nonce)| *nonce == params.nonce) {
            return Ok(false);
        }
        if nonces.len() >= MAX_NONCES {
            let detail = format!("more than {MAX_NONCES} signed requests of one device within {} s", WINDOW.as_secs());
            return Err(ApiProblem::retry_after(Code::TooManyRequests, detail, 60));
        }
        nonces.push_back((params.created, params.nonce));
        Ok(true)
    }
}

fn window() -> i64 {
    i64::try_from(WINDOW.as_secs()).unwrap_or(i64::MAX)
}

/// Puts the identity of a device on a request that it has signed. Requests over connections that showed a certificate, and
/// unsigned ones, go on as they are.
pub(crate) async fn signed(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let has_certificate = request.request().conn_data::<PeerIdentity>().is_some();
    if !has_certificate && request.headers().contains_key(SIGNATURE_INPUT) {
        let body = body(&mut request).await?;
        let (identity, shown) = verify(&request, &body)?;
        request.set_payload(whole(body));
        request.extensions_mut().insert(identity);
        request.extensions_mut().insert(PeerCertificate(Arc::new(shown)));
    }
    next.call(request).await
}

async fn body(request: &mut ServiceRequest) -> Result<Bytes, actix_web::Error> {
    let payload = request.extract::<web::Payload>().await?;
    let too_large = |_limit| ApiProblem::new(Code::TooLarge, format!("the body is larger than {MAX_BODY} bytes"));
    payload.to_bytes_limited(MAX_BODY).await.map_err(too_large)?
}

/// A body that has arrived, as handlers expect one.
fn whole(body: Bytes) -> Payload {
    let (_, mut payload) = actix_http::h1::Payload::create(true);
    payload.unread_data(body);
    Payload::from(payload)
}

fn verify(request: &ServiceRequest, body: &[u8]) -> ApiResult<(PeerIdentity, CertificateDer<'static>)> {
    let invalid = |detail: &str| ApiProblem::new(Code::SignatureInvalid, detail);
    let (Some(app), Some(signatures)) =
        (request.app_data::<web::Data<App>>(), request.app_data::<web::Data<Signatures>>())
    else {
        return Err(invalid("this listener takes no signed requests"));
    };
    let verifier = signatures.verifier.as_ref().ok_or_else(|| {
        invalid("this server takes no signed requests; signed_requests = true in server.toml lets it")
    })?;
    let field = |name: &str| {
        let mut all = request.headers().get_all(name);
        let value = all.next().and_then(|value| value.to_str().ok()).filter(|_| all.next().is_none());
        value.ok_or_else(|| invalid(&format!("the field {name} is wanted, once")))
    };
    if !request.query_string().is_empty() {
        return Err(invalid("the path has a query, which no signature covers; a device's requests have none"));
    }
    let (digest, shown) = (field(CONTENT_DIGEST)?, field(CLIENT_CERT)?);
    let params = Params::parse(field(SIGNATURE_INPUT)?).map_err(invalid)?;
    if digest != content_digest(body) {
        return Err(invalid("content-digest is not the SHA-256 of the body"));
    }
    let der = certificate(shown).map(CertificateDer::from);
    let der = der.ok_or_else(|| invalid("client-cert is not :BASE64: of a certificate in DER"))?;
    let now = app.clock.now();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0)));
    let verified = verifier.verify_client_cert(&der, &[], time);
    verified
        .map_err(|error| invalid(&format!("client-cert is not a certificate of this server's devices: {error}")))?;
    let (Some(peer), Some(spki)) = (tls::peer(std::slice::from_ref(&der)), tls::spki(&der)) else {
        return Err(invalid("client-cert does not name a device"));
    };
    let (method, path) = (request.method().as_str(), request.path());
    let message = Message { method, path, content_digest: digest, client_cert: shown };
    message.verify(&params, field(SIGNATURE)?, &spki).map_err(invalid)?;
    in_time(&params, now)?;
    if !signatures.is_new(peer.device, &params, seconds(now))? {
        return Err(ApiProblem::new(Code::NonceReused, "a request with this nonce was received; draw another one"));
    }
    Ok((peer.into(), der))
}

/// Only a request that was signed about now is taken: what was received before the window is not remembered.
fn in_time(params: &Params, now: Timestamp) -> ApiResult<()> {
    if seconds(now).abs_diff(params.created) <= WINDOW.as_secs() {
        return Ok(());
    }
    let created = Timestamp::from_millis(params.created.saturating_mul(1000));
    let detail =
        format!("the request was signed at {created}, and it is {now}; up to {} s apart are allowed", WINDOW.as_secs());
    Err(ApiProblem::new(Code::SignatureExpired, detail).at(now))
}

const fn seconds(at: Timestamp) -> i64 {
    at.millis().div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: u128) -> DeviceId {
        DeviceId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn params(created: i64, n: u32) -> Params {
        let digest = callboard_proto::digest::Digest::of(&n.to_be_bytes());
        Params::new(created, *digest.as_bytes(), digest)
    }

    #[test]
    fn a_nonce_is_remembered_for_its_device_as_long_as_it_would_be_taken() {
        let signatures = Signatures::new(None);
        let new = |device, created, n, now| signatures.is_new(device, &params(created, n), now).expect("room");
        assert!(new(device(1), 1000, 1, 1000));
        assert!(!new(device(1), 1000, 1, 1300));
        assert!(new(device(2), 1000, 1, 1000), "another device's");
        assert!(new(device(1), 1000, 2, 1000));
        // One from ahead of the clock lives until the clock is past its window.
        assert!(new(device(1), 1300, 3, 1000));
        assert!(!new(device(1), 1300, 3, 1600));
        assert!(new(device(1), 1300, 3, 1601), "by then it is too old to be taken");
    }

    #[test]
    fn one_device_cannot_fill_the_memory_and_silent_ones_are_forgotten() {
        let signatures = Signatures::new(None);
        for n in 0..4096 {
            assert!(signatures.is_new(device(0), &params(1000, n), 1000).expect("room"));
        }
        let full = signatures.is_new(device(0), &params(1000, 9999), 1000).expect_err("full");
        assert_eq!(full.code, Code::TooManyRequests);
        for n in 1..10_000 {
            assert!(signatures.is_new(device(n), &params(1000, 1), 1000).expect("room"));
        }
        assert!(signatures.is_new(device(20_000), &params(2000, 1), 2000).expect("room"));
        assert_eq!(signatures.seen.lock().expect("not poisoned").len(), 1);
    }
}
