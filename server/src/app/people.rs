//! People: made known, given roles and passwords, and kept out, by admins. That somebody is left who can let others in is
//! seen to, for people and API tokens together.

pub(crate) mod doors;
pub(crate) mod login;
pub(crate) mod own;
pub(crate) mod password;
pub(crate) mod provider;
pub(crate) mod totp;

use callboard_proto::{
    admin::{self, Grant, NewUser, Permission, TotpSecret, check_token_name},
    ids::TokenId,
    problem::Code,
    time::Timestamp,
};
use data_encoding::BASE32_NOPAD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Actor, App, Error, Result, actor, api_tokens::in_words, edition::Edition};
use crate::db::{self, DbConn, events::NewEvent, users::User};

/// Bytes of a password that is made here: beyond guessing, and 26 characters to copy.
const MADE_BYTES: usize = 16;

/// A person and the password that was made, if one was.
pub(crate) type Made = (User, Option<String>);

/// Makes a person known.
pub(crate) async fn create(app: &App, actor: Actor, new: NewUser) -> Result<Made> {
    let now = app.clock.now();
    let (new, hash, made) = prepare(new).await?;
    let user = app.db.write(move |conn| make(conn, &actor, new, hash, now)).await?;
    Ok((user, made))
}

/// Makes the first person known, with an API token that was typed. Whoever has it may have made all tokens that there are, so
/// that person answers for them from now on: nobody is a second person beside what the same one made with a token before.
pub(crate) async fn create_first(app: &App, actor: Actor, new: NewUser) -> Result<Made> {
    let now = app.clock.now();
    let (new, hash, made) = prepare(new).await?;
    let user = app
        .db
        .write(move |conn| {
            let user = make(conn, &actor, new, hash, now)?;
            let tokens = db::api_tokens::answer_for_all(conn, &user.name)?;
            if !tokens.is_empty() {
                let text = format!("{} answers for the API tokens from before anybody was known", user.name);
                let after = json!({ "person": user.name, "tokens": tokens });
                let event = NewEvent::general("api_token.person", text);
                db::events::insert(conn, now, &actor.did(event, &Value::Null, &after))?;
            }
            Ok::<_, Error>(user)
        })
        .await?;
    Ok((user, made))
}

/// What making a person known takes, for whoever has the data directory too: with the hash and the password that was made.
pub(crate) async fn prepare(new: NewUser) -> Result<(NewUser, String, Option<String>)> {
    check_token_name(&new.name).map_err(Error::invalid)?;
    let name = new.name.trim().to_owned();
    let (hash, made) = hashed(new.password.clone(), &name).await?;
    Ok((NewUser { name, password: None, ..new }, hash, made))
}

/// Writes a new person down.
pub(crate) fn make(conn: &mut DbConn, actor: &Actor, new: NewUser, hash: String, now: Timestamp) -> Result<User> {
    actor::check_grants(&new.grants)?;
    check_free(conn, &new.name)?;
    let user = User { password: Some(hash), ..nobody_yet(new.name, new.grants, now) };
    db::users::insert(conn, &user)?;
    let text = format!("user {:?}, {}, was made by {}", user.name, in_words(&user.grants), actor.name);
    let event = NewEvent::general("user.created", text);
    db::events::insert(conn, now, &actor.did(event, &Value::Null, &facts(&user)))?;
    Ok(user)
}

/// Refuses a name that is somebody's.
fn check_free(conn: &mut DbConn, name: &str) -> Result<()> {
    actor::check_not_reserved(name)?;
    if db::users::by_name(conn, name)?.is_some() {
        return Err(Error::refused(Code::Conflict, format!("there is a user {name:?} already")));
    }
    if db::api_tokens::by_name(conn, name)?.is_some() {
        let detail =
            format!("there is an API token {name:?}, and the log could not tell them apart; take another name");
        return Err(Error::refused(Code::Conflict, detail));
    }
    Ok(())
}

/// A new person who cannot log in yet.
fn nobody_yet(name: String, grants: Vec<Grant>, now: Timestamp) -> User {
    User {
        id: TokenId::from_uuid(Uuid::now_v7()),
        name,
        password: None,
        grants,
        totp: None,
        totp_used: None,
        created_at: now,
        disabled_at: None,
        subject: None,
        totp_pending: None,
    }
}

/// The hash of a password, or of one that is made; off the async threads, for it takes a while.
async fn hashed(wanted: Option<String>, name: &str) -> Result<(String, Option<String>)> {
    let (password, made) = match wanted {
        Some(password) => {
            password::check(&password, name)?;
            (password, None)
        }
        None => {
            let mut bytes = [0; MADE_BYTES];
            getrandom::fill(&mut bytes).map_err(|source| Error::Unexpected(format!("draw random bytes: {source}")))?;
            let made = BASE32_NOPAD.encode(&bytes).to_lowercase();
            (made.clone(), Some(made))
        }
    };
    let hash = blocking(move || password::hash(&password)).await?;
    Ok((hash, made))
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|source| Err(Error::Unexpected(source.to_string())))
}

/// Whether there are people yet.
pub(crate) async fn is_anybody_known(app: &App) -> Result<bool> {
    app.db.read(|conn| Ok(!db::users::list(conn, "", 1)?.is_empty())).await
}

/// A person by name.
pub(crate) fn resolve(conn: &mut DbConn, name: &str) -> Result<User> {
    let found = if check_token_name(name).is_ok() { db::users::by_name(conn, name)? } else { None };
    found.ok_or_else(|| Error::not_found("user", name))
}

/// Replaces what a person may do.
pub(crate) async fn set_grants(app: &App, actor: Actor, name: String, grants: Vec<Grant>) -> Result<User> {
    actor::check_grants(&grants)?;
    change(app, actor, name, "user.grants", move |conn, user, _| {
        check_own(user, "grants follow the groups there")?;
        let text = format!("{} instead of {}", in_words(&grants), in_words(&user.grants));
        if !administers(&grants) {
            check_others(conn, user)?;
        }
        user.grants = grants;
        Ok(text)
    })
    .await
}

/// Gives a person another password and ends the sessions.
pub(crate) async fn set_password(app: &App, actor: Actor, name: String, wanted: Option<String>) -> Result<Made> {
    let (hash, made) = hashed(wanted, &name).await?;
    let user = change(app, actor, name, "user.password", move |conn, user, _| {
        check_own(user, "there is no password")?;
        user.password = Some(hash);
        db::sessions::delete_of(conn, user.id, None)?;
        Ok("another password; the sessions were ended".to_owned())
    })
    .await?;
    Ok((user, made))
}

/// Makes a secret for codes; from now on a login takes one.
pub(crate) async fn totp_on(app: &App, actor: Actor, name: String) -> Result<TotpSecret> {
    let secret = totp::secret()?;
    let own = secret.clone();
    let user = change(app, actor, name, "user.totp", move |_, user, _| {
        check_own(user, "codes are asked for there")?;
        (user.totp, user.totp_used) = (Some(own), None);
        Ok("a login takes a code from now on".to_owned())
    })
    .await?;
    let (secret, uri) = totp::shown(&secret, &user.name);
    Ok(TotpSecret { secret, uri })
}

/// Forgets the secret for codes.
pub(crate) async fn totp_off(app: &App, actor: Actor, name: String) -> Result<User> {
    change(app, actor, name, "user.totp", |_, user, _| {
        (user.totp, user.totp_used) = (None, None);
        Ok("a login takes no code any more".to_owned())
    })
    .await
}

/// Keeps a person out and ends the sessions, or lets the person in again.
pub(crate) async fn set_disabled(app: &App, actor: Actor, name: String, disabled: bool) -> Result<User> {
    let kind = if disabled { "user.disabled" } else { "user.enabled" };
    change(app, actor, name, kind, move |conn, user, now| {
        if disabled {
            check_others(conn, user)?;
            db::sessions::delete_of(conn, user.id, None)?;
        }
        user.disabled_at = disabled.then(|| user.disabled_at.unwrap_or(now));
        Ok(if disabled { "kept out, and the sessions were ended" } else { "let in again" }.to_owned())
    })
    .await
}

/// Refuses to change here what an identity provider decides.
fn check_own(user: &User, what: &str) -> Result<()> {
    let Some(provider) = user.provider() else { return Ok(()) };
    Err(Error::refused(Code::WrongState, format!("{} logs in by {provider}; {what}", user.name)))
}

async fn change(
    app: &App,
    actor: Actor,
    name: String,
    kind: &'static str,
    f: impl FnOnce(&mut DbConn, &mut User, Timestamp) -> Result<String> + Send + 'static,
) -> Result<User> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let mut user = resolve(conn, &name)?;
            let before = facts(&user);
            actor.expected.check(|| before.clone())?;
            let what = f(conn, &mut user, now)?;
            db::users::update(conn, &user)?;
            let text = format!("user {:?}: {what}, by {}", user.name, actor.name);
            let event = NewEvent::general(kind, text);
            db::events::insert(conn, now, &actor.did(event, &before, &facts(&user)))?;
            Ok(user)
        })
        .await
}

/// What the audit says of a person.
fn facts(user: &User) -> Value {
    let User { name, grants, totp, disabled_at, .. } = user;
    let provider = user.provider();
    json!({ "name": name, "grants": grants, "totp": totp.is_some(), "disabled_at": disabled_at, "provider": provider })
}

/// Which edition of a person this is.
pub(crate) fn edition(user: &User) -> Edition {
    Edition::of(&facts(user))
}

/// Whether these grants let others in.
pub(crate) fn administers(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| grant.role.allows(Permission::Administer))
}

/// Refuses to leave nobody who could let others in.
fn check_others(conn: &mut DbConn, user: &User) -> Result<()> {
    let people = db::users::enabled(conn)?.into_iter().any(|other| other.id != user.id && administers(&other.grants));
    let tokens = people || db::api_tokens::lasting(conn)?.iter().any(|token| administers(&token.grants));
    if tokens || !administers(&user.grants) || user.disabled_at.is_some() {
        return Ok(());
    }
    let detail = format!("{:?} is the last admin, and nobody could let others in; make another one first", user.name);
    Err(Error::refused(Code::WrongState, detail))
}

/// A person as admins see it.
pub(crate) fn show(user: User) -> admin::User {
    let provider = user.provider().map(str::to_owned);
    let User { name, grants, totp, created_at, disabled_at, .. } = user;
    admin::User { name, grants, totp: totp.is_some(), created_at, disabled_at, provider }
}
