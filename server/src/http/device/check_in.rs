//! `POST /v1/checkin`.

use actix_web::{HttpResponse, web};
use callboard_proto::{check_in::CheckIn, digest::Digest, problem::Code};

use crate::{
    app::{self, App},
    http::{
        auth::Peer,
        problem::{ApiProblem, ApiResult, from_actix},
    },
};

pub(crate) async fn post(
    app: web::Data<App>,
    peer: Peer,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    let bytes = body.map_err(|error| from_actix(&error))?;
    let check_in: CheckIn = super::parse(&bytes)?;
    check_in.check().map_err(|detail| ApiProblem::new(Code::BadRequest, detail))?;
    let answer = app::check_in::check_in(&app, peer.known, check_in, Digest::of(&bytes)).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(answer))
}
