//! `/api/v1/api-tokens`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_proto::{
    admin::{ApiToken, ApiTokenCreated, NewApiToken, Page},
    ids::TokenId,
    problem::Problem,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{self, App, Error},
    db,
    http::{
        auth::{Administer, May},
        body::Body,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Query of a revocation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revoke {
    #[serde(default)]
    force: bool,
}

/// API tokens, newest first, those that were revoked among them. Their secrets are never shown again.
#[utoipa::path(get, path = "/api-tokens", tag = "api_tokens", security(("bearer" = ["administer"])),
    params(("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<ApiToken>)))]
pub(crate) async fn list(_: May<Administer>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<ApiToken>>> {
    let rows = page::rows(query.limit)?;
    let before = params::parse_some("after", query.after.as_deref())?.unwrap_or(TokenId::from_uuid(Uuid::max()));
    let tokens = app.db.read(move |conn| Ok::<_, Error>(db::api_tokens::list(conn, before, rows)?)).await?;
    let tokens = tokens.into_iter().map(app::api_tokens::show).collect();
    Ok(Json(page::page(tokens, rows, |token: &ApiToken| token.id.to_string())))
}

/// Makes an API token; the answer is the only time that it is shown.
#[utoipa::path(post, path = "/api-tokens", tag = "api_tokens", security(("bearer" = ["administer"])), request_body = NewApiToken,
    responses((status = 201, body = ApiTokenCreated), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn create(may: May<Administer>, app: Data<App>, body: Body<NewApiToken>) -> ApiResult<HttpResponse> {
    let made = app::api_tokens::create(&app, may.actor, body.into_inner()).await?;
    Ok(HttpResponse::Created().json(made))
}

/// Revokes an API token, by its id or its name: it is refused from the next request on. The last one that can be used
/// only with `force`.
#[utoipa::path(delete, path = "/api-tokens/{token}", tag = "api_tokens", security(("bearer" = ["administer"])),
    params(("token" = String, Path), ("force" = Option<bool>, Query)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn revoke(
    may: May<Administer>,
    app: Data<App>,
    path: Path<String>,
    query: Query<Revoke>,
) -> ApiResult<HttpResponse> {
    app::api_tokens::revoke(&app, may.actor, path.into_inner(), query.force).await?;
    Ok(HttpResponse::NoContent().finish())
}
