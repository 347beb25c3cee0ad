//! Who is asking: somebody with a permission, or a device with a client certificate.
//!
//! A handler that takes [`May`] or [`Peer`] cannot run without one.

mod may;

use std::{future::Future, pin::Pin, sync::Arc};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    dev::Payload,
    http::{Version, header},
    web,
};
use callboard_proto::{digest::Digest, ids::DeviceId, problem::Code, time::Timestamp};
use rustls_pki_types::CertificateDer;

use super::problem::{ApiProblem, ApiResult};
use crate::{
    app::{self, App, devices::Known},
    tls,
};
pub(crate) use may::{
    Administer, Allows, Approve, COOKIE, LIVE, May, Operate, Publish, View, administrator, asker, cookie, identify,
    may_look,
};

/// What TLS says about a device, put on each connection when it is accepted; or the signature of a request, put there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerIdentity {
    pub(crate) device: DeviceId,
    /// SHA-256 of the certificate's public key.
    pub(crate) spki: Digest,
    /// When the certificate ends.
    pub(crate) not_after: Timestamp,
    /// The digest of its issuer's name.
    pub(crate) issuer: Digest,
}

/// The certificate that a device showed: put on each connection beside its identity.
#[derive(Clone)]
pub(crate) struct PeerCertificate(pub(crate) Arc<CertificateDer<'static>>);

/// An enrolled device that is in service; checked on every request, so an open connection or a resumed TLS session buys
/// nothing.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) known: Arc<Known>,
    pub(crate) identity: PeerIdentity,
}

/// An enrolled device that is in service and may renew its certificate, also one that has ended.
pub(crate) struct Renewing {
    pub(crate) known: Arc<Known>,
}

impl From<tls::Peer> for PeerIdentity {
    fn from(peer: tls::Peer) -> Self {
        let tls::Peer { device, spki_sha256: spki, not_after, issuer } = peer;
        Self { device, spki, not_after, issuer }
    }
}

impl PeerIdentity {
    /// Refuses a device that is not welcome any more, by the clock and by what the registry knows now.
    pub(crate) fn check(&self, now: Timestamp, known: &Known) -> ApiResult<()> {
        self.check_key(known)?;
        if now > self.not_after {
            let name = &known.record.device.name;
            let detail =
                format!("the certificate of device {name} ended at {}; POST /v1/renew renews it", self.not_after);
            return Err(ApiProblem::new(Code::CertificateExpired, detail));
        }
        Ok(())
    }

    /// Refuses a device that was taken out of service, or shows another key than its own.
    fn check_key(&self, known: &Known) -> ApiResult<()> {
        let (record, name) = (&known.record, &known.record.device.name);
        if record.device.decommissioned {
            return Err(ApiProblem::new(Code::DeviceRevoked, format!("device {name} was decommissioned")));
        }
        if record.spki != Some(self.spki) {
            let detail = format!("this certificate of device {name} was replaced by another one");
            return Err(ApiProblem::new(Code::DeviceRevoked, detail));
        }
        Ok(())
    }
}

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, ApiProblem>>>>;

/// What proxies tell about whom they ask for.
const PROXY_HEADERS: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Whether it is a person at the server itself who asks: a request from this machine, unless a proxy passed it on or it came under a foreign host name (a web page elsewhere that points its
/// own name here).
fn is_local(request: &HttpRequest) -> bool {
    let headers = request.headers();
    // Browsers speak HTTP/1.1; proxies that add no header of their own, 1.0.
    let proxied = request.version() < Version::HTTP_11 || PROXY_HEADERS.iter().any(|name| headers.contains_key(*name));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let named = ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|name| host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')));
    !proxied && named && request.peer_addr().is_some_and(|peer| peer.ip().is_loopback())
}

/// Refuses what another site's page sent, where no token of a session says that it did not.
pub(crate) fn check_own(request: &HttpRequest) -> ApiResult<()> {
    let sent = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let foreign_site = sent("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = sent(header::HOST.as_str()).unwrap_or_default();
    let origin = sent(header::ORIGIN.as_str());
    let foreign_origin = origin.is_some_and(|origin| origin.split_once("://").is_none_or(|(_, from)| from != host));
    if foreign_site || foreign_origin {
        return Err(ApiProblem::new(Code::Forbidden, "this was sent from another site's page"));
    }
    Ok(())
}

impl FromRequest for Peer {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned();
        let identity = identity(request);
        let shown = shown(request);
        Box::pin(async move {
            let (app, identity) = (app.ok_or_else(unknown)?, identity.ok_or_else(unknown)?);
            Self::find(&app, identity, shown.as_deref()).await
        })
    }
}

impl FromRequest for Renewing {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned();
        let identity = identity(request);
        let shown = shown(request);
        Box::pin(async move {
            let (app, identity) = (app.ok_or_else(unknown)?, identity.ok_or_else(unknown)?);
            let known = identity.known(&app, shown.as_deref()).await?;
            identity.check_key(&known)?;
            Ok(Self { known })
        })
    }
}

impl PeerIdentity {
    /// What is known of the device; a renewed key becomes its own by being shown.
    async fn known(&self, app: &App, shown: Option<&CertificateDer<'static>>) -> ApiResult<Arc<Known>> {
        let known = app::devices::known(app, self.device).await?.ok_or_else(unknown)?;
        if known.record.spki == Some(self.spki) || known.record.device.decommissioned {
            return Ok(known);
        }
        Ok(app::renewal::adopt(app, &known, self.spki, shown).await?.unwrap_or(known))
    }
}

impl Peer {
    /// The device with this identity, as it is known now.
    async fn find(app: &App, identity: PeerIdentity, shown: Option<&CertificateDer<'static>>) -> ApiResult<Self> {
        let known = identity.known(app, shown).await?;
        identity.check(app.clock.now(), &known)?;
        Ok(Self { known, identity })
    }

    /// The same device later, if it is still welcome.
    pub(crate) async fn again(self, app: &App) -> ApiResult<Self> {
        Self::find(app, self.identity, None).await
    }
}

/// Who sent a request, by its connection or its signature.
fn identity(request: &HttpRequest) -> Option<PeerIdentity> {
    let by_connection = request.conn_data::<PeerIdentity>().copied();
    by_connection.or_else(|| request.extensions().get::<PeerIdentity>().copied())
}

/// The certificate that came with a request's connection, or with the request.
fn shown(request: &HttpRequest) -> Option<Arc<CertificateDer<'static>>> {
    let by_connection = request.conn_data::<PeerCertificate>().cloned();
    by_connection.or_else(|| request.extensions().get::<PeerCertificate>().cloned()).map(|shown| shown.0)
}

fn unknown() -> ApiProblem {
    ApiProblem::new(Code::UnknownDevice, "this path needs the client certificate that enrolment gave to the device")
}
