//! Who looks at a page, and who sends a form from one.
//!
//! [`Desk`] is for pages: somebody with a permission, or a person at the server itself, who may look without a login.
//! [`Submitted`] is for forms: somebody who has logged in, has the permission, and sends the form from a page of this
//! server. It is the one place where the token against forged requests is checked, and a handler of a form cannot get at
//! its fields without it.

use std::{future::Future, marker::PhantomData, ops::Deref, pin::Pin};

use actix_multipart::Multipart;
use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    dev::Payload,
    http::header,
    web::{self, Data},
};
use callboard_proto::{
    admin::{Grant, Permission, Role, WhoAmI},
    ids::TokenId,
    problem::Code,
};
use futures_util::StreamExt as _;
use subtle::ConstantTimeEq as _;

use super::{
    form::{CSRF, Form},
    frame::{self, Flash},
};
use crate::{
    app::{AT_THE_SERVER, Actor, App},
    http::{
        auth::{self, Allows, May, View},
        limits::in_time,
        problem::{ApiProblem, ApiResult, from_actix},
    },
};

/// Somebody who has the permission `P`, in front of a page.
#[derive(Clone)]
pub(crate) struct Desk<P> {
    pub(crate) actor: Actor,
    pub(crate) me: WhoAmI,
    /// None for a person at the server who has not logged in, and for an API token: both may look.
    pub(crate) session: Option<TokenId>,
    /// Path and query of the page.
    pub(crate) here: String,
    pub(crate) flash: Option<Flash>,
    permission: PhantomData<P>,
}

/// A form that somebody with the permission `P` sent from a page of this server.
pub(crate) struct Submitted<P> {
    pub(crate) desk: Desk<P>,
    pub(crate) form: Form,
}

impl<P> Deref for Desk<P> {
    type Target = Actor;

    fn deref(&self) -> &Actor {
        &self.actor
    }
}

impl<P> Desk<P> {
    /// Whether a button for this is worth showing: it takes a login and a role that has the permission.
    pub(crate) fn may_do(&self, permission: Permission) -> bool {
        self.session.is_some() && self.has(permission)
    }

    /// Whether one of the roles has the permission.
    pub(crate) fn has(&self, permission: Permission) -> bool {
        self.me.grants.iter().any(|grant| grant.role.allows(permission))
    }
}

/// What a form held whose sender has to log in first; with the request, for the login page to keep.
#[derive(Clone)]
pub(super) struct Kept(pub(super) Form);

type Extracted<T> = Pin<Box<dyn Future<Output = ApiResult<T>>>>;

impl<P: Allows> FromRequest for Desk<P> {
    type Error = ApiProblem;
    type Future = std::future::Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(desk(request))
    }
}

/// Who asks, with the permission `P`.
pub(super) fn desk<P: Allows>(request: &HttpRequest) -> ApiResult<Desk<P>> {
    let here = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let flash = frame::flash(request);
    let looks = P::PERMISSION == Permission::View && request.method().is_safe();
    match May::<P>::of(request) {
        Ok(May { actor, me, session, .. }) => Ok(Desk { actor, me, session, here, flash, permission: PhantomData }),
        Err(_) if looks && auth::may_look(request) => {
            let name = AT_THE_SERVER.to_owned();
            let me = WhoAmI {
                name,
                person: None,
                grants: vec![Grant { role: Role::Viewer, selector: None }],
                csrf_token: None,
            };
            let actor = Actor::unlimited(&me.name);
            Ok(Desk { actor, me, session: None, here, flash, permission: PhantomData })
        }
        Err(problem) => Err(problem),
    }
}

impl<P: Allows> FromRequest for Submitted<P> {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let desk = desk::<P>(request);
        let fields = fields(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let desk = match desk {
                Ok(desk) if desk.session.is_some() => desk,
                Ok(_) => return Err(keep(&request, fields.await?, log_in())),
                Err(problem) if problem.code == Code::Unauthorized => {
                    return Err(keep(&request, fields.await?, problem));
                }
                Err(problem) => return Err(problem),
            };
            let form = fields.await?;
            check_token(&desk, form.text(CSRF))?;
            Ok(Self { desk, form })
        })
    }
}

/// Refuses a form that was not sent from a page of this login.
fn check_token<P>(desk: &Desk<P>, sent: &str) -> ApiResult<()> {
    let wanted = desk.me.csrf_token.as_deref().unwrap_or_default();
    if wanted.is_empty() || !bool::from(wanted.as_bytes().ct_eq(sent.as_bytes())) {
        let detail = "this form was not sent from a page of this login; load the page again and send it from there";
        return Err(ApiProblem::new(Code::Forbidden, detail));
    }
    Ok(())
}

/// The same as [`Submitted`] for a form with files, whose parts are read one after the other: its token is the first of
/// them, and there are no other parts for a handler without it.
pub(crate) struct FilesSubmitted<P> {
    pub(crate) desk: Desk<P>,
    pub(crate) parts: Multipart,
}

/// A token of a session, and nothing longer.
const MAX_TOKEN: usize = 256;

impl<P: Allows> FromRequest for FilesSubmitted<P> {
    type Error = ApiProblem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let desk = desk::<P>(request);
        let has_parts = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("multipart/form-data")));
        let (parts, fields) = match has_parts {
            true => (Some(Multipart::from_request(request, payload)), None),
            false => (None, Some(fields(request, payload))),
        };
        let within =
            request.app_data::<Data<App>>().map_or_else(Default::default, |app| app.operators_request_timeout());
        let request = request.clone();
        Box::pin(async move {
            let desk = match desk {
                Ok(desk) if desk.session.is_some() => desk,
                // Files are not kept.
                Ok(_) => return Err(keep(&request, Form::default(), log_in())),
                Err(problem) if problem.code == Code::Unauthorized => {
                    return Err(keep(&request, Form::default(), problem));
                }
                Err(problem) => return Err(problem),
            };
            let Some(parts) = parts else {
                let form = match fields {
                    Some(fields) => fields.await?,
                    None => Form::default(),
                };
                check_token(&desk, form.text(CSRF))?;
                return Err(ApiProblem::new(Code::BadRequest, "this form has files: send it as multipart/form-data"));
            };
            let mut parts = parts.await.map_err(|error| from_actix(&error))?;
            let first = in_time(within, parts.next()).await?.and_then(Result::ok);
            let mut first = first.filter(|part| part.name() == Some(CSRF));
            let mut sent = Vec::new();
            while let Some(part) = &mut first
                && let Some(bytes) = in_time(within, part.next()).await?.and_then(Result::ok)
                && sent.len() <= MAX_TOKEN
            {
                sent.extend_from_slice(&bytes);
            }
            check_token(&desk, &String::from_utf8_lossy(&sent))?;
            Ok(Self { desk, parts })
        })
    }
}

fn log_in() -> ApiProblem {
    ApiProblem::new(Code::Unauthorized, "looking needs no login here, but a change does")
}

/// Keeps a form for after the login, unless another site's page made it up.
fn keep(request: &HttpRequest, form: Form, problem: ApiProblem) -> ApiProblem {
    if let Err(foreign) = auth::check_own(request) {
        return foreign;
    }
    request.extensions_mut().insert(Kept(form));
    problem
}

/// The fields of a form, which nobody has vouched for yet.
pub(super) fn fields(request: &HttpRequest, payload: &mut Payload) -> Extracted<Form> {
    let within = request.app_data::<Data<App>>().map_or_else(Default::default, |app| app.operators_request_timeout());
    let read = web::Form::<Vec<(String, String)>>::from_request(request, payload);
    Box::pin(async move {
        let fields = in_time(within, read).await?.map_err(|error| from_actix(&error))?;
        Ok(Form::of(fields.into_inner()))
    })
}

/// Somebody who may look, if it is known who asks; for the navigation on pages that say what went wrong.
pub(super) fn whoever(request: &HttpRequest) -> Option<Desk<View>> {
    desk(request).ok()
}
