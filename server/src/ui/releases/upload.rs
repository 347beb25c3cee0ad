//! `/releases/new`: a signed release and its payloads by a form. The script sends the same files piece by piece to the API,
//! shows how far it is, and goes on where it broke off; without it the browser sends them all in one request, read here.

use actix_multipart::{Field, Multipart};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use askama::Template;
use callboard_proto::{
    digest::Digest,
    payload::CHUNK_SIZE,
    problem::Code,
    release::{Payload, Release},
    signed::{Document as _, Envelope, max_envelope},
};
use futures_util::StreamExt as _;

use crate::{
    app::{App, Error, releases},
    db,
    http::{
        admin::payloads,
        auth::Publish,
        limits::in_time,
        listen::Progress,
        problem::{ApiProblem, ApiResult},
    },
    store::upload::{Expected, Upload},
    ui::{
        desk::{Desk, FilesSubmitted},
        form::Form,
        frame::{self, Frame, Section},
    },
};

#[derive(Template)]
#[template(path = "release_upload.html")]
struct Page {
    frame: Frame,
    form: Form,
}

fn page(desk: &Desk<Publish>, form: Form) -> Page {
    Page { frame: Frame::new(desk, Section::Releases, "Upload a release"), form }
}

/// `GET /releases/new`.
pub(crate) async fn get(desk: Desk<Publish>) -> ApiResult<HttpResponse> {
    frame::show(&page(&desk, Form::default()))
}

/// `POST /releases/new`: the token first, then the release, then its payloads, as they stand in the form.
pub(crate) async fn post(
    sent: FilesSubmitted<Publish>,
    app: Data<App>,
    request: HttpRequest,
) -> ApiResult<HttpResponse> {
    let FilesSubmitted { desk, parts } = sent;
    match take(&desk, &app, &request, parts).await {
        Ok(path) => frame::done(&path, "The release is published."),
        Err(problem) => {
            let mut form = Form::default();
            form.take(problem)?;
            frame::show_refused(&page(&desk, form))
        }
    }
}

fn wrong(detail: impl Into<String>) -> ApiProblem {
    ApiProblem::new(Code::Invalid, detail)
}

/// Takes the parts of the request in their order; gives the page of the release.
async fn take(desk: &Desk<Publish>, app: &App, request: &HttpRequest, mut parts: Multipart) -> ApiResult<String> {
    let mut release: Option<(Vec<u8>, Vec<Payload>)> = None;
    loop {
        let next = in_time(app.operators_request_timeout(), parts.next()).await?;
        let Some(part) = next else { break };
        let mut part =
            part.map_err(|source| ApiProblem::new(Code::BadRequest, format!("the upload broke off: {source}")))?;
        match (part.name().unwrap_or_default(), &release) {
            ("release", None) => {
                let envelope = small(app, &mut part, max_envelope(Release::MAX_BYTES)).await?;
                let payloads = named(&envelope)?;
                release = Some((envelope, payloads));
            }
            ("payload", Some((_, payloads))) => payload(desk, app, request, payloads, &mut part).await?,
            ("payload", None) => return Err(wrong("release.json comes before the payloads")),
            (other, _) => return Err(wrong(format!("{other:?} is no field of this form"))),
        }
    }
    let (envelope, _) = release.ok_or_else(|| wrong("choose release.json"))?;
    let (published, _) = releases::publish(app, desk.actor.clone(), envelope).await?;
    Ok(super::path(published.sha256))
}

/// The payloads that a release names; it is verified when it is published.
fn named(envelope: &[u8]) -> ApiResult<Vec<Payload>> {
    let not_one = |source: callboard_proto::signed::Refused| wrong(format!("that is no release.json: {source}"));
    let release: Release =
        Envelope::parse::<Release>(envelope).and_then(|envelope| envelope.claim()).map_err(not_one)?;
    Ok(release.payloads)
}

/// A part that is held in memory.
async fn small(app: &App, part: &mut Field, most: usize) -> ApiResult<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(bytes) = in_time(app.operators_request_timeout(), part.next()).await? {
        all.extend_from_slice(&bytes.map_err(|source| wrong(format!("the upload broke off: {source}")))?);
        if all.len() > most {
            return Err(wrong(format!("{} has more than {most} bytes", part.name().unwrap_or("a field"))));
        }
    }
    Ok(all)
}

/// Streams a payload to the disk, under the digest that is its file's name.
async fn payload(
    desk: &Desk<Publish>,
    app: &App,
    request: &HttpRequest,
    payloads: &[Payload],
    part: &mut Field,
) -> ApiResult<()> {
    let file = part.content_disposition().and_then(|part| part.get_filename()).unwrap_or_default().to_owned();
    if file.is_empty() {
        // A field in which no file was chosen.
        small(app, part, 0).await?;
        return Ok(());
    }
    let sha256: Option<Digest> = file.parse().ok();
    let known = payloads.iter().find(|one| Some(one.sha256) == sha256 || one.name == file);
    let known = known.ok_or_else(|| {
        let names: Vec<String> = payloads.iter().map(|one| one.sha256.to_string()).collect();
        wrong(format!("the release names no payload {file:?}; it names {}", names.join(", ")))
    })?;
    let (sha256, size) = (known.sha256, known.size);
    let store = app.store.clone();
    let mut upload: Upload = payloads::blocking(move || store.begin(Expected { sha256, size }, CHUNK_SIZE)).await?;
    let progress = request.conn_data::<Progress>().cloned().unwrap_or_default();
    while let Some(bytes) = in_time(app.operators_request_timeout(), part.next()).await? {
        let bytes = bytes.map_err(|source| wrong(format!("the upload broke off: {source}")))?;
        progress.made();
        upload = payloads::blocking(move || upload.write(&bytes).map(|()| upload)).await?;
    }
    let stored = payloads::blocking(move || upload.finish()).await?;
    let is_new = app.db.read(move |conn| Ok::<_, Error>(db::payloads::get(conn, sha256)?.is_none())).await?;
    if is_new {
        payloads::note(app, desk.actor.clone(), &stored).await?;
    }
    Ok(())
}
