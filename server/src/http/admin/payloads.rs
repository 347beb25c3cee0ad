//! `/api/v1/payloads`: uploads, streamed to disk.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Json, Path, Query},
};
use std::time::Duration;

use callboard_proto::{
    admin::{PartialPayload, StoredPayload},
    digest::Digest,
    payload::CHUNK_SIZE,
    problem::{Code, Problem},
};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    app::{Actor, App, Error},
    db::{self, events::NewEvent},
    http::{
        auth::{May, Publish, View},
        limits::in_time,
        listen::Progress,
        params,
        problem::{ApiProblem, ApiResult},
    },
    store::{
        Partial, StoreError,
        upload::{Expected, Stored, Upload},
    },
};

/// Where a piece of a payload belongs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Piece {
    /// Bytes before it.
    from: u64,
    /// Bytes of the whole payload.
    size: u64,
}

/// Bytes gathered before they go to the disk, so that small network reads do not each cost a thread hop.
const PIECE: usize = 1 << 20;

fn show(payload: db::payloads::Payload) -> StoredPayload {
    StoredPayload { sha256: payload.sha256, size: payload.size, chunks_sha256: payload.chunks_sha256 }
}

async fn find(app: &App, sha256: Digest) -> ApiResult<Option<db::payloads::Payload>> {
    Ok(app.db.read(move |conn| Ok::<_, Error>(db::payloads::get(conn, sha256)?)).await?)
}

/// What is known of a stored payload. One that the disk has lost is not found, so that it is uploaded again.
#[utoipa::path(get, path = "/payloads/{sha256}/info", tag = "payloads", security(("bearer" = ["view"])), params(("sha256" = String, Path)),
    responses((status = 200, body = StoredPayload), (status = 404, body = Problem)))]
pub(crate) async fn info(_: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Json<StoredPayload>> {
    let sha256 = params::parse("sha256", &path)?;
    let found = find(&app, sha256).await?.ok_or_else(|| Error::not_found("payload", sha256))?;
    if app.store.size(sha256).map_err(problem)? != Some(found.size) {
        return Err(Error::not_found("payload", sha256).into());
    }
    Ok(Json(show(found)))
}

/// Uploads a payload. The digest in the path must be that of the bytes. Bytes that are there already, and still are what
/// they were, are not read.
#[utoipa::path(put, path = "/payloads/{sha256}", tag = "payloads", security(("bearer" = ["release"])), params(("sha256" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = StoredPayload), (status = 201, body = StoredPayload),
              (status = 422, body = Problem), (status = 507, body = Problem)))]
pub(crate) async fn put(
    may: May<Publish>,
    app: Data<App>,
    path: Path<String>,
    request: HttpRequest,
    body: web::Payload,
) -> ApiResult<HttpResponse> {
    let sha256 = params::parse("sha256", &path)?;
    let store = app.store.clone();
    if let Some(known) = find(&app, sha256).await?
        && blocking(move || store.is_intact(sha256)).await?
    {
        return Ok(HttpResponse::Ok().json(show(known)));
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size = length.ok_or_else(|| ApiProblem::new(Code::BadRequest, "an upload needs Content-Length"))?;
    let store = app.store.clone();
    let upload = blocking(move || store.begin(Expected { sha256, size }, CHUNK_SIZE)).await?;
    let progress = request.conn_data::<Progress>().cloned().unwrap_or_default();
    let stored = receive(upload, body, app.operators_request_timeout(), progress).await?;
    let payload = note(&app, may.actor, &stored).await?;
    Ok(HttpResponse::Created().json(show(payload)))
}

/// How much of a payload has come in pieces, to go on from there.
#[utoipa::path(get, path = "/payloads/{sha256}/upload", tag = "payloads", security(("bearer" = ["release"])), params(("sha256" = String, Path)),
    responses((status = 200, body = PartialPayload)))]
pub(crate) async fn received(_: May<Publish>, app: Data<App>, path: Path<String>) -> ApiResult<Json<PartialPayload>> {
    let sha256 = params::parse("sha256", &path)?;
    let store = app.store.clone();
    Ok(Json(PartialPayload { received: blocking(move || store.received(sha256)).await? }))
}

/// Uploads a piece of a payload: the bytes from `from` on, up to a piece of any length. Whoever sends the last one has the
/// payload checked.
#[utoipa::path(put, path = "/payloads/{sha256}/upload", tag = "payloads", security(("bearer" = ["release"])),
    params(("sha256" = String, Path), ("from" = u64, Query), ("size" = u64, Query)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = PartialPayload), (status = 409, body = Problem), (status = 422, body = Problem),
              (status = 507, body = Problem)))]
pub(crate) async fn put_piece(
    may: May<Publish>,
    app: Data<App>,
    path: Path<String>,
    piece: Query<Piece>,
    request: HttpRequest,
    body: web::Payload,
) -> ApiResult<Json<PartialPayload>> {
    let sha256 = params::parse("sha256", &path)?;
    let Piece { from, size } = piece.into_inner();
    if find(&app, sha256).await?.is_some_and(|known| known.size == size)
        && app.store.size(sha256).map_err(problem)?.is_some()
    {
        return Ok(Json(PartialPayload { received: size }));
    }
    let store = app.store.clone();
    let partial = blocking(move || store.resume(Expected { sha256, size }, from)).await?;
    let progress = request.conn_data::<Progress>().cloned().unwrap_or_default();
    if let Some(stored) = receive_piece(partial, body, app.operators_request_timeout(), progress).await? {
        note(&app, may.actor, &stored).await?;
        return Ok(Json(PartialPayload { received: stored.size }));
    }
    let store = app.store.clone();
    Ok(Json(PartialPayload { received: blocking(move || store.received(sha256)).await? }))
}

/// What has come before a line breaks stays.
async fn receive_piece(
    mut partial: Partial,
    mut body: web::Payload,
    within: Duration,
    progress: Progress,
) -> ApiResult<Option<Stored>> {
    loop {
        let piece = in_time(within, next_piece(&mut body)).await??;
        progress.made();
        if piece.is_empty() {
            return blocking(move || partial.end()).await;
        }
        partial = blocking(move || partial.write(&piece).map(|()| partial)).await?;
    }
}

/// Writes down that a payload is there.
pub(crate) async fn note(app: &App, actor: Actor, stored: &Stored) -> ApiResult<db::payloads::Payload> {
    let Stored { sha256, size, chunks_sha256, .. } = *stored;
    let payload = db::payloads::Payload { sha256, size, chunks_sha256 };
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            db::payloads::put(conn, payload, now)?;
            let event = NewEvent::general("payload.stored", format!("payload {sha256} of {size} bytes was uploaded"));
            let after = json!({ "sha256": sha256, "size": size });
            Ok::<_, Error>(db::events::insert(conn, now, &actor.did(event, &Value::Null, &after))?)
        })
        .await?;
    Ok(payload)
}

/// Each piece has to arrive within a time; all of them take as long as they are many.
async fn receive(
    mut upload: Upload,
    mut body: web::Payload,
    within: Duration,
    progress: Progress,
) -> ApiResult<Stored> {
    loop {
        let piece = in_time(within, next_piece(&mut body)).await??;
        progress.made();
        if piece.is_empty() {
            return blocking(move || upload.finish()).await;
        }
        upload = blocking(move || upload.write(&piece).map(|()| upload)).await?;
    }
}

/// Gathers a piece; the last one is smaller, and the one after it empty.
async fn next_piece(body: &mut web::Payload) -> ApiResult<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE);
    while piece.len() < PIECE
        && let Some(bytes) = body.next().await
    {
        let bytes =
            bytes.map_err(|source| ApiProblem::new(Code::BadRequest, format!("the upload broke off: {source}")))?;
        piece.extend_from_slice(&bytes);
    }
    Ok(piece)
}

pub(crate) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> ApiResult<T> {
    let done = tokio::task::spawn_blocking(f).await;
    done.map_err(|source| ApiProblem::from(Error::Unexpected(source.to_string())))?.map_err(problem)
}

pub(crate) fn problem(error: StoreError) -> ApiProblem {
    let code = match &error {
        StoreError::Full(_) | StoreError::NotWritable { .. } => Code::StorageFull,
        StoreError::TooLarge { .. } => Code::TooLarge,
        StoreError::Empty => Code::Invalid,
        StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. } => Code::DigestMismatch,
        StoreError::Busy | StoreError::Elsewhere { .. } => Code::Conflict,
        _ => return Error::Unexpected(error.to_string()).into(),
    };
    ApiProblem::new(code, error.to_string())
}
