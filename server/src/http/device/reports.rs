//! `POST /v1/reports`.

use actix_web::{HttpResponse, web};
use callboard_proto::{
    problem::Code,
    report::{MAX_FAILURE_TEXT, MAX_REPORTS, Reports},
};

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
    let reports: Reports = super::parse(&body.map_err(|error| from_actix(&error))?)?;
    let bad = |detail: String| Err(ApiProblem::new(Code::BadRequest, detail));
    if let Some(field) = reports.crit.iter().find(|field| *field != "reports") {
        return bad(format!("field {field:?} is critical and not supported by this version"));
    }
    if reports.reports.len() > MAX_REPORTS {
        return bad(format!("{} reports; at most {MAX_REPORTS} at a time", reports.reports.len()));
    }
    let failures = reports.reports.iter().filter_map(|report| report.failure.as_ref());
    if failures.into_iter().any(|failure| failure.text.len() > MAX_FAILURE_TEXT || failure.code.len() > 64) {
        return bad(format!("a failure's text has more than {MAX_FAILURE_TEXT} bytes, or its code more than 64"));
    }
    let receipt = app::report::reports(&app, &peer.known, reports.reports).await?;
    Ok(HttpResponse::Ok().json(receipt))
}
