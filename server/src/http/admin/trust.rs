//! `/api/v1/trust`.

use actix_web::{HttpResponse, web::Data};
use callboard_proto::problem::{Code, Problem};

use crate::{
    app::{self, App},
    http::{
        auth::Operator,
        body::Envelope,
        problem::{ApiProblem, ApiResult},
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
pub(crate) async fn publish(_: Operator, app: Data<App>, body: Envelope) -> ApiResult<HttpResponse> {
    app::trust::publish_root(&app, body.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
