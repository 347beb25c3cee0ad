//! Who is asking: an operator with an API token, or a device with a client certificate.
//!
//! A handler that takes [`Operator`] or [`Peer`] cannot run without one.

use std::{future::Future, pin::Pin};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::{Version, header},
    web,
};
use callboard_proto::{digest::Digest, ids::DeviceId, problem::Code, time::Timestamp};
use data_encoding::BASE64;
use std::sync::Arc;

use super::problem::{ApiProblem, ApiResult};
use crate::{
    app::{self, App, devices::Known, tokens},
    db,
};

/// An operator: the holder of an API token.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) name: String,
}

/// What TLS says about a device: put on each connection when it is accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerIdentity {
    pub(crate) device: DeviceId,
    /// SHA-256 of the certificate's public key.
    pub(crate) spki: Digest,
    /// When the certificate ends.
    pub(crate) not_after: Timestamp,
}

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

/// Somebody who may look at the page: an operator, or a person at the server itself.
///
/// A request from this machine needs no token, unless a proxy passed it on or it came under a foreign host name
/// (a web page elsewhere that points its own name here). Browsers send the token as the password of HTTP Basic.
#[derive(Clone, Debug)]
pub(crate) struct Viewer;

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, ApiProblem>>>>;

impl FromRequest for Viewer {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if is_local(request) {
            return Box::pin(async { Ok(Self) });
        }
        let operator = Operator::from_request(request, payload);
        Box::pin(async move { operator.await.map(|_| Self) })
    }
}

/// What proxies tell about whom they ask for.
const PROXY_HEADERS: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

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

/// The token of a bearer header, or the password of a basic one.
fn token_of(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    if let Some(token) = header.strip_prefix("Bearer ") {
        return Some(token.to_owned());
    }
    let basic = BASE64.decode(header.strip_prefix("Basic ")?.as_bytes()).ok()?;
    String::from_utf8(basic).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

impl FromRequest for Operator {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned();
        let (token, peer) = (token_of(request), request.peer_addr().map(|peer| peer.ip()));
        Box::pin(async move {
            let app = app.ok_or_else(|| denied("the server is not ready"))?;
            let token = token.ok_or_else(|| {
                denied("send Authorization: Bearer and an API token; callboard api-token create makes one")
            })?;
            let found = operator(&app, token.trim()).await;
            // A database that is away refuses nobody's token.
            if found.as_ref().is_err_and(|problem| problem.code == Code::Unauthorized) {
                app.metrics.token_refused(peer);
            }
            found
        })
    }
}

fn denied(detail: &str) -> ApiProblem {
    ApiProblem::new(Code::Unauthorized, detail)
}

/// The operator whose token this is.
async fn operator(app: &App, token: &str) -> Result<Operator, ApiProblem> {
    let (id, secret) = tokens::parse(tokens::API, token)
        .ok_or_else(|| denied("that is no API token: one is cba_, 26 characters, _ and 26 characters"))?;
    let found = app.db.read(move |conn| Ok::<_, app::Error>(db::api_tokens::get(conn, id)?)).await?;
    found
        .filter(|token| tokens::same(token.secret_sha256, secret) && token.revoked_at.is_none())
        .map(|token| Operator { name: token.name })
        .ok_or_else(|| denied("this server does not know the API token, or it was revoked"))
}

impl FromRequest for Peer {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned();
        let identity = request.conn_data::<PeerIdentity>().copied();
        Box::pin(async move {
            let (app, identity) = (app.ok_or_else(unknown)?, identity.ok_or_else(unknown)?);
            Self::find(&app, identity).await
        })
    }
}

impl FromRequest for Renewing {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned();
        let identity = request.conn_data::<PeerIdentity>().copied();
        Box::pin(async move {
            let (app, identity) = (app.ok_or_else(unknown)?, identity.ok_or_else(unknown)?);
            let known = identity.known(&app).await?;
            identity.check_key(&known)?;
            Ok(Self { known })
        })
    }
}

impl PeerIdentity {
    /// What is known of the device; a renewed key becomes its own by being shown.
    async fn known(&self, app: &App) -> ApiResult<Arc<Known>> {
        let known = app::devices::known(app, self.device).await?.ok_or_else(unknown)?;
        if known.record.spki == Some(self.spki) || known.record.device.decommissioned {
            return Ok(known);
        }
        Ok(app::renewal::adopt(app, &known, self.spki, self.not_after).await?.unwrap_or(known))
    }
}

impl Peer {
    /// The device with this identity, as it is known now.
    async fn find(app: &App, identity: PeerIdentity) -> ApiResult<Self> {
        let known = identity.known(app).await?;
        identity.check(app.clock.now(), &known)?;
        Ok(Self { known, identity })
    }

    /// The same device later, if it is still welcome.
    pub(crate) async fn again(self, app: &App) -> ApiResult<Self> {
        Self::find(app, self.identity).await
    }
}

fn unknown() -> ApiProblem {
    ApiProblem::new(Code::UnknownDevice, "this path needs the client certificate that enrolment gave to the device")
}
