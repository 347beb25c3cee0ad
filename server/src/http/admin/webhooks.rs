//! `/api/v1/webhooks` and `/api/v1/deliveries`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_proto::{
    admin::{Delivery, DeliveryState, NewWebhook, Page, Webhook, WebhookCreated},
    ids::TokenId,
    problem::Problem,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{App, Error, webhooks},
    db,
    http::{
        auth::{Administer, May},
        body::Body,
        page, params,
        problem::ApiResult,
    },
};

/// Query of a list of deliveries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deliveries {
    state: Option<DeliveryState>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Webhooks by name, all of them: there are 20 at most. Their secrets are never shown again.
#[utoipa::path(get, path = "/webhooks", tag = "webhooks", security(("bearer" = ["administer"])),
    responses((status = 200, body = Vec<Webhook>)))]
pub(crate) async fn list(_: May<Administer>, app: Data<App>) -> ApiResult<Json<Vec<Webhook>>> {
    let shown = app.db.read(|conn| {
        let all = db::webhooks::all(conn)?.into_iter();
        all.map(|webhook| webhooks::show(conn, webhook)).collect::<Result<Vec<_>, Error>>()
    });
    Ok(Json(shown.await?))
}

/// Makes a webhook; without a secret the server makes one, and the answer is the only time that it is shown.
#[utoipa::path(post, path = "/webhooks", tag = "webhooks", security(("bearer" = ["administer"])), request_body = NewWebhook,
    responses((status = 201, body = WebhookCreated), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn create(may: May<Administer>, app: Data<App>, body: Body<NewWebhook>) -> ApiResult<HttpResponse> {
    let (webhook, secret) = webhooks::create(&app, may.actor, body.into_inner()).await?;
    let webhook = app.db.read(move |conn| webhooks::show(conn, webhook)).await?;
    Ok(HttpResponse::Created().json(WebhookCreated { webhook, secret }))
}

/// Forgets a webhook and what was to be sent to it.
#[utoipa::path(delete, path = "/webhooks/{webhook}", tag = "webhooks", security(("bearer" = ["administer"])),
    params(("webhook" = String, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<HttpResponse> {
    webhooks::delete(&app, may.actor, path.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Sends a test now, once, and says how that went.
#[utoipa::path(post, path = "/webhooks/{webhook}/test", tag = "webhooks", security(("bearer" = ["administer"])),
    params(("webhook" = String, Path)), responses((status = 200, body = Delivery), (status = 404, body = Problem)))]
pub(crate) async fn test(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Delivery>> {
    Ok(Json(webhooks::show_delivery(webhooks::test(&app, may.actor, path.into_inner()).await?)))
}

/// What was sent to a webhook, or is to be, newest first.
#[utoipa::path(get, path = "/webhooks/{webhook}/deliveries", tag = "webhooks", security(("bearer" = ["administer"])),
    params(("webhook" = String, Path), ("state" = Option<DeliveryState>, Query), ("after" = Option<String>, Query),
           ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Delivery>), (status = 404, body = Problem)))]
pub(crate) async fn deliveries(
    _: May<Administer>,
    app: Data<App>,
    path: Path<String>,
    query: Query<Deliveries>,
) -> ApiResult<Json<Page<Delivery>>> {
    let rows = page::rows(query.limit)?;
    let before = params::parse_some("after", query.after.as_deref())?.unwrap_or(TokenId::from_uuid(Uuid::max()));
    let state = query.state;
    let found = app
        .db
        .read(move |conn| {
            let webhook = webhooks::resolve(conn, &path)?;
            Ok::<_, Error>(db::webhooks::list(conn, webhook.id, state, before, rows)?)
        })
        .await?;
    let found = found.into_iter().map(webhooks::show_delivery).collect();
    Ok(Json(page::page(found, rows, |delivery: &Delivery| delivery.id.to_string())))
}

/// Sends a delivery again that was given up.
#[utoipa::path(post, path = "/deliveries/{delivery}/resend", tag = "webhooks", security(("bearer" = ["administer"])),
    params(("delivery" = String, Path)),
    responses((status = 200, body = Delivery), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn resend(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Delivery>> {
    let delivery = webhooks::resend(&app, may.actor, params::parse("delivery", &path)?).await?;
    Ok(Json(webhooks::show_delivery(delivery)))
}
