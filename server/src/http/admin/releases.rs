//! `/api/v1/releases`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_proto::{
    admin::{Page, Release},
    digest::Digest,
    ids::Product,
    problem::{Code, Problem},
};
use serde::Deserialize;

use crate::{
    app::{self, App, Error},
    db,
    http::{
        auth::{May, Publish, View},
        body::Envelope,
        page, params,
        problem::ApiResult,
    },
};

/// Query of a list of releases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    product: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

fn no_root() -> Error {
    Error::refused(Code::NotFound, "no root is published yet, so there are no releases")
}

fn no_page(sha256: Digest) -> Error {
    Error::refused(
        Code::BadRequest,
        format!("after: there is no release {sha256}; `next` of the page before is wanted"),
    )
}

/// Releases, newest first; those of one moment by product, the highest counter first.
#[utoipa::path(get, path = "/releases", tag = "releases", security(("bearer" = ["view"])),
    params(("product" = Option<String>, Query), ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Release>)))]
pub(crate) async fn list(_: May<View>, app: Data<App>, query: Query<List>) -> ApiResult<Json<Page<Release>>> {
    let rows = page::rows(query.limit)?;
    let product: Option<Product> = params::parse_some("product", query.product.as_deref())?;
    let after: Option<Digest> = params::parse_some("after", query.after.as_deref())?;
    let Some(root) = app.newest_root() else {
        return Ok(Json(Page { items: Vec::new(), next: None }));
    };
    let found = app
        .db
        .read(move |conn| {
            let after = match after {
                Some(sha256) => db::releases::place(conn, sha256)?.ok_or_else(|| no_page(sha256))?,
                None => db::releases::Place::top(),
            };
            Ok::<_, Error>(db::releases::list(conn, product.as_ref(), after, rows)?)
        })
        .await?;
    let page = page::page(found, rows, |release| release.sha256.to_string());
    let shown: Result<Vec<Release>, Error> =
        page.items.iter().map(|release| app::releases::show(&root, release)).collect();
    Ok(Json(Page { items: shown?, next: page.next }))
}

/// One release, by its digest or as `product@version`.
#[utoipa::path(get, path = "/releases/{release}", tag = "releases", security(("bearer" = ["view"])), params(("release" = String, Path)),
    responses((status = 200, body = Release), (status = 404, body = Problem)))]
pub(crate) async fn get(_: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Release>> {
    let root = app.newest_root().ok_or_else(no_root)?;
    let found = app.db.read(move |conn| app::releases::resolve(conn, &path)).await?;
    Ok(Json(app::releases::show(&root, &found)?))
}

/// Publishes a signed release, whose payloads must have been uploaded.
#[utoipa::path(post, path = "/releases", tag = "releases", security(("bearer" = ["release"])), request_body(content = Object, description = "a DSSE envelope"),
    responses((status = 200, body = Release, description = "it was published already"), (status = 201, body = Release),
              (status = 422, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn publish(may: May<Publish>, app: Data<App>, body: Envelope) -> ApiResult<HttpResponse> {
    let (release, new) = app::releases::publish(&app, may.actor, body.0).await?;
    Ok(if new { HttpResponse::Created().json(release) } else { HttpResponse::Ok().json(release) })
}
