//! Entity tags: every answer that is read has one, so that who asks again gets it only when it is another one, and a
//! change can name what it was made from.
//!
//! A tag is the digest of the answer. That of a thing that people edit has another part before, and a dot: its edition,
//! which stays the same whatever devices do meanwhile. `If-None-Match` compares the whole, `If-Match` the edition.

use actix_web::{
    Error, HttpRequest, HttpResponse, Responder,
    body::{BodySize, BoxBody, MessageBody, to_bytes},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Json,
};
use callboard_proto::{digest::Digest, problem::Code};
use serde::Serialize;

use super::problem::{ApiProblem, ApiResult};
use crate::app::edition::{Edition, Expected};

/// Things that people edit, and all paths below them: what changes them takes `If-Match`.
pub(crate) const EDITED: [&str; 4] = ["rollouts/{rollout}", "sites/{site}", "devices/{device}", "users/{user}"];

/// A thing that people edit, as the answer of a handler.
pub(crate) struct Edited<T>(pub(crate) T, pub(crate) Edition);

impl<T: Serialize> Responder for Edited<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let mut response = Json(self.0).respond_to(request).map_into_boxed_body();
        if let Ok(edition) = HeaderValue::from_str(self.1.as_str()) {
            response.headers_mut().insert(header::ETAG, edition);
        }
        response
    }
}

/// Gives answers their tags, and leaves out what the client has.
pub(crate) async fn tagged<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if request.headers().contains_key(header::IF_MATCH) && !takes_if_match(request.request()) {
        let things = EDITED.join(", ");
        let detail = format!("If-Match is for changes of what has an edition of its own: {things} and below");
        return Ok(request.error_response(ApiProblem::new(Code::BadRequest, detail)));
    }
    let reads = request.method() == Method::GET;
    let has = tags(request.headers(), &header::IF_NONE_MATCH);
    let (request, response) = next.call(request).await?.map_into_boxed_body().into_parts();
    let edition = response.headers().get(header::ETAG).and_then(|edition| edition.to_str().ok()).map(str::to_owned);
    let whole = matches!(response.body().size(), BodySize::Sized(1..));
    if !response.status().is_success() || !whole || !(reads || edition.is_some()) {
        return Ok(ServiceResponse::new(request, response));
    }
    let (head, body) = response.into_parts();
    let body = to_bytes(body).await?;
    let digest: String = Digest::of(&body).to_string().chars().take(32).collect();
    let tag = match edition {
        Some(edition) => format!("\"{edition}.{digest}\""),
        None => format!("\"{digest}\""),
    };
    let known = reads && has.iter().any(|one| *one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag);
    let mut response =
        if known { HttpResponse::NotModified().finish() } else { head.set_body(body).map_into_boxed_body() };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    // A browser may keep it, and has to ask each time whether it still is so.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(ServiceResponse::new(request, response))
}

fn takes_if_match(request: &HttpRequest) -> bool {
    let pattern = request.match_pattern().unwrap_or_default();
    !request.method().is_safe() && pattern.strip_prefix("/api/v1").is_some_and(is_edited)
}

/// Whether a path of the API is a thing that people edit, or below one.
pub(crate) fn is_edited(path: &str) -> bool {
    EDITED.iter().any(|edited| path.trim_start_matches('/').starts_with(edited))
}

/// The editions that a change is meant for.
pub(crate) fn expected(request: &HttpRequest) -> ApiResult<Expected> {
    if !request.headers().contains_key(header::IF_MATCH) || request.method().is_safe() {
        return Ok(Expected::Any);
    }
    let tags = tags(request.headers(), &header::IF_MATCH);
    if tags.iter().any(|tag| tag == "*") {
        return Ok(Expected::Any);
    }
    let edition = |tag: &String| {
        let (edition, _) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
        Some(edition.to_owned())
    };
    let editions: Option<Vec<String>> = tags.iter().map(edition).collect();
    editions.map(Expected::OneOf).ok_or_else(|| {
        let detail =
            "If-Match is not what an ETag of this thing looks like; give the ETag of the answer to GET as it is";
        ApiProblem::new(Code::BadRequest, detail)
    })
}

/// What a header lists. No tag of ours has a comma in it.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect()
}
