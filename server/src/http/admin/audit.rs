//! `/api/v1/audit`.

use actix_web::web::{Data, Json, Query};
use callboard_proto::{
    admin::{AuditEntry, AuditHead, Page},
    problem::Problem,
};

use crate::{
    app::{App, Error},
    db,
    http::{
        auth::{May, View},
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Every change that somebody made, oldest first, each with the hash that follows from the one before.
#[utoipa::path(get, path = "/audit", tag = "audit", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query, description = "number of a link; from the beginning without"),
           ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<AuditEntry>), (status = 403, body = Problem)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<AuditEntry>>> {
    may.check_whole_fleet("the audit")?;
    let rows = page::rows(query.limit)?;
    let after: u64 = params::parse_some("after", query.after.as_deref())?.unwrap_or(0);
    let found = app.db.read(move |conn| Ok::<_, Error>(db::audit::list(conn, after, rows)?)).await?;
    Ok(Json(page::page(found, rows, |entry: &AuditEntry| entry.link.to_string())))
}

/// Where the chain begins and ends: to be written down elsewhere.
#[utoipa::path(get, path = "/audit/head", tag = "audit", security(("bearer" = ["view"])),
    responses((status = 200, body = AuditHead), (status = 403, body = Problem)))]
pub(crate) async fn head(may: May<View>, app: Data<App>) -> ApiResult<Json<AuditHead>> {
    may.check_whole_fleet("the audit")?;
    Ok(Json(app.db.read(|conn| Ok::<_, Error>(db::audit::head(conn)?)).await?))
}
