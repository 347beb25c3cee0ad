//! What devices ask for.

pub(crate) mod check_in;
pub(crate) mod enrol;
pub(crate) mod payload;
pub(crate) mod renew;
pub(crate) mod reports;
pub(crate) mod trust;
mod welcome;

use actix_web::{HttpRequest, HttpResponse, web};
use callboard_proto::{digest::Digest, problem::Code, text::Check};
use serde::de::DeserializeOwned;

use super::{
    auth::Peer,
    body::Object,
    params,
    problem::{ApiProblem, ApiResult},
};
use crate::app::App;
use welcome::WhileWelcome;

/// `GET` and `HEAD /v1/payloads/{sha256}`.
pub(crate) async fn get_payload(
    app: web::Data<App>,
    transfers: web::Data<payload::Transfers>,
    peer: Peer,
    request: HttpRequest,
    sha256: web::Path<String>,
) -> ApiResult<HttpResponse> {
    let digest: Digest = params::parse("sha256", &sha256)?;
    let tally = app.served.to(&peer.known.record.device);
    let answer = payload::serve(&request, &app.store, digest, &transfers, peer.identity.device, tally).await?;
    Ok(answer.map_body(|_, body| WhileWelcome::new(body, app, peer.identity)).map_into_boxed_body())
}

/// Reads a body by the protocol's rule, unknown fields are ignored, and checks it.
fn parse<T: DeserializeOwned + Check>(body: &[u8]) -> Result<T, ApiProblem> {
    let bad = |detail: String| ApiProblem::new(Code::BadRequest, detail);
    let Object(message) =
        serde_json::from_slice::<Object<T>>(body).map_err(|source| bad(format!("the body: {source}")))?;
    message.check().map_err(bad)?;
    Ok(message)
}
