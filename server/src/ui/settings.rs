//! `/settings`: one's own password and codes; people, API tokens, webhooks, freezes and sites stand below.

pub(crate) mod freezes;
pub(crate) mod people;
pub(crate) mod sites;
pub(crate) mod tokens;
pub(crate) mod webhooks;

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use callboard_proto::{
    admin::{BeginTotp, ChangePassword, Grant, Permission, Role, TotpCode, TotpSecret},
    problem::Code,
};
use qrcode::{QrCode, render::svg};

use super::{
    desk::{Desk, Submitted},
    form::Form,
    frame::{self, Frame, Section},
};
use crate::{
    app::{
        App, Error,
        people::{self as persons, own, totp as codes},
    },
    http::{
        auth::View,
        problem::{ApiProblem, ApiResult},
    },
};

#[derive(Template)]
#[template(path = "settings.html")]
struct Page {
    frame: Frame,
    form: Form,
    admin: bool,
    name: String,
    roles: Vec<String>,
    /// Whether this is a person with a password here.
    own: bool,
    /// Who vouches for the person otherwise.
    provider: String,
    has_totp: bool,
    secret: Option<Secret>,
}

/// A secret for codes, which an app is to take over.
struct Secret {
    text: String,
    /// SVG.
    picture: String,
}

/// `GET /settings`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    frame::show(&page(&app, &desk, Form::default()).await?)
}

async fn page(app: &App, desk: &Desk<View>, form: Form) -> ApiResult<Page> {
    let me = match (desk.session, desk.me.person.clone()) {
        (Some(_), Some(name)) => Some(app.db.read(move |conn| persons::resolve(conn, &name)).await?),
        _ => None,
    };
    Ok(Page {
        frame: Frame::new(desk, Section::Settings, "Settings"),
        form,
        admin: desk.has(Permission::Administer),
        name: desk.me.name.clone(),
        roles: desk.me.grants.iter().map(ToString::to_string).collect(),
        own: me.as_ref().is_some_and(|me| me.password.is_some()),
        provider: me.as_ref().and_then(|me| me.provider()).unwrap_or_default().to_owned(),
        has_totp: me.is_some_and(|me| me.totp.is_some()),
        secret: None,
    })
}

/// `POST /settings/password`.
pub(crate) async fn password(sent: Submitted<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let session = desk.session.ok_or_else(no_session)?;
    let (old, new) = (form.text("old-password").to_owned(), form.text("new-password").to_owned());
    if new != form.text("again-password") {
        form.refuse("again-password", "this is not the same");
    } else {
        match own::change_password(&app, desk.actor.clone(), session, ChangePassword { old, new }).await {
            Ok(()) => return frame::done("/settings", "You have another password; your other sessions were ended."),
            Err(error) => refuse(&mut form, error, "old-password", "new-password")?,
        }
    }
    frame::show_refused(&page(&app, &desk, form).await?)
}

/// What is wrong stands at the field that shows who one is, or at the other one.
fn refuse(form: &mut Form, error: Error, identity: &str, other: &str) -> ApiResult<()> {
    let problem = ApiProblem::from(error);
    match problem.code {
        Code::Forbidden => form.refuse(identity, problem.detail),
        Code::Invalid => form.refuse(other, problem.detail),
        Code::TooManyRequests => form.refuse("", problem.detail),
        _ => form.take(problem)?,
    }
    Ok(())
}

fn no_session() -> ApiProblem {
    ApiProblem::new(Code::WrongState, "this is for people who have logged in")
}

/// `POST /settings/totp`: makes a secret, confirms it by a code, or switches codes off by one.
pub(crate) async fn totp(sent: Submitted<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    desk.session.ok_or_else(no_session)?;
    let code = TotpCode { code: form.text("code").to_owned() };
    match form.text("deed") {
        "begin" => {
            let begin = BeginTotp { password: form.text("password").to_owned() };
            match own::begin_totp(&app, desk.actor.clone(), begin).await {
                Ok(made) => {
                    let secret = Some(drawn(&made));
                    return frame::show(&Page { secret, ..page(&app, &desk, Form::default()).await? });
                }
                Err(error) => refuse(&mut form, error, "password", "password")?,
            }
        }
        "confirm" => match own::confirm_totp(&app, desk.actor.clone(), code).await {
            Ok(()) => return frame::done("/settings", "Your login takes a code from now on."),
            Err(error) => {
                refuse(&mut form, error, "code", "code")?;
                let made = codes::again(form.text("secret"), &desk.me.name);
                let secret = made.map(|(secret, uri)| drawn(&TotpSecret { secret, uri }));
                return frame::show_refused(&Page { secret, ..page(&app, &desk, form).await? });
            }
        },
        "end" => match own::end_totp(&app, desk.actor.clone(), code).await {
            Ok(()) => return frame::done("/settings", "Your login takes no code any more."),
            Err(error) => refuse(&mut form, error, "code", "code")?,
        },
        other => {
            return Err(ApiProblem::new(Code::BadRequest, format!("deed {other:?} is none of this form's buttons")));
        }
    }
    frame::show_refused(&page(&app, &desk, form).await?)
}

fn drawn(made: &TotpSecret) -> Secret {
    let picture = QrCode::new(made.uri.as_bytes()).map(|code| {
        let drawn = code.render::<svg::Color<'_>>().min_dimensions(192, 192).build();
        // The first line is of a file of its own.
        drawn.split_once("?>").map_or(drawn.clone(), |(_, svg)| svg.to_owned())
    });
    // One that is too long for a picture can still be typed.
    Secret { text: made.secret.clone(), picture: picture.unwrap_or_default() }
}

/// What somebody may do, as rows of a form: a role and a selector each.
struct GrantRow {
    role: String,
    selector: String,
}

/// The roles to choose from; the first makes an empty row.
const ROLES: [(&str, &str); 6] = [
    ("", "—"),
    ("viewer", "viewer: sees"),
    ("operator", "operator: runs the fleet"),
    ("releaser", "releaser: publishes releases"),
    ("approver", "approver: lets rollouts go on"),
    ("admin", "admin: everything"),
];

/// Rows for these grants, and an empty one.
fn rows_of(grants: &[Grant]) -> Vec<GrantRow> {
    let row = |grant: &Grant| GrantRow {
        role: grant.role.as_str().to_owned(),
        selector: grant.selector.clone().unwrap_or_default(),
    };
    grants.iter().map(row).chain([GrantRow { role: String::new(), selector: String::new() }]).collect()
}

/// The rows as they were typed, and an empty one.
fn typed_rows(form: &Form) -> Vec<GrantRow> {
    let typed = form.all("role").zip(form.all("grant-selector"));
    let typed = typed.map(|(role, selector)| GrantRow { role: role.to_owned(), selector: selector.to_owned() });
    let rows = typed.filter(|row| !row.role.is_empty() || !row.selector.trim().is_empty());
    rows.chain([GrantRow { role: String::new(), selector: String::new() }]).collect()
}

/// The grants in a form; what is wrong with them stands at `role`.
fn grants(form: &mut Form) -> Option<Vec<Grant>> {
    let typed: Vec<(String, String)> =
        form.all("role").zip(form.all("grant-selector")).map(|(a, b)| (a.to_owned(), b.trim().to_owned())).collect();
    let mut grants = Vec::new();
    for (role, selector) in typed.into_iter().filter(|(role, selector)| !role.is_empty() || !selector.is_empty()) {
        match role.parse::<Role>() {
            Ok(role) => grants.push(Grant { role, selector: Some(selector).filter(|text| !text.is_empty()) }),
            Err(_unknown) => {
                form.refuse("role", format!("choose a role for {selector}"));
                return None;
            }
        }
    }
    if grants.is_empty() {
        form.refuse("role", "choose a role");
        return None;
    }
    Some(grants)
}

/// Places a refusal: what is about grants at them, the rest at the field that it names.
fn place(form: &mut Form, error: Error) -> ApiResult<()> {
    let problem = ApiProblem::from(error);
    match problem.code {
        Code::Invalid | Code::BadSelector if problem.detail.contains("grant") => form.refuse("role", problem.detail),
        Code::Invalid | Code::Conflict if problem.detail.contains("password") => {
            form.refuse("password", problem.detail)
        }
        Code::Conflict => form.refuse("name", problem.detail),
        Code::Invalid if problem.detail.contains("name") => form.refuse("name", problem.detail),
        _ => form.take(problem)?,
    }
    Ok(())
}
