//! Tokens: made, shown once with the command that uses them, and revoked.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use askama::Template;
use callboard_proto::admin::{NewToken, TokenCreated, check_labels};

use crate::{
    app::{self, App, Error},
    http::{auth::Operate, params, problem::ApiResult},
    ui::{
        desk::Submitted,
        devices::labels,
        form::Form,
        frame::{self, Frame, Section},
        parts::When,
    },
};

const DAY_S: u64 = 86_400;

#[derive(Template)]
#[template(path = "enrolment_token.html")]
struct Made {
    frame: Frame,
    id: String,
    expires: When,
    token: String,
    bundle: String,
    command: String,
}

/// `POST /enrolment/tokens`: the answer is the only time that the token is shown.
pub(crate) async fn create(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let new = read(&mut form);
    let made = if form.is_right() { Some(app::tokens::create(&app, desk.actor.clone(), new).await) } else { None };
    match made {
        Some(Ok(made)) => frame::show(&shown(made, Frame::new(&desk, Section::Enrolment, "A new token"), &app)?),
        refused => {
            match refused {
                Some(Err(Error::Refused { detail, .. })) => place(&mut form, detail),
                Some(Err(error)) => return Err(error.into()),
                _ => {}
            }
            let mut page = super::page(&app, &desk, &Form::default()).await?;
            (page.form, page.open) = (form, true);
            frame::show_refused(&page)
        }
    }
}

fn read(form: &mut Form) -> NewToken {
    let labels = labels::read(form.text("labels")).and_then(|labels| check_labels(&labels).map(|()| labels));
    let labels = labels.map_err(|what| form.refuse("labels", what)).unwrap_or_default();
    let days: Option<u64> = form.read("days");
    NewToken {
        device: form.some("device"),
        site: form.read("site"),
        labels,
        serial_pattern: form.some("serial_pattern"),
        auto_approve: !form.has("waits"),
        max_uses: form.read("max_uses"),
        ttl_s: days.map(|days| days.saturating_mul(DAY_S)),
    }
}

/// Puts a refusal at the field that it is about.
fn place(form: &mut Form, detail: String) {
    let fields =
        [("ttl_s", "days"), ("max_uses", "max_uses"), ("there is no site", "site"), ("there is no device", "device")];
    let found = fields.iter().find(|(begins, _)| detail.starts_with(begins));
    form.refuse(found.map_or("", |(_, field)| field), detail);
}

fn shown(made: TokenCreated, frame: Frame, app: &App) -> ApiResult<Made> {
    let unexpected = |source: serde_json::Error| Error::Unexpected(format!("write a bundle: {source}"));
    let line = serde_json::to_string(&made.bundle).map_err(unexpected)?;
    let quoted = line.replace('\'', "'\\''");
    let file = "callboard-bundle.json";
    Ok(Made {
        frame,
        id: made.id.to_string(),
        expires: When::new(made.expires_at, app.clock.now()),
        bundle: serde_json::to_string_pretty(&made.bundle).map_err(unexpected)?,
        token: made.bundle.token,
        command: format!(
            "(umask 077; printf %s '{quoted}' >{file}) && sudo sh install-agent.sh --bundle {file} --product pos-app=/opt/pos-app"
        ),
    })
}

/// `POST /enrolment/tokens/{token}/revoke`.
pub(crate) async fn revoke(sent: Submitted<Operate>, app: Data<App>, id: Path<String>) -> ApiResult<HttpResponse> {
    app::tokens::revoke(&app, sent.desk.actor, params::parse("token", &id)?).await?;
    frame::done("/enrolment", "The token is revoked. Devices that used it stay enrolled.")
}
