//! `/api/v1/sites`.

use actix_web::web::{Data, Json, Path, Query};
use callboard_proto::{
    admin::{ImportSites, Imported, Page, Site},
    ids::SiteId,
};

use crate::{
    app::{self, App, Error},
    db,
    http::{
        auth::Operator,
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
    responses((status = 200, body = Site), (status = 404, body = callboard_proto::problem::Problem)))]
pub(crate) async fn get(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<Json<Site>> {
    let id = path.into_inner();
    let found = match id.parse::<SiteId>() {
        Ok(id) => app.db.read(move |conn| Ok::<_, Error>(db::sites::get(conn, &id)?)).await?,
        Err(_) => None,
    };
    Ok(Json(app::sites::show(found.ok_or_else(|| Error::not_found("site", id))?)))
}

/// Takes a list of sites, again and again with the same result.
#[utoipa::path(post, path = "/sites/import", tag = "sites", request_body = ImportSites,
    responses((status = 200, body = Imported), (status = 422, body = callboard_proto::problem::Problem)))]
pub(crate) async fn import(_: Operator, app: Data<App>, body: Json<ImportSites>) -> ApiResult<Json<Imported>> {
    Ok(Json(app::sites::import(&app, body.into_inner()).await?))
}
