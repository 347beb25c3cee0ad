//! `/api/v1/events`.

use actix_web::web::{Data, Json, Query};
use callboard_proto::admin::{Event, Page};

use crate::{
    app::{App, Error},
    db,
    http::{
        auth::Operator,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Everything that happened, newest first.
#[utoipa::path(get, path = "/events", tag = "events",
    params(("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = Page<Event>)))]
pub(crate) async fn list(_: Operator, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Event>>> {
    let (rows, before) = paging(&query)?;
    let filter = db::events::Filter { before, limit: rows, ..db::events::Filter::default() };
    let events = app.db.read(move |conn| Ok::<_, Error>(db::events::list(conn, filter)?)).await?;
    show(events, rows)
}

/// Rows to read and the number to begin below.
pub(super) fn paging(query: &Paging) -> ApiResult<(i64, Option<i64>)> {
    let before = params::parse_some("after", query.after.as_deref())?;
    Ok((page::rows(query.limit)?, before))
}

/// A page of events.
pub(super) fn show(events: Vec<db::events::Event>, rows: i64) -> ApiResult<Json<Page<Event>>> {
    let page = page::page(events, rows, |event| event.seq.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for event in page.items {
        // Names were checked when they were written.
        items.push(Event {
            seq: event.seq,
            at: event.at,
            kind: event.kind,
            device: event.device.and_then(|name| name.parse().ok()),
            rollout: event.rollout.and_then(|name| name.parse().ok()),
            text: event.text,
        });
    }
    Ok(Json(Page { items, next: page.next }))
}
