//! `/api/v1/freezes`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_proto::{
    admin::{Freeze, NewFreeze, Page},
    problem::Problem,
};

use crate::{
    app::{App, Error, freezes},
    db,
    http::{
        auth::{May, Operate, View},
        body::Body,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Freezes by name, those that are over among them.
#[utoipa::path(get, path = "/freezes", tag = "freezes", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = Page<Freeze>)))]
pub(crate) async fn list(_: May<View>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Freeze>>> {
    let rows = page::rows(query.limit)?;
    let after = params::parse_some("after", query.after.as_deref())?;
    let found = app.db.read(move |conn| Ok::<_, Error>(db::freezes::list(conn, after.as_ref(), rows)?)).await?;
    let found = found.into_iter().map(freezes::show).collect();
    Ok(Json(page::page(found, rows, |freeze: &Freeze| freeze.name.to_string())))
}

/// Makes a freeze: on these dates nothing is offered or installed.
#[utoipa::path(post, path = "/freezes", tag = "freezes", security(("bearer" = ["operate"])), request_body = NewFreeze,
    responses((status = 201, body = Freeze), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn create(may: May<Operate>, app: Data<App>, body: Body<NewFreeze>) -> ApiResult<HttpResponse> {
    let record = freezes::create(&app, may.actor, body.into_inner()).await?;
    Ok(HttpResponse::Created().json(freezes::show(record)))
}

/// Calls a freeze off.
#[utoipa::path(delete, path = "/freezes/{freeze}", tag = "freezes", security(("bearer" = ["operate"])), params(("freeze" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(may: May<Operate>, app: Data<App>, path: Path<String>) -> ApiResult<HttpResponse> {
    freezes::delete(&app, may.actor, path.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}
