//! What holds for every page: what a browser may do with it, and that whoever is refused reads why.
//!
//! Handlers answer with problems, as those of the API do. For whoever asks for HTML they become a page here; for others
//! they stay what they are.

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse, ResponseError as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderName, HeaderValue},
    middleware::Next,
};
use askama::Template;
use callboard_proto::problem::Code;

use super::{
    desk::{self, Kept},
    frame::{self, Frame, Section},
    login,
};
use crate::http::{
    auth,
    problem::{ApiProblem, ApiResult},
};

/// What a name or a label might smuggle past the escaping, a browser neither runs nor fetches, and no other page frames
/// these or gets their forms.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

#[derive(Template)]
#[template(path = "problem.html")]
struct Page {
    frame: Frame,
    title: &'static str,
    detail: String,
    request_id: Option<String>,
    /// What may help.
    advice: &'static str,
}

/// Finds out who asks, and makes the answer one for a browser.
pub(crate) async fn pages<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let response = auth::identify(request, next).await?.map_into_boxed_body();
    let (request, mut response) = response.into_parts();
    let problem = response.error().and_then(|error| error.as_error::<ApiProblem>()).cloned();
    if let Some(problem) = problem.filter(|_| wants_html(&request)) {
        response = refused(&request, &problem).unwrap_or_else(|worse| worse.error_response());
    }
    if frame::flash(&request).is_some() && !response.status().is_redirection() {
        frame::forget_flash(&mut response);
    }
    for (name, value) in HEADERS {
        if !response.headers().contains_key(name) {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(ServiceResponse::new(request, response))
}

pub(super) fn wants_html(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A problem as a page; whoever has to log in first gets to the login, with what was typed.
fn refused(request: &HttpRequest, problem: &ApiProblem) -> ApiResult<HttpResponse> {
    if problem.code == Code::Unauthorized {
        let kept = request.extensions().get::<Kept>().cloned();
        let here = request.uri().path_and_query().map_or("/", |path| path.as_str());
        return match kept {
            Some(Kept(form)) => login::ask_to_go_on(here, &form, &problem.detail),
            None => Ok(frame::to(&format!("/login?next={}", frame::quoted(here)))),
        };
    }
    let shown = problem.problem();
    let title = problem.code.row().1;
    let frame = match desk::whoever(request) {
        Some(desk) => Frame::new(&desk, Section::None, title),
        None => Frame::bare(title),
    };
    let page = Page { frame, title, detail: shown.detail, request_id: shown.request_id, advice: advice(problem.code) };
    let mut response = HttpResponse::build(problem.status_code());
    if let Some(seconds) = problem.retry_after_s {
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    frame::answer(&mut response, &page)
}

const fn advice(code: Code) -> &'static str {
    match code {
        Code::Forbidden => "An admin can give you another role under Settings.",
        Code::Conflict | Code::WrongState => {
            "Somebody else may have changed it meanwhile. Go back, load the page again and look at what is there now."
        }
        Code::Unavailable | Code::StorageFull | Code::TooManyRequests => "Nothing was changed. Try again in a while.",
        _ => "",
    }
}
