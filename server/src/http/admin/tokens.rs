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
    app::{self, App, Reach, part},
    db::{self, DbConn},
    http::{
        auth::{May, Operate, View},
        body::Body,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// A token, and the name of its device.
type Listed = (db::tokens::EnrolToken, Option<String>);

/// Enrolment tokens, newest first. Their secrets are never shown again.
#[utoipa::path(get, path = "/tokens", tag = "tokens", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Token>)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Token>>> {
    let rows = page::rows(query.limit)?;
    Ok(Json(self::page(&app, &may.sees, query.after.as_deref(), rows).await?))
}

/// A page of them.
pub(crate) async fn page(app: &App, sees: &Reach, after: Option<&str>, rows: i64) -> ApiResult<Page<Token>> {
    let before = params::parse_some("after", after)?.unwrap_or(TokenId::from_uuid(Uuid::max()));
    let (now, sees) = (app.clock.now(), sees.clone());
    let part = app
        .db
        .read(move |conn| {
            let read = |conn: &mut DbConn, before, rows| Ok(db::tokens::list(conn, before, rows)?);
            let keep = |conn: &mut DbConn, page: &[Listed]| {
                page.iter().map(|(token, _)| app::tokens::is_within(conn, &sees, token, now)).collect()
            };
            part::read(conn, &sees, part::Place { from: before, rows }, |(token, _)| token.id, read, keep)
        })
        .await?;
    let show = |(token, device): Listed| Token {
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
    let items = part.items.into_iter().map(show).collect();
    Ok(Page { items, next: part.next.map(|id| id.to_string()) })
}

/// Makes an enrolment token; the answer is the only time that it is shown.
#[utoipa::path(post, path = "/tokens", tag = "tokens", security(("bearer" = ["operate"])), request_body = NewToken,
    responses((status = 201, body = TokenCreated), (status = 422, body = Problem)))]
pub(crate) async fn create(may: May<Operate>, app: Data<App>, body: Body<NewToken>) -> ApiResult<HttpResponse> {
    Ok(HttpResponse::Created().json(app::tokens::create(&app, may.actor, body.into_inner()).await?))
}

/// Revokes an enrolment token; devices that used it stay enrolled.
#[utoipa::path(delete, path = "/tokens/{token}", tag = "tokens", security(("bearer" = ["operate"])), params(("token" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn revoke(may: May<Operate>, app: Data<App>, path: Path<String>) -> ApiResult<HttpResponse> {
    app::tokens::revoke(&app, may.actor, params::parse("token", &path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
