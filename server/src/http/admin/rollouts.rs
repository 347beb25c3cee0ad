//! `/api/v1/rollouts`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_policy::rollout::RolloutState;
use callboard_proto::{
    admin::{
        self, Assignment, Because, EditRollout, Forecast, OpenPhase, Page, PhaseProgress, Preview, Rollout, RolloutSpec,
    },
    ids::{AssignmentId, RolloutId},
    problem::Problem,
    state::AssignmentState,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{self, App, Error, rollouts},
    db,
    http::{auth::Operator, body::Body, page, params, problem::ApiResult},
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
#[utoipa::path(get, path = "/rollouts", tag = "rollouts",
    params(("state" = Option<admin::RolloutState>, Query), ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Rollout>)))]
pub(crate) async fn list(_: Operator, app: Data<App>, query: Query<List>) -> ApiResult<Json<Page<Rollout>>> {
    let rows = page::rows(query.limit)?;
    let before = params::parse_some("after", query.after.as_deref())?.unwrap_or(RolloutId::from_uuid(Uuid::max()));
    let state = query.state.map(rollouts::spec::state_from_wire);
    let records = app.db.read(move |conn| Ok::<_, Error>(db::rollouts::list(conn, state, before, rows)?)).await?;
    let page = page::page(records, rows, |record| record.id.to_string());
    let items = page.items.into_iter().map(|record| rollouts::show(&app, record)).collect();
    Ok(Json(Page { items, next: page.next }))
}

/// One rollout, by its id or its name.
#[utoipa::path(get, path = "/rollouts/{rollout}", tag = "rollouts", params(("rollout" = String, Path)),
    responses((status = 200, body = Rollout), (status = 404, body = Problem)))]
pub(crate) async fn get(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Rollout>> {
    let record = app.db.read(move |conn| rollouts::resolve(conn, &path)).await?;
    Ok(Json(rollouts::show(&app, record)))
}

/// Makes a rollout, as a draft.
#[utoipa::path(post, path = "/rollouts", tag = "rollouts", request_body = RolloutSpec,
    responses((status = 201, body = Rollout), (status = 422, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn create(operator: Operator, app: Data<App>, body: Body<RolloutSpec>) -> ApiResult<HttpResponse> {
    let (record, warnings) = rollouts::create(&app, body.into_inner(), operator.name).await?;
    Ok(HttpResponse::Created().json(Rollout { warnings, ..rollouts::show(&app, record) }))
}

/// Changes a rollout: a draft in everything but its name, one that has started in what is safe.
#[utoipa::path(patch, path = "/rollouts/{rollout}", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = EditRollout, responses((status = 200, body = Rollout), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
pub(crate) async fn edit(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<EditRollout>,
) -> ApiResult<Json<Rollout>> {
    let EditRollout { spec, reason } = body.into_inner();
    let (record, warnings) = rollouts::edit::edit(&app, path.into_inner(), spec, because(operator, reason)).await?;
    Ok(Json(Rollout { warnings, ..rollouts::show(&app, record) }))
}

/// What a rollout that does not exist yet would do now.
#[utoipa::path(post, path = "/rollouts/preview", tag = "rollouts", request_body = RolloutSpec,
    responses((status = 200, body = Preview), (status = 422, body = Problem)))]
pub(crate) async fn preview_new(_: Operator, app: Data<App>, body: Body<RolloutSpec>) -> ApiResult<Json<Preview>> {
    Ok(Json(rollouts::preview::of_spec(&app, body.into_inner()).await?))
}

/// What a draft would do if it were started now.
#[utoipa::path(get, path = "/rollouts/{rollout}/preview", tag = "rollouts", params(("rollout" = String, Path)),
    responses((status = 200, body = Preview), (status = 404, body = Problem)))]
pub(crate) async fn preview(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Preview>> {
    Ok(Json(rollouts::preview::of_rollout(&app, path.into_inner()).await?))
}

/// Starts a draft.
#[utoipa::path(post, path = "/rollouts/{rollout}/start", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn start(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Json<Rollout>> {
    let record = rollouts::start(&app, path.into_inner(), because(operator, body.into_inner().reason)).await?;
    Ok(Json(rollouts::show(&app, record)))
}

/// Pauses a rollout: no further grant of either kind.
#[utoipa::path(post, path = "/rollouts/{rollout}/pause", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn pause(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Json<Rollout>> {
    change(operator, &app, path, body, RolloutState::Paused).await
}

/// Lets a paused rollout go on.
#[utoipa::path(post, path = "/rollouts/{rollout}/resume", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn resume(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Json<Rollout>> {
    change(operator, &app, path, body, RolloutState::Running).await
}

/// Calls a rollout off: devices that have not begun to activate drop it.
#[utoipa::path(post, path = "/rollouts/{rollout}/cancel", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn cancel(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Json<Rollout>> {
    change(operator, &app, path, body, RolloutState::Cancelled).await
}

/// Approves a rollout that somebody else has made, as a second person: for audiences above the server's limit, and for
/// security rollouts that are to pass freezes.
#[utoipa::path(post, path = "/rollouts/{rollout}/countersign", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn countersign(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Json<Rollout>> {
    let because = because(operator, body.into_inner().reason);
    let record = rollouts::countersign::countersign(&app, path.into_inner(), because).await?;
    Ok(Json(rollouts::show(&app, record)))
}

/// Approves the open phase, whose gate is met and whose soak is over: the next phase opens.
#[utoipa::path(post, path = "/rollouts/{rollout}/approve", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn approve(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Json<Rollout>> {
    let because = because(operator, body.into_inner().reason);
    let record = rollouts::by_hand::approve(&app, path.into_inner(), because).await?;
    Ok(Json(rollouts::show(&app, record)))
}

/// Ends the soak of the open phase; needs a reason.
#[utoipa::path(post, path = "/rollouts/{rollout}/skip-soak", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = Because, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn skip_soak(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Because>,
) -> ApiResult<Json<Rollout>> {
    let because = because(operator, body.into_inner().reason);
    let record = rollouts::by_hand::skip_soak(&app, path.into_inner(), because).await?;
    Ok(Json(rollouts::show(&app, record)))
}

/// Opens the next phase, whatever the gate says; needs a reason.
#[utoipa::path(post, path = "/rollouts/{rollout}/open-phase", tag = "rollouts", params(("rollout" = String, Path)),
    request_body = OpenPhase, responses((status = 200, body = Rollout), (status = 409, body = Problem)))]
pub(crate) async fn open_phase(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<OpenPhase>,
) -> ApiResult<Json<Rollout>> {
    let OpenPhase { phase, reason } = body.into_inner();
    let because = because(operator, reason);
    let record = rollouts::by_hand::open_phase(&app, path.into_inner(), phase, because).await?;
    Ok(Json(rollouts::show(&app, record)))
}

fn because(operator: Operator, reason: String) -> app::Because {
    app::Because { operator: operator.name, reason }
}

async fn change(
    operator: Operator,
    app: &App,
    path: Path<String>,
    body: Body<Because>,
    to: RolloutState,
) -> ApiResult<Json<Rollout>> {
    let Because { reason, acknowledge_failures } = body.into_inner();
    let because = because(operator, reason);
    let record = rollouts::change_state(app, path.into_inner(), to, because, acknowledge_failures).await?;
    Ok(Json(rollouts::show(app, record)))
}

/// When it will be done, as far as that can be told from how it went so far.
#[utoipa::path(get, path = "/rollouts/{rollout}/forecast", tag = "rollouts", params(("rollout" = String, Path)),
    responses((status = 200, body = Forecast), (status = 404, body = Problem)))]
pub(crate) async fn forecast(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Forecast>> {
    Ok(Json(rollouts::forecast::forecast(&app, path.into_inner()).await?))
}

/// How the phases of a rollout stand.
#[utoipa::path(get, path = "/rollouts/{rollout}/progress", tag = "rollouts", params(("rollout" = String, Path)),
    responses((status = 200, body = Vec<PhaseProgress>), (status = 404, body = Problem)))]
pub(crate) async fn progress(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Vec<PhaseProgress>>> {
    let record = app.db.read(move |conn| rollouts::resolve(conn, &path)).await?;
    Ok(Json(rollouts::show(&app, record).phases))
}

/// Devices of a rollout that have been offered its release.
#[utoipa::path(get, path = "/rollouts/{rollout}/assignments", tag = "rollouts",
    params(("rollout" = String, Path), ("state" = Option<AssignmentState>, Query),
           ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Assignment>), (status = 404, body = Problem)))]
pub(crate) async fn assignments(
    _: Operator,
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
            let rollout = rollouts::resolve(conn, &path)?.id;
            Ok::<_, Error>(db::assignments::list(conn, rollout, state, after, rows)?)
        })
        .await?;
    let page = page::page(found, rows, |(record, _)| record.assignment.id.to_string());
    let items = page.items.into_iter().filter_map(|(record, device)| rollouts::show_assignment(record, &device));
    Ok(Json(Page { items: items.collect(), next: page.next }))
}
