//! `POST /v1/enrol`.

use actix_web::{HttpRequest, HttpResponse, web};
use callboard_proto::enrol::Enrol;

use crate::{
    app::{self, App},
    http::{
        limits::EnrolLimit,
        problem::{ApiResult, from_actix},
    },
};

pub(crate) async fn post(
    app: web::Data<App>,
    limit: web::Data<EnrolLimit>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    let source = request.peer_addr().map(|peer| peer.ip());
    source.map(|source| limit.check(source)).transpose()?;
    let body: Enrol = super::parse(&body.map_err(|error| from_actix(&error))?)?;
    Ok(HttpResponse::Ok().json(app::enrol::enrol(&app, body, source.map(|source| source.to_string())).await?))
}
