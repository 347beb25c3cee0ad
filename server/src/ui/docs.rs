//! `/api/docs`: the admin API to read and to try, by Swagger UI. Its files are in the binary, as its makers packed them.
//!
//! It is behind the same door as the other pages, whose frame it does not have: its style sheet is Swagger UI's. Its content
//! policy is its own, too: pictures are in that style sheet.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Path},
};
use callboard_proto::problem::Code;

use super::desk::Desk;
use crate::http::{
    auth::View,
    problem::{ApiProblem, ApiResult},
};

mod archive;

use archive::{Packed, find};

const PAGE: &str = include_str!("../../templates/docs.html");
const SCRIPT: &str = include_str!("../../templates/docs.js");
const STYLE: &str = include_str!("../../templates/docs.css");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// They change with the binary.
const CACHE: &str = "private, max-age=3600";

/// Files of Swagger UI that the page needs, and what has to go with them.
static FILES: [(&str, &str, &str); 4] = [
    ("swagger-ui-bundle.js", "dist/swagger-ui-bundle.js", "text/javascript"),
    ("swagger-ui.css", "dist/swagger-ui.css", "text/css"),
    ("LICENSE", "LICENSE", "text/plain; charset=utf-8"),
    ("NOTICE", "NOTICE", "text/plain; charset=utf-8"),
];

static UNPACKED: LazyLock<Vec<Option<(Bytes, bool)>>> =
    LazyLock::new(|| FILES.iter().map(|file| unpack(file.1)).collect());

/// `GET /api/docs`.
pub(crate) async fn get(_: Desk<View>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .body(PAGE)
}

/// `GET /api/docs/{file}`.
pub(crate) async fn file(_: Desk<View>, name: Path<String>) -> ApiResult<HttpResponse> {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, CACHE));
    if *name == "docs.js" {
        return Ok(response.insert_header((header::CONTENT_TYPE, "text/javascript")).body(SCRIPT));
    }
    if *name == "docs.css" {
        return Ok(response.insert_header((header::CONTENT_TYPE, "text/css")).body(STYLE));
    }
    let found = FILES.iter().zip(UNPACKED.iter()).find(|((own, ..), _)| *own == *name);
    let Some(((_, _, kind), Some((bytes, gzip)))) = found else {
        return Err(ApiProblem::new(Code::NotFound, format!("there is no file {name}")));
    };
    if *gzip {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response.insert_header((header::CONTENT_TYPE, *kind)).body(bytes.clone()))
}

/// A file for browsers: all of them take gzip, so nothing is unpacked here. What was packed becomes gzip by a head and an
/// end around it.
fn unpack(name: &str) -> Option<(Bytes, bool)> {
    let Packed { bytes, deflated, crc32, size } = find(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED, name)?;
    if !deflated {
        return Some((Bytes::from_static(bytes), false));
    }
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    Some((Bytes::from([head.as_slice(), bytes, &crc32, &size].concat()), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_the_package() {
        let sizes: Vec<usize> = UNPACKED.iter().flatten().map(|(bytes, _)| bytes.len()).collect();
        assert_eq!(sizes.len(), FILES.len(), "{sizes:?}");
        assert!(sizes.iter().sum::<usize>() < 1_000_000, "{sizes:?}");
        for (name, ..) in FILES {
            assert!(PAGE.contains(name), "the page does not lead to {name}");
        }
    }
}
