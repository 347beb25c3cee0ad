//! `/rollouts/{rollout}/edit`: the form of a rollout that is there. Who sends it after somebody else has changed the rollout
//! is shown both versions, and decides.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use callboard_proto::{admin::RolloutSpec, problem::Code};
use serde_json::Value;

use super::{
    act::told,
    fields,
    new::{Page, known_releases, typed},
    path, preview,
};
use crate::{
    app::{Actor, App, Because, Error, edition::Expected, rollouts},
    db::rollouts::Record,
    differences::between,
    http::{auth::Operate, problem::ApiResult},
    rollout_file::{NotWritten, to_toml},
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame,
    },
};

/// The field that says which version of the rollout the form was filled with.
const EDITION: &str = "edition";

fn unreadable(source: NotWritten) -> Error {
    Error::Unexpected(source.to_string())
}

async fn present(app: &App, actor: Actor, name: String) -> ApiResult<Record> {
    Ok(app.db.read(move |conn| rollouts::resolve_for(conn, &actor, &name)).await?)
}

async fn page(app: &App, desk: &Desk<Operate>, name: &str, form: Form) -> ApiResult<Page> {
    let page = Page::new(desk, format!("Change {name}"), form, known_releases(app).await?);
    Ok(Page { to: format!("{}/edit", path(name)), editing: true, ..page })
}

/// `GET /rollouts/{rollout}/edit`.
pub(crate) async fn get(desk: Desk<Operate>, app: Data<App>, rollout: Path<String>) -> ApiResult<HttpResponse> {
    let record = present(&app, desk.actor.clone(), rollout.into_inner()).await?;
    let form = fields::fill(&record.spec).map_err(unreadable)?.and(EDITION, rollouts::edition(&record).as_str());
    frame::show(&page(&app, &desk, record.spec.name.as_str(), form).await?)
}

/// `POST /rollouts/{rollout}/edit`.
pub(crate) async fn post(sent: Submitted<Operate>, app: Data<App>, rollout: Path<String>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let name = present(&app, desk.actor.clone(), rollout.into_inner()).await?.spec.name.to_string();
    if form.has("rows") {
        return frame::show(&page(&app, &desk, &name, form).await?);
    }
    if form.has("as-file") {
        if let Some(spec) = fields::read(&mut form) {
            let text = to_toml(&spec).map_err(unreadable)?;
            let form = Form::with([("file", text), (EDITION, form.text(EDITION).to_owned())]);
            return frame::show(&page(&app, &desk, &name, form).await?);
        }
    } else if form.has("preview") {
        let preview = preview::of_form(&app, &desk, &mut form).await?;
        let page = page(&app, &desk, &name, form).await?;
        return frame::show(&Page { preview, ..page });
    } else if let Some(wanted) = typed(&mut form) {
        let expected = Expected::OneOf(vec![form.text(EDITION).to_owned()]);
        let by = Actor { expected, ..desk.actor.clone() };
        let because = Because { by, reason: form.text("reason").to_owned() };
        match rollouts::edit::edit(&app, name.clone(), wanted.clone(), because).await {
            Ok((_, doubts)) => return frame::done(&path(&name), told("It is changed.", &doubts)),
            Err(Error::Refused { code: Code::PreconditionFailed, .. }) => {
                let now = present(&app, desk.actor.clone(), name.clone()).await?;
                let conflict = differing(&now.spec, &wanted)?;
                form.refuse("", "somebody else has changed it meanwhile; what differs is shown below. Sending it again takes your version");
                let form = form.and(EDITION, rollouts::edition(&now).as_str());
                let page = page(&app, &desk, &name, form).await?;
                return frame::show_refused(&Page { conflict, ..page });
            }
            Err(error) => preview::place(&mut form, error.into())?,
        }
    }
    frame::show_refused(&page(&app, &desk, &name, form).await?)
}

/// What differs: the setting, what it is, and what was typed.
fn differing(now: &RolloutSpec, wanted: &RolloutSpec) -> ApiResult<Vec<(String, String, String)>> {
    let found = between(now, wanted).map_err(|source| Error::Unexpected(source.to_string()))?;
    let words = |value: Value| match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(found.into_iter().map(|one| (one.field, words(one.server), words(one.file))).collect())
}
