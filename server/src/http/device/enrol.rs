//! `POST /v1/enrol`.

use actix_web::{HttpRequest, HttpResponse, web};
use callboard_proto::{check_in::MAX_TEXT, enrol::Enrol, problem::Code};

use crate::{
    app::{self, App},
    http::{
        limits::EnrolLimit,
        problem::{ApiProblem, ApiResult, from_actix},
    },
};

pub(crate) async fn post(
    app: web::Data<App>,
    limit: web::Data<EnrolLimit>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    if let Some(peer) = request.peer_addr() {
        limit.check(peer.ip())?;
    }
    let body: Enrol = super::parse(&body.map_err(|error| from_actix(&error))?)?;
    let texts = [Some(&body.hw), Some(&body.arch), body.serial.as_ref()].into_iter().flatten();
    if let Some(text) = texts.into_iter().find(|text| text.len() > MAX_TEXT || text.contains('\0')) {
        let detail = format!("a text has {} bytes; at most {MAX_TEXT} are allowed, none of them NUL", text.len());
        return Err(ApiProblem::new(Code::BadRequest, detail));
    }
    Ok(HttpResponse::Ok().json(app::enrol::enrol(&app, body).await?))
}
