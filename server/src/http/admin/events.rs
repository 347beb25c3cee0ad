//! `/api/v1/events`.

use actix_web::web::{Data, Json, Query};
use callboard_proto::admin::{Event, Page};

use crate::{
    app::{App, part},
    db::{self, DbConn},
    http::{
        auth::{May, View},
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Everything that happened, newest first.
#[utoipa::path(get, path = "/events", tag = "events", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = Page<Event>)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Event>>> {
    let (rows, before) = paging(&query)?;
    let context = app.selector_context();
    let part = app
        .db
        .read(move |conn| {
            let read = |conn: &mut DbConn, before, limit| {
                let filter = db::events::Filter { before, limit, ..db::events::Filter::default() };
                Ok(db::events::list(conn, filter)?)
            };
            let keep = |conn: &mut DbConn, page: &[db::events::Event]| part::events(conn, &may.sees, &context, page);
            let place = part::Place { from: before, rows };
            part::read(conn, &may.sees, place, |event| Some(event.seq), read, keep)
        })
        .await?;
    Ok(show(part.items, part.next.flatten().map(|seq| seq.to_string())))
}

/// Rows to read and the number to begin below.
pub(super) fn paging(query: &Paging) -> ApiResult<(i64, Option<i64>)> {
    let before = params::parse_some("after", query.after.as_deref())?;
    Ok((page::rows(query.limit)?, before))
}

/// A page of events.
pub(super) fn show(events: Vec<db::events::Event>, next: Option<String>) -> Json<Page<Event>> {
    let items = events.into_iter().map(|event| Event {
        seq: event.seq,
        at: event.at,
        kind: event.kind,
        // Names were checked when they were written.
        device: event.device.and_then(|name| name.parse().ok()),
        rollout: event.rollout.and_then(|name| name.parse().ok()),
        text: event.text,
    });
    Json(Page { items: items.collect(), next })
}
