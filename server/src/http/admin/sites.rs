//! `/api/v1/sites`.

use actix_web::web::{Data, Json, Path, Query};
use callboard_proto::{
    admin::{ImportSites, Imported, Page, SetTradingHours, Site},
    problem::Problem,
};

use crate::{
    app::{self, App, Error},
    db,
    http::{
        auth::Operator,
        body::Body,
        page::{self, Paging},
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
    let after = query.into_inner().after.unwrap_or_default();
    let sites = app.db.read(move |conn| Ok::<_, Error>(db::sites::list(conn, &after, rows)?)).await?;
    let sites = sites.into_iter().map(app::sites::show).collect();
    Ok(Json(page::page(sites, rows, |site: &Site| site.id.to_string())))
}

/// One site.
#[utoipa::path(get, path = "/sites/{site}", tag = "sites", params(("site" = String, Path)),
    responses((status = 200, body = Site), (status = 404, body = Problem)))]
pub(crate) async fn get(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Site>> {
    let found = app.db.read(move |conn| app::sites::resolve(conn, &path)).await?;
    Ok(Json(app::sites::show(found)))
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
    Ok(Json(app::sites::show(site)))
}

/// Takes a list of sites, again and again with the same result.
#[utoipa::path(post, path = "/sites/import", tag = "sites", request_body = ImportSites,
    responses((status = 200, body = Imported), (status = 422, body = Problem)))]
pub(crate) async fn import(_: Operator, app: Data<App>, body: Body<ImportSites>) -> ApiResult<Json<Imported>> {
    Ok(Json(app::sites::import(&app, body.into_inner()).await?))
}
