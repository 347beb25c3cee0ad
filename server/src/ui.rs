//! Pages for people: rendered on the server by askama, and usable without a script, by the keyboard and on a telephone.
//!
//! # How a page is added
//!
//! 1. **A handler** in `ui/<noun>.rs`, with its route in `page_routes` of `http.rs`. It asks who is there in its signature:
//!
//!    * `Desk<View>` for a page that is looked at. It lists what `desk.sees` narrows, and never more than a page of rows:
//!      see [`parts::Pager`].
//!    * `Submitted<Operate>` (or another permission) for the `POST` of a form. That is a login, the permission and the
//!      form's token checked, in one; the fields are in `sent.form`.
//!
//!    Both answer `ApiResult<HttpResponse>`; a problem becomes a page for a browser in [`door`], and one that takes a login
//!    leads to it, with what was typed.
//! 2. **A struct and a template**: `#[derive(Template)] #[template(path = "<noun>.html")]`, with a field
//!    `frame: Frame` made by `Frame::new(&desk, Section::.., "title")`. The template begins with
//!    `{% extends "base.html" %}` and `{% import "macros.html" as ui %}`, and fills `{% block main %}`. Values are escaped for
//!    HTML and for the eye by themselves ([`escape`]); `|safe` is for what this program drew.
//! 3. **Parts**, in `macros.html`: `ui::field` (a label, an input that keeps what was typed, its error beside it),
//!    `ui::area`, `ui::choice`, `ui::tick`, `ui::errors` (what is wrong with the form as a whole), `ui::token` (in **every** form that posts), `ui::confirm`
//!    and its end, `ui::badge`, `ui::time`, `ui::pager`, `ui::bars`, `ui::empty`. Each is shown where it is defined.
//! 4. **A form that is refused** is shown again: `sent.form.refuse("name", "what would be right")` or
//!    `sent.form.take(error)?` for the refusal of a use case, and then `frame::show_refused(&page)`. After a change
//!    `frame::done("/where", "what was done")` goes there and says so once. A secret that is shown once is shown on the
//!    answer itself.
//! 5. **Live parts**: `Frame::new(..).live()`, and `id` and `data-live` on each element that is to be kept up to date. The
//!    script fetches the page again when something happened and replaces those; without scripts the page loads itself again.
//!    What somebody types in is never inside of one.
//! 6. **Tests** in `tests/tests/ui_<noun>.rs`; the walk in `ui_permission.rs` finds the route by itself. The browser's
//!    stories are in `tests/browser/`.
//!
//! Style and script are put together of parts: see [`assets`].

pub(crate) mod assets;
pub(crate) mod attention;
pub(crate) mod audit;
pub(crate) mod desk;
pub(crate) mod devices;
pub(crate) mod door;
pub(crate) mod enrolment;
pub(crate) mod escape;
pub(crate) mod form;
pub(crate) mod frame;
pub(crate) mod login;
pub(crate) mod overview;
pub(crate) mod parts;
pub(crate) mod pictures;
pub(crate) mod provider;
pub(crate) mod releases;
pub(crate) mod rollouts;
pub(crate) mod settings;
