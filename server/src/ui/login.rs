//! `/login`: logging in and out, going on with a form whose session had ended, and the first person of a new server.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    web::{Data, Payload, Query},
};
use askama::Template;
use callboard_proto::{
    admin::{Grant, Login, NewUser},
    problem::Code,
};
use serde::Deserialize;

use super::{
    desk::{self, Submitted},
    form::Form,
    frame::{self, Frame},
};
use crate::{
    app::{
        App,
        people::{self, login},
    },
    http::{
        admin::session,
        auth::{self, View},
        problem::{ApiProblem, ApiResult},
    },
};

/// Query of the login page.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    next: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    frame: Frame,
    form: Form,
    /// Where to go then.
    next: String,
    /// What a form held that could not be sent.
    kept: String,
    /// Why one has to log in.
    why: String,
    /// Whether there is nobody yet.
    first: bool,
    /// What the button for the identity provider says after "Log in with"; empty without one.
    provider: String,
}

#[derive(Template)]
#[template(path = "go_on.html")]
struct GoOn {
    frame: Frame,
    path: String,
    fields: Vec<(String, String)>,
}

/// `GET /login`.
pub(crate) async fn get(app: Data<App>, request: HttpRequest, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    let mut page = Page { next: frame::local(&asked.next).to_owned(), ..page(is_first(&app).await?) };
    page.frame.flash = frame::flash(&request);
    page.provider = provider(&app);
    frame::show(&page)
}

fn page(first: bool) -> Page {
    let title = if first { "Welcome" } else { "Log in" };
    Page {
        frame: Frame::bare(title),
        form: Form::default(),
        next: "/".to_owned(),
        kept: String::new(),
        why: String::new(),
        first,
        provider: String::new(),
    }
}

/// What the identity provider is called here.
fn provider(app: &App) -> String {
    app.provider.as_ref().map(|provider| provider.settings.title.clone()).unwrap_or_default()
}

/// The login page with what went wrong on the way by the identity provider.
pub(super) async fn say(app: &App, problem: &ApiProblem) -> ApiResult<HttpResponse> {
    let mut form = Form::default();
    form.refuse("", problem.detail.clone());
    let page = Page { form, provider: provider(app), ..page(is_first(app).await?) };
    frame::answer(&mut HttpResponse::build(problem.status_code()), &page)
}

/// Whether nobody is known who could log in.
async fn is_first(app: &App) -> ApiResult<bool> {
    Ok(!people::is_anybody_known(app).await?)
}

/// The login page for somebody who sent a form and has to log in first: what was typed is kept.
pub(super) fn ask_to_go_on(here: &str, form: &Form, why: &str) -> ApiResult<HttpResponse> {
    let kept = serde_json::to_string(&form.to_keep()).unwrap_or_default();
    let page = Page { next: frame::local(here).to_owned(), kept, why: why.to_owned(), ..page(false) };
    frame::answer(&mut HttpResponse::Unauthorized(), &page)
}

/// `POST /login`.
pub(crate) async fn post(app: Data<App>, request: HttpRequest, body: Payload) -> ApiResult<HttpResponse> {
    let mut form = typed(&request, body).await?;
    let asked = Login {
        name: form.text("name").to_owned(),
        password: form.text("password").to_owned(),
        code: form.some("code"),
    };
    let from = request.peer_addr().map(|peer| peer.ip());
    let begun = match login::login(&app, asked, from).await {
        Ok(begun) => begun,
        Err(error) => {
            let problem = ApiProblem::from(error);
            if !matches!(problem.code, Code::Unauthorized | Code::TooManyRequests) {
                return Err(problem);
            }
            form.refuse("", problem.detail.clone());
            let (next, kept) = (frame::local(form.text("next")).to_owned(), form.text("kept").to_owned());
            let page = Page { form, next, kept, provider: provider(&app), ..page(false) };
            return frame::answer(&mut HttpResponse::build(problem.status_code()), &page);
        }
    };
    let next = frame::local(form.text("next")).to_owned();
    let kept: Vec<(String, String)> = serde_json::from_str(form.text("kept")).unwrap_or_default();
    let mut response = if kept.is_empty() {
        frame::to(&next)
    } else {
        let frame = Frame { csrf: begun.csrf_token.clone(), ..Frame::bare("Go on") };
        frame::show(&GoOn { frame, path: next, fields: kept })?
    };
    session::set_cookie(&mut response, &begun.cookie);
    Ok(response)
}

/// The fields of a form that comes before there is a session.
async fn typed(request: &HttpRequest, body: Payload) -> ApiResult<Form> {
    auth::check_own(request)?;
    desk::fields(request, &mut body.into_inner()).await
}

/// `POST /login/first`: whoever has the token that `callboard init` printed becomes the first person, and an admin.
pub(crate) async fn first(app: Data<App>, request: HttpRequest, body: Payload) -> ApiResult<HttpResponse> {
    let mut form = typed(&request, body).await?;
    if !is_first(&app).await? {
        return frame::not_done("/login", "Somebody was made known meanwhile. Log in, or ask an admin to let you in.");
    }
    let (name, password) = (form.text("name").to_owned(), form.text("password").to_owned());
    if password.is_empty() {
        form.refuse("password", "choose a password of 12 to 128 bytes");
    }
    let from = request.peer_addr().map(|peer| peer.ip());
    app.doors.enter(&name, from)?;
    let actor = match auth::administrator(&app, form.text("token"), from).await {
        Ok(actor) => Some(actor),
        Err(problem) if matches!(problem.code, Code::Unauthorized | Code::Forbidden) => {
            form.refuse("token", problem.detail);
            None
        }
        Err(problem) => return Err(problem),
    };
    if let Some(actor) = actor.filter(|_| form.is_right()) {
        let new = NewUser { name: name.clone(), password: Some(password.clone()), grants: vec![Grant::everything()] };
        match people::create_first(&app, actor, new).await {
            Ok(_) => {
                let begun = login::login(&app, Login { name, password, code: None }, from).await?;
                let mut response = frame::done("/", format!("Welcome, {}. You are the first admin.", begun.user.name))?;
                session::set_cookie(&mut response, &begun.cookie);
                return Ok(response);
            }
            Err(error) => place(&mut form, error.into())?,
        }
    }
    frame::show_refused(&Page { form, ..page(true) })
}

/// Puts a refusal at the field that it is about.
fn place(form: &mut Form, problem: ApiProblem) -> ApiResult<()> {
    match problem.code {
        Code::Invalid if problem.detail.contains("password") => form.refuse("password", problem.detail),
        Code::Invalid | Code::BadRequest | Code::Conflict => form.refuse("name", problem.detail),
        _ => return Err(problem),
    }
    Ok(())
}

/// `POST /logout`.
pub(crate) async fn end(sent: Submitted<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    if let Some(session) = sent.desk.session {
        login::end(&app, sent.desk.actor, session).await?;
    }
    let mut response = frame::done("/login", "You have logged out.")?;
    session::forget_cookie(&mut response);
    Ok(response)
}
