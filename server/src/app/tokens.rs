//! Enrolment tokens: `cbe_<id>_<secret>`; API tokens: `cba_<id>_<secret>`. Only the secret's SHA-256 is stored.

use callboard_proto::{
    admin,
    digest::Digest,
    enrol::Bundle,
    ids::{DeviceId, TokenId},
    problem::Code,
    time::Timestamp,
};
use data_encoding::{BASE32_NOPAD, Specification};
use serde_json::{Value, json};
use std::time::Duration;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{Actor, App, Error, Reach, Result, devices};
use crate::db::{self, DbConn, events::NewEvent, tokens::EnrolToken};

/// Prefix of enrolment tokens.
pub(crate) const ENROL: &str = "cbe";
/// Prefix of API tokens.
pub(crate) const API: &str = "cba";
/// 128 bits: beyond guessing.
const SECRET_BYTES: usize = 16;
const DEFAULT_TTL_S: u64 = 7 * 86_400;
const MAX_TTL_S: u64 = 366 * 86_400;
/// One token for a whole chain of shops; more asks for a second thought.
const MAX_USES: u32 = 100_000;

/// A token as it is shown once.
pub(crate) struct Plain {
    pub(crate) id: TokenId,
    pub(crate) secret_sha256: Digest,
    pub(crate) text: String,
}

/// Makes a token.
pub(crate) fn generate(prefix: &str) -> Result<Plain> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|source| Error::Unexpected(format!("draw random bytes: {source}")))?;
    let id = TokenId::from_uuid(Uuid::now_v7());
    let text = format!("{prefix}_{}_{}", base32(id.as_bytes()), base32(&secret));
    Ok(Plain { id, secret_sha256: Digest::of(&secret), text })
}

/// Takes a token apart into its id and the hash of its secret.
pub(crate) fn parse(prefix: &str, text: &str) -> Option<(TokenId, Digest)> {
    let (id, secret) = text.strip_prefix(prefix)?.strip_prefix('_')?.split_once('_')?;
    let bytes = |text: &str| BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok();
    let secret = bytes(secret).filter(|secret| secret.len() == SECRET_BYTES)?;
    Some((TokenId::from_slice(&bytes(id)?)?, Digest::of(&secret)))
}

/// Compares hashes in constant time.
pub(crate) fn same(a: Digest, b: Digest) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn base32(bytes: &[u8]) -> String {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().map_or_else(|_| BASE32_NOPAD.encode(bytes).to_lowercase(), |lower| lower.encode(bytes))
}

/// Makes an enrolment token and the bundle that a till needs.
pub(crate) async fn create(app: &App, actor: Actor, new: admin::NewToken) -> Result<admin::TokenCreated> {
    let now = app.clock.now();
    let ttl = new.ttl_s.unwrap_or(DEFAULT_TTL_S);
    let max_uses = new.max_uses.unwrap_or(1);
    if !(60..=MAX_TTL_S).contains(&ttl) {
        return Err(Error::invalid(format!("ttl_s is {ttl}; 60 to {MAX_TTL_S} seconds are allowed")));
    }
    if !(1..=MAX_USES).contains(&max_uses) {
        return Err(Error::invalid(format!("max_uses is {max_uses}; 1 to {MAX_USES} are allowed")));
    }
    if new.device.is_some() && max_uses != 1 {
        return Err(Error::invalid("a token bound to a device has exactly one use"));
    }
    if new.device.is_some() && (new.site.is_some() || !new.labels.is_empty()) {
        return Err(Error::invalid("a token bound to a device has neither site nor labels: the device keeps its own"));
    }
    if new.device.is_some() && (new.serial_pattern.is_some() || !new.auto_approve) {
        return Err(Error::invalid(
            "a token bound to a device has neither serial_pattern nor auto_approve = false: it says already which device",
        ));
    }
    // Before the token is written: it is shown in the bundle and nowhere else.
    let root = app.newest_root().ok_or_else(|| {
        Error::refused(Code::WrongState, "no root is published yet; publish one with callboard root publish")
    })?;
    let plain = generate(ENROL)?;
    let (id, text, expires_at) = (plain.id, plain.text.clone(), now + Duration::from_secs(ttl));
    app.db
        .write(move |conn| {
            let device = match &new.device {
                Some(name) => Some(devices::resolve_for(conn, &actor, name, now)?.device.id),
                None => None,
            };
            if let Some(site) = &new.site {
                db::sites::get(conn, site)?.ok_or_else(|| Error::not_found("site", site))?;
            }
            let token =
                EnrolToken { reach: actor.may.texts(), ..stored(&plain, device, new, max_uses, now, expires_at) };
            if !is_within(conn, &actor.may, &token, now)? {
                return Err(actor.outside("a device that enrols with this token (give it a site, or labels)"));
            }
            db::tokens::insert(conn, &token)?;
            let event = NewEvent::general("token.created", format!("enrolment token {} was made", plain.id));
            Ok::<_, Error>(db::events::insert(conn, now, &actor.did(event, &Value::Null, &facts(&token)))?)
        })
        .await?;
    let root = serde_json::from_slice(&root.envelope).map_err(|source| Error::Unexpected(source.to_string()))?;
    let bundle = Bundle {
        v: 1,
        server_url: app.public_url.clone(),
        server_ca_pem: app.server_ca_pem.clone(),
        root,
        token: text,
    };
    Ok(admin::TokenCreated { id, expires_at, bundle })
}

fn stored(
    plain: &Plain,
    device: Option<DeviceId>,
    new: admin::NewToken,
    max_uses: u32,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> EnrolToken {
    EnrolToken {
        id: plain.id,
        secret_sha256: plain.secret_sha256,
        device,
        site: new.site,
        labels: new.labels,
        uses: 0,
        max_uses,
        created_at,
        expires_at,
        revoked_at: None,
        serial_pattern: new.serial_pattern,
        waits: !new.auto_approve,
        reach: None,
    }
}

/// What the audit says of a token.
fn facts(token: &EnrolToken) -> Value {
    json!({
        "id": token.id,
        "device": token.device,
        "site": token.site,
        "labels": token.labels,
        "max_uses": token.max_uses,
        "expires_at": token.expires_at,
        "serial_pattern": token.serial_pattern,
        "auto_approve": !token.waits,
        "reach": token.reach,
    })
}

/// Whether what enrols with a token is in reach.
pub(crate) fn is_within(conn: &mut DbConn, reach: &Reach, token: &EnrolToken, now: Timestamp) -> Result<bool> {
    if reach.is_everything() {
        return Ok(true);
    }
    if let Some(device) = token.device {
        return Ok(db::devices::get(conn, device)?.is_some_and(|record| reach.covers(&record.device, now)));
    }
    let site = match &token.site {
        Some(id) => db::sites::get(conn, id)?,
        None => None,
    };
    devices::would_cover(reach, site.as_ref(), &token.labels, now)
}

/// Revokes an enrolment token; devices that used it stay enrolled.
pub(crate) async fn revoke(app: &App, actor: Actor, id: TokenId) -> Result<()> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let token = db::tokens::get(conn, id)?.ok_or_else(|| Error::not_found("token", id))?;
            let (may, sees) = (is_within(conn, &actor.may, &token, now)?, is_within(conn, &actor.sees, &token, now)?);
            actor.check("token", &id.to_string(), may, sees)?;
            if !db::tokens::revoke(conn, id, now)? {
                return Err(Error::not_found("token", id));
            }
            let event = NewEvent::general("token.revoked", format!("enrolment token {id} was revoked"));
            Ok(db::events::insert(conn, now, &actor.did(event, &facts(&token), &Value::Null))?)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_a_changed_one_is_not_the_same() {
        let plain = generate(ENROL).expect("random bytes");
        let (id, hash) = parse(ENROL, &plain.text).expect("a token");
        assert!(id == plain.id && same(hash, plain.secret_sha256));
        assert!(parse(API, &plain.text).is_none());
        let last = if plain.text.ends_with('a') { 'b' } else { 'a' };
        let mut changed = plain.text.clone();
        changed.replace_range(8..9, if &plain.text[8..9] == "a" { "b" } else { "a" });
        assert!(parse(ENROL, &changed).is_none_or(|(other, _)| other != plain.id));
        assert!(parse(ENROL, &format!("{}{last}", plain.text)).is_none());
    }
}
