//! `/api/v1/attention`: failures, attacks that devices tell of, and what is done about single devices of a rollout.

use actix_web::web::{Data, Json, Path, Query};
use callboard_proto::{
    admin::{AcknowledgeAttacks, Acknowledged, Attacked, Attention, Dealt, DevicesOfRollout, Page},
    ids::AssignmentId,
    problem::Problem,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{
        self, Actor, App, Reach, attacks,
        attention::{self, Deed, Whom},
        part, rollouts,
    },
    db::{self, DbConn, assignments::Failing, devices::Record},
    http::{
        auth::{May, Operate, View},
        body::Body,
        page, params,
        problem::ApiResult,
    },
};

/// Query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    rollout: Option<String>,
    selector: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Failures that no rollout tries again by itself, oldest assignments first.
#[utoipa::path(get, path = "/attention", tag = "attention", security(("bearer" = ["view"])),
    params(("rollout" = Option<String>, Query), ("selector" = Option<String>, Query, description = "of devices; of every one without it"),
           ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Attention>), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<List>) -> ApiResult<Json<Page<Attention>>> {
    let rows = page::rows(query.limit)?;
    let List { rollout, selector, after, .. } = query.into_inner();
    let sees = may.sees.only(app::devices::parse_selector(selector.as_deref())?);
    Ok(Json(self::page(&app, &sees, rollout, after.as_deref(), rows).await?))
}

/// A page of them.
pub(crate) async fn page(
    app: &App,
    sees: &Reach,
    rollout: Option<String>,
    after: Option<&str>,
    rows: i64,
) -> ApiResult<Page<Attention>> {
    let after = params::parse_some("after", after)?.unwrap_or(AssignmentId::from_uuid(Uuid::nil()));
    let (context, sees) = (app.selector_context(), sees.clone());
    let part = app
        .db
        .read(move |conn| {
            let rollout = rollout.map(|name| rollouts::resolve(conn, &name)).transpose()?.map(|rollout| rollout.id);
            let read = |conn: &mut DbConn, after, rows| Ok(db::assignments::failing(conn, rollout, after, rows)?);
            let keep = |conn: &mut DbConn, page: &[Failing]| {
                part::devices(conn, &sees, &context, page.iter().map(|one| Some(one.number)))
            };
            let key = |one: &Failing| one.record.assignment.id;
            part::read(conn, &sees, part::Place { from: after, rows }, key, read, keep)
        })
        .await?;
    // Names were checked when they were written.
    let items = part.items.into_iter().filter_map(show).collect();
    Ok(Page { items, next: part.next.map(|id| id.to_string()) })
}

fn show(one: Failing) -> Option<Attention> {
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
#[utoipa::path(post, path = "/rollouts/{rollout}/devices/retry", tag = "attention", security(("bearer" = ["operate"])),
    params(("rollout" = String, Path)), request_body = DevicesOfRollout,
    responses((status = 200, body = Dealt), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn retry(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
) -> ApiResult<Json<Dealt>> {
    act(may.actor, &app, path, body, Deed::Retry).await
}

/// Takes note of failures: gates look past them.
#[utoipa::path(post, path = "/rollouts/{rollout}/devices/skip", tag = "attention", security(("bearer" = ["operate"])),
    params(("rollout" = String, Path)), request_body = DevicesOfRollout,
    responses((status = 200, body = Dealt), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn skip(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
) -> ApiResult<Json<Dealt>> {
    act(may.actor, &app, path, body, Deed::Skip).await
}

/// Ends the part of devices in a rollout: it brings them nothing more, and they do not count in it.
#[utoipa::path(post, path = "/rollouts/{rollout}/devices/cancel", tag = "attention", security(("bearer" = ["operate"])),
    params(("rollout" = String, Path)), request_body = DevicesOfRollout,
    responses((status = 200, body = Dealt), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn cancel(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
) -> ApiResult<Json<Dealt>> {
    act(may.actor, &app, path, body, Deed::Cancel).await
}

async fn act(
    by: Actor,
    app: &App,
    path: Path<String>,
    body: Body<DevicesOfRollout>,
    deed: Deed,
) -> ApiResult<Json<Dealt>> {
    let wanted = body.into_inner();
    let because = app::Because { by, reason: wanted.reason.clone() };
    Ok(Json(attention::act(app, path.into_inner(), deed, wanted, because).await?))
}

/// Query of the list of attacks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attacks {
    after: Option<String>,
    limit: Option<u32>,
}

/// Devices that tell of attacks of which nobody has taken note, in the order in which they were registered.
#[utoipa::path(get, path = "/attention/attacks", tag = "attention", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Attacked>)))]
pub(crate) async fn attacks(may: May<View>, app: Data<App>, query: Query<Attacks>) -> ApiResult<Json<Page<Attacked>>> {
    let rows = page::rows(query.limit)?;
    Ok(Json(attacked(&app, &may.sees, query.after.as_deref(), rows).await?))
}

/// A page of them.
pub(crate) async fn attacked(app: &App, sees: &Reach, after: Option<&str>, rows: i64) -> ApiResult<Page<Attacked>> {
    let from = params::parse_some("after", after)?.unwrap_or(-1);
    attacks::flush(app).await?;
    let (context, sees) = (app.selector_context(), sees.clone());
    let part = app
        .db
        .read(move |conn| {
            let number = |record: &Record| i64::from(record.device.number);
            let read = |conn: &mut DbConn, after, rows| Ok(db::devices::attacked(conn, after, rows)?);
            let keep = |conn: &mut DbConn, page: &[Record]| {
                part::devices(conn, &sees, &context, page.iter().map(|one| Some(i64::from(one.device.number))))
            };
            part::read(conn, &sees, part::Place { from, rows }, number, read, keep)
        })
        .await?;
    let items = part.items.into_iter().filter_map(|record| {
        let attacks = attacks::shown(&record.attacks);
        let last_at = record.attacked_at?;
        Some(Attacked { device: record.device.name, site: record.device.site, attacks, last_at })
    });
    Ok(Page { items: items.collect(), next: part.next.map(|number| number.to_string()) })
}

/// Takes note of what devices told of attacks so far.
#[utoipa::path(post, path = "/attention/attacks/acknowledge", tag = "attention", security(("bearer" = ["operate"])),
    request_body = AcknowledgeAttacks, responses((status = 200, body = Acknowledged), (status = 422, body = Problem)))]
pub(crate) async fn acknowledge_attacks(
    may: May<Operate>,
    app: Data<App>,
    body: Body<AcknowledgeAttacks>,
) -> ApiResult<Json<Acknowledged>> {
    let AcknowledgeAttacks { devices, selector, reason } = body.into_inner();
    let because = app::Because { by: may.actor, reason };
    because.required()?;
    Ok(Json(attacks::acknowledge(&app, Whom::of(devices, selector)?, because).await?))
}
