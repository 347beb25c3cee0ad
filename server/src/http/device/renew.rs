//! `POST /v1/renew`.

use actix_web::{HttpResponse, web};
use callboard_proto::enrol::Renew;

use crate::{
    app::{self, App},
    http::{
        auth::Renewing,
        limits,
        problem::{ApiResult, from_actix},
    },
};

pub(crate) async fn post(
    app: web::Data<App>,
    peer: Renewing,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    limits::pace(&peer.known)?;
    let body: Renew = super::parse(&body.map_err(|error| from_actix(&error))?)?;
    Ok(HttpResponse::Ok().json(app::renewal::renew(&app, &peer.known, body).await?))
}
