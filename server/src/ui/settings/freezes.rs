//! `/settings/freezes`: dates on which nothing is offered or installed.

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use callboard_proto::{
    admin::{NewFreeze, Permission},
    ids::FreezeName,
};

use crate::{
    app::{App, Error, freezes},
    db,
    http::{
        auth::{Operate, View},
        page, params,
        problem::ApiResult,
    },
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame::{self, Frame, Section},
        parts::{Asked, Pager, ROWS},
    },
};

#[derive(Template)]
#[template(path = "freezes.html")]
struct Page {
    frame: Frame,
    form: Form,
    admin: bool,
    may_operate: bool,
    rows: Vec<Row>,
    pager: Pager,
}

struct Row {
    name: String,
    from: String,
    to: String,
    selector: String,
    reason: String,
    by: String,
}

/// `GET /settings/freezes`.
pub(crate) async fn list(desk: Desk<View>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    frame::show(&page(&app, &desk, asked.into_inner().after, Form::default()).await?)
}

async fn page<P>(app: &App, desk: &Desk<P>, after: Option<String>, form: Form) -> ApiResult<Page> {
    let from: Option<FreezeName> = params::parse_some("after", after.as_deref())?;
    let found = app.db.read(move |conn| Ok::<_, Error>(db::freezes::list(conn, from.as_ref(), ROWS + 1)?)).await?;
    let found = page::page(found, ROWS + 1, |one| one.spec.name.to_string());
    let row = |one: db::freezes::Record| Row {
        name: one.spec.name.to_string(),
        from: one.spec.from,
        to: one.spec.to,
        selector: one.spec.selector.unwrap_or_else(|| "all devices".to_owned()),
        reason: one.spec.reason,
        by: one.created_by,
    };
    Ok(Page {
        frame: Frame::new(desk, Section::Settings, "Freezes"),
        form,
        admin: desk.has(Permission::Administer),
        may_operate: desk.may_do(Permission::Operate),
        rows: found.items.into_iter().map(row).collect(),
        pager: Pager::new("/settings/freezes", &[], after.as_deref(), found.next.as_deref()),
    })
}

/// `POST /settings/freezes`: makes one.
pub(crate) async fn create(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    if let Some(name) = name(&mut form) {
        let new = NewFreeze {
            name,
            reason: form.text("reason").to_owned(),
            from: form.text("from").to_owned(),
            to: form.text("to").to_owned(),
            selector: form.some("selector"),
        };
        match freezes::create(&app, desk.actor.clone(), new).await {
            Ok(_) => return frame::done("/settings/freezes", "Nothing is installed on these dates."),
            Err(error) => form.take(error)?,
        }
    }
    frame::show_refused(&page(&app, &desk, None, form).await?)
}

fn name(form: &mut Form) -> Option<FreezeName> {
    if form.some("name").is_none() {
        form.refuse("name", "a freeze has a name");
    }
    form.read("name")
}

/// `POST /settings/freezes/delete`.
pub(crate) async fn delete(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, form } = sent;
    freezes::delete(&app, desk.actor, form.text("freeze").to_owned()).await?;
    frame::done("/settings/freezes", "The freeze is called off.")
}
