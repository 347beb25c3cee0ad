//! `/settings/people`: who may log in and what each may do. What is shown once stands on the answer itself.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use askama::Template;
use callboard_proto::{
    admin::{NewUser, Session},
    ids::TokenId,
    problem::Code,
};

use super::{GrantRow, ROLES, grants, place, rows_of, typed_rows};
use crate::{
    app::{
        App, Error,
        people::{self, login},
    },
    db::{self, users::User},
    http::{
        auth::Administer,
        page, params,
        problem::{ApiProblem, ApiResult},
    },
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame::{self, Frame, Section, segment},
        parts::{Asked, Badge, Pager, ROWS, When},
    },
};

#[derive(Template)]
#[template(path = "people.html")]
struct List {
    frame: Frame,
    form: Form,
    rows: Vec<Row>,
    pager: Pager,
    grants: Vec<GrantRow>,
    roles: Vec<(&'static str, &'static str)>,
}

struct Row {
    name: String,
    path: String,
    grants: Vec<String>,
    login: String,
    badge: Badge,
}

#[derive(Template)]
#[template(path = "person.html")]
struct One {
    frame: Frame,
    form: Form,
    name: String,
    path: String,
    badge: Badge,
    provider: String,
    has_totp: bool,
    disabled: bool,
    made: When,
    grants: Vec<GrantRow>,
    roles: Vec<(&'static str, &'static str)>,
    sessions: Vec<(String, String, When, When)>,
    /// What is shown this once.
    once: Vec<(&'static str, String)>,
}

fn badge(user: &User) -> Badge {
    match user.disabled_at {
        Some(_) => Badge::new("kept out", "bad"),
        None => Badge::new("may log in", "good"),
    }
}

/// `GET /settings/people`.
pub(crate) async fn list(desk: Desk<Administer>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    let grants = rows_of(&[]);
    frame::show(&list_page(&app, &desk, asked.into_inner().after, Form::default(), grants).await?)
}

async fn list_page(
    app: &App,
    desk: &Desk<Administer>,
    after: Option<String>,
    form: Form,
    grants: Vec<GrantRow>,
) -> ApiResult<List> {
    let from = after.clone().unwrap_or_default();
    if from.chars().any(char::is_control) {
        return Err(Error::invalid("after has a control character").into());
    }
    let found = app.db.read(move |conn| Ok::<_, Error>(db::users::list(conn, &from, ROWS + 1)?)).await?;
    let found = page::page(found, ROWS + 1, |user| user.name.clone());
    let row = |user: &User| Row {
        name: user.name.clone(),
        path: path(&user.name),
        grants: user.grants.iter().map(ToString::to_string).collect(),
        login: match (user.provider(), user.totp.is_some()) {
            (Some(provider), _) => provider.to_owned(),
            (None, true) => "password and code".to_owned(),
            (None, false) => "password".to_owned(),
        },
        badge: badge(user),
    };
    Ok(List {
        frame: Frame::new(desk, Section::Settings, "People"),
        form,
        rows: found.items.iter().map(row).collect(),
        pager: Pager::new("/settings/people", &[], after.as_deref(), found.next.as_deref()),
        grants,
        roles: ROLES.to_vec(),
    })
}

fn path(name: &str) -> String {
    format!("/settings/people/{}", segment(name))
}

/// `POST /settings/people`: makes a person known.
pub(crate) async fn create(sent: Submitted<Administer>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    if let Some(grants) = grants(&mut form) {
        let new = NewUser { name: form.text("name").trim().to_owned(), password: form.some("password"), grants };
        match people::create(&app, desk.actor.clone(), new).await {
            Ok((user, made)) => {
                let name = user.name.clone();
                let Some(password) = made else { return frame::done(&path(&name), format!("{name} may log in.")) };
                let once = vec![("Password, shown this once", password)];
                return frame::show(&One { once, ..one(&app, &desk, name, Form::default()).await? });
            }
            Err(error) => place(&mut form, error)?,
        }
    }
    let rows = typed_rows(&form);
    frame::show_refused(&list_page(&app, &desk, None, form, rows).await?)
}

/// `GET /settings/people/{person}`.
pub(crate) async fn get(desk: Desk<Administer>, app: Data<App>, person: Path<String>) -> ApiResult<HttpResponse> {
    frame::show(&one(&app, &desk, person.into_inner(), Form::default()).await?)
}

async fn one(app: &App, desk: &Desk<Administer>, name: String, form: Form) -> ApiResult<One> {
    let user = {
        let name = name.clone();
        app.db.read(move |conn| people::resolve(conn, &name)).await?
    };
    let sessions = login::list(app, name).await?;
    let now = app.clock.now();
    let session = |one: Session| {
        let from = one.source.unwrap_or_else(|| "nowhere".to_owned());
        (one.id.to_string(), from, When::new(one.created_at, now), When::new(one.last_used_at, now))
    };
    let grants = if form.has("role") { typed_rows(&form) } else { rows_of(&user.grants) };
    Ok(One {
        frame: Frame::new(desk, Section::Settings, user.name.clone()),
        form,
        path: path(&user.name),
        badge: badge(&user),
        provider: user.provider().unwrap_or_default().to_owned(),
        has_totp: user.totp.is_some(),
        disabled: user.disabled_at.is_some(),
        made: When::new(user.created_at, now),
        grants,
        roles: ROLES.to_vec(),
        sessions: sessions.into_iter().map(session).collect(),
        once: Vec::new(),
        name: user.name,
    })
}

/// `POST /settings/people/{person}`: the field `deed` says what.
pub(crate) async fn change(
    sent: Submitted<Administer>,
    app: Data<App>,
    person: Path<String>,
) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let (name, actor) = (person.into_inner(), desk.actor.clone());
    let mut once = Vec::new();
    let done = match form.text("deed").to_owned().as_str() {
        "grants" => match grants(&mut form) {
            Some(grants) => {
                let done = people::set_grants(&app, actor, name.clone(), grants).await;
                done.map(|_| "What this person may do was changed.")
            }
            None => return frame::show_refused(&one(&app, &desk, name, form).await?),
        },
        "password" => people::set_password(&app, actor, name.clone(), form.some("password")).await.map(|(_, made)| {
            once.extend(made.map(|made| ("Password, shown this once", made)));
            "Another password is in force; the sessions were ended."
        }),
        "totp" => people::totp_on(&app, actor, name.clone()).await.map(|made| {
            once.push(("Secret for the app, shown this once", made.secret));
            "Logins take a code from now on."
        }),
        "no-totp" => people::totp_off(&app, actor, name.clone()).await.map(|_| "Logins take no code any more."),
        "disable" => people::set_disabled(&app, actor, name.clone(), true).await.map(|_| "This person is kept out."),
        "enable" => {
            people::set_disabled(&app, actor, name.clone(), false).await.map(|_| "This person may log in again.")
        }
        "end" => {
            let session: TokenId = params::parse("session", form.text("session"))?;
            login::end(&app, actor, session).await.map(|()| "The session was ended.")
        }
        other => {
            return Err(ApiProblem::new(Code::BadRequest, format!("deed {other:?} is none of this form's buttons")));
        }
    };
    match done {
        Ok(_) if !once.is_empty() => frame::show(&One { once, ..one(&app, &desk, name, Form::default()).await? }),
        Ok(text) => frame::done(&path(&name), text),
        Err(error) => {
            place(&mut form, error)?;
            frame::show_refused(&one(&app, &desk, name, form).await?)
        }
    }
}
