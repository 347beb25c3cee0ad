//! `/settings/tokens`: API tokens. A token is shown once, on the answer itself.

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use callboard_proto::{admin::NewApiToken, ids::TokenId};
use uuid::Uuid;

use super::{GrantRow, ROLES, grants, place, rows_of, typed_rows};
use crate::{
    app::{App, Error, api_tokens},
    db::{self, api_tokens::ApiToken},
    http::{auth::Administer, page, params, problem::ApiResult},
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame::{self, Frame, Section},
        parts::{Asked, Badge, Pager, ROWS, When},
    },
};

const DAY_S: u64 = 86_400;

#[derive(Template)]
#[template(path = "api_tokens.html")]
struct Page {
    frame: Frame,
    form: Form,
    rows: Vec<Row>,
    pager: Pager,
    grants: Vec<GrantRow>,
    roles: Vec<(&'static str, &'static str)>,
    made: String,
}

struct Row {
    id: String,
    name: String,
    person: String,
    grants: Vec<String>,
    badge: Badge,
    ends: When,
    made: When,
    usable: bool,
}

/// `GET /settings/tokens`.
pub(crate) async fn list(desk: Desk<Administer>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    frame::show(&page(&app, &desk, asked.into_inner().after, Form::default(), rows_of(&[])).await?)
}

async fn page(
    app: &App,
    desk: &Desk<Administer>,
    after: Option<String>,
    form: Form,
    grants: Vec<GrantRow>,
) -> ApiResult<Page> {
    let before = params::parse_some("after", after.as_deref())?.unwrap_or(TokenId::from_uuid(Uuid::max()));
    let found = app.db.read(move |conn| Ok::<_, Error>(db::api_tokens::list(conn, before, ROWS + 1)?)).await?;
    let found = page::page(found, ROWS + 1, |token| token.id.to_string());
    let now = app.clock.now();
    let row = |token: ApiToken| {
        let over = token.expires_at.is_some_and(|end| end <= now);
        let badge = match token.revoked_at {
            Some(_) => Badge::new("revoked", "dull"),
            None if over => Badge::new("ended", "dull"),
            None => Badge::new("usable", "good"),
        };
        Row {
            id: token.id.to_string(),
            name: token.name,
            person: token.person.unwrap_or_default(),
            grants: token.grants.iter().map(ToString::to_string).collect(),
            badge,
            ends: When::some(token.expires_at, now),
            made: When::new(token.created_at, now),
            usable: token.revoked_at.is_none() && !over,
        }
    };
    Ok(Page {
        frame: Frame::new(desk, Section::Settings, "API tokens"),
        form,
        rows: found.items.into_iter().map(row).collect(),
        pager: Pager::new("/settings/tokens", &[], after.as_deref(), found.next.as_deref()),
        grants,
        roles: ROLES.to_vec(),
        made: String::new(),
    })
}

/// `POST /settings/tokens`: makes one.
pub(crate) async fn create(sent: Submitted<Administer>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let days: Option<u64> = form.read("days");
    if let Some(grants) = grants(&mut form).filter(|_| form.is_right()) {
        let ttl_s = days.map(|days| days.saturating_mul(DAY_S));
        let new = NewApiToken { name: form.text("name").to_owned(), grants, ttl_s };
        match api_tokens::create(&app, desk.actor.clone(), new).await {
            Ok(made) => {
                let page = page(&app, &desk, None, Form::default(), rows_of(&[])).await?;
                return frame::show(&Page { made: made.token, ..page });
            }
            Err(error) => {
                let problem = crate::http::problem::ApiProblem::from(error);
                if problem.detail.starts_with("ttl_s") {
                    form.refuse("days", "1 to 3660 days are allowed");
                } else {
                    place_problem(&mut form, problem)?;
                }
            }
        }
    }
    let rows = typed_rows(&form);
    frame::show_refused(&page(&app, &desk, None, form, rows).await?)
}

fn place_problem(form: &mut Form, problem: crate::http::problem::ApiProblem) -> ApiResult<()> {
    place(form, Error::refused(problem.code, problem.detail))
}

/// `POST /settings/tokens/revoke`.
pub(crate) async fn revoke(sent: Submitted<Administer>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    match api_tokens::revoke(&app, desk.actor.clone(), form.text("token").to_owned(), false).await {
        Ok(()) => frame::done("/settings/tokens", "The token is refused from the next request on."),
        Err(error) => {
            form.take(error)?;
            frame::show_refused(&page(&app, &desk, None, form, rows_of(&[])).await?)
        }
    }
}
