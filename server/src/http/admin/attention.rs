//! `/api/v1/attention`, and what is done about single devices of a rollout.

use actix_web::web::{Data, Json, Path, Query};
use callboard_proto::{
    admin::{Attention, Dealt, DevicesOfRollout, Page},
    ids::AssignmentId,
    problem::Problem,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{
        self, App, Error,
        attention::{self, Deed},
        rollouts,
    },
    db,
    http::{auth::Operator, body::Body, page, params, problem::ApiResult},
};

/// Query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    rollout: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Failures that no rollout tries again by itself, oldest assignments first.
#[utoipa::path(get, path = "/attention", tag = "attention",
    params(("rollout" = Option<String>, Query), ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Attention>), (status = 404, body = Problem)))]
pub(crate) async fn list(_: Operator, app: Data<App>, query: Query<List>) -> ApiResult<Json<Page<Attention>>> {
    let rows = page::rows(query.limit)?;
    let after = params::parse_some("after", query.after.as_deref())?.unwrap_or(AssignmentId::from_uuid(Uuid::nil()));
    let rollout = query.into_inner().rollout;
    let found = app
        .db
        .read(move |conn| {
            let rollout = rollout.map(|name| rollouts::resolve(conn, &name)).transpose()?;
            Ok::<_, Error>(db::assignments::failing(conn, rollout.map(|rollout| rollout.id), after, rows)?)
        })
        .await?;
    let page = page::page(found, rows, |one| one.record.assignment.id.to_string());
    // Names were checked when they were written.
    Ok(Json(Page { items: page.items.into_iter().filter_map(show).collect(), next: page.next }))
}

fn show(one: db::assignments::Failing) -> Option<Attention> {
    let assignment = one.record.assignment;
    Some(Attention {
        id: assignment.id,
        rollout: one.rollout.parse().ok()?,
        device: one.device.parse().ok()?,
        site: one.site.and_then(|site| site.parse().ok()),
        release: assignment.release,
        version: one.version.parse().ok()?,
        state: assignment.state,
        attempt: assignment.attempt,
        failure: one.record.failure,
        since: assignment.attention_since?,
    })
}

/// Another try, whatever failed before; a frozen rollout that has completed runs again.
#[utoipa::path(post, path = "/rollouts/{rollout}/devices/retry", tag = "attention",
    params(("rollout" = String, Path)), request_body = DevicesOfRollout,
    responses((status = 200, body = Dealt), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn retry(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
) -> ApiResult<Json<Dealt>> {
    act(operator, &app, path, body, Deed::Retry).await
}

/// Takes note of failures: gates look past them.
#[utoipa::path(post, path = "/rollouts/{rollout}/devices/skip", tag = "attention",
    params(("rollout" = String, Path)), request_body = DevicesOfRollout,
    responses((status = 200, body = Dealt), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn skip(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
) -> ApiResult<Json<Dealt>> {
    act(operator, &app, path, body, Deed::Skip).await
}

/// Ends the part of devices in a rollout: it brings them nothing more, and they do not count in it.
#[utoipa::path(post, path = "/rollouts/{rollout}/devices/cancel", tag = "attention",
    params(("rollout" = String, Path)), request_body = DevicesOfRollout,
    responses((status = 200, body = Dealt), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn cancel(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
) -> ApiResult<Json<Dealt>> {
    act(operator, &app, path, body, Deed::Cancel).await
}

async fn act(
    operator: Operator,
    app: &App,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
    deed: Deed,
) -> ApiResult<Json<Dealt>> {
    let wanted = body.into_inner();
    let because = app::Because { operator: operator.name, reason: wanted.reason.clone() };
    Ok(Json(attention::act(app, path.into_inner(), deed, wanted, because).await?))
}
