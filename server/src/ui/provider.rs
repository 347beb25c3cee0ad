//! `/login/provider`: the way to the identity provider and back. What goes wrong on it stands on the login page.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Query},
};
use askama::Template;
use callboard_proto::problem::Code;
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::{
    door,
    frame::{self, Frame},
    login,
};
use crate::{
    app::{
        App,
        people::{login::LoggedIn, provider},
    },
    http::{
        admin::session,
        auth::cookie,
        problem::{ApiProblem, ApiResult},
    },
    outgoing,
    provider::{Kept, MAX_SAID},
};

/// What ties the answer to the browser. The prefix keeps other sites of the same domain from setting it.
const COOKIE: &str = "__Host-callboard-login";
/// As long as somebody may take to log in there.
const WITHIN_S: u64 = 600;

/// What the provider sends with the person; some send more.
#[derive(Deserialize)]
pub(crate) struct Answer {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Where the browser goes on by itself.
#[derive(Template)]
#[template(path = "logged_in.html")]
struct Page {
    frame: Frame,
}

/// Sends the browser to the provider.
pub(crate) async fn begin(app: Data<App>, request: HttpRequest) -> ApiResult<HttpResponse> {
    let begun = match provider::begin(&app).await {
        Ok(begun) => begun,
        Err(error) => return say(&app, &request, error.into()).await,
    };
    let kept = serde_json::to_vec(&begun.kept).unwrap_or_default();
    let mut response = HttpResponse::Found()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::LOCATION, begun.url))
        .finish();
    session::add_cookie(&mut response, &travelling(&BASE64URL_NOPAD.encode(&kept), WITHIN_S));
    Ok(response)
}

/// Takes the browser that comes back, and begins the session.
pub(crate) async fn finish(app: Data<App>, request: HttpRequest, answer: Query<Answer>) -> ApiResult<HttpResponse> {
    let begun = match log_in(&app, &request, answer.into_inner()).await {
        Ok(begun) => begun,
        Err(problem) => return say(&app, &request, problem).await,
    };
    // A redirect would still count as coming from the provider, and the browser would leave the new cookie out.
    let mut response = frame::show(&Page { frame: Frame::bare("Logged in") })?;
    session::set_cookie(&mut response, &begun.cookie);
    session::add_cookie(&mut response, &travelling("", 0));
    Ok(response)
}

/// A problem as it is for programs, and on the login page for people.
async fn say(app: &App, request: &HttpRequest, problem: ApiProblem) -> ApiResult<HttpResponse> {
    if door::wants_html(request) { login::say(app, &problem).await } else { Err(problem) }
}

async fn log_in(app: &App, request: &HttpRequest, answer: Answer) -> ApiResult<LoggedIn> {
    let kept = kept(request).filter(|kept| {
        answer.state.as_deref().is_some_and(|state| state.as_bytes().ct_eq(kept.state.as_bytes()).into())
    });
    let again = "this browser has not begun the login that comes back here, or too long ago; begin again at /login";
    let kept = kept.ok_or_else(|| ApiProblem::new(Code::BadRequest, again))?;
    let Some(code) = answer.code else {
        let said = answer.error_description.or(answer.error).unwrap_or_else(|| "no reason was given".to_owned());
        let said = outgoing::said(&said, MAX_SAID);
        return Err(ApiProblem::new(Code::Forbidden, format!("the identity provider did not log you in: {said}")));
    };
    let from = request.peer_addr().map(|peer| peer.ip());
    Ok(provider::finish(app, code, kept, from).await?)
}

fn kept(request: &HttpRequest) -> Option<Kept> {
    let cookie = cookie(request, COOKIE)?;
    serde_json::from_slice(&BASE64URL_NOPAD.decode(cookie.as_bytes()).ok()?).ok()
}

/// It travels with the way back from the provider, which is another site.
fn travelling(value: &str, seconds: u64) -> String {
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax")
}
