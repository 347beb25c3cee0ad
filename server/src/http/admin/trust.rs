//! `/api/v1/trust`.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use callboard_proto::{
    admin::Trust,
    problem::{Code, Problem},
};

use crate::{
    app::{self, App},
    http::{
        auth::{May, Publish, View},
        body::Envelope,
        problem::{ApiProblem, ApiResult},
    },
};

/// Keys, thresholds, ends, and what would break when.
#[utoipa::path(get, path = "/trust", tag = "trust", security(("bearer" = ["view"])), responses((status = 200, body = Trust)))]
pub(crate) async fn status(_: May<View>, app: Data<App>) -> ApiResult<Json<Trust>> {
    Ok(Json(app::trust::status::status(&app).await?))
}

/// The newest root, as it was published.
#[utoipa::path(get, path = "/trust/root", tag = "trust", security(("bearer" = ["view"])),
    responses((status = 200, description = "a DSSE envelope", body = Object), (status = 404, body = Problem)))]
pub(crate) async fn root(_: May<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    let root = app.newest_root().ok_or_else(|| ApiProblem::new(Code::NotFound, "no root is published yet"))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(root.envelope.clone()))
}

/// Publishes a root.
#[utoipa::path(post, path = "/trust/root", tag = "trust", security(("bearer" = ["release"])), request_body(content = Object, description = "a DSSE envelope"),
    responses((status = 204), (status = 422, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn publish(may: May<Publish>, app: Data<App>, body: Envelope) -> ApiResult<HttpResponse> {
    app::trust::publish_root(&app, may.actor, body.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The newest head, as it was published.
#[utoipa::path(get, path = "/trust/head", tag = "trust", security(("bearer" = ["view"])),
    responses((status = 200, description = "a DSSE envelope", body = Object), (status = 404, body = Problem)))]
pub(crate) async fn head(_: May<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    let root = app.newest_root();
    let head = root.as_ref().and_then(|root| root.head.as_ref());
    let head = head.ok_or_else(|| ApiProblem::new(Code::NotFound, "no head is published"))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(head.envelope.clone()))
}

/// Publishes a head.
#[utoipa::path(post, path = "/trust/head", tag = "trust", security(("bearer" = ["release"])), request_body(content = Object, description = "a DSSE envelope"),
    responses((status = 204), (status = 422, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn publish_head(may: May<Publish>, app: Data<App>, body: Envelope) -> ApiResult<HttpResponse> {
    app::trust::head::publish(&app, may.actor, body.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
