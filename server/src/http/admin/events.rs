//! `/api/v1/events`.

use actix_web::web::{Data, Json, Query};
use callboard_proto::{
    admin::{Event, Page},
    problem::{Code, Problem},
};
use serde::Deserialize;

use crate::{
    app::{App, devices, part, rollouts},
    db::{self, DbConn},
    http::{
        auth::{May, View},
        page::{self, Paging},
        params,
        problem::{ApiProblem, ApiResult},
    },
};

/// Query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    device: Option<String>,
    rollout: Option<String>,
    kind: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Everything that happened, newest first.
#[utoipa::path(get, path = "/events", tag = "events", security(("bearer" = ["view"])),
    params(("device" = Option<String>, Query, description = "only those of this device"),
           ("rollout" = Option<String>, Query, description = "only those of this rollout"),
           ("kind" = Option<String>, Query, description = "only those of this kind, such as `rollout.halted`"),
           ("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = Page<Event>), (status = 404, body = Problem)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<List>) -> ApiResult<Json<Page<Event>>> {
    let List { device, rollout, kind, after, limit } = query.into_inner();
    let (rows, before) = paging(&Paging { after, limit })?;
    if kind.as_ref().is_some_and(|kind| kind.chars().any(char::is_control)) {
        return Err(ApiProblem::new(
            Code::Invalid,
            "kind has a control character; one is a word such as rollout.halted",
        ));
    }
    let (context, now) = (app.selector_context(), app.clock.now());
    let part = app
        .db
        .read(move |conn| {
            let device = device.map(|name| devices::resolve_for(conn, &may, &name, now)).transpose()?;
            let rollout = rollout.map(|name| rollouts::resolve_for(conn, &may, &name)).transpose()?;
            let (device, rollout) = (device.map(|found| found.device.id), rollout.map(|found| found.id));
            let read = |conn: &mut DbConn, before, limit| {
                let filter = db::events::Filter { device, rollout, kind: kind.clone(), before, limit };
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
