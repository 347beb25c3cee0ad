//! Attacks that devices tell of: what they refused because no honest server sends it.

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use callboard_proto::admin::Permission;

use crate::{
    app::{App, Because, attacks, attention::Whom},
    http::{
        admin::attention,
        auth::{Operate, View},
        problem::ApiResult,
    },
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame::{self, Frame, Section},
        parts::{Pager, ROWS, When, count},
    },
};

#[derive(Template)]
#[template(path = "attacks.html")]
struct Page {
    frame: Frame,
    form: Form,
    rows: Vec<Row>,
    pager: Pager,
    may_operate: bool,
}

struct Row {
    device: String,
    site: String,
    told: Vec<String>,
    last: When,
    ticked: bool,
}

/// `GET /attention/attacks`.
pub(crate) async fn get(
    desk: Desk<View>,
    app: Data<App>,
    asked: Query<Vec<(String, String)>>,
) -> ApiResult<HttpResponse> {
    let asked = Form::of(asked.into_inner());
    frame::show(&page(&app, &desk, asked.some("after").as_deref(), Form::default()).await?)
}

async fn page<P>(app: &App, desk: &Desk<P>, after: Option<&str>, form: Form) -> ApiResult<Page> {
    let now = app.clock.now();
    let found = attention::attacked(app, &desk.sees, after, ROWS + 1).await?;
    let row = |one: callboard_proto::admin::Attacked| Row {
        ticked: form.is("device", one.device.as_str()),
        device: one.device.to_string(),
        site: one.site.map(|site| site.to_string()).unwrap_or_default(),
        told: one.attacks.iter().map(|one| format!("{} {}", one.kind, one.total - one.acknowledged)).collect(),
        last: When::new(one.last_at, now),
    };
    Ok(Page {
        frame: Frame::new(desk, Section::Attention, "Attacks").live(),
        rows: found.items.into_iter().map(row).collect(),
        pager: Pager::new("/attention/attacks", &[], after, found.next.as_deref()),
        may_operate: desk.may_do(Permission::Operate),
        form,
    })
}

/// `POST /attention/attacks/acknowledge`.
pub(crate) async fn acknowledge(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let devices: Vec<String> = form.all("device").map(str::to_owned).collect();
    if form.some("reason").is_none() {
        form.refuse("reason", "reason is empty; say why they are nothing to worry about");
    }
    if devices.is_empty() {
        form.refuse("", "tick the devices whose attacks somebody has looked at");
    }
    if !form.is_right() {
        return frame::show_refused(&page(&app, &desk, None, form).await?);
    }
    let because = Because { by: desk.actor, reason: form.text("reason").to_owned() };
    let done = attacks::acknowledge(&app, Whom::Named(devices), because).await?;
    frame::done("/attention/attacks", format!("Taken note of the attacks of {}.", count(done.total.into(), "device")))
}
