//! Logging in and out. A session ends an hour after its last use and twelve hours after its beginning, with the person's
//! password, and when somebody ends it; the cookie holds `cbs_<id>_<secret>`, the database the secret's SHA-256.

use std::{net::IpAddr, time::Duration};

use callboard_proto::{
    admin::{self, Grant, Login},
    digest::Digest,
    ids::TokenId,
    problem::Code,
    time::Timestamp,
};
use serde_json::{Value, json};

use super::{blocking, password, totp};
use crate::{
    app::{Actor, App, Error, Result, tokens},
    db::{self, DbConn, events::NewEvent, sessions::Session, users::User},
};

/// Prefix of sessions.
pub(crate) const SESSION: &str = "cbs";
/// A desk that is left ends by itself.
pub(crate) const IDLE: Duration = Duration::from_secs(3600);
/// A working day.
pub(crate) const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// How exactly it is known when a session was used: not each request costs a write.
const USED_TO: Duration = Duration::from_secs(60);
/// Sessions of one person; more are forgotten ones, and the oldest ends.
const MAX_SESSIONS: usize = 20;

/// A session that has just begun: what the cookie holds, who it is, and what changes need beside it.
pub(crate) struct LoggedIn {
    pub(crate) cookie: String,
    pub(crate) user: User,
    pub(crate) csrf_token: String,
}

/// Somebody with a session that lasts.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) session: TokenId,
    pub(crate) name: String,
    pub(crate) grants: Vec<Grant>,
    pub(crate) csrf_token: String,
}

/// Begins a session.
pub(crate) async fn login(app: &App, login: Login, from: Option<IpAddr>) -> Result<LoggedIn> {
    let Login { name, password: given, code } = login;
    app.doors.enter(&name, from)?;
    let asked = name.trim().to_owned();
    let found = app.db.read(move |conn| super::resolve(conn, &asked).map(Some).or_else(nobody)).await?;
    let stored = found.as_ref().and_then(|user| user.password.clone());
    let right = {
        let _place = app.doors.place().await;
        blocking(move || password::verify(&given, stored.as_deref())).await?
    };
    let source = from.map(|from| from.to_string());
    let plain = tokens::generate(SESSION)?;
    let (id, secret_sha256, now) = (plain.id, plain.secret_sha256, app.clock.now());
    let found = found.filter(|user| right && user.disabled_at.is_none());
    let Some(user) = found else {
        return refuse(app, &name, source, now).await;
    };
    let begun = app
        .db
        .write(move |conn| {
            // Another request may have changed the person, or used the code.
            let mut user = db::users::get(conn, user.id)?.filter(|now| now.password == user.password);
            let user = user.take_if(|user| user.disabled_at.is_none() && takes(user, code.as_deref(), now));
            let Some(user) = user else { return Ok(None) };
            db::users::update(conn, &user)?;
            begin(conn, &user, (id, secret_sha256), from, now)?;
            Ok::<_, Error>(Some(user))
        })
        .await?;
    let Some(user) = begun else {
        return refuse(app, &name, source, now).await;
    };
    app.doors.passed(&user.name, from);
    Ok(LoggedIn { cookie: plain.text, user, csrf_token: csrf(secret_sha256) })
}

/// Writes a session of somebody who got in.
pub(super) fn begin(
    conn: &mut DbConn,
    user: &User,
    (id, secret_sha256): (TokenId, Digest),
    from: Option<IpAddr>,
    now: Timestamp,
) -> Result<()> {
    let source = from.map(|from| from.to_string());
    let by_whom = user.provider().map(|provider| format!(" by {provider}")).unwrap_or_default();
    let text = format!("{} logged in{by_whom} from {}", user.name, source.as_deref().unwrap_or("nowhere"));
    for old in db::sessions::of(conn, user.id)?.into_iter().rev().skip(MAX_SESSIONS - 1) {
        db::sessions::delete(conn, old.id)?;
    }
    let ends_at = now + LONGEST;
    let session = Session { id, secret_sha256, user: user.id, created_at: now, last_used_at: now, ends_at, source };
    db::sessions::insert(conn, &session)?;
    let by = Actor { source: from, person: Some(user.name.clone()), ..Actor::unlimited(&user.name) };
    let event = NewEvent::general("session.began", text);
    Ok(db::events::insert(conn, now, &by.did(event, &Value::Null, &json!({ "session": id })))?)
}

/// Nobody of that name is an answer like a wrong password.
fn nobody(error: Error) -> Result<Option<User>> {
    match error {
        Error::Refused { .. } => Ok(None),
        other => Err(other),
    }
}

/// Whether the code is right, if one is needed; it is used then.
fn takes(user: &mut User, code: Option<&str>, now: Timestamp) -> bool {
    let Some(secret) = &user.totp else {
        return true;
    };
    let step = code.and_then(|code| totp::step(secret, code.trim(), now, user.totp_used));
    user.totp_used = step.or(user.totp_used);
    step.is_some()
}

/// Says no more than that it was wrong, whatever it was; and notes it, if the name is somebody's.
async fn refuse<T>(app: &App, name: &str, source: Option<String>, now: Timestamp) -> Result<T> {
    let name = name.trim().to_owned();
    app.db
        .write(move |conn| {
            if let Some(user) = super::resolve(conn, &name).map(Some).or_else(nobody)? {
                let text =
                    format!("a login as {} from {} was refused", user.name, source.as_deref().unwrap_or("nowhere"));
                db::events::insert(conn, now, &NewEvent::general("session.refused", text))?;
            }
            Ok::<_, Error>(())
        })
        .await?;
    Err(Error::refused(Code::Unauthorized, "name, password or code is wrong"))
}

/// The person whose session this is, if it lasts. It lasts on if somebody has `used` it, and no page by itself.
pub(crate) async fn find(app: &App, cookie: &str, used: bool) -> Result<Option<Known>> {
    let Some((id, secret)) = tokens::parse(SESSION, cookie) else {
        return Ok(None);
    };
    let now = app.clock.now();
    let found = app.db.read(move |conn| lasting(conn, id, secret, now)).await?;
    let Some((session, user)) = found else {
        return Ok(None);
    };
    if used && now.since(session.last_used_at) >= USED_TO {
        app.db.write(move |conn| Ok::<_, Error>(db::sessions::touch(conn, id, now)?)).await?;
    }
    Ok(Some(Known { session: id, name: user.name, grants: user.grants, csrf_token: csrf(secret) }))
}

fn lasting(conn: &mut DbConn, id: TokenId, secret: Digest, now: Timestamp) -> Result<Option<(Session, User)>> {
    let lasts = |session: &Session| {
        tokens::same(session.secret_sha256, secret) && now < session.ends_at && now.since(session.last_used_at) < IDLE
    };
    let Some(session) = db::sessions::get(conn, id)?.filter(lasts) else {
        return Ok(None);
    };
    let user = db::users::get(conn, session.user)?.filter(|user| user.disabled_at.is_none());
    Ok(user.map(|user| (session, user)))
}

/// What a page has to send with a change, and another one cannot know.
pub(super) fn csrf(secret: Digest) -> String {
    let mut bytes = b"callboard csrf\n".to_vec();
    bytes.extend_from_slice(secret.as_bytes());
    Digest::of(&bytes).to_string()
}

/// Sessions of a person that last.
pub(crate) async fn list(app: &App, name: String) -> Result<Vec<admin::Session>> {
    let now = app.clock.now();
    app.db
        .read(move |conn| {
            let user = super::resolve(conn, &name)?;
            let found = db::sessions::of(conn, user.id)?.into_iter();
            let lasting = found.filter(|one| now < one.ends_at && now.since(one.last_used_at) < IDLE);
            Ok(lasting.map(|session| show(session, &user.name)).collect())
        })
        .await
}

/// Ends a session.
pub(crate) async fn end(app: &App, actor: Actor, id: TokenId) -> Result<()> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let session = db::sessions::get(conn, id)?.ok_or_else(|| Error::not_found("session", id))?;
            db::sessions::delete(conn, id)?;
            let name = db::users::get(conn, session.user)?.map(|user| user.name).unwrap_or_default();
            let text = format!("a session of {name} was ended by {}", actor.name);
            let event = NewEvent::general("session.ended", text);
            let before = json!({ "session": id, "user": name });
            Ok(db::events::insert(conn, now, &actor.did(event, &before, &Value::Null))?)
        })
        .await
}

fn show(session: Session, user: &str) -> admin::Session {
    let Session { id, created_at, last_used_at, ends_at, source, .. } = session;
    admin::Session { id, user: user.to_owned(), created_at, last_used_at, ends_at, source }
}
