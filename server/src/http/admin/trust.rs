//! `/api/v1/trust`.

use actix_web::{
    HttpResponse,
    web::{Bytes, Data},
};
use callboard_proto::problem::{Code, Problem};

use crate::{
    app::{self, App},
    http::{
        auth::Operator,
        problem::{ApiProblem, ApiResult, from_actix},
    },
};

/// The newest root, as it was published.
#[utoipa::path(get, path = "/trust/root", tag = "trust",
    responses((status = 200, description = "a DSSE envelope", body = Object), (status = 404, body = Problem)))]
pub(crate) async fn root(_: Operator, app: Data<App>) -> ApiResult<HttpResponse> {
    let root = app.newest_root().ok_or_else(|| ApiProblem::new(Code::NotFound, "no root is published yet"))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(root.envelope.clone()))
}

/// Publishes a root.
#[utoipa::path(post, path = "/trust/root", tag = "trust", request_body(content = Object, description = "a DSSE envelope"),
    responses((status = 204), (status = 422, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn publish(
    _: Operator,
    app: Data<App>,
    body: Result<Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    let body = body.map_err(|error| from_actix(&error))?;
    app::trust::publish_root(&app, body.to_vec()).await?;
    Ok(HttpResponse::NoContent().finish())
}
