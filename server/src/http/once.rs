//! `Idempotency-Key`: a `POST` that comes again under the same key is answered as it was the first time.
//!
//! Requests without the header pass through, and so do those of nobody, which handlers refuse.

use actix_http::h1;
use actix_web::{
    Error, HttpMessage as _,
    body::{BoxBody, MessageBody, to_bytes},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::Next,
    web::{Bytes, BytesMut, Data},
};
use callboard_proto::{digest::Digest, problem::Code};
use futures_util::StreamExt as _;

use super::{
    MAX_ADMIN_JSON, auth,
    limits::in_time,
    problem::{ApiProblem, ApiResult, answered},
};
use crate::app::{
    self, App,
    once::{Answer, Keyed, MAX_ANSWER},
};

const HEADER: &str = "idempotency-key";
/// A UUID has 36 characters. Shorter ones could be guessed by who has the database.
const KEY: std::ops::RangeInclusive<usize> = 16..=128;

/// Carries a request out once.
pub(crate) async fn once<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let keyed = match keyed(&mut request).await {
        Ok(Some(keyed)) => keyed,
        Ok(None) => return Ok(next.call(request).await?.map_into_boxed_body()),
        Err(problem) => return Ok(request.error_response(problem)),
    };
    let Some(app) = request.app_data::<Data<App>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    match app::once::begin(&app, &keyed).await {
        Ok(None) => {}
        Ok(Some(answer)) => return Ok(request.into_response(answered(answer.status, answer.body))),
        Err(error) => return Ok(request.error_response(ApiProblem::from(error))),
    }
    let (request, response) = next.call(request).await?.map_into_boxed_body().into_parts();
    let (head, body) = response.into_parts();
    let body = to_bytes(body).await?;
    let status = head.status().as_u16();
    let kept = if is_final(status) && !head.headers().contains_key(header::SET_COOKIE) {
        app::once::end(&app, keyed, Answer { status, body: kept(&body) }).await
    } else {
        app::once::forget(&app, keyed).await
    };
    if let Err(error) = kept {
        // The client has its answer; asked again, it is told that nothing is known.
        tracing::warn!(%error, "cannot keep the answer to an Idempotency-Key");
    }
    Ok(ServiceResponse::new(request, head.set_body(body).map_into_boxed_body()))
}

/// Whether the same request would have the same answer: not if the server could not, or did not let it.
fn is_final(status: u16) -> bool {
    status < 500 && ![401, 403, 408, 429].contains(&status)
}

fn kept(body: &Bytes) -> Vec<u8> {
    if body.len() > MAX_ANSWER { Vec::new() } else { body.to_vec() }
}

/// The request with its key, if it has one and comes from somebody.
async fn keyed(request: &mut ServiceRequest) -> ApiResult<Option<Keyed>> {
    let Some(key) = request.headers().get(HEADER).filter(|_| request.method() == Method::POST) else {
        return Ok(None);
    };
    let graphic = |key: &&str| KEY.contains(&key.len()) && key.bytes().all(|c| c.is_ascii_graphic());
    let key = key.to_str().ok().filter(graphic).map(str::to_owned).ok_or_else(|| {
        let detail = format!(
            "Idempotency-Key has {} to {} printable ASCII characters; a random UUID is right",
            KEY.start(),
            KEY.end()
        );
        ApiProblem::new(Code::BadRequest, detail)
    })?;
    let Some(asker) = auth::asker(request.request()) else { return Ok(None) };
    let within = request.app_data::<Data<App>>().map(|app| app.operators_request_timeout()).unwrap_or_default();
    let body = in_time(within, whole(request)).await??;
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let digest = Digest::of(&[target.as_bytes(), b"\n", &body].concat());
    request.set_payload(again(body));
    Ok(Some(Keyed::new(asker, &key, digest)))
}

async fn whole(request: &mut ServiceRequest) -> ApiResult<Bytes> {
    let mut payload = request.take_payload();
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| ApiProblem::new(Code::BadRequest, format!("the body broke off: {error}")))?;
        if body.len() + chunk.len() > MAX_ADMIN_JSON {
            let detail = format!("the body is larger than this path allows ({MAX_ADMIN_JSON} bytes)");
            return Err(ApiProblem::new(Code::TooLarge, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The body for whoever reads it next.
fn again(body: Bytes) -> Payload {
    let (_, mut payload) = h1::Payload::create(true);
    payload.unread_data(body);
    Payload::from(payload)
}
