//! The overview: the fleet at a glance, and what wants somebody.

mod rollouts;

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use callboard_policy::selector::{Field, Value};
use callboard_proto::{admin::DeviceStatus as S, time::Timestamp};

use super::{
    desk::Desk,
    devices::{list_of, list_path, status_badge},
    frame::{self, Frame, Section},
    parts::{Badge, Bar, When, bars, count, thousands},
    pictures::{self, Picture},
};
use crate::{
    app::{App, Error, expiry, fleet, part},
    db::{self, DbConn, selector::Runs},
    http::{auth::View, problem::ApiResult},
};
use rollouts::RolloutRow;

/// Parts of a day in the picture of check-ins: half an hour each.
const PARTS: u16 = 48;
/// What happened last.
const EVENTS: i64 = 8;
/// Failures that are named; the page of those has all.
const ATTENTION: i64 = 5;
/// Products and, of each, versions in the picture.
const PRODUCTS: usize = 8;
const VERSIONS: usize = 8;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    statuses: Vec<Status>,
    per_minute: u32,
    check_ins: Picture,
    products: Vec<ProductRow>,
    more_products: usize,
    rollouts: Vec<RolloutRow>,
    /// Kinds of attacks of which many devices tell, and how many.
    alarms: Vec<(String, String)>,
    waiting: u64,
    attention: Vec<FailureRow>,
    more_attention: bool,
    expiries: Vec<ExpiryRow>,
    events: Vec<EventRow>,
    nobody: bool,
    now: String,
}

/// Devices of one status.
struct Status {
    n: String,
    badge: Badge,
    path: String,
}

/// A product, with its versions.
struct ProductRow {
    name: String,
    bars: Vec<Bar>,
    more: usize,
}

/// A failure that waits for somebody.
struct FailureRow {
    device: String,
    rollout: String,
    state: String,
    why: String,
}

/// Something that ends some day.
struct ExpiryRow {
    what: String,
    at: When,
    alarm: bool,
    text: &'static str,
}

/// Something that happened.
struct EventRow {
    at: When,
    kind: String,
    device: String,
    rollout: String,
    text: String,
}

/// `GET /`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    let now = app.clock.now();
    let look = fleet::look(&app, &desk.sees).await?;
    let overview = &look.overview;
    let rollouts = rollouts::rows(&app, &desk, now).await?;
    let (attention, more_attention) = attention(&app, &desk).await?;
    let (products, more_products) = products(&look.runs);
    let alarms = overview.attack_alarms.iter();
    let number = |kind: &String| count(overview.attacks.get(kind).copied().unwrap_or(0), "device");
    let page = Page {
        nobody: overview.devices.values().all(|n| *n == 0),
        statuses: [S::Online, S::Offline, S::Unknown, S::Abandoned]
            .into_iter()
            .map(|one| status(status_badge(one), &overview.devices))
            .collect(),
        per_minute: app.fleet.per_minute(now),
        check_ins: pictures::columns("Check-ins over the last 24 hours", &app.fleet.check_ins(now, PARTS)),
        products,
        more_products,
        rollouts,
        alarms: alarms.map(|kind| (kind.clone(), number(kind))).collect(),
        waiting: overview.enrolments_waiting,
        attention,
        more_attention,
        expiries: expiries(&app, now),
        events: events(&app, &desk, now).await?,
        now: now.to_string(),
        frame: Frame::new(&desk, Section::Overview, "Overview").live(),
    };
    frame::show(&page)
}

fn status(badge: Badge, devices: &BTreeMap<String, u64>) -> Status {
    let n = devices.get(badge.word).copied().unwrap_or(0);
    Status { n: thousands(n), path: list_path(&format!("status = {}", badge.word)), badge }
}

/// The versions of each product, newest first.
fn products(runs: &Runs) -> (Vec<ProductRow>, usize) {
    let row = |(product, versions): (&callboard_proto::ids::Product, &BTreeMap<_, u64>)| {
        let name = product.to_string();
        let mut all: Vec<(&callboard_proto::version::Version, &u64)> = versions.iter().collect();
        all.sort_by_key(|(version, _)| std::cmp::Reverse(version.sort_key()));
        let shown = all.iter().take(VERSIONS).map(|(version, n)| {
            let path = list_of(Field::Version(product.clone()), Value::Version((*version).clone()));
            (version.to_string(), path, **n)
        });
        ProductRow { bars: bars(shown), more: all.len().saturating_sub(VERSIONS), name }
    };
    let rows = runs.iter().take(PRODUCTS).map(row).collect();
    (rows, runs.len().saturating_sub(PRODUCTS))
}

async fn attention(app: &App, desk: &Desk<View>) -> ApiResult<(Vec<FailureRow>, bool)> {
    let page = crate::http::admin::attention::page(app, &desk.sees, None, None, ATTENTION + 1).await?;
    let row = |one: callboard_proto::admin::Attention| FailureRow {
        device: one.device.to_string(),
        rollout: one.rollout.to_string(),
        state: one.state.as_str().replace('_', " "),
        why: one.failure.map(|failure| failure.code).unwrap_or_default(),
    };
    Ok((page.items.into_iter().map(row).collect(), page.next.is_some()))
}

fn expiries(app: &App, now: Timestamp) -> Vec<ExpiryRow> {
    let row = |one: expiry::Expiry| ExpiryRow {
        what: one.what.replace('_', " "),
        at: When::new(one.at, now),
        alarm: one.is_alarming(now),
        text: one.text,
    };
    let mut rows = expiry::all(app);
    rows.sort_by_key(|one| one.at);
    rows.into_iter().map(row).collect()
}

async fn events(app: &App, desk: &Desk<View>, now: Timestamp) -> ApiResult<Vec<EventRow>> {
    let (context, sees) = (app.selector_context(), desk.sees.clone());
    let part = app
        .db
        .read(move |conn| {
            let read = |conn: &mut DbConn, before, limit| {
                let filter = db::events::Filter { before, limit, ..db::events::Filter::default() };
                Ok::<_, Error>(db::events::list(conn, filter)?)
            };
            let keep = |conn: &mut DbConn, page: &[db::events::Event]| part::events(conn, &sees, &context, page);
            let place = part::Place { from: None, rows: EVENTS + 1 };
            part::read(conn, &sees, place, |event| Some(event.seq), read, keep)
        })
        .await?;
    let row = |event: db::events::Event| EventRow {
        at: When::new(event.at, now),
        kind: event.kind.replace(['.', '_'], " "),
        device: event.device.unwrap_or_default(),
        rollout: event.rollout.unwrap_or_default(),
        text: event.text,
    };
    Ok(part.items.into_iter().map(row).collect())
}
