//! What devices trust, in one view: keys, thresholds, ends, and what would break when.

use callboard_policy::trust::HeadTerms;
use callboard_proto::{
    admin::{Ahead, OnlineKey, Trust, TrustHead, TrustKey, TrustRole, TrustRoot},
    digest::Digest,
    root::Root,
    signed::{KeySet, max_envelope},
};

use super::PublishedRoot;
use crate::{
    app::{App, Result, expiry, releases},
    db,
};

/// Releases looked at, the newest first: of a fleet with more, what is distrusted is old.
const MAX_RELEASES: i64 = 1000;

/// Everything about trust.
pub(crate) async fn status(app: &App) -> Result<Trust> {
    let now = app.clock.now();
    let published = app.newest_root();
    let distrusted_releases = match published.clone() {
        Some(published) => app.db.read(move |conn| distrusted(conn, &published)).await?,
        None => Vec::new(),
    };
    let mut ahead: Vec<Ahead> = expiry::all(app)
        .into_iter()
        .map(|one| {
            let text = format!("the {} expires: {}", one.what.replace('_', " "), one.text);
            Ahead { at: Some(one.at), alarm: one.is_alarming(now), text }
        })
        .collect();
    ahead.sort_by_key(|one| one.at);
    let root = published.as_deref().map(root);
    ahead.extend(root.iter().flat_map(|root| root.roles.iter().filter_map(fragile)));
    if let Some(published) = &published {
        ahead.extend(unfinished(app, published));
    }
    Ok(Trust {
        server_time: now,
        online_keys: online_keys(app, published.as_deref()),
        head: published.as_deref().and_then(head),
        root,
        distrusted_releases,
        ahead,
    })
}

fn distrusted(conn: &mut db::DbConn, published: &PublishedRoot) -> Result<Vec<String>> {
    let newest = db::releases::list(conn, None, db::releases::Place::top(), MAX_RELEASES)?;
    let opened = newest.iter().map(|one| releases::open(published, one)).collect::<Result<Vec<_>>>()?;
    let distrusted = opened.into_iter().filter(|one| one.distrust.is_some());
    Ok(distrusted.map(|one| format!("{}@{}", one.release.product, one.release.version)).collect())
}

fn root(published: &PublishedRoot) -> TrustRoot {
    let root = &published.root;
    let roles = &root.roles;
    let plain =
        |kind: &str, ids: &[Digest], (keys, threshold): (KeySet, usize)| role(root, kind, ids, &keys, threshold);
    let mut all = vec![plain("root", &roles.root.keyids, root.own())];
    all.extend(roles.release.iter().map(|one| TrustRole {
        name: Some(one.name.clone()),
        epoch: Some(one.epoch),
        products: one.products.iter().map(ToString::to_string).collect(),
        channels: one.channels.clone(),
        ..plain("release", &one.keyids, root.release(one))
    }));
    if let Some((one, keys)) = roles.head.as_ref().zip(root.head()) {
        all.push(TrustRole { epoch: Some(one.epoch), ..plain("head", &one.keyids, keys) });
    }
    all.push(plain("online", &roles.online.keyids, root.online()));
    TrustRoot {
        version: root.version,
        sha256: root.digest(),
        issued_at: root.issued_at,
        expires: root.expires,
        roles: all,
        servers: root.servers.iter().map(|server| server.url.clone()).collect(),
    }
}

fn role(root: &Root, kind: &str, ids: &[Digest], keys: &KeySet, threshold: usize) -> TrustRole {
    let key = |id: &Digest| {
        let alg = root.keys.get(id).map(|key| key.alg.clone()).unwrap_or_default();
        TrustKey { id: *id, alg, counted: keys.contains(*id) }
    };
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    TrustRole {
        kind: kind.to_owned(),
        name: None,
        keys: ids.iter().map(key).collect(),
        threshold: u32::try_from(threshold).unwrap_or(u32::MAX),
        spare: number(keys.len()) - number(threshold),
        epoch: None,
        products: Vec::new(),
        channels: Vec::new(),
    }
}

fn head(published: &PublishedRoot) -> Option<TrustHead> {
    let head = &published.head.as_ref()?.head;
    Some(TrustHead {
        serial: head.serial,
        epoch: head.epoch,
        issued_at: head.issued_at,
        half_life: head.half_life(),
        expires: head.expires,
        products: head.products.clone(),
    })
}

fn online_keys(app: &App, published: Option<&PublishedRoot>) -> Vec<OnlineKey> {
    let listed = published.map_or(&[][..], |published| &published.root.roles.online.keyids);
    let ids = app.signer.ids();
    let signing = ids.iter().rev().find(|id| listed.contains(id)).copied();
    ids.into_iter().map(|id| OnlineKey { id, listed: listed.contains(&id), signs: signing == Some(id) }).collect()
}

/// What is lost with the next key of a role.
fn fragile(role: &TrustRole) -> Option<Ahead> {
    if role.kind == "online" || role.spare > 0 {
        return None;
    }
    let (keys, threshold) = (role.keys.len(), role.threshold);
    let all = format!("needs {threshold} of its {keys} keys, so none of them may be lost");
    let text = match (role.kind.as_str(), &role.name) {
        ("root", _) => {
            format!("the root role {all}: without it no root follows, and every device must be enrolled anew")
        }
        ("head", _) => format!("the head role {all}: without it no head follows until the next root"),
        (_, name) => {
            let name = name.as_deref().unwrap_or_default();
            format!(
                "the release role {name:?} {all}: without it nothing of its products is released until the next root"
            )
        }
    };
    Some(Ahead { at: None, alarm: role.spare < 0, text })
}

/// What has been begun and not been finished, or cannot work as it is.
fn unfinished(app: &App, published: &PublishedRoot) -> Vec<Ahead> {
    let mut found = Vec::new();
    let keys = online_keys(app, Some(published));
    if let [_, next] = keys.as_slice() {
        let text = if next.listed {
            "the online key is being rotated: when no device needs the earlier one, publish a root without it, then: \
             callboard online-key finish --dir DIR"
        } else {
            "there is a next online key: publish a root that lists it (callboard root rotate --add-online-key)"
        };
        found.push(Ahead { at: None, alarm: false, text: text.to_owned() });
    }
    if published.terms().head == HeadTerms::NotNeeded {
        let text = "the root names no head role: devices cannot tell whether releases are kept from them, and none can be \
                    revoked";
        found.push(Ahead { at: None, alarm: false, text: text.to_owned() });
    }
    if published.envelope.len() > max_envelope(ROOM) {
        let text = "the root has little room left (64 KiB): drop keys that no role needs".to_owned();
        found.push(Ahead { at: None, alarm: true, text });
    }
    found
}

/// A root beyond this leaves little room for the next one's keys.
const ROOM: usize = 56 * 1024;
