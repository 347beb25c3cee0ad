//! `/api/v1/users` and `/api/v1/sessions`.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, Query},
};
use callboard_proto::{
    admin::{NewUser, Page, Session, SetGrants, SetPassword, TotpSecret, User, UserPassword},
    problem::Problem,
};

use crate::{
    app::{
        App, Error,
        people::{self, Made, login},
    },
    db,
    http::{
        auth::{Administer, May},
        body::Body,
        etag::Edited,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// People by name, those who are kept out among them.
#[utoipa::path(get, path = "/users", tag = "users", security(("bearer" = ["administer"])),
    params(("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<User>)))]
pub(crate) async fn list(_: May<Administer>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<User>>> {
    let (rows, after) = (page::rows(query.limit)?, query.into_inner().after.unwrap_or_default());
    if after.chars().any(char::is_control) {
        return Err(Error::invalid("after has a control character; give `next` of the page before").into());
    }
    let found = app.db.read(move |conn| Ok::<_, Error>(db::users::list(conn, &after, rows)?)).await?;
    let found = found.into_iter().map(people::show).collect();
    Ok(Json(page::page(found, rows, |user: &User| user.name.clone())))
}

/// A person.
#[utoipa::path(get, path = "/users/{user}", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)), responses((status = 200, body = User), (status = 404, body = Problem)))]
pub(crate) async fn get(_: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<User>> {
    Ok(shown(app.db.read(move |conn| people::resolve(conn, &path)).await?))
}

fn shown(user: db::users::User) -> Edited<User> {
    let edition = people::edition(&user);
    Edited(people::show(user), edition)
}

fn made((user, password): Made) -> UserPassword {
    UserPassword { user: people::show(user), password }
}

/// Makes a person known; without a password the server makes one, and the answer is the only time that it is shown.
#[utoipa::path(post, path = "/users", tag = "users", security(("bearer" = ["administer"])), request_body = NewUser,
    responses((status = 201, body = UserPassword), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn create(may: May<Administer>, app: Data<App>, body: Body<NewUser>) -> ApiResult<HttpResponse> {
    let user = people::create(&app, may.actor, body.into_inner()).await?;
    Ok(HttpResponse::Created().json(made(user)))
}

/// Replaces what a person may do, from the next request on.
#[utoipa::path(put, path = "/users/{user}/grants", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)), request_body = SetGrants,
    responses((status = 200, body = User), (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 422, body = Problem)))]
pub(crate) async fn set_grants(
    may: May<Administer>,
    app: Data<App>,
    path: Path<String>,
    body: Body<SetGrants>,
) -> ApiResult<Edited<User>> {
    let user = people::set_grants(&app, may.actor, path.into_inner(), body.into_inner().grants).await?;
    Ok(shown(user))
}

/// Gives a person another password; the sessions end.
#[utoipa::path(put, path = "/users/{user}/password", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)), request_body = SetPassword,
    responses((status = 200, body = UserPassword), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn set_password(
    may: May<Administer>,
    app: Data<App>,
    path: Path<String>,
    body: Body<SetPassword>,
) -> ApiResult<Json<UserPassword>> {
    let user = people::set_password(&app, may.actor, path.into_inner(), body.into_inner().password).await?;
    Ok(Json(made(user)))
}

/// Makes a secret for codes, another one if there is one: from now on a login takes a code.
#[utoipa::path(post, path = "/users/{user}/totp", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)), responses((status = 200, body = TotpSecret), (status = 404, body = Problem)))]
pub(crate) async fn totp_on(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Json<TotpSecret>> {
    Ok(Json(people::totp_on(&app, may.actor, path.into_inner()).await?))
}

/// Forgets the secret: a login takes no code any more.
#[utoipa::path(delete, path = "/users/{user}/totp", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)), responses((status = 200, body = User), (status = 404, body = Problem)))]
pub(crate) async fn totp_off(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<User>> {
    Ok(shown(people::totp_off(&app, may.actor, path.into_inner()).await?))
}

/// Keeps a person out; the sessions end.
#[utoipa::path(post, path = "/users/{user}/disable", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)),
    responses((status = 200, body = User), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn disable(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<User>> {
    Ok(shown(people::set_disabled(&app, may.actor, path.into_inner(), true).await?))
}

/// Lets a person in again.
#[utoipa::path(post, path = "/users/{user}/enable", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)), responses((status = 200, body = User), (status = 404, body = Problem)))]
pub(crate) async fn enable(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<User>> {
    Ok(shown(people::set_disabled(&app, may.actor, path.into_inner(), false).await?))
}

/// The sessions of a person that last, oldest first.
#[utoipa::path(get, path = "/users/{user}/sessions", tag = "users", security(("bearer" = ["administer"])),
    params(("user" = String, Path)), responses((status = 200, body = Vec<Session>), (status = 404, body = Problem)))]
pub(crate) async fn sessions(_: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Vec<Session>>> {
    Ok(Json(login::list(&app, path.into_inner()).await?))
}

/// Ends a session, whoever's it is.
#[utoipa::path(delete, path = "/sessions/{session}", tag = "users", security(("bearer" = ["administer"])),
    params(("session" = String, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn end_session(may: May<Administer>, app: Data<App>, path: Path<String>) -> ApiResult<HttpResponse> {
    login::end(&app, may.actor, params::parse("session", &path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
