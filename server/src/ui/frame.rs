//! What is around every page: navigation, who is logged in, and what was just done.

use actix_web::{HttpRequest, HttpResponse, http::header};
use askama::Template;
use callboard_proto::admin::WhoAmI;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{assets, desk::Desk};
use crate::{
    app::Error,
    http::{admin::session::add_cookie, auth, problem::ApiResult},
};

/// The cookie with what is to be said once on the next page.
pub(super) const FLASH: &str = "callboard-said";
/// How long a browser keeps it if it asks for no page.
const FLASH_S: u32 = 60;
/// By this header the script says that it only looks whether something has changed.
/// What a path may have in a query.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A group of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Devices,
    Releases,
    Rollouts,
    Attention,
    Enrolment,
    Audit,
    Settings,
    /// In no group.
    None,
}

/// One line of the navigation.
pub(crate) struct Place {
    pub(crate) path: &'static str,
    pub(crate) name: &'static str,
    pub(crate) current: bool,
}

/// What a page says once about what was just done.
#[derive(Clone, Debug)]
pub(crate) struct Flash {
    pub(crate) text: String,
    pub(crate) bad: bool,
}

/// The frame of one page; every page's template has it as `frame`.
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) nav: Vec<Place>,
    /// Who it is; empty before a login.
    pub(crate) who: String,
    /// In words, what that one may do.
    pub(crate) roles: String,
    pub(crate) logged_in: bool,
    pub(crate) csrf: String,
    pub(crate) flash: Option<Flash>,
    /// Where this page is, as the `next` of a login.
    pub(crate) next: String,
    pub(crate) css: &'static str,
    pub(crate) js: &'static str,
    pub(crate) icon: &'static str,
    /// Whether the page has parts that are kept up to date.
    pub(crate) live: bool,
}

const PLACES: [(Section, &str, &str); 8] = [
    (Section::Overview, "/", "Overview"),
    (Section::Devices, "/devices", "Devices"),
    (Section::Releases, "/releases", "Releases"),
    (Section::Rollouts, "/rollouts", "Rollouts"),
    (Section::Attention, "/attention", "Attention"),
    (Section::Enrolment, "/enrolment", "Enrolment"),
    (Section::Audit, "/audit", "Audit"),
    (Section::Settings, "/settings", "Settings"),
];

impl Frame {
    /// The frame of a page that somebody looks at.
    pub(crate) fn new<P>(desk: &Desk<P>, section: Section, title: impl Into<String>) -> Self {
        let nav = PLACES.into_iter().map(|(own, path, name)| Place { path, name, current: own == section }).collect();
        let WhoAmI { name, grants, csrf_token, .. } = &desk.me;
        let roles: Vec<String> = grants.iter().map(ToString::to_string).collect();
        Self {
            nav,
            who: name.clone(),
            roles: roles.join(", "),
            logged_in: desk.session.is_some(),
            csrf: csrf_token.clone().unwrap_or_default(),
            flash: desk.flash.clone(),
            next: quoted(&desk.here),
            ..Self::bare(title)
        }
    }

    /// The frame for somebody who is not known.
    pub(crate) fn bare(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            nav: Vec::new(),
            who: String::new(),
            roles: String::new(),
            logged_in: false,
            csrf: String::new(),
            flash: None,
            next: String::new(),
            css: &assets::CSS.path,
            js: &assets::JS.path,
            icon: &assets::SVG.path,
            live: false,
        }
    }

    /// With parts that are kept up to date.
    pub(crate) fn live(self) -> Self {
        Self { live: true, ..self }
    }
}

/// A page.
pub(crate) fn show(page: &impl Template) -> ApiResult<HttpResponse> {
    answer(&mut HttpResponse::Ok(), page)
}

/// A form again, because something in it is wrong.
pub(crate) fn show_refused(page: &impl Template) -> ApiResult<HttpResponse> {
    answer(&mut HttpResponse::UnprocessableEntity(), page)
}

/// A page with any status.
pub(super) fn answer(response: &mut actix_web::HttpResponseBuilder, page: &impl Template) -> ApiResult<HttpResponse> {
    let html = page.render().map_err(|source| Error::Unexpected(format!("render a page: {source}")))?;
    Ok(response.content_type("text/html; charset=utf-8").body(html))
}

/// After a change: the page at `path`, which says `text` once.
pub(crate) fn done(path: &str, text: impl AsRef<str>) -> ApiResult<HttpResponse> {
    Ok(said(path, 'g', text.as_ref()))
}

/// After a change that was not made, where no form could say so.
pub(crate) fn not_done(path: &str, text: impl AsRef<str>) -> ApiResult<HttpResponse> {
    Ok(said(path, 'b', text.as_ref()))
}

fn said(path: &str, mark: char, text: &str) -> HttpResponse {
    // A cookie has 4096 bytes, and each of ours may take three.
    let text: String = text.chars().take(400).collect();
    let mut response = to(path);
    add_cookie(
        &mut response,
        &flash_cookie(&format!("{mark}{}", utf8_percent_encode(&text, NON_ALPHANUMERIC)), FLASH_S),
    );
    response
}

/// Goes to another page.
pub(crate) fn to(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, path)).finish()
}

fn flash_cookie(value: &str, seconds: u32) -> String {
    format!("{FLASH}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict")
}

/// Takes back what was said.
pub(super) fn forget_flash(response: &mut HttpResponse) {
    add_cookie(response, &flash_cookie("", 0));
}

/// What the page before wanted to have said.
pub(super) fn flash(request: &HttpRequest) -> Option<Flash> {
    if is_live(request) {
        return None;
    }
    let said = auth::cookie(request, FLASH)?;
    let (mark, text) = said.split_at_checked(1)?;
    let text = percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Flash { text, bad: mark == "b" })
}

/// Whether the script asks, to see whether something has changed.
pub(super) fn is_live(request: &HttpRequest) -> bool {
    request.headers().contains_key(auth::LIVE)
}

/// A value in a query.
pub(crate) fn quoted(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// A part of a path.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A path of this server that somebody asked to go to; the overview for everything else.
pub(super) fn local(path: &str) -> &str {
    let plain = path.starts_with('/') && !path.starts_with("//") && !path.contains('\\');
    if plain && path.bytes().all(|byte| byte.is_ascii_graphic()) { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_server_are_gone_to() {
        for (path, to) in [
            ("/devices?selector=a%20%3D%20b", "/devices?selector=a%20%3D%20b"),
            ("", "/"),
            ("//evil.example.com", "/"),
            ("/\\evil.example.com", "/"),
            ("/\t/evil.example.com", "/"),
            ("/\u{1}x", "/"),
            ("/ä", "/"),
            ("https://evil.example.com", "/"),
            ("javascript:alert(1)", "/"),
        ] {
            assert_eq!(local(path), to, "{path}");
        }
        assert_eq!(quoted("/devices?a=b&c=d e"), "/devices?a=b%26c=d%20e");
    }
}
