//! `/api/v1/rollouts`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_policy::rollout::RolloutState;
use callboard_proto::{
    admin::{
        self, Assignment, Because, Device, EditRollout, Forecast, OpenPhase, Page, PhaseProgress, Preview, RollBack,
        Rollout, RolloutSpec, Simulate, Simulation,
    },
    ids::{AssignmentId, RolloutId},
    problem::Problem,
    state::AssignmentState,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{self, Actor, App, Error, devices, part, rollouts},
    db,
    http::{
        auth::{Approve, May, Operate, View},
        body::Body,
        etag::Edited,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Query of a list of rollouts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    state: Option<admin::RolloutState>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Query of a list of assignments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assignments {
    state: Option<AssignmentState>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Rollouts, newest first.
#[utoipa::path(get, path = "/rollouts", tag = "rollouts", security(("bearer" = ["view"])),
    params(("state" = Option<admin::RolloutState>, Query), ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Rollout>)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<List>) -> ApiResult<Json<Page<Rollout>>> {
    let rows = page::rows(query.limit)?;
    let before = params::parse_some("after", query.after.as_deref())?.unwrap_or(RolloutId::from_uuid(Uuid::max()));
    let state = query.state.map(rollouts::spec::state_from_wire);
    let part = rollouts::list::list(&app, may.actor.sees, state, part::Place { from: before, rows }).await?;
    let items = part.items.into_iter().map(|record| rollouts::show(&app, record)).collect();
    Ok(Json(Page { items, next: part.next.map(|id| id.to_string()) }))
}

/// One rollout, by its id or its name.
#[utoipa::path(get, path = "/rollouts/{rollout}", tag = "rollouts", security(("bearer" = ["view"])), params(("rollout" = String, Path)),
    responses((status = 200, body = Rollout), (status = 404, body = Problem)))]
pub(crate) async fn get(may: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<Rollout>> {
    let record = app.db.read(move |conn| rollouts::resolve_for(conn, &may, &path)).await?;
    Ok(shown(&app, record))
}

/// Makes a rollout, as a draft.
#[utoipa::path(post, path = "/rollouts", tag = "rollouts", security(("bearer" = ["operate"])), request_body = RolloutSpec,
    responses((status = 201, body = Rollout), (status = 422, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn create(may: May<Operate>, app: Data<App>, body: Body<RolloutSpec>) -> ApiResult<HttpResponse> {
    let (record, warnings) = rollouts::create(&app, may.actor, body.into_inner()).await?;
    Ok(HttpResponse::Created().json(Rollout { warnings, ..rollouts::show(&app, record) }))
}

/// Changes a rollout: a draft in everything but its name, one that has started in what is safe.
#[utoipa::path(patch, path = "/rollouts/{rollout}", tag = "rollouts", security(("bearer" = ["operate"])), params(("rollout" = String, Path)),
    request_body = EditRollout, responses((status = 200, body = Rollout), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
pub(crate) async fn edit(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<EditRollout>,
) -> ApiResult<Edited<Rollout>> {
    let EditRollout { spec, reason } = body.into_inner();
    let (record, warnings) = rollouts::edit::edit(&app, path.into_inner(), spec, because(may.actor, reason)).await?;
    Ok(with(warnings, shown(&app, record)))
}

/// What a rollout that does not exist yet would do now.
#[utoipa::path(post, path = "/rollouts/preview", tag = "rollouts", security(("bearer" = ["operate"])), request_body = RolloutSpec,
    responses((status = 200, body = Preview), (status = 422, body = Problem)))]
pub(crate) async fn preview_new(
    may: May<Operate>,
    app: Data<App>,
    body: Body<RolloutSpec>,
) -> ApiResult<Json<Preview>> {
    Ok(Json(rollouts::preview::of_spec(&app, may.actor, body.into_inner()).await?))
}

/// What a draft would do if it were started now.
#[utoipa::path(get, path = "/rollouts/{rollout}/preview", tag = "rollouts", security(("bearer" = ["view"])), params(("rollout" = String, Path)),
    responses((status = 200, body = Preview), (status = 404, body = Problem)))]
pub(crate) async fn preview(may: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Preview>> {
    Ok(Json(rollouts::preview::of_rollout(&app, may.actor, path.into_inner()).await?))
}

/// What a rollout that does not exist yet would do in the days ahead, if it were started now. One at a time.
#[utoipa::path(post, path = "/rollouts/simulate", tag = "rollouts", security(("bearer" = ["operate"])), request_body = Simulate,
    responses((status = 200, body = Simulation), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn simulate(may: May<Operate>, app: Data<App>, body: Body<Simulate>) -> ApiResult<Json<Simulation>> {
    Ok(Json(rollouts::simulate::simulate(&app, may.actor, body.into_inner()).await?))
}

/// Starts a draft.
#[utoipa::path(post, path = "/rollouts/{rollout}/start", tag = "rollouts", security(("bearer" = ["operate"])), params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn start(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Edited<Rollout>> {
    let because = because(may.actor, body.into_inner().reason);
    let (record, warnings) = rollouts::start(&app, path.into_inner(), because).await?;
    Ok(with(warnings, shown(&app, record)))
}

/// Pauses a rollout: no further grant of either kind.
#[utoipa::path(post, path = "/rollouts/{rollout}/pause", tag = "rollouts", security(("bearer" = ["operate"])), params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn pause(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Edited<Rollout>> {
    change(may.actor, &app, path, body, RolloutState::Paused).await
}

/// Lets a paused rollout go on.
#[utoipa::path(post, path = "/rollouts/{rollout}/resume", tag = "rollouts", security(("bearer" = ["operate"])), params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn resume(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Edited<Rollout>> {
    change(may.actor, &app, path, body, RolloutState::Running).await
}

/// Calls a rollout off: devices that have not begun to activate drop it.
#[utoipa::path(post, path = "/rollouts/{rollout}/cancel", tag = "rollouts", security(("bearer" = ["operate"])), params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn cancel(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Edited<Rollout>> {
    change(may.actor, &app, path, body, RolloutState::Cancelled).await
}

/// Approves a rollout that somebody else has made, as a second person: for audiences above the server's limit, and for
/// security rollouts that are to pass freezes.
#[utoipa::path(post, path = "/rollouts/{rollout}/countersign", tag = "rollouts", security(("bearer" = ["approve"])), params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn countersign(
    may: May<Approve>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Edited<Rollout>> {
    let because = because(may.actor, body.into_inner().reason);
    let record = rollouts::countersign::countersign(&app, path.into_inner(), because).await?;
    Ok(shown(&app, record))
}

/// Approves the open phase, whose gate is met and whose soak is over: the next phase opens.
#[utoipa::path(post, path = "/rollouts/{rollout}/approve", tag = "rollouts", security(("bearer" = ["approve"])), params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn approve(
    may: May<Approve>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Edited<Rollout>> {
    let because = because(may.actor, body.into_inner().reason);
    let record = rollouts::by_hand::approve(&app, path.into_inner(), because).await?;
    Ok(shown(&app, record))
}

/// Ends the soak of the open phase; needs a reason.
#[utoipa::path(post, path = "/rollouts/{rollout}/skip-soak", tag = "rollouts", security(("bearer" = ["approve"])), params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn skip_soak(
    may: May<Approve>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Edited<Rollout>> {
    let because = because(may.actor, body.into_inner().reason);
    let record = rollouts::by_hand::skip_soak(&app, path.into_inner(), because).await?;
    Ok(shown(&app, record))
}

/// Opens the next phase, whatever the gate says; needs a reason.
#[utoipa::path(post, path = "/rollouts/{rollout}/open-phase", tag = "rollouts", security(("bearer" = ["approve"])), params(("rollout" = String, Path)),
    request_body = OpenPhase, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn open_phase(
    may: May<Approve>,
    app: Data<App>,
    path: Path<String>,
    body: Body<OpenPhase>,
) -> ApiResult<Edited<Rollout>> {
    let OpenPhase { phase, reason } = body.into_inner();
    let because = because(may.actor, reason);
    let record = rollouts::by_hand::open_phase(&app, path.into_inner(), phase, because).await?;
    Ok(shown(&app, record))
}

fn shown(app: &App, record: db::rollouts::Record) -> Edited<Rollout> {
    let edition = rollouts::edition(&record);
    Edited(rollouts::show(app, record), edition)
}

fn with(warnings: Vec<String>, shown: Edited<Rollout>) -> Edited<Rollout> {
    let Edited(rollout, edition) = shown;
    Edited(Rollout { warnings, ..rollout }, edition)
}

/// Takes back what a rollout brought: it ends, and the answer is the rollout that brings its devices to an older release.
#[utoipa::path(post, path = "/rollouts/{rollout}/rollback", tag = "rollouts", security(("bearer" = ["operate"])), params(("rollout" = String, Path)),
    request_body = RollBack, responses((status = 200, body = Rollout), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
pub(crate) async fn roll_back(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<RollBack>,
) -> ApiResult<Json<Rollout>> {
    let RollBack { to, reason } = body.into_inner();
    let because = because(may.actor, reason);
    let made = rollouts::take_back::by_hand(&app, path.into_inner(), to, because).await?;
    let record = app.db.read(move |conn| rollouts::resolve(conn, made.as_str())).await?;
    Ok(Json(rollouts::show(&app, record)))
}

fn because(by: Actor, reason: String) -> app::Because {
    app::Because { by, reason }
}

async fn change(
    by: Actor,
    app: &App,
    path: Path<String>,
    body: Body<Because>,
    to: RolloutState,
) -> ApiResult<Edited<Rollout>> {
    let Because { reason, acknowledge_failures } = body.into_inner();
    let because = because(by, reason);
    let record = rollouts::change_state(app, path.into_inner(), to, because, acknowledge_failures).await?;
    Ok(shown(app, record))
}

/// When it will be done, as far as that can be told from how it went so far.
#[utoipa::path(get, path = "/rollouts/{rollout}/forecast", tag = "rollouts", security(("bearer" = ["view"])), params(("rollout" = String, Path)),
    responses((status = 200, body = Forecast), (status = 404, body = Problem)))]
pub(crate) async fn forecast(may: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Forecast>> {
    Ok(Json(rollouts::forecast::forecast(&app, may.actor, path.into_inner()).await?))
}

/// How the phases of a rollout stand.
#[utoipa::path(get, path = "/rollouts/{rollout}/progress", tag = "rollouts", security(("bearer" = ["view"])), params(("rollout" = String, Path)),
    responses((status = 200, body = Vec<PhaseProgress>), (status = 404, body = Problem)))]
pub(crate) async fn progress(
    may: May<View>,
    app: Data<App>,
    path: Path<String>,
) -> ApiResult<Json<Vec<PhaseProgress>>> {
    let record = app.db.read(move |conn| rollouts::resolve_for(conn, &may, &path)).await?;
    Ok(Json(rollouts::show(&app, record).phases))
}

/// Devices of a rollout that have been offered its release.
#[utoipa::path(get, path = "/rollouts/{rollout}/assignments", tag = "rollouts", security(("bearer" = ["view"])),
    params(("rollout" = String, Path), ("state" = Option<AssignmentState>, Query),
           ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Assignment>), (status = 404, body = Problem)))]
pub(crate) async fn assignments(
    may: May<View>,
    app: Data<App>,
    path: Path<String>,
    query: Query<Assignments>,
) -> ApiResult<Json<Page<Assignment>>> {
    let rows = page::rows(query.limit)?;
    let after = params::parse_some("after", query.after.as_deref())?.unwrap_or(AssignmentId::from_uuid(Uuid::nil()));
    let state = query.state;
    let found = app
        .db
        .read(move |conn| {
            let rollout = rollouts::resolve_for(conn, &may, &path)?.id;
            Ok::<_, Error>(db::assignments::list(conn, rollout, state, after, rows)?)
        })
        .await?;
    let page = page::page(found, rows, |(record, _)| record.assignment.id.to_string());
    let items = page.items.into_iter().filter_map(|(record, device)| rollouts::show_assignment(record, &device));
    Ok(Json(Page { items: items.collect(), next: page.next }))
}

/// Devices that a rollout at work waits for: members that have not been offered its release.
#[utoipa::path(get, path = "/rollouts/{rollout}/unreached", tag = "rollouts", security(("bearer" = ["view"])),
    params(("rollout" = String, Path), ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Device>), (status = 404, body = Problem)))]
pub(crate) async fn unreached(
    may: May<View>,
    app: Data<App>,
    path: Path<String>,
    query: Query<Paging>,
) -> ApiResult<Json<Page<Device>>> {
    let rows = page::rows(query.limit)?;
    let after = params::parse_some("after", query.after.as_deref())?.unwrap_or(-1);
    let (_, found) = rollouts::unreached::list(&app, may.actor, path.into_inner(), after, rows).await?;
    let page = page::page(found, rows, |record| record.device.number.to_string());
    let items = page.items.into_iter().map(|record| devices::show(&app, record)).collect();
    Ok(Json(Page { items, next: page.next }))
}
