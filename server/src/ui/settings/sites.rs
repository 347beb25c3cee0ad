//! `/settings/sites`: where devices stand, and when each site trades.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use askama::Template;
use callboard_policy::selector::{Field, Value};
use callboard_proto::{
    admin::{Permission, Site, SiteState},
    ids::SiteId,
};

use crate::{
    app::{App, part::Place, sites},
    hours::{self, Hours},
    http::{
        auth::{Operate, View},
        params,
        problem::ApiResult,
    },
    ui::{
        desk::{Desk, Submitted},
        devices::list_of,
        form::Form,
        frame::{self, Frame, Section, segment},
        parts::{Asked, Badge, Pager, ROWS},
    },
};

#[derive(Template)]
#[template(path = "sites.html")]
struct Page {
    frame: Frame,
    admin: bool,
    rows: Vec<Row>,
    pager: Pager,
}

struct Row {
    id: String,
    path: String,
    name: String,
    devices: String,
    tz: String,
    trades: Vec<String>,
    badge: Badge,
    reason: String,
}

#[derive(Template)]
#[template(path = "site.html")]
struct One {
    frame: Frame,
    form: Form,
    row: Row,
    path: String,
    may_operate: bool,
}

fn row(site: Site) -> Row {
    let mut reason = site.state_reason.unwrap_or_default();
    let badge = match (site.state, site.hold) {
        (SiteState::Active, Some(hold)) => {
            reason = hold.reason;
            Badge::new("held", "warn")
        }
        (SiteState::Active, None) => Badge::new("active", "good"),
        (SiteState::Suspended, _) => Badge::new("suspended", "warn"),
        (SiteState::Closed, _) => Badge::new("closed", "dull"),
    };
    Row {
        path: path(site.id.as_str()),
        devices: list_of(Field::Site, Value::Text(site.id.to_string())),
        id: site.id.to_string(),
        name: site.name,
        tz: site.tz,
        trades: site.trading_hours.iter().map(|span| hours::show(std::slice::from_ref(span))).collect(),
        badge,
        reason,
    }
}

fn path(id: &str) -> String {
    format!("/settings/sites/{}", segment(id))
}

/// Trading hours of which each stands on a line of its own; no line is none.
fn typed(text: &str) -> Result<Hours, String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { Ok(Hours(Vec::new())) } else { lines.join("; ").parse() }
}

/// `GET /settings/sites`.
pub(crate) async fn list(desk: Desk<View>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    let after = asked.into_inner().after;
    let from: Option<SiteId> = params::parse_some("after", after.as_deref())?;
    let part = sites::list(&app, desk.sees.clone(), Place { from, rows: ROWS + 1 }).await?;
    let next = part.next.flatten().map(|id| id.to_string());
    let page = Page {
        frame: Frame::new(&desk, Section::Settings, "Sites"),
        admin: desk.has(Permission::Administer),
        rows: part.items.into_iter().map(|site| row(sites::show(&app, site))).collect(),
        pager: Pager::new("/settings/sites", &[], after.as_deref(), next.as_deref()),
    };
    frame::show(&page)
}

/// `GET /settings/sites/{site}`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>, site: Path<String>) -> ApiResult<HttpResponse> {
    frame::show(&one(&app, &desk, site.into_inner(), None).await?)
}

async fn one<P>(app: &App, desk: &Desk<P>, id: String, form: Option<Form>) -> ApiResult<One> {
    let (now, actor) = (app.clock.now(), desk.actor.clone());
    let site = app.db.read(move |conn| sites::seen_by(conn, &actor, &id, now)).await?;
    let row = row(sites::show(app, site));
    let form = form.unwrap_or_else(|| Form::with([("trading_hours", row.trades.join("\n"))]));
    Ok(One {
        frame: Frame::new(desk, Section::Settings, row.id.clone()),
        form,
        path: row.path.clone(),
        may_operate: desk.may_do(Permission::Operate),
        row,
    })
}

/// `POST /settings/sites/{site}`: when it trades.
pub(crate) async fn change(sent: Submitted<Operate>, app: Data<App>, site: Path<String>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let id = site.into_inner();
    match typed(form.text("trading_hours")) {
        Err(wrong) => form.refuse("trading_hours", wrong),
        Ok(Hours(hours)) => match sites::set_trading(&app, desk.actor.clone(), id.clone(), hours).await {
            Ok(_) => return frame::done(&path(&id), "Nothing is installed in these hours."),
            Err(error) => form.take(error)?,
        },
    }
    frame::show_refused(&one(&app, &desk, id, Some(form)).await?)
}
