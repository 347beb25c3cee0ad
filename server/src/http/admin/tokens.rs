//! `/api/v1/tokens`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_proto::{
    admin::{NewToken, Page, Token, TokenCreated},
    ids::TokenId,
    problem::Problem,
};
use uuid::Uuid;

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

/// Enrolment tokens, newest first. Their secrets are never shown again.
#[utoipa::path(get, path = "/tokens", tag = "tokens",
    params(("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Token>)))]
pub(crate) async fn list(_: Operator, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Token>>> {
    let rows = page::rows(query.limit)?;
    let before = params::parse_some("after", query.after.as_deref())?.unwrap_or(TokenId::from_uuid(Uuid::max()));
    let tokens = app.db.read(move |conn| Ok::<_, Error>(db::tokens::list(conn, before, rows)?)).await?;
    let show = |(token, device): (db::tokens::EnrolToken, Option<String>)| Token {
        id: token.id,
        device: device.and_then(|name| name.parse().ok()),
        site: token.site,
        labels: token.labels,
        serial_pattern: token.serial_pattern,
        auto_approve: !token.waits,
        uses: token.uses,
        max_uses: token.max_uses,
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked: token.revoked_at.is_some(),
    };
    let tokens = tokens.into_iter().map(show).collect();
    Ok(Json(page::page(tokens, rows, |token: &Token| token.id.to_string())))
}

/// Makes an enrolment token; the answer is the only time that it is shown.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = TokenCreated), (status = 422, body = Problem)))]
pub(crate) async fn create(_: Operator, app: Data<App>, body: Body<NewToken>) -> ApiResult<HttpResponse> {
    Ok(HttpResponse::Created().json(app::tokens::create(&app, body.into_inner()).await?))
}

/// Revokes an enrolment token; devices that used it stay enrolled.
#[utoipa::path(delete, path = "/tokens/{token}", tag = "tokens", params(("token" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn revoke(_: Operator, app: Data<App>, path: Path<String>) -> ApiResult<HttpResponse> {
    app::tokens::revoke(&app, params::parse("token", &path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
