//! `GET` and `HEAD /v1/payloads/{sha256}`: bytes by their digest, whole or one range.
//!
//! The content address decides everything: the digest is the strong ETag, the bytes never change, and a partial answer
//! of any server fits one of any other. No request here touches the database. The number of transfers is bounded, of all
//! devices and of each; who finds no place is told to come back, and resumes from where it was. How bytes get from disk
//! to socket: `body`.

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    web::Bytes,
};
use callboard_proto::{digest::Digest, ids::DeviceId, problem::Code};

use crate::{
    app::{self, served::Tally},
    http::problem::{ApiProblem, ApiResult},
    store::{
        Blob, Store,
        range::{self, Range},
    },
};

mod body;
mod transfers;

pub(crate) use transfers::Transfers;
use transfers::{Full, Lease, PER_DEVICE};

/// For whoever may ask: a year, unchanged. Private, because the next one has to show a certificate as well.
const CACHE_CONTROL: &str = "private, max-age=31536000, immutable";
/// A transfer of some ten MB over a shop's line; agents add jitter of their own.
const RETRY_AFTER_S: u32 = 15;

/// What a request gets, before any byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    NotModified,
    Whole,
    Part { start: u64, end: u64 },
    Unsatisfiable,
}

/// Answers the request of a device for the payload `digest`.
pub(crate) async fn serve(
    request: &HttpRequest,
    store: &Store,
    digest: Digest,
    transfers: &Transfers,
    device: DeviceId,
    tally: Option<Tally>,
) -> ApiResult<HttpResponse> {
    let blob = open(store, digest).await?;
    let (len, tag) = (blob.len, format!("\"{digest}\""));
    let transfer = |start, end| transfer(blob, start, end, transfers.admit(device), tally);
    match answer(request.method(), request.headers(), &tag, len) {
        Answer::NotModified => Ok(common(StatusCode::NOT_MODIFIED, &tag).finish()),
        Answer::Unsatisfiable => Ok(unsatisfiable(len)),
        Answer::Whole if request.method() == Method::HEAD => {
            let nothing = futures_util::stream::empty::<Result<Bytes, std::io::Error>>();
            Ok(common(StatusCode::OK, &tag).body(SizedStream::new(len, nothing)))
        }
        Answer::Whole => Ok(common(StatusCode::OK, &tag).body(transfer(0, None)?)),
        Answer::Part { start, end } => {
            let range = format!("bytes {start}-{end}/{len}");
            let body = transfer(start, Some(end))?;
            Ok(common(StatusCode::PARTIAL_CONTENT, &tag).insert_header((header::CONTENT_RANGE, range)).body(body))
        }
    }
}

/// Opening can wait for the disk as reading can, so it is done elsewhere unless the kernel has the name at hand.
async fn open(store: &Store, digest: Digest) -> ApiResult<Blob> {
    if let Some(blob) = store.open_cached(digest) {
        return Ok(blob);
    }
    let store = store.clone();
    let opened = tokio::task::spawn_blocking(move || store.open(digest)).await;
    let opened = opened.map_err(unexpected)?.map_err(unexpected)?;
    opened.ok_or_else(|| ApiProblem::new(Code::NotFound, format!("there is no payload {digest}")))
}

fn answer(method: &Method, headers: &HeaderMap, tag: &str, len: u64) -> Answer {
    if headers.get_all(header::IF_NONE_MATCH).any(|value| lists(value, tag)) {
        return Answer::NotModified;
    }
    // Ranges are defined for GET alone, and a range of something else than these bytes is of no use to anybody.
    let bound_elsewhere =
        headers.contains_key(header::IF_RANGE) && only(headers, header::IF_RANGE) != Some(tag.as_bytes());
    if method != Method::GET || bound_elsewhere {
        return Answer::Whole;
    }
    match range::parse(only(headers, header::RANGE), len) {
        Range::Part { start, end } => Answer::Part { start, end },
        Range::Unsatisfiable => Answer::Unsatisfiable,
        Range::Whole | Range::Ignored => Answer::Whole,
    }
}

/// The value of a header that stands exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

/// Whether `If-None-Match` names the tag; a weak comparison, as the standard wants it there.
fn lists(value: &HeaderValue, tag: &str) -> bool {
    let tags = value.to_str().unwrap_or_default();
    tags.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn transfer(
    blob: Blob,
    start: u64,
    end: Option<u64>,
    place: Result<Lease, Full>,
    tally: Option<Tally>,
) -> ApiResult<body::Body> {
    let lease = place.map_err(|full| {
        let (code, detail) = match full {
            Full::Device => {
                let detail = format!("{PER_DEVICE} transfers of this device are under way; resume when one has ended");
                (Code::TooManyRequests, detail)
            }
            Full::Server { places } => {
                (Code::Unavailable, format!("all {places} places for transfers are taken; resume later"))
            }
        };
        ApiProblem::retry_after(code, detail, RETRY_AFTER_S)
    })?;
    let stop = end.map_or(blob.len, |end| end.saturating_add(1));
    Ok(body::Body::new(blob.file, start..stop, lease, tally))
}

fn common(status: StatusCode, tag: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::ETAG, tag))
        .insert_header((header::CACHE_CONTROL, CACHE_CONTROL))
        .insert_header((header::ACCEPT_RANGES, "bytes"));
    if status != StatusCode::NOT_MODIFIED {
        response.content_type("application/octet-stream");
    }
    response
}

fn unsatisfiable(len: u64) -> HttpResponse {
    let detail = format!("the payload has {len} bytes; a range that begins inside is wanted");
    let problem = ApiProblem::new(Code::RangeNotSatisfiable, detail);
    let mut response = HttpResponse::from_error(problem);
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{len}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

fn unexpected(error: impl std::fmt::Display) -> ApiProblem {
    app::Error::Unexpected(error.to_string()).into()
}

#[cfg(test)]
mod tests;
