//! What is done to one device from its page.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use callboard_policy::device::Hold;
use callboard_proto::admin::{DevicesOfRollout, EditLabels};

use super::{labels, one, path};
use crate::{
    app::{self, App, Because, Error, attention::Deed},
    http::{
        auth::Operate,
        problem::{ApiProblem, ApiResult},
    },
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame,
    },
};

/// How long a hold may be, in minutes.
pub(super) const HOLDS: [(&str, &str); 6] = [
    ("", "until it is lifted"),
    ("60", "for an hour"),
    ("480", "for 8 hours"),
    ("1440", "for a day"),
    ("4320", "for 3 days"),
    ("10080", "for a week"),
];

/// The hold that a form describes.
pub(super) fn hold(app: &App, form: &Form) -> Hold {
    let minutes =
        HOLDS.iter().find(|(value, _)| form.is("for", value)).and_then(|(value, _)| value.parse::<u64>().ok());
    let until = minutes.map(|minutes| app.clock.now() + Duration::from_secs(minutes * 60));
    Hold { reason: form.text("reason").trim().to_owned(), until }
}

/// `POST /devices/{device}/hold`.
pub(crate) async fn set_hold(sent: Submitted<Operate>, app: Data<App>, name: Path<String>) -> ApiResult<HttpResponse> {
    let Submitted { desk, form } = sent;
    let hold = hold(&app, &form);
    match app::devices::hold(&app, desk.actor.clone(), name.clone(), Some(hold)).await {
        Ok(record) => frame::done(&path(record.device.name.as_str()), format!("{} is held.", record.device.name)),
        Err(error) => refused(&app, &desk, &name, (form, "hold"), error.into()).await,
    }
}

/// `POST /devices/{device}/unhold`.
pub(crate) async fn unhold(sent: Submitted<Operate>, app: Data<App>, name: Path<String>) -> ApiResult<HttpResponse> {
    let record = app::devices::hold(&app, sent.desk.actor, name.into_inner(), None).await?;
    frame::done(&path(record.device.name.as_str()), format!("The hold of {} is lifted.", record.device.name))
}

/// `POST /devices/{device}/decommission`.
pub(crate) async fn decommission(
    sent: Submitted<Operate>,
    app: Data<App>,
    name: Path<String>,
) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let Some(reason) = form.some("reason") else {
        form.refuse("reason", "reason is empty; say why");
        return shown(&app, &desk, &name, (form, "decommission")).await;
    };
    let record = app::devices::decommission(&app, desk.actor, name.into_inner(), reason).await?;
    frame::done(&path(record.device.name.as_str()), format!("{} is out of service.", record.device.name))
}

/// `POST /devices/{device}/labels`: what was typed against what the page had shown; if somebody else changed that
/// meanwhile, both are shown.
pub(crate) async fn set_labels(
    sent: Submitted<Operate>,
    app: Data<App>,
    name: Path<String>,
) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let (typed, was) = match (labels::read(form.text("labels")), labels::read(form.text("was"))) {
        (Ok(typed), Ok(was)) => (typed, was),
        (Err(what), _) | (_, Err(what)) => {
            form.refuse("labels", what);
            return shown(&app, &desk, &name, (form, "labels")).await;
        }
    };
    let (actor, wanted, now) = (desk.actor.clone(), name.clone(), app.clock.now());
    let record = app.db.read(move |conn| app::devices::resolve_for(conn, &actor, &wanted, now)).await?;
    if record.own_labels != was && record.own_labels != typed {
        let theirs = labels::lines(&record.own_labels);
        let mut page = one::page(&app, &desk, &name, None).await?;
        page.form = Form::with([("labels", form.text("labels").to_owned()), ("was", theirs.clone())]);
        page.form.refuse("labels", "somebody else changed the labels meanwhile; look at both, and save what is right");
        (page.refused, page.theirs) = ("labels", Some(theirs));
        return frame::answer(&mut HttpResponse::Conflict(), &page);
    }
    let (set, remove) = labels::difference(&record.own_labels, &typed);
    if set.is_empty() && remove.is_empty() {
        return frame::done(&path(&name), "Nothing was changed.");
    }
    let selector = format!("name = \"{}\"", record.device.name);
    match app::devices::edit_labels(&app, desk.actor.clone(), EditLabels { selector, set, remove, dry_run: false })
        .await
    {
        Ok(_) => frame::done(&path(&name), "The labels were changed."),
        Err(error) => {
            form.refuse("labels", ApiProblem::from(error).detail);
            shown(&app, &desk, &name, (form, "labels")).await
        }
    }
}

/// `POST /devices/{device}/deal`: tries an attempt again, takes note of it, or calls it off.
pub(crate) async fn deal(sent: Submitted<Operate>, app: Data<App>, name: Path<String>) -> ApiResult<HttpResponse> {
    let Submitted { desk, form } = sent;
    let deed = match form.text("deed") {
        "retry" => Deed::Retry,
        "skip" => Deed::Skip,
        "cancel" => Deed::Cancel,
        _ => return Err(Error::invalid("deed is retry, skip or cancel").into()),
    };
    let reason = form.text("reason").to_owned();
    let because = Because { by: desk.actor, reason: reason.clone() };
    let wanted = DevicesOfRollout { devices: vec![name.clone()], selector: None, reason };
    match app::attention::act(&app, form.text("rollout").to_owned(), deed, wanted, because).await {
        Ok(dealt) => match dealt.refused.first() {
            Some(refused) => frame::not_done(&path(&name), format!("Nothing was done: {}", refused.reason)),
            None => frame::done(&path(&name), "That is done."),
        },
        Err(Error::Refused { detail, .. }) => frame::not_done(&path(&name), detail),
        Err(error) => Err(error.into()),
    }
}

async fn refused(
    app: &App,
    desk: &Desk<Operate>,
    name: &str,
    (mut form, which): (Form, &'static str),
    problem: ApiProblem,
) -> ApiResult<HttpResponse> {
    form.take(problem)?;
    shown(app, desk, name, (form, which)).await
}

/// The page of the device again, with what was typed and what is wrong with it.
async fn shown(
    app: &App,
    desk: &Desk<Operate>,
    name: &str,
    (form, which): (Form, &'static str),
) -> ApiResult<HttpResponse> {
    let mut page = one::page(app, desk, name, None).await?;
    page.refused = which;
    page.form = if which == "labels" { form } else { form.over(std::mem::take(&mut page.form)) };
    frame::show_refused(&page)
}
