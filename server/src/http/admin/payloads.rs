//! `/api/v1/payloads`: uploads, streamed to disk.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Json, Path},
};
use std::time::Duration;

use callboard_proto::{
    admin::StoredPayload,
    digest::Digest,
    payload::CHUNK_SIZE,
    problem::{Code, Problem},
};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{
    app::{App, Error},
    db::{self, events::NewEvent},
    http::{
        auth::{May, Publish, View},
        limits::in_time,
        listen::Progress,
        params,
        problem::{ApiProblem, ApiResult},
    },
    store::{
        StoreError,
        upload::{Expected, Stored, Upload},
    },
};

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
    let payload = db::payloads::Payload { sha256, size: stored.size, chunks_sha256: stored.chunks_sha256 };
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            db::payloads::put(conn, payload, now)?;
            let event = NewEvent::general("payload.stored", format!("payload {sha256} of {size} bytes was uploaded"));
            let after = json!({ "sha256": sha256, "size": size });
            Ok::<_, Error>(db::events::insert(conn, now, &may.did(event, &Value::Null, &after))?)
        })
        .await?;
    Ok(HttpResponse::Created().json(show(payload)))
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

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> ApiResult<T> {
    let done = tokio::task::spawn_blocking(f).await;
    done.map_err(|source| ApiProblem::from(Error::Unexpected(source.to_string())))?.map_err(problem)
}

fn problem(error: StoreError) -> ApiProblem {
    let code = match &error {
        StoreError::Full(_) | StoreError::NotWritable { .. } => Code::StorageFull,
        StoreError::TooLarge { .. } => Code::TooLarge,
        StoreError::Empty => Code::Invalid,
        StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. } => Code::DigestMismatch,
        _ => return Error::Unexpected(error.to_string()).into(),
    };
    ApiProblem::new(code, error.to_string())
}
