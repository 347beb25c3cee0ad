//! `/settings/webhooks`: whom the server tells what happened, and how that went.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use askama::Template;
use callboard_proto::{
    admin::{DeliveryState, NOTICES, NewWebhook},
    ids::TokenId,
    problem::Code,
};
use uuid::Uuid;

use crate::{
    app::{App, Error, webhooks},
    db,
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
#[template(path = "webhooks.html")]
struct List {
    frame: Frame,
    form: Form,
    rows: Vec<Row>,
    kinds: Vec<&'static str>,
    secret: String,
}

struct Row {
    name: String,
    path: String,
    url: String,
    kinds: String,
    waiting: u64,
    dead: u64,
}

#[derive(Template)]
#[template(path = "webhook.html")]
struct One {
    frame: Frame,
    form: Form,
    hook: Row,
    rows: Vec<Delivery>,
    pager: Pager,
    states: Vec<(&'static str, &'static str)>,
}

struct Delivery {
    id: String,
    kind: String,
    badge: Badge,
    attempts: u32,
    error: String,
    at: When,
    next: When,
    body: String,
    dead: bool,
}

const STATES: [(&str, &str); 4] =
    [("", "All"), ("waiting", "waiting"), ("delivered", "delivered"), ("dead", "given up")];

fn row(hook: callboard_proto::admin::Webhook) -> Row {
    let kinds = if hook.kinds.len() == NOTICES.len() { "everything".to_owned() } else { hook.kinds.join(", ") };
    Row { path: path(&hook.name), name: hook.name, url: hook.url, kinds, waiting: hook.waiting, dead: hook.dead }
}

fn path(name: &str) -> String {
    format!("/settings/webhooks/{}", segment(name))
}

/// `GET /settings/webhooks`.
pub(crate) async fn list(desk: Desk<Administer>, app: Data<App>) -> ApiResult<HttpResponse> {
    frame::show(&list_page(&app, &desk, Form::default()).await?)
}

async fn list_page(app: &App, desk: &Desk<Administer>, form: Form) -> ApiResult<List> {
    let read = app.db.read(|conn| {
        let all = db::webhooks::all(conn)?.into_iter();
        all.map(|hook| webhooks::show(conn, hook)).collect::<Result<Vec<_>, Error>>()
    });
    Ok(List {
        frame: Frame::new(desk, Section::Settings, "Webhooks"),
        form,
        rows: read.await?.into_iter().map(row).collect(),
        kinds: NOTICES.to_vec(),
        secret: String::new(),
    })
}

/// `POST /settings/webhooks`: makes one.
pub(crate) async fn create(sent: Submitted<Administer>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let kinds: Vec<String> = form.all("kinds").map(str::to_owned).collect();
    let new = NewWebhook {
        name: form.text("name").to_owned(),
        url: form.text("url").trim().to_owned(),
        kinds: Some(kinds).filter(|kinds| !kinds.is_empty()),
        secret: form.some("secret"),
    };
    match webhooks::create(&app, desk.actor.clone(), new).await {
        Ok((_, Some(secret))) => {
            let page = list_page(&app, &desk, Form::default()).await?;
            frame::show(&List { secret, ..page })
        }
        Ok((hook, None)) => frame::done(&path(&hook.name), "It is told from now on."),
        Err(error) => {
            form.take(error)?;
            frame::show_refused(&list_page(&app, &desk, form).await?)
        }
    }
}

/// `GET /settings/webhooks/{webhook}`: what was sent to it, or is to be.
pub(crate) async fn get(
    desk: Desk<Administer>,
    app: Data<App>,
    hook: Path<String>,
    asked: Query<Asked>,
) -> ApiResult<HttpResponse> {
    frame::show(&one(&app, &desk, hook.into_inner(), asked.into_inner(), Form::default()).await?)
}

async fn one(app: &App, desk: &Desk<Administer>, name: String, asked: Asked, form: Form) -> ApiResult<One> {
    let Asked { state, after } = asked;
    let before = params::parse_some("after", after.as_deref())?.unwrap_or(TokenId::from_uuid(Uuid::max()));
    let wanted = DeliveryState::ALL.into_iter().find(|known| known.as_str() == state);
    let (hook, found) = app
        .db
        .read(move |conn| {
            let hook = webhooks::resolve(conn, &name)?;
            let found = db::webhooks::list(conn, hook.id, wanted, before, ROWS + 1)?;
            Ok::<_, Error>((webhooks::show(conn, hook)?, found))
        })
        .await?;
    let now = app.clock.now();
    let found = page::page(found, ROWS + 1, |one| one.id.to_string());
    let rows = found.items.into_iter().map(webhooks::show_delivery).map(|one| Delivery {
        id: one.id.to_string(),
        kind: one.kind,
        badge: match one.state {
            DeliveryState::Waiting => Badge::new("waiting", "busy"),
            DeliveryState::Delivered => Badge::new("delivered", "good"),
            DeliveryState::Dead => Badge::new("given up", "bad"),
        },
        attempts: one.attempts,
        error: one.error.unwrap_or_default(),
        at: When::new(one.created_at, now),
        next: When::new(one.next_at, now),
        body: one.body,
        dead: one.state == DeliveryState::Dead,
    });
    let rows = rows.collect();
    let hook = row(hook);
    Ok(One {
        frame: Frame::new(desk, Section::Settings, hook.name.clone()),
        pager: Pager::new(&hook.path, &[("state", &state)], after.as_deref(), found.next.as_deref()),
        form: if form.has("deed") { form } else { Form::with([("state", state)]) },
        hook,
        rows,
        states: STATES.to_vec(),
    })
}

/// `POST /settings/webhooks/{webhook}`: the field `deed` says what.
pub(crate) async fn change(sent: Submitted<Administer>, app: Data<App>, hook: Path<String>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let (name, actor) = (hook.into_inner(), desk.actor.clone());
    let done = match form.text("deed") {
        "test" => match webhooks::test(&app, actor, name.clone()).await {
            Ok(sent) if sent.state == DeliveryState::Delivered => {
                return frame::done(&path(&name), "The test was taken.");
            }
            Ok(sent) => {
                let why = sent.error.unwrap_or_default();
                return frame::not_done(&path(&name), format!("The test was not taken: {why}"));
            }
            Err(error) => Err(error),
        },
        "delete" => match webhooks::delete(&app, actor, name.clone()).await {
            Ok(()) => return frame::done("/settings/webhooks", format!("{name} is told nothing any more.")),
            Err(error) => Err(error),
        },
        "resend" => {
            let id = params::parse("delivery", form.text("delivery"))?;
            webhooks::resend(&app, actor, id).await.map(|_| ())
        }
        other => {
            return Err(ApiProblem::new(Code::BadRequest, format!("deed {other:?} is none of this form's buttons")));
        }
    };
    match done {
        Ok(()) => frame::done(&path(&name), "It is sent again."),
        Err(error) => {
            // No field of the page is the one that it names.
            form = form.without("delivery");
            form.take(error)?;
            frame::show_refused(&one(&app, &desk, name, Asked::default(), form).await?)
        }
    }
}
