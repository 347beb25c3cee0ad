//! `/api/v1/events/stream`: what is told to others, as it happens, as server-sent events.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use callboard_proto::{
    admin::Notice,
    problem::{Code, Problem},
};
use futures_util::stream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    app::{
        App,
        told::{self, Listener},
    },
    http::{
        auth::{May, View},
        problem::{ApiProblem, ApiResult},
    },
};

/// A comment as often, so that nobody on the way takes the connection for dead.
const BEAT: Duration = Duration::from_secs(15);
/// Whoever listens has to come again: the permission may have ended.
const LONGEST: Duration = Duration::from_secs(600);

/// The kinds that webhooks get, as server-sent events: `id` is the number, `event` the kind, `data` JSON. With
/// `Last-Event-ID` it begins after that one. It ends after ten minutes; browsers come again by themselves.
#[utoipa::path(get, path = "/events/stream", tag = "events", security(("bearer" = ["view"])),
    params(("Last-Event-ID" = Option<String>, Header, description = "number of the last one that was seen")),
    responses((status = 200, description = "notices", body = Notice, content_type = "text/event-stream"),
              (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn get(may: May<View>, app: Data<App>, request: HttpRequest) -> ApiResult<HttpResponse> {
    let after = match request.headers().get("last-event-id") {
        None => None,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.trim().parse::<i64>().ok()).filter(|id| *id >= 0);
            Some(id.ok_or_else(|| ApiProblem::new(Code::BadRequest, "Last-Event-ID is the id of an event, a number"))?)
        }
    };
    let listener = told::listen(&app, may.actor, after).await.map_err(|error| {
        let mut problem = ApiProblem::from(error);
        problem.retry_after_s = matches!(problem.code, Code::Unavailable | Code::TooManyRequests).then_some(30);
        problem
    })?;
    let begun = (listener, app, Instant::now() + LONGEST, true);
    let body = stream::unfold(begun, |(mut listener, app, end, first)| async move {
        let text = if first { Some("retry: 3000\n\n".to_owned()) } else { next(&mut listener, &app, end).await };
        text.map(|text| (Ok::<_, Infallible>(Bytes::from(text)), (listener, app, end, false)))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// The next piece of the answer; `None` at its end.
async fn next(listener: &mut Listener, app: &App, end: Instant) -> Option<String> {
    match timeout_at(end, timeout(BEAT, listener.next(app))).await {
        Err(_over) => None,
        Ok(Err(_nothing)) => Some(":\n\n".to_owned()),
        Ok(Ok(Ok(Some(notices)))) => Some(notices.iter().map(shown).collect()),
        // The server stops, or cannot read: whoever listens comes again.
        Ok(Ok(Ok(None) | Err(_))) => None,
    }
}

fn shown(notice: &Notice) -> String {
    // JSON has no line ends of its own.
    let data = serde_json::to_string(notice).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", notice.seq, notice.kind)
}
