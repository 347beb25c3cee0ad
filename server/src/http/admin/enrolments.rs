//! `/api/v1/enrolments`.

use actix_web::web::{Data, Json, Path, Query};
use callboard_proto::{
    admin::{AcceptEnrolment, Page, WaitingEnrolment},
    ids::EnrolmentId,
    problem::Problem,
};
use uuid::Uuid;

use crate::{
    app::{App, Reach, enrol, part},
    http::{
        auth::{May, Operate, View},
        body::Body,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Enrolments that wait for an operator, and those that were decided on and did not ask again yet, newest first.
#[utoipa::path(get, path = "/enrolments", tag = "enrolments", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<WaitingEnrolment>)))]
pub(crate) async fn list(
    may: May<View>,
    app: Data<App>,
    query: Query<Paging>,
) -> ApiResult<Json<Page<WaitingEnrolment>>> {
    let rows = page::rows(query.limit)?;
    Ok(Json(self::page(&app, &may.sees, query.after.as_deref(), rows).await?))
}

/// A page of them.
pub(crate) async fn page(app: &App, sees: &Reach, after: Option<&str>, rows: i64) -> ApiResult<Page<WaitingEnrolment>> {
    let before = params::parse_some("after", after)?.unwrap_or(EnrolmentId::from_uuid(Uuid::max()));
    let (place, now, sees) = (part::Place { from: before, rows }, app.clock.now(), sees.clone());
    let part = app.db.read(move |conn| enrol::list(conn, &sees, place, now)).await?;
    let items = part.items.into_iter().map(|(one, device)| enrol::show(one, device)).collect();
    Ok(Page { items, next: part.next.map(|id| id.to_string()) })
}

/// The key becomes a device the next time that it asks.
#[utoipa::path(post, path = "/enrolments/{enrolment}/accept", tag = "enrolments", security(("bearer" = ["operate"])),
    params(("enrolment" = String, Path)), request_body = AcceptEnrolment,
    responses((status = 200, body = WaitingEnrolment), (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 422, body = Problem)))]
pub(crate) async fn accept(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<AcceptEnrolment>,
) -> ApiResult<Json<WaitingEnrolment>> {
    let id = params::parse("enrolment", &path)?;
    Ok(Json(enrol::accept(&app, may.actor, id, body.into_inner()).await?))
}

/// The key is refused each time that it asks.
#[utoipa::path(post, path = "/enrolments/{enrolment}/reject", tag = "enrolments", security(("bearer" = ["operate"])),
    params(("enrolment" = String, Path)),
    responses((status = 200, body = WaitingEnrolment), (status = 404, body = Problem)))]
pub(crate) async fn reject(may: May<Operate>, app: Data<App>, path: Path<String>) -> ApiResult<Json<WaitingEnrolment>> {
    Ok(Json(enrol::reject(&app, may.actor, params::parse("enrolment", &path)?).await?))
}
