//! Webhooks: whom the server tells what happened. What is to be sent stands in the database before anything is sent, so a
//! server that stops loses nothing; a delivery may come twice, and has an id by which that shows.

mod send;

use std::{sync::Arc, time::Duration};

use callboard_proto::{
    admin::{self, DeliveryState, NOTICES, NewWebhook, Notice, TEST_NOTICE, check_token_name},
    ids::TokenId,
    problem::Code,
    time::Timestamp,
};
use data_encoding::BASE32_NOPAD;
use serde_json::{Value, json};
use ureq::http::Uri;
use uuid::Uuid;

use super::{Actor, App, Error, Result};
use crate::db::{
    self, DbConn,
    events::NewEvent,
    webhooks::{Delivery, Webhook},
};

/// Each notice costs a row for each of them.
const MAX_WEBHOOKS: usize = 20;
/// 256 bits.
const SECRET_BYTES: usize = 32;
/// Attempts of one delivery: with the pauses between them, half a day.
const MAX_ATTEMPTS: u32 = 18;
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Deliveries that are sent at the same time.
const AT_ONCE: i64 = 8;
/// A server that took deliveries and stopped has them sent by the next one after this.
const TAKEN_FOR: Duration = Duration::from_secs(60);

/// Makes a webhook; gives the secret if it was made here.
pub(crate) async fn create(app: &App, actor: Actor, new: NewWebhook) -> Result<(Webhook, Option<String>)> {
    let now = app.clock.now();
    let NewWebhook { name, url, kinds, secret } = new;
    let name = name.trim().to_owned();
    check_token_name(&name).map_err(Error::invalid)?;
    check_url(&url)?;
    let kinds = kinds.unwrap_or_else(|| NOTICES.map(str::to_owned).to_vec());
    check_kinds(&kinds)?;
    let made = match &secret {
        Some(secret) if !(16..=128).contains(&secret.len()) => {
            return Err(Error::invalid(format!("secret has {} bytes; 16 to 128 are allowed", secret.len())));
        }
        Some(_) => None,
        None => Some(make_secret()?),
    };
    let secret = secret.or_else(|| made.clone()).unwrap_or_default();
    let webhook = Webhook { id: TokenId::from_uuid(Uuid::now_v7()), name, url, secret, kinds, created_at: now };
    app.db
        .write(move |conn| {
            let known = db::webhooks::all(conn)?;
            if known.iter().any(|other| other.name.eq_ignore_ascii_case(&webhook.name)) {
                return Err(Error::refused(Code::Conflict, format!("there is a webhook {:?} already", webhook.name)));
            }
            if known.len() >= MAX_WEBHOOKS {
                return Err(Error::invalid(format!("there are {MAX_WEBHOOKS} webhooks; delete one first")));
            }
            db::webhooks::insert(conn, &webhook)?;
            let text = format!("webhook {:?} to {} was made by {}", webhook.name, whose(&webhook), actor.name);
            let event = NewEvent::general("webhook.created", text);
            db::events::insert(conn, now, &actor.did(event, &Value::Null, &facts(&webhook)))?;
            Ok((webhook, made))
        })
        .await
}

fn make_secret() -> Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|source| Error::Unexpected(format!("draw random bytes: {source}")))?;
    Ok(format!("cbw_{}", BASE32_NOPAD.encode(&bytes).to_lowercase()))
}

/// What the audit says of a webhook: neither its secret nor what may be one in its address.
fn facts(webhook: &Webhook) -> Value {
    let Webhook { name, kinds, .. } = webhook;
    json!({ "name": name, "url": whose(webhook), "kinds": kinds })
}

/// The server of a webhook's address. Path and query are often all that keeps strangers from sending there.
fn whose(webhook: &Webhook) -> String {
    let url = webhook.url.parse::<Uri>().unwrap_or_default();
    let host = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{host}", url.scheme_str().unwrap_or_default())
}

fn check_url(text: &str) -> Result<()> {
    let wrong = |what: &str| {
        Err(Error::invalid(format!(
            "url {text:?} {what}; one is https://host/path, or http:// within a network of yours"
        )))
    };
    let Ok(url) = text.parse::<Uri>() else {
        return wrong("is no address");
    };
    match (url.scheme_str(), url.authority()) {
        (Some("http" | "https"), Some(host)) if host.as_str().contains('@') => wrong("has a user name in it"),
        (Some("http" | "https"), Some(_)) if text.contains('#') => wrong("has a fragment"),
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => wrong("is not one of a web server"),
    }
}

fn check_kinds(kinds: &[String]) -> Result<()> {
    match kinds.iter().find(|kind| !NOTICES.contains(&kind.as_str())) {
        Some(kind) => Err(Error::invalid(format!("kinds: there is no {kind:?}; there are {}", NOTICES.join(", ")))),
        None if kinds.is_empty() => Err(Error::invalid("kinds is empty; leave it out for all of them")),
        None => Ok(()),
    }
}

/// A webhook by its name.
pub(crate) fn resolve(conn: &mut DbConn, name: &str) -> Result<Webhook> {
    let found = db::webhooks::all(conn)?.into_iter().find(|webhook| webhook.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| Error::not_found("webhook", name))
}

/// Forgets a webhook and what was to be sent to it.
pub(crate) async fn delete(app: &App, actor: Actor, name: String) -> Result<()> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let webhook = resolve(conn, &name)?;
            db::webhooks::delete(conn, webhook.id)?;
            let text = format!("webhook {:?} to {} was deleted by {}", webhook.name, whose(&webhook), actor.name);
            let event = NewEvent::general("webhook.deleted", text);
            Ok(db::events::insert(conn, now, &actor.did(event, &facts(&webhook), &Value::Null))?)
        })
        .await
}

/// Sends a test at once, and says how that went.
pub(crate) async fn test(app: &App, actor: Actor, name: String) -> Result<Delivery> {
    let now = app.clock.now();
    let taken = app
        .db
        .write(move |conn| {
            let webhook = resolve(conn, &name)?;
            let text = format!("a test by {}", actor.name);
            let notice = Notice { seq: 0, at: now, kind: TEST_NOTICE.to_owned(), device: None, rollout: None, text };
            let id = db::webhooks::put(conn, webhook.id, &notice, now + TAKEN_FOR)?;
            let delivery = db::webhooks::delivery(conn, id)?.ok_or_else(|| Error::not_found("delivery", id))?;
            let event =
                NewEvent::general("webhook.tested", format!("webhook {:?} was tested by {}", webhook.name, actor.name));
            db::events::insert(conn, now, &actor.did(event, &Value::Null, &json!({ "delivery": id })))?;
            Ok::<_, Error>((delivery, webhook))
        })
        .await?;
    // A test is tried once: somebody looks at it.
    let delivery = attempt(taken, now).await;
    let state = if delivery.state == DeliveryState::Waiting { DeliveryState::Dead } else { delivery.state };
    save(app, Delivery { state, next_at: now, ..delivery }).await
}

/// Sends a delivery again that was given up.
pub(crate) async fn resend(app: &App, actor: Actor, id: TokenId) -> Result<Delivery> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let old = db::webhooks::delivery(conn, id)?.ok_or_else(|| Error::not_found("delivery", id))?;
            if old.state != DeliveryState::Dead {
                let detail = format!("delivery {id} is {}; one that is dead can be sent again", old.state.as_str());
                return Err(Error::refused(Code::WrongState, detail));
            }
            let new = Delivery { state: DeliveryState::Waiting, attempts: 0, next_at: now, ..old };
            db::webhooks::update(conn, &new)?;
            let to = db::webhooks::name(conn, new.webhook)?.unwrap_or_default();
            let text = format!("delivery {id} to {to:?} is sent again, by {}", actor.name);
            let event = NewEvent::general("webhook.resent", text);
            let (before, after) = (json!({ "state": "dead" }), json!({ "state": "waiting" }));
            db::events::insert(conn, now, &actor.did(event, &before, &after))?;
            Ok(new)
        })
        .await
}

/// Sends what is to be sent now; says whether there may be more.
pub(crate) async fn deliver(app: &Arc<App>) -> Result<bool> {
    let now = app.clock.now();
    let is_due = app.db.read(move |conn| db::Purpose::Jobs.of(|| Ok::<_, Error>(db::webhooks::is_due(conn, now)?)));
    if !is_due.await? {
        return Ok(false);
    }
    let take = move |conn: &mut DbConn| {
        db::Purpose::Jobs.of(|| Ok::<_, Error>(db::webhooks::take(conn, now, now + TAKEN_FOR, AT_ONCE)?))
    };
    let sending: Vec<_> =
        app.db.write(take).await?.into_iter().map(|taken| tokio::spawn(attempt(taken, now))).collect();
    for sent in sending {
        let delivery = sent.await.map_err(|source| Error::Unexpected(source.to_string()))?;
        save(app, delivery).await?;
    }
    Ok(true)
}

/// Tries a delivery once; what it says then is to be saved.
async fn attempt((delivery, webhook): (Delivery, Webhook), now: Timestamp) -> Delivery {
    let (id, kind, body) = (delivery.id, delivery.kind.clone(), delivery.body.clone());
    let sent = tokio::task::spawn_blocking(move || send::send(&webhook, id, &kind, &body)).await;
    let error = sent.unwrap_or_else(|source| Err(source.to_string())).err();
    let attempts = delivery.attempts + 1;
    let (state, next_at) = match &error {
        None => (DeliveryState::Delivered, now),
        Some(_) if attempts >= MAX_ATTEMPTS => (DeliveryState::Dead, now),
        Some(_) => (DeliveryState::Waiting, now + pause(attempts)),
    };
    Delivery { state, attempts, next_at, error, ..delivery }
}

/// Twice as long each time.
fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
}

async fn save(app: &App, delivery: Delivery) -> Result<Delivery> {
    app.db
        .write(move |conn| {
            db::Purpose::Jobs.of(|| db::webhooks::update(conn, &delivery))?;
            Ok::<_, Error>(delivery)
        })
        .await
}

/// A webhook as admins see it.
pub(crate) fn show(conn: &mut DbConn, webhook: Webhook) -> Result<admin::Webhook> {
    let mut count = |state| Ok::<_, Error>(u64::try_from(db::webhooks::count(conn, webhook.id, state)?).unwrap_or(0));
    let (waiting, dead) = (count(DeliveryState::Waiting)?, count(DeliveryState::Dead)?);
    let Webhook { name, url, kinds, created_at, .. } = webhook;
    Ok(admin::Webhook { name, url, kinds, created_at, waiting, dead })
}

/// A delivery as admins see it.
pub(crate) fn show_delivery(delivery: Delivery) -> admin::Delivery {
    let Delivery { id, kind, body, state, attempts, next_at, error, created_at, .. } = delivery;
    admin::Delivery { id, kind, state, attempts, next_at, error, created_at, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let seconds: Vec<u64> = [1, 2, 3, 9, 10, 17, 60].map(|attempts| pause(attempts).as_secs()).to_vec();
        assert_eq!(seconds, [10, 20, 40, 2560, 3600, 3600, 3600]);
    }

    #[test]
    fn only_addresses_of_web_servers_are_taken() {
        for url in ["https://example.com/hook?a=b", "http://127.0.0.1:9000/", "https://example.com"] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for (url, said) in [
            ("ftp://example.com/", "is not one of a web server"),
            ("/hook", "is not one of a web server"),
            ("https://ada:secret@example.com/", "has a user name in it"),
            ("https://example.com/#a", "has a fragment"),
            ("https://exa mple.com/", "is no address"),
        ] {
            assert!(check_url(url).unwrap_err().to_string().contains(said), "{url}");
        }
    }
}
