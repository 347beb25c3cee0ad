//! Logging in by an identity provider. A person is known again by the provider's own name for it, never by the name
//! shown; what the person may do follows the groups, at each login.

use std::{net::IpAddr, sync::Arc};

use callboard_proto::{
    admin::{Grant, check_token_name},
    digest::Digest,
    ids::TokenId,
    problem::Code,
    time::Timestamp,
};
use serde_json::Value;

use super::{
    blocking, check_free, facts,
    login::{self, LoggedIn, SESSION},
    nobody_yet,
};
use crate::{
    app::{Actor, App, Error, Result, api_tokens::in_words, tokens},
    db::{self, DbConn, events::NewEvent, users::User},
    provider::{Begun, Kept, Provider, ProviderError, Somebody},
};

/// Begins a login.
pub(crate) async fn begin(app: &App) -> Result<Begun> {
    let provider = provider(app)?;
    let _place = app.doors.ask()?;
    blocking(move || provider.begin().map_err(refusal)).await
}

/// Begins the session of whom the provider vouches for.
pub(crate) async fn finish(app: &App, code: String, kept: Kept, from: Option<IpAddr>) -> Result<LoggedIn> {
    app.doors.enter_from(from)?;
    let provider = provider(app)?;
    let _place = app.doors.ask()?;
    let (somebody, grants, subject) = blocking(move || {
        let somebody = provider.finish(code, kept).map_err(refusal)?;
        let grants = provider.settings.grants_of(&somebody.groups);
        let subject = format!("{} {}", provider.settings.issuer.as_str(), somebody.subject);
        Ok((somebody, grants, subject))
    })
    .await?;
    let plain = tokens::generate(SESSION)?;
    let (secret, now) = ((plain.id, plain.secret_sha256), app.clock.now());
    let admitted = app.db.write(move |conn| admit(conn, &somebody, grants, subject, secret, from, now)).await?;
    let user = admitted.map_err(|detail| Error::refused(Code::Forbidden, detail))?;
    Ok(LoggedIn { cookie: plain.text, user, csrf_token: login::csrf(plain.secret_sha256) })
}

fn provider(app: &App) -> Result<Arc<Provider>> {
    app.provider.clone().ok_or_else(|| {
        Error::refused(Code::NotFound, "this server has no identity provider; section [oidc] of server.toml names one")
    })
}

fn refusal(error: ProviderError) -> Error {
    tracing::warn!(%error, "a login by the identity provider failed");
    let code = match error {
        ProviderError::Away(_) => Code::Unavailable,
        ProviderError::Refused(_) | ProviderError::Untrusted(_) => Code::Unauthorized,
    };
    Error::refused(code, error.to_string())
}

/// Writes the person and the session, or that there is none and why.
fn admit(
    conn: &mut DbConn,
    somebody: &Somebody,
    grants: Vec<Grant>,
    subject: String,
    secret: (TokenId, Digest),
    from: Option<IpAddr>,
    now: Timestamp,
) -> Result<std::result::Result<User, String>> {
    let found = db::users::by_subject(conn, &subject)?;
    let known = found.is_some();
    let user = match person(conn, found, somebody, grants, subject, now) {
        Ok(user) => user,
        Err(Error::Refused { detail, .. }) => {
            let source = from.map_or_else(|| "nowhere".to_owned(), |from| from.to_string());
            let text = format!("a login from {source} was refused: {detail}");
            db::events::insert(conn, now, &NewEvent::general("session.refused", text))?;
            return Ok(Err(detail));
        }
        Err(other) => return Err(other),
    };
    if !known {
        db::users::insert(conn, &user)?;
        let text = format!("user {:?}, {}, was made by {}", user.name, in_words(&user.grants), by(&user));
        let event = NewEvent::general("user.created", text);
        db::events::insert(conn, now, &Actor::unlimited(by(&user)).did(event, &Value::Null, &facts(&user)))?;
    }
    login::begin(conn, &user, secret, from, now)?;
    Ok(Ok(user))
}

fn by(user: &User) -> &str {
    user.provider().unwrap_or_default()
}

/// The person as it is from now on.
fn person(
    conn: &mut DbConn,
    found: Option<User>,
    somebody: &Somebody,
    grants: Vec<Grant>,
    subject: String,
    now: Timestamp,
) -> Result<User> {
    let name = somebody.name.trim();
    let refuse = |what: String| Err(Error::refused(Code::Forbidden, what));
    if grants.is_empty() {
        // What lasts from before ends with the groups.
        if let Some(user) = found {
            db::sessions::delete_of(conn, user.id, None)?;
        }
        let name = callboard_proto::text::shown(name);
        return refuse(format!("none of the groups of {name} has a role here; an admin can add one to [oidc]"));
    }
    match found {
        Some(user) if user.disabled_at.is_some() => refuse(format!("{} is kept out by an admin", user.name)),
        Some(mut user) if user.grants != grants => {
            let before = facts(&user);
            let text = format!(
                "user {:?}: {} instead of {}, by the groups of {}",
                user.name,
                in_words(&grants),
                in_words(&user.grants),
                by(&user)
            );
            user.grants = grants;
            db::users::update(conn, &user)?;
            let event = NewEvent::general("user.grants", text);
            let change = Actor::unlimited(by(&user)).did(event, &before, &facts(&user));
            db::events::insert(conn, now, &change)?;
            Ok(user)
        }
        Some(user) => Ok(user),
        None => {
            check_token_name(name)
                .map_err(|what| Error::refused(Code::Forbidden, format!("the name is not usable: {what}")))?;
            check_free(conn, name)?;
            Ok(User { subject: Some(subject), ..nobody_yet(name.to_owned(), grants, now) })
        }
    }
}
