//! `GET /v1/trust/...`: signed documents, which need no client certificate.

use actix_web::{HttpResponse, web};
use callboard_proto::{digest::Digest, problem::Code};

use crate::{
    app::{self, App, Error},
    db,
    http::{
        params,
        problem::{ApiProblem, ApiResult},
    },
};

fn envelope(bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(bytes)
}

fn no_root() -> ApiProblem {
    ApiProblem::new(Code::NotFound, "no such root is published")
}

pub(crate) async fn newest_root(app: web::Data<App>) -> ApiResult<HttpResponse> {
    Ok(envelope(app.newest_root().ok_or_else(no_root)?.envelope.clone()))
}

pub(crate) async fn head(app: web::Data<App>) -> ApiResult<HttpResponse> {
    let newest = app.newest_root();
    let head = newest.as_ref().and_then(|root| root.head.as_ref());
    let head = head.ok_or_else(|| ApiProblem::new(Code::NotFound, "no head is published"))?;
    Ok(envelope(head.envelope.clone()))
}

pub(crate) async fn root(app: web::Data<App>, version: web::Path<String>) -> ApiResult<HttpResponse> {
    let version: u64 = params::parse("version", &version)?;
    let found = app.db.read(move |conn| Ok::<_, Error>(db::trust::root(conn, version)?)).await?;
    Ok(envelope(found.ok_or_else(no_root)?))
}

pub(crate) async fn release(app: web::Data<App>, sha256: web::Path<String>) -> ApiResult<HttpResponse> {
    let sha256: Digest = params::parse("sha256", &sha256)?;
    Ok(envelope(app::trust::release_envelope(&app, sha256).await?))
}
