//! `/api/v1/session`: logging in and out, and who one is.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Json},
};
use callboard_proto::{
    admin::{BeginTotp, ChangePassword, Login, TotpCode, TotpSecret, WhoAmI},
    problem::{Code, Problem},
};

use crate::{
    app::{
        App,
        people::{login, own},
    },
    http::{
        auth::{COOKIE, May, View},
        body::Body,
        problem::{ApiProblem, ApiResult},
    },
};

/// Who asks, and what that one may do.
#[utoipa::path(get, path = "/session", tag = "session", security(("bearer" = ["view"])),
    responses((status = 200, body = WhoAmI)))]
pub(crate) async fn get(may: May<View>) -> Json<WhoAmI> {
    Json(may.me)
}

/// Logs in: the answer sets the session's cookie. It ends an hour after its last use, and after twelve hours.
#[utoipa::path(post, path = "/session", tag = "session", security(()), request_body = Login,
    responses((status = 200, body = WhoAmI), (status = 401, body = Problem), (status = 429, body = Problem)))]
pub(crate) async fn begin(app: Data<App>, request: HttpRequest, body: Body<Login>) -> ApiResult<HttpResponse> {
    let from = request.peer_addr().map(|peer| peer.ip());
    let begun = login::login(&app, body.into_inner(), from).await.map_err(|error| {
        let mut problem = ApiProblem::from(error);
        problem.retry_after_s = (problem.code == Code::TooManyRequests).then_some(60);
        problem
    })?;
    let (name, grants) = (begun.user.name, begun.user.grants);
    let me = WhoAmI { person: Some(name.clone()), name, grants, csrf_token: Some(begun.csrf_token) };
    let mut response = HttpResponse::Ok().json(me);
    set_cookie(&mut response, &begun.cookie);
    Ok(response)
}

/// Gives a browser its session.
pub(crate) fn set_cookie(response: &mut HttpResponse, session: &str) {
    add_cookie(response, &cookie(session, login::LONGEST.as_secs()));
}

/// Takes it back.
pub(crate) fn forget_cookie(response: &mut HttpResponse) {
    add_cookie(response, &cookie("", 0));
}

/// Sets a cookie beside others.
pub(crate) fn add_cookie(response: &mut HttpResponse, cookie: &str) {
    // It is made of what a header may have.
    if let Ok(value) = header::HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Scripts do not see it, it travels encrypted or not beyond the machine, and no other site's page sends it.
fn cookie(value: &str, seconds: u64) -> String {
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict")
}

/// Logs out.
#[utoipa::path(delete, path = "/session", tag = "session", security(("bearer" = ["view"])),
    responses((status = 204), (status = 409, body = Problem)))]
pub(crate) async fn end(may: May<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    let session = may.session.ok_or_else(no_session)?;
    login::end(&app, may.actor, session).await?;
    let mut response = HttpResponse::NoContent().finish();
    forget_cookie(&mut response);
    Ok(response)
}

/// Changes one's own password; one's other sessions end.
#[utoipa::path(put, path = "/session/password", tag = "session", security(("bearer" = ["view"])),
    request_body = ChangePassword,
    responses((status = 204), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn change_password(
    may: May<View>,
    app: Data<App>,
    body: Body<ChangePassword>,
) -> ApiResult<HttpResponse> {
    let session = may.session.ok_or_else(no_session)?;
    own::change_password(&app, may.actor, session, body.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Makes a secret for codes of one's own; it counts when `PUT /session/totp` brings a code of it.
#[utoipa::path(post, path = "/session/totp", tag = "session", security(("bearer" = ["view"])),
    request_body = BeginTotp,
    responses((status = 200, body = TotpSecret), (status = 403, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn begin_totp(may: May<View>, app: Data<App>, body: Body<BeginTotp>) -> ApiResult<Json<TotpSecret>> {
    may.session.ok_or_else(no_session)?;
    Ok(Json(own::begin_totp(&app, may.actor, body.into_inner()).await?))
}

/// From now on one's login takes a code.
#[utoipa::path(put, path = "/session/totp", tag = "session", security(("bearer" = ["view"])), request_body = TotpCode,
    responses((status = 204), (status = 403, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn confirm_totp(may: May<View>, app: Data<App>, body: Body<TotpCode>) -> ApiResult<HttpResponse> {
    may.session.ok_or_else(no_session)?;
    own::confirm_totp(&app, may.actor, body.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// One's login takes no code any more.
#[utoipa::path(post, path = "/session/totp/disable", tag = "session", security(("bearer" = ["view"])),
    request_body = TotpCode,
    responses((status = 204), (status = 403, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn end_totp(may: May<View>, app: Data<App>, body: Body<TotpCode>) -> ApiResult<HttpResponse> {
    may.session.ok_or_else(no_session)?;
    own::end_totp(&app, may.actor, body.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn no_session() -> ApiProblem {
    ApiProblem::new(Code::WrongState, "an API token has no session; this is for people who have logged in")
}
