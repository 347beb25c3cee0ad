//! `POST /v1/reports`.

use actix_web::{HttpResponse, web};
use callboard_proto::report::Reports;

use crate::{
    app::{self, App},
    http::{
        auth::Peer,
        limits,
        problem::{ApiResult, from_actix},
    },
};

pub(crate) async fn post(
    app: web::Data<App>,
    peer: Peer,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    limits::pace(&peer.known)?;
    let reports: Reports = super::parse(&body.map_err(|error| from_actix(&error))?)?;
    let receipt = app::report::reports(&app, &peer.known, reports.reports).await?;
    Ok(HttpResponse::Ok().json(receipt))
}
