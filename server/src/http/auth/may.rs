//! What an operator may do: asked for in the signature of each handler.
//!
//! [`identify`] finds out once who asks. A handler that takes [`May`] with a permission runs only for somebody who has
//! it, and learns in which part of the fleet. It takes it first: whoever may not do something is told that, and not what
//! is wrong with the body. **A page asks in the same way**, by `ui::desk`: `Desk<View>` for what is shown,
//! `Submitted<Operate>` and so on for what a form changes; what it lists it narrows by [`Actor::sees`].

use std::{
    future::{Ready, ready},
    marker::PhantomData,
    net::IpAddr,
    ops::Deref,
};

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header,
    middleware::Next,
    web,
};
use callboard_proto::{
    admin::{Grant, Permission, WhoAmI},
    ids::TokenId,
    problem::Code,
};
use data_encoding::BASE64;

use super::{check_own, is_local};
use crate::{
    app::{self, Actor, App, people::login::Known, tokens},
    db,
    http::{
        etag,
        problem::{ApiProblem, ApiResult},
    },
};

/// The header of a page that asks by itself whether there is news.
pub(crate) const LIVE: &str = "x-callboard-live";
/// The cookie of a session.
pub(crate) const COOKIE: &str = "callboard-session";

/// A permission as a type.
pub(crate) trait Allows: 'static {
    const PERMISSION: Permission;
}

/// The permission to see.
pub(crate) struct View;
/// The permission to run the fleet.
pub(crate) struct Operate;
/// The permission to publish what was signed.
pub(crate) struct Publish;
/// The permission to let rollouts go on as a second person.
pub(crate) struct Approve;
/// The permission for everything.
pub(crate) struct Administer;

impl Allows for View {
    const PERMISSION: Permission = Permission::View;
}

impl Allows for Operate {
    const PERMISSION: Permission = Permission::Operate;
}

impl Allows for Publish {
    const PERMISSION: Permission = Permission::Release;
}

impl Allows for Approve {
    const PERMISSION: Permission = Permission::Approve;
}

impl Allows for Administer {
    const PERMISSION: Permission = Permission::Administer;
}

/// Somebody who may do `P`, and where.
pub(crate) struct May<P> {
    pub(crate) actor: Actor,
    pub(crate) me: WhoAmI,
    /// The session, if somebody has logged in.
    pub(crate) session: Option<TokenId>,
    permission: PhantomData<P>,
}

impl<P> Deref for May<P> {
    type Target = Actor;

    fn deref(&self) -> &Actor {
        &self.actor
    }
}

impl<P: Allows> FromRequest for May<P> {
    type Error = ApiProblem;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request).and_then(|may| may.sent_from_own_page(request)))
    }
}

impl<P: Allows> May<P> {
    /// Who asks, if that one may do `P`. That a change comes from a page of this server is still to be checked.
    pub(crate) fn of(request: &HttpRequest) -> ApiResult<Self> {
        let source = request.peer_addr().map(|peer| peer.ip());
        let asked = request.extensions().get::<Asked>().cloned();
        let who = asked.unwrap_or_else(|| Asked(Err(denied("the server is not ready")))).0?;
        let actor = Actor { source, expected: etag::expected(request)?, ..who.may(P::PERMISSION)? };
        let Who { person, grants, session, .. } = who;
        let (session, csrf_token) = session.unzip();
        let me = WhoAmI { name: actor.name.clone(), person, grants, csrf_token };
        Ok(Self { actor, me, session, permission: PhantomData })
    }

    /// A change by a session has to come from a page of this server: it sends the session's token, or the browser says
    /// so.
    fn sent_from_own_page(self, request: &HttpRequest) -> ApiResult<Self> {
        if request.method().is_safe() {
            return Ok(self);
        }
        let Some(csrf_token) = self.me.csrf_token.as_deref() else {
            // A browser sends a password that it remembers with whatever page asks for that.
            if has_password(request) {
                check_own(request)?;
            }
            return Ok(self);
        };
        let sent = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        if sent("x-csrf-token") == Some(csrf_token) || sent("sec-fetch-site") == Some("same-origin") {
            return Ok(self);
        }
        let detail = "a change by a session needs the header X-CSRF-Token with the csrf_token of GET /api/v1/session";
        Err(ApiProblem::new(Code::Forbidden, detail))
    }
}

/// Who sent a request, or why that is not known.
#[derive(Clone)]
struct Asked(ApiResult<Who>);

/// Who sent a request, as a word of its own for each token and each person; `None` if that is not known.
pub(crate) fn asker(request: &HttpRequest) -> Option<String> {
    let asked = request.extensions().get::<Asked>().cloned()?;
    asked.0.ok().map(|who| who.id)
}

/// Somebody whom the server knows.
#[derive(Clone, Debug)]
struct Who {
    /// The token, or the person.
    id: String,
    name: String,
    /// The person behind it, if there is one.
    person: Option<String>,
    grants: Vec<Grant>,
    /// The session, and what changes have to send beside its cookie.
    session: Option<(TokenId, String)>,
}

impl Who {
    fn may(&self, permission: Permission) -> ApiResult<Actor> {
        let actor = Actor::with(&self.name, &self.grants, permission);
        actor.map(|actor| Actor { person: self.person.clone(), ..actor }).ok_or_else(|| {
            let roles: Vec<&str> = permission.roles().map(|role| role.as_str()).collect();
            let own: Vec<&str> = self.grants.iter().map(|grant| grant.role.as_str()).collect();
            let detail = format!(
                "this takes the permission {permission}, which {} gives; {} is {}",
                roles.join(" or "),
                self.name,
                own.join(" and ")
            );
            ApiProblem::new(Code::Forbidden, detail)
        })
    }
}

/// Finds out who asks, before anything is read of the body.
pub(crate) async fn identify<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let asked = Asked(who(request.request()).await);
    if asked.0.is_err() && request.method().is_safe() && is_local(request.request()) {
        let looks = !is_run_by_people(request.request()).await;
        request.extensions_mut().insert(MayLook(looks));
    }
    request.extensions_mut().insert(asked);
    let mode = request.headers().get("sec-fetch-mode");
    let by_script = mode.is_some_and(|mode| mode.as_bytes() != b"navigate");
    let mut response = next.call(request).await?;
    if by_script {
        // The browser would ask for a password in the middle of a page that only wanted to know whether there is news.
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
    Ok(response)
}

/// Whether somebody at the server itself may look without a token or a login.
#[derive(Clone, Copy)]
struct MayLook(bool);

/// Whether the request may be answered with what there is to see although nobody knows who asks.
pub(crate) fn may_look(request: &HttpRequest) -> bool {
    request.extensions().get::<MayLook>().is_some_and(|looks| looks.0)
}

/// Whether there are people: what some of them do not see is not for whoever is at the server either.
async fn is_run_by_people(request: &HttpRequest) -> bool {
    match request.app_data::<web::Data<App>>() {
        Some(app) => app::people::is_anybody_known(app).await.unwrap_or(true),
        None => true,
    }
}

async fn who(request: &HttpRequest) -> ApiResult<Who> {
    let app = request.app_data::<web::Data<App>>().ok_or_else(|| denied("the server is not ready"))?;
    let Some(token) = token_of(request) else {
        return match cookie(request, COOKIE) {
            Some(cookie) => {
                let accepts = request.headers().get(header::ACCEPT).is_some_and(|kind| kind == "text/event-stream");
                let by_itself = request.method().is_safe() && (request.headers().contains_key(LIVE) || accepts);
                logged_in(app, &cookie, !by_itself).await
            }
            None => Err(denied(
                "send Authorization: Bearer and an API token (callboard api-token create makes one), or log in with POST \
                 /api/v1/session",
            )),
        };
    };
    let found = holder(app, token.trim()).await;
    // A database that is away refuses nobody's token.
    if found.as_ref().is_err_and(|problem| problem.code == Code::Unauthorized) {
        app.metrics.token_refused(request.peer_addr().map(|peer| peer.ip()));
    }
    found
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

/// Whether the token came as browsers send what somebody typed into their own box.
fn has_password(request: &HttpRequest) -> bool {
    request.headers().get(header::AUTHORIZATION).is_some_and(|sent| sent.as_bytes().starts_with(b"Basic "))
}

/// What a cookie holds.
pub(crate) fn cookie(request: &HttpRequest, wanted: &str) -> Option<String> {
    let headers = request.headers().get_all(header::COOKIE).filter_map(|header| header.to_str().ok());
    let mut cookies = headers.flat_map(|header| header.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}

/// Whose session this is.
async fn logged_in(app: &App, cookie: &str, used: bool) -> ApiResult<Who> {
    let found = app::people::login::find(app, cookie, used).await?;
    let Known { session, name, grants, csrf_token } =
        found.ok_or_else(|| denied("the session has ended; log in again"))?;
    let id = format!("person {name}");
    Ok(Who { id, person: Some(name.clone()), name, grants, session: Some((session, csrf_token)) })
}

/// Whoever holds this API token, if it is an admin's.
pub(crate) async fn administrator(app: &App, token: &str, source: Option<IpAddr>) -> ApiResult<Actor> {
    let who = holder(app, token.trim()).await?;
    Ok(Actor { source, ..who.may(Permission::Administer)? })
}

fn denied(detail: &str) -> ApiProblem {
    ApiProblem::new(Code::Unauthorized, detail)
}

/// Whose token this is.
async fn holder(app: &App, token: &str) -> ApiResult<Who> {
    let (id, secret) = tokens::parse(tokens::API, token)
        .ok_or_else(|| denied("that is no API token: one is cba_, 26 characters, _ and 26 characters"))?;
    let found = app.db.read(move |conn| Ok::<_, app::Error>(db::api_tokens::get(conn, id)?)).await?;
    let found = found
        .filter(|token| tokens::same(token.secret_sha256, secret) && token.revoked_at.is_none())
        .ok_or_else(|| denied("this server does not know the API token, or it was revoked"))?;
    match found.expires_at {
        Some(end) if end <= app.clock.now() => Err(denied(&format!("the API token ended at {end}; make another one"))),
        _ => {
            let id = format!("token {id}");
            Ok(Who { id, name: found.name, person: found.person, grants: found.grants, session: None })
        }
    }
}
