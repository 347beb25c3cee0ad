//! `/api/v1/sites`.

use actix_web::web::{Data, Json, Path, Query};
use callboard_policy::{device as policy, site::SiteState};
use callboard_proto::{
    admin::{
        ActivateSite, ChangeSite, Hold, ImportSites, Imported, Page, SetBandwidth, SetTradingHours, Site, SiteActivated,
    },
    problem::Problem,
};

use crate::{
    app::{self, App, Error},
    db,
    http::{
        auth::Operator,
        body::Body,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Sites by id.
#[utoipa::path(get, path = "/sites", tag = "sites",
    params(("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = Page<Site>)))]
pub(crate) async fn list(_: Operator, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Site>>> {
    let rows = page::rows(query.limit)?;
    let after = params::parse_some("after", query.after.as_deref())?;
    let sites = app.db.read(move |conn| Ok::<_, Error>(db::sites::list(conn, after.as_ref(), rows)?)).await?;
    let sites = sites.into_iter().map(|site| app::sites::show(&app, site)).collect();
    Ok(Json(page::page(sites, rows, |site: &Site| site.id.to_string())))
}

/// One site.
#[utoipa::path(get, path = "/sites/{site}", tag = "sites", params(("site" = String, Path)),
    responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn get(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Site>> {
    let found = app.db.read(move |conn| app::sites::resolve(conn, &path)).await?;
    Ok(Json(app::sites::show(&app, found)))
}

/// Replaces the trading hours of a site: nothing is activated in them.
#[utoipa::path(put, path = "/sites/{site}/trading-hours", tag = "sites", params(("site" = String, Path)),
    request_body = SetTradingHours,
    responses((status = 200, body = Site), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn set_trading_hours(
    _: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<SetTradingHours>,
) -> ApiResult<Json<Site>> {
    let site = app::sites::set_trading(&app, path.into_inner(), body.into_inner().trading_hours).await?;
    Ok(Json(app::sites::show(&app, site)))
}

/// Replaces what the downloads of a site may take together.
#[utoipa::path(put, path = "/sites/{site}/bandwidth", tag = "sites", params(("site" = String, Path)),
    request_body = SetBandwidth,
    responses((status = 200, body = Site), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn set_bandwidth(
    _: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<SetBandwidth>,
) -> ApiResult<Json<Site>> {
    let site = app::sites::set_bandwidth(&app, path.into_inner(), body.into_inner().bandwidth).await?;
    Ok(Json(app::sites::show(&app, site)))
}

/// Takes a list of sites, again and again with the same result.
#[utoipa::path(post, path = "/sites/import", tag = "sites", request_body = ImportSites,
    responses((status = 200, body = Imported), (status = 422, body = Problem)))]
pub(crate) async fn import(_: Operator, app: Data<App>, body: Body<ImportSites>) -> ApiResult<Json<Imported>> {
    Ok(Json(app::sites::import(&app, body.into_inner()).await?))
}

/// Holds a site: no rollout touches its devices.
#[utoipa::path(put, path = "/sites/{site}/hold", tag = "sites", params(("site" = String, Path)),
    request_body = Hold, responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn hold(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<Hold>,
) -> ApiResult<Json<Site>> {
    let hold = policy::Hold { reason: body.reason.clone(), until: body.until };
    let site = app::sites::hold(&app, operator.name, path.into_inner(), Some(hold)).await?;
    Ok(Json(app::sites::show(&app, site)))
}

/// Lifts the hold of a site.
#[utoipa::path(delete, path = "/sites/{site}/hold", tag = "sites", params(("site" = String, Path)),
    responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn unhold(operator: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Site>> {
    let site = app::sites::hold(&app, operator.name, path.into_inner(), None).await?;
    Ok(Json(app::sites::show(&app, site)))
}

/// Suspends a site: no rollout touches its devices for now, and their silence says nothing.
#[utoipa::path(post, path = "/sites/{site}/suspend", tag = "sites", params(("site" = String, Path)),
    request_body = ChangeSite, responses((status = 200, body = Site), (status = 409, body = Problem)))]
pub(crate) async fn suspend(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<ChangeSite>,
) -> ApiResult<Json<Site>> {
    change(operator, &app, path, body, SiteState::Suspended).await
}

/// Lets rollouts at a suspended or closed site again.
#[utoipa::path(post, path = "/sites/{site}/activate", tag = "sites", params(("site" = String, Path)),
    request_body = ActivateSite, responses((status = 200, body = SiteActivated), (status = 404, body = Problem)))]
pub(crate) async fn activate(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<ActivateSite>,
) -> ApiResult<Json<SiteActivated>> {
    let ActivateSite { reason, dry_run } = body.into_inner();
    let because = app::Because { operator: operator.name, reason };
    let (site, eligible) = app::sites::activate(&app, path.into_inner(), because, dry_run).await?;
    Ok(Json(SiteActivated { site: app::sites::show(&app, site), dry_run, eligible }))
}

/// Closes a site: its devices leave every rollout.
#[utoipa::path(post, path = "/sites/{site}/close", tag = "sites", params(("site" = String, Path)),
    request_body = ChangeSite, responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn close(
    operator: Operator,
    app: Data<App>,
    path: Path<String>,
    body: Body<ChangeSite>,
) -> ApiResult<Json<Site>> {
    change(operator, &app, path, body, SiteState::Closed).await
}

async fn change(
    operator: Operator,
    app: &App,
    path: Path<String>,
    body: Body<ChangeSite>,
    to: SiteState,
) -> ApiResult<Json<Site>> {
    let because = app::Because { operator: operator.name, reason: body.into_inner().reason };
    let site = app::sites::change_state(app, path.into_inner(), to, because).await?;
    Ok(Json(app::sites::show(app, site)))
}
