//! `/api/v1/sites`.

use actix_web::web::{Data, Json, Path, Query};
use callboard_policy::{device as policy, site::SiteState};
use callboard_proto::{
    admin::{
        ActivateSite, ChangeSite, Hold, ImportSites, Imported, Page, SetBandwidth, SetTradingHours, Site, SiteActivated,
    },
    ids::SiteId,
    problem::Problem,
};

use crate::{
    app::{self, Actor, App, part},
    db,
    http::{
        auth::{May, Operate, View},
        body::Body,
        etag::Edited,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Sites by id.
#[utoipa::path(get, path = "/sites", tag = "sites", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = Page<Site>)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Site>>> {
    let rows = page::rows(query.limit)?;
    let after: Option<SiteId> = params::parse_some("after", query.after.as_deref())?;
    let part = app::sites::list(&app, may.actor.sees, part::Place { from: after, rows }).await?;
    let items = part.items.into_iter().map(|site| app::sites::show(&app, site)).collect();
    Ok(Json(Page { items, next: part.next.flatten().map(|id| id.to_string()) }))
}

/// One site.
#[utoipa::path(get, path = "/sites/{site}", tag = "sites", security(("bearer" = ["view"])), params(("site" = String, Path)),
    responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn get(may: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<Site>> {
    let now = app.clock.now();
    let found = app.db.read(move |conn| app::sites::seen_by(conn, &may, &path, now)).await?;
    Ok(shown(&app, found))
}

fn shown(app: &App, site: db::sites::Site) -> Edited<Site> {
    let edition = app::sites::edition(&site);
    Edited(app::sites::show(app, site), edition)
}

/// Replaces the trading hours of a site: nothing is activated in them.
#[utoipa::path(put, path = "/sites/{site}/trading-hours", tag = "sites", security(("bearer" = ["operate"])), params(("site" = String, Path)),
    request_body = SetTradingHours,
    responses((status = 200, body = Site), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn set_trading_hours(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<SetTradingHours>,
) -> ApiResult<Edited<Site>> {
    let site = app::sites::set_trading(&app, may.actor, path.into_inner(), body.into_inner().trading_hours).await?;
    Ok(shown(&app, site))
}

/// Replaces what the downloads of a site may take together.
#[utoipa::path(put, path = "/sites/{site}/bandwidth", tag = "sites", security(("bearer" = ["operate"])), params(("site" = String, Path)),
    request_body = SetBandwidth,
    responses((status = 200, body = Site), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn set_bandwidth(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<SetBandwidth>,
) -> ApiResult<Edited<Site>> {
    let site = app::sites::set_bandwidth(&app, may.actor, path.into_inner(), body.into_inner().bandwidth).await?;
    Ok(shown(&app, site))
}

/// Takes a list of sites, again and again with the same result.
#[utoipa::path(post, path = "/sites/import", tag = "sites", security(("bearer" = ["operate"])), request_body = ImportSites,
    responses((status = 200, body = Imported), (status = 422, body = Problem)))]
pub(crate) async fn import(may: May<Operate>, app: Data<App>, body: Body<ImportSites>) -> ApiResult<Json<Imported>> {
    Ok(Json(app::sites::import(&app, may.actor, body.into_inner()).await?))
}

/// Holds a site: no rollout touches its devices.
#[utoipa::path(put, path = "/sites/{site}/hold", tag = "sites", security(("bearer" = ["operate"])), params(("site" = String, Path)),
    request_body = Hold, responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn hold(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Hold>,
) -> ApiResult<Edited<Site>> {
    let hold = policy::Hold { reason: body.reason.clone(), until: body.until };
    let site = app::sites::hold(&app, may.actor, path.into_inner(), Some(hold)).await?;
    Ok(shown(&app, site))
}

/// Lifts the hold of a site.
#[utoipa::path(delete, path = "/sites/{site}/hold", tag = "sites", security(("bearer" = ["operate"])), params(("site" = String, Path)),
    responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn unhold(may: May<Operate>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<Site>> {
    let site = app::sites::hold(&app, may.actor, path.into_inner(), None).await?;
    Ok(shown(&app, site))
}

/// Suspends a site: no rollout touches its devices for now, and their silence says nothing.
#[utoipa::path(post, path = "/sites/{site}/suspend", tag = "sites", security(("bearer" = ["operate"])), params(("site" = String, Path)),
    request_body = ChangeSite, responses((status = 200, body = Site), (status = 409, body = Problem)))]
pub(crate) async fn suspend(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<ChangeSite>,
) -> ApiResult<Edited<Site>> {
    change(may.actor, &app, path, body, SiteState::Suspended).await
}

/// Lets rollouts at a suspended or closed site again.
#[utoipa::path(post, path = "/sites/{site}/activate", tag = "sites", security(("bearer" = ["operate"])), params(("site" = String, Path)),
    request_body = ActivateSite, responses((status = 200, body = SiteActivated), (status = 404, body = Problem)))]
pub(crate) async fn activate(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<ActivateSite>,
) -> ApiResult<Json<SiteActivated>> {
    let ActivateSite { reason, dry_run } = body.into_inner();
    let because = app::Because { by: may.actor, reason };
    let (site, eligible) = app::sites::activate(&app, path.into_inner(), because, dry_run).await?;
    Ok(Json(SiteActivated { site: app::sites::show(&app, site), dry_run, eligible }))
}

/// Closes a site: its devices leave every rollout.
#[utoipa::path(post, path = "/sites/{site}/close", tag = "sites", security(("bearer" = ["operate"])), params(("site" = String, Path)),
    request_body = ChangeSite, responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn close(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<ChangeSite>,
) -> ApiResult<Edited<Site>> {
    change(may.actor, &app, path, body, SiteState::Closed).await
}

async fn change(
    by: Actor,
    app: &App,
    path: Path<String>,
    body: Body<ChangeSite>,
    to: SiteState,
) -> ApiResult<Edited<Site>> {
    let because = app::Because { by, reason: body.into_inner().reason };
    let site = app::sites::change_state(app, path.into_inner(), to, because).await?;
    Ok(shown(app, site))
}
