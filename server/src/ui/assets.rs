//! The stylesheet, the script and the icon: in the binary, under names with their digest, so that browsers may keep them for ever.
//!
//! Style and script are put together of parts, one for each group of pages, in `templates/style/` and `templates/script/`. Nothing in
//! the script is needed to use a page.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use callboard_proto::{digest::Digest, problem::Code};

use crate::{
    app::App,
    http::problem::{ApiProblem, ApiResult},
};

const STYLE: &str = concat!(
    include_str!("../../templates/style/base.css"),
    include_str!("../../templates/style/fleet.css"),
    include_str!("../../templates/style/rollouts.css")
);
const SCRIPT: &str = concat!(
    include_str!("../../templates/script/live.js"),
    include_str!("../../templates/script/fields.js"),
    include_str!("../../templates/script/complete.js"),
    include_str!("../../templates/script/rollouts.js"),
    include_str!("../../templates/script/upload.js")
);

const ICON: &str = include_str!("../../templates/icon.svg");

/// One of the three.
pub(crate) struct Asset {
    /// Where pages name it.
    pub(crate) path: String,
    kind: &'static str,
    text: &'static str,
}

/// What pages name as their stylesheet.
pub(crate) static CSS: LazyLock<Asset> = LazyLock::new(|| asset("css", "text/css; charset=utf-8", STYLE));
/// What pages name as their script.
pub(crate) static JS: LazyLock<Asset> = LazyLock::new(|| asset("js", "text/javascript; charset=utf-8", SCRIPT));
/// What stands in a browser's tab.
pub(crate) static SVG: LazyLock<Asset> = LazyLock::new(|| asset("svg", "image/svg+xml", ICON));

fn asset(extension: &str, kind: &'static str, text: &'static str) -> Asset {
    let digest = Digest::of(text.as_bytes()).to_string();
    let name = digest.get(..16).unwrap_or_default();
    Asset { path: format!("/assets/{name}.{extension}"), kind, text }
}

/// `GET /assets/{name}`. There is nothing secret in them, and the login page needs them.
pub(crate) async fn get(_app: Data<App>, name: Path<String>) -> ApiResult<HttpResponse> {
    let path = format!("/assets/{name}");
    let found = [&*CSS, &*JS, &*SVG].into_iter().find(|asset| asset.path == path);
    // A page from before an update may name the one that was.
    let found =
        found.ok_or_else(|| ApiProblem::new(Code::NotFound, "this version has no such file; load the page again"))?;
    Ok(HttpResponse::Ok()
        .content_type(found.kind)
        .insert_header(("Cache-Control", "public, max-age=31536000, immutable"))
        .body(found.text))
}
