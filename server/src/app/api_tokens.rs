//! API tokens: making and revoking them. One that can be used is always left, unless somebody insists.

use std::time::Duration;

use callboard_proto::{
    admin::{self, ApiTokenCreated, Grant, NewApiToken, check_token_name},
    ids::TokenId,
    problem::Code,
    time::Timestamp,
};
use serde_json::{Value, json};

use super::{Actor, App, Error, Result, actor, people::administers, tokens};
use crate::db::{self, DbConn, api_tokens::ApiToken, events::NewEvent};

/// Shorter ones end before they are used.
const MIN_TTL_S: u64 = 60;
/// Ten years, as long as machines last; what is to last longer has no end.
const MAX_TTL_S: u64 = 3660 * 86_400;

/// Makes a token.
pub(crate) async fn create(app: &App, actor: Actor, new: NewApiToken) -> Result<ApiTokenCreated> {
    let now = app.clock.now();
    app.db.write(move |conn| make(conn, &actor, new, now)).await
}

/// Makes a token for the actor.
pub(crate) fn make(conn: &mut DbConn, actor: &Actor, new: NewApiToken, now: Timestamp) -> Result<ApiTokenCreated> {
    let NewApiToken { name, grants, ttl_s } = new;
    let name = name.trim();
    check_token_name(name).map_err(Error::invalid)?;
    actor::check_not_reserved(name)?;
    actor::check_grants(&grants)?;
    if let Some(ttl) = ttl_s.filter(|ttl| !(MIN_TTL_S..=MAX_TTL_S).contains(ttl)) {
        return Err(Error::invalid(format!("ttl_s is {ttl}; {MIN_TTL_S} to {MAX_TTL_S} seconds are allowed")));
    }
    if db::api_tokens::by_name(conn, name)?.is_some() {
        let detail = format!("there is an API token {name:?} already; revoke it first, or take another name");
        return Err(Error::refused(Code::Conflict, detail));
    }
    if db::users::by_name(conn, name)?.is_some() {
        let detail = format!("there is a user {name:?}, and the log could not tell them apart; take another name");
        return Err(Error::refused(Code::Conflict, detail));
    }
    let plain = tokens::generate(tokens::API)?;
    let token = ApiToken {
        id: plain.id,
        secret_sha256: plain.secret_sha256,
        name: name.to_owned(),
        created_at: now,
        revoked_at: None,
        grants,
        expires_at: ttl_s.map(|ttl| now + Duration::from_secs(ttl)),
        person: actor.person.clone(),
    };
    db::api_tokens::insert(conn, &token)?;
    let text = format!("API token {name:?} ({}), {}, was made by {}", token.id, in_words(&token.grants), actor.name);
    let event = NewEvent::general("api_token.created", text);
    db::events::insert(conn, now, &actor.did(event, &Value::Null, &facts(&token)))?;
    let ApiToken { id, name, grants, expires_at, .. } = token;
    Ok(ApiTokenCreated { id, name, token: plain.text, grants, expires_at })
}

/// What the audit says of a token.
fn facts(token: &ApiToken) -> Value {
    let ApiToken { id, name, grants, expires_at, .. } = token;
    json!({ "id": id, "name": name, "grants": grants, "expires_at": expires_at })
}

/// What somebody may do.
pub(crate) fn in_words(grants: &[Grant]) -> String {
    grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Revokes a token, by its id or its name. `force` says that nobody needs to get in afterwards.
pub(crate) async fn revoke(app: &App, actor: Actor, reference: String, force: bool) -> Result<()> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let token = match reference.parse::<TokenId>() {
                Ok(id) => db::api_tokens::get(conn, id)?,
                Err(_) if check_token_name(&reference).is_err() => None,
                Err(_) => db::api_tokens::by_name(conn, &reference)?,
            };
            let token = token.ok_or_else(|| Error::not_found("API token", &reference))?;
            if token.revoked_at.is_some() {
                return Ok(());
            }
            let name = &token.name;
            if !force && is_last(conn, &token)? {
                let detail = format!(
                    "API token {name:?} is the last one that can be used by an admin and has no end, and without it \
                     nobody administers this server; make another one first, or insist with force=true (--force)"
                );
                return Err(Error::refused(Code::WrongState, detail));
            }
            if !force && actor.person.is_none() && actor.name == *name {
                let detail = format!(
                    "API token {name:?} is the one that you use, and without it you are locked out; make another one \
                     and revoke this one with that, or insist with force=true (--force)"
                );
                return Err(Error::refused(Code::WrongState, detail));
            }
            db::api_tokens::revoke(conn, token.id, now)?;
            let text = format!("API token {name:?} ({}) was revoked by {}", token.id, actor.name);
            let event = NewEvent::general("api_token.revoked", text);
            Ok(db::events::insert(conn, now, &actor.did(event, &facts(&token), &Value::Null))?)
        })
        .await
}

/// Whether nobody could let others in without this one.
fn is_last(conn: &mut DbConn, token: &ApiToken) -> Result<bool> {
    let mut others = db::api_tokens::lasting(conn)?.into_iter().filter(|other| other.id != token.id);
    let mut people = db::users::enabled(conn)?.into_iter();
    Ok(administers(&token.grants)
        && !others.any(|other| administers(&other.grants))
        && !people.any(|person| administers(&person.grants)))
}

/// A token as operators see it.
pub(crate) fn show(token: ApiToken) -> admin::ApiToken {
    let ApiToken { id, name, grants, expires_at, created_at, revoked_at, .. } = token;
    admin::ApiToken { id, name, grants, expires_at, created_at, revoked_at }
}
