//! How machines become devices: those that wait for somebody to let them in, and tokens.

pub(crate) mod tokens;

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use askama::Template;
use callboard_proto::{
    admin::{AcceptEnrolment, EnrolmentState, Permission, Token, WaitingEnrolment},
    ids::DeviceName,
    time::Timestamp,
};

use super::{
    desk::{Desk, Submitted},
    form::Form,
    frame::{self, Frame, Section},
    parts::{Badge, Pager, ROWS, When},
};
use crate::{
    app::{App, Error, enrol},
    http::{
        admin,
        auth::{Operate, View},
        params,
        problem::ApiResult,
    },
};

#[derive(Template)]
#[template(path = "enrolment.html")]
pub(super) struct Page {
    frame: Frame,
    waiting: Vec<Row>,
    more_waiting: Pager,
    tokens: Vec<TokenRow>,
    pager: Pager,
    may_operate: bool,
    pub(super) form: Form,
    /// Whether the form for a token is open.
    pub(super) open: bool,
}

/// A machine that waits.
struct Row {
    id: String,
    badge: Badge,
    undecided: bool,
    key: String,
    why: String,
    device: String,
    name: String,
    serial: String,
    hw: String,
    source: String,
    last: When,
    decided_by: String,
}

struct TokenRow {
    id: String,
    badge: Badge,
    usable: bool,
    uses: String,
    expires: When,
    what_for: String,
    labels: Vec<String>,
    waits: bool,
}

/// `GET /enrolment`.
pub(crate) async fn get(
    desk: Desk<View>,
    app: Data<App>,
    asked: Query<Vec<(String, String)>>,
) -> ApiResult<HttpResponse> {
    let asked = Form::of(asked.into_inner());
    frame::show(&page(&app, &desk, &asked).await?)
}

/// The page, with the form for a token as it is before anybody typed anything.
pub(super) async fn page<P>(app: &App, desk: &Desk<P>, asked: &Form) -> ApiResult<Page> {
    let now = app.clock.now();
    let (after, waiting_after) = (asked.some("after"), asked.some("waiting"));
    let waiting = admin::enrolments::page(app, &desk.sees, waiting_after.as_deref(), ROWS + 1).await?;
    let tokens = admin::tokens::page(app, &desk.sees, after.as_deref(), ROWS + 1).await?;
    let next = waiting.next.map(|next| super::parts::link("/enrolment", &[("waiting", &next)])).unwrap_or_default();
    let first = waiting_after.map(|_| "/enrolment".to_owned()).unwrap_or_default();
    Ok(Page {
        frame: Frame::new(desk, Section::Enrolment, "Enrolment").live(),
        waiting: waiting.items.into_iter().map(|one| row(one, now)).collect(),
        more_waiting: Pager { next, first },
        tokens: tokens.items.into_iter().map(|one| token_row(one, now)).collect(),
        pager: Pager::new("/enrolment", &[], after.as_deref(), tokens.next.as_deref()),
        may_operate: desk.may_do(Permission::Operate),
        form: Form::with([("max_uses", "1".to_owned()), ("days", "7".to_owned())]),
        open: false,
    })
}

fn row(one: WaitingEnrolment, now: Timestamp) -> Row {
    let badge = match one.state {
        EnrolmentState::Waiting => Badge::new("waiting", "warn"),
        EnrolmentState::Accepted => Badge::new("accepted", "good"),
        EnrolmentState::Rejected => Badge::new("rejected", "bad"),
    };
    Row {
        id: one.id.to_string(),
        undecided: one.state == EnrolmentState::Waiting,
        badge,
        key: one.key.to_string(),
        why: one.why,
        device: one.device.map(|name| name.to_string()).unwrap_or_default(),
        name: one.name.map(|name| name.to_string()).unwrap_or_default(),
        serial: one.serial.unwrap_or_default(),
        hw: one.hw,
        source: one.source.unwrap_or_default(),
        last: When::new(one.last_at, now),
        decided_by: one.decided_by.unwrap_or_default(),
    }
}

fn token_row(token: Token, now: Timestamp) -> TokenRow {
    let badge = match token {
        Token { revoked: true, .. } => Badge::new("revoked", "dull"),
        Token { expires_at, .. } if expires_at <= now => Badge::new("expired", "dull"),
        Token { uses, max_uses, .. } if uses >= max_uses => Badge::new("used", "dull"),
        _ => Badge::new("good", "good"),
    };
    let device = token.device.map(|device| format!("device {device}"));
    let site = token.site.map(|site| format!("site {site}"));
    let serial = token.serial_pattern.map(|pattern| format!("serial {pattern}"));
    let what_for: Vec<String> = [device, site, serial].into_iter().flatten().collect();
    TokenRow {
        id: token.id.to_string(),
        usable: badge.word == "good",
        badge,
        uses: format!("{} of {}", token.uses, token.max_uses),
        expires: When::new(token.expires_at, now),
        what_for: if what_for.is_empty() { "any machine".to_owned() } else { what_for.join(", ") },
        labels: token.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        waits: !token.auto_approve,
    }
}

/// `POST /enrolment/{enrolment}/accept`.
pub(crate) async fn accept(sent: Submitted<Operate>, app: Data<App>, id: Path<String>) -> ApiResult<HttpResponse> {
    let id = params::parse("enrolment", &id)?;
    let name: Option<DeviceName> = params::parse_some("name", sent.form.some("name").as_deref())?;
    let how = AcceptEnrolment { device: sent.form.some("device"), name };
    match enrol::accept(&app, sent.desk.actor, id, how).await {
        Ok(one) => {
            let name = one.device.or(one.name).map(|name| name.to_string()).unwrap_or_else(|| "The machine".to_owned());
            frame::done("/enrolment", format!("{name} is let in the next time that it asks."))
        }
        Err(Error::Refused { detail, .. }) => frame::not_done("/enrolment", detail),
        Err(error) => Err(error.into()),
    }
}

/// `POST /enrolment/{enrolment}/reject`.
pub(crate) async fn reject(sent: Submitted<Operate>, app: Data<App>, id: Path<String>) -> ApiResult<HttpResponse> {
    match enrol::reject(&app, sent.desk.actor, params::parse("enrolment", &id)?).await {
        Ok(_) => frame::done("/enrolment", "It is refused each time that it asks."),
        Err(Error::Refused { detail, .. }) => frame::not_done("/enrolment", detail),
        Err(error) => Err(error.into()),
    }
}
