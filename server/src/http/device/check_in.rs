//! `POST /v1/checkin`.

use actix_web::{HttpResponse, web};
use callboard_proto::{check_in::CheckIn, digest::Digest};

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
    limits::pace(&peer)?;
    let bytes = body.map_err(|error| from_actix(&error))?;
    let check_in: CheckIn = super::parse(&bytes)?;
    let answer = app::check_in::check_in(&app, peer.known, check_in, Digest::of(&bytes)).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(answer))
}
