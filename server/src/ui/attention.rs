//! What waits for somebody: failures that no rollout tries again by itself, devices that may have copies, and attacks that
//! devices tell of.

pub(crate) mod attacks;
pub(crate) mod deal;

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use callboard_proto::{
    admin::{self, Attention, Permission},
    time::Timestamp,
};

use super::{
    desk::Desk,
    devices::selector,
    form::Form,
    frame::{self, Frame, Section},
    parts::{Pager, ROWS, When},
};
use crate::{
    app::{self, App, Error, Reach},
    db::{self, DbConn},
    http::{admin::attention, auth::View, problem::ApiResult},
};

/// Rollouts to choose from, the newest; those before them by their names in the address.
const ROLLOUTS: i64 = 100;

#[derive(Template)]
#[template(path = "attention.html")]
struct Page {
    frame: Frame,
    form: Form,
    /// The selector with a mark below the column where it went wrong.
    pointer: String,
    rollout: String,
    selector: String,
    rollouts: Vec<String>,
    copies: Vec<Copy>,
    rows: Vec<Row>,
    pager: Pager,
    may_operate: bool,
}

/// A device that two machines may be.
struct Copy {
    device: String,
    site: String,
    text: String,
    since: When,
}

struct Row {
    /// Rollout and device, as the form sends them.
    key: String,
    rollout: String,
    device: String,
    site: String,
    version: String,
    state: String,
    attempt: u32,
    code: String,
    log: String,
    since: When,
}

/// `GET /attention`.
pub(crate) async fn get(
    desk: Desk<View>,
    app: Data<App>,
    asked: Query<Vec<(String, String)>>,
) -> ApiResult<HttpResponse> {
    let (mut form, now) = (Form::of(asked.into_inner()), app.clock.now());
    let (rollout, after) = (form.some("rollout"), form.some("after"));
    let (selector, pointer) = selector(&mut form);
    let found = match &selector {
        Some(selector) => {
            let sees = desk.sees.only(selector.clone());
            attention::page(&app, &sees, rollout.clone(), after.as_deref(), ROWS + 1).await?
        }
        None => admin::Page { items: Vec::new(), next: None },
    };
    let sees = desk.sees.clone();
    let (mut rollouts, copies) =
        app.db.read(move |conn| Ok::<_, Error>((rollouts(conn, &sees)?, copies(conn, &sees, now)?))).await?;
    rollouts.extend(rollout.clone().filter(|name| !rollouts.contains(name)));
    let (rollout, selector) = (rollout.unwrap_or_default(), form.some("selector").unwrap_or_default());
    let filters = [("rollout", rollout.as_str()), ("selector", selector.as_str())];
    let page = Page {
        frame: Frame::new(&desk, Section::Attention, "Attention").live(),
        pager: Pager::new("/attention", &filters, after.as_deref(), found.next.as_deref()),
        rows: found.items.into_iter().map(|one| row(one, now)).collect(),
        may_operate: desk.may_do(Permission::Operate),
        form,
        pointer,
        rollout,
        selector,
        rollouts,
        copies,
    };
    if page.form.is_right() { frame::show(&page) } else { frame::show_refused(&page) }
}

fn row(one: Attention, now: Timestamp) -> Row {
    let (code, log) = one.failure.map(|failure| (failure.code, failure.text)).unwrap_or_default();
    Row {
        key: format!("{}/{}", one.rollout, one.device),
        rollout: one.rollout.to_string(),
        device: one.device.to_string(),
        site: one.site.map(|site| site.to_string()).unwrap_or_default(),
        version: one.version.to_string(),
        state: one.state.as_str().replace('_', " "),
        attempt: one.attempt,
        code,
        log,
        since: When::new(one.since, now),
    }
}

/// The first of them; the command line has them all.
fn copies(conn: &mut DbConn, sees: &Reach, now: Timestamp) -> Result<Vec<Copy>, Error> {
    let found = app::clones::list(conn, sees, app::part::Place { from: -1, rows: ROWS + 1 }, now)?;
    let copy = |record: db::devices::Record| {
        let clone = record.possible_clone?;
        Some(Copy {
            device: record.device.name.to_string(),
            site: record.device.site.map(|site| site.to_string()).unwrap_or_default(),
            text: clone.text,
            since: When::new(clone.since, now),
        })
    };
    Ok(found.items.into_iter().filter_map(copy).collect())
}

/// Names of rollouts with failures that wait for somebody.
pub(super) fn rollouts(conn: &mut DbConn, sees: &Reach) -> Result<Vec<String>, Error> {
    let mut seen = Vec::new();
    for name in db::rollouts::failing(conn, ROLLOUTS)? {
        let record = app::rollouts::resolve(conn, &name)?;
        if app::rollouts::is_within(conn, sees, &record)? {
            seen.push(name);
        }
    }
    Ok(seen)
}
