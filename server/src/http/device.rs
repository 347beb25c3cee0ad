//! What devices ask for.

pub(crate) mod check_in;
pub(crate) mod enrol;
pub(crate) mod payload;
pub(crate) mod reports;
pub(crate) mod trust;

use actix_web::{HttpRequest, HttpResponse, web};
use callboard_proto::{digest::Digest, problem::Code};
use serde::de::DeserializeOwned;

use super::{
    auth::Peer,
    body::Object,
    params,
    problem::{ApiProblem, ApiResult},
};
use crate::app::App;

/// `GET` and `HEAD /v1/payloads/{sha256}`.
pub(crate) async fn get_payload(
    app: web::Data<App>,
    transfers: web::Data<payload::Transfers>,
    _: Peer,
    request: HttpRequest,
    sha256: web::Path<String>,
) -> ApiResult<HttpResponse> {
    let digest: Digest = params::parse("sha256", &sha256)?;
    payload::serve(&request, &app.store, digest, &transfers).await
}

/// Reads a body by the protocol's rule: unknown fields are ignored.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiProblem> {
    let read = serde_json::from_slice::<Object<T>>(body).map(|object| object.0);
    read.map_err(|source| ApiProblem::new(Code::BadRequest, format!("the body: {source}")))
}
