//! What devices trust, in one view: keys, thresholds, ends, and what would break when.

use std::collections::BTreeMap;

use callboard_policy::trust::HeadTerms;
use callboard_proto::{
    admin::{
        Ahead, DeviceCa, OnlineKey, Standing, Trust, TrustCa, TrustHead, TrustKey, TrustRole, TrustRoot, TrustServer,
    },
    digest::Digest,
    root::{Root, Server},
    signed::{KeySet, max_envelope},
    time::Timestamp,
};
use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;

use super::PublishedRoot;
use crate::{
    app::{App, Error, Result, expiry, presence, releases},
    ca, db,
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
    presence::flush(app).await?;
    let standings = app.db.read(|conn| Ok::<_, Error>(db::devices::standings(conn)?)).await?;
    let device_cas = device_cas(app, &standings)?;
    let mut ahead: Vec<Ahead> = expiry::all(app)
        .into_iter()
        .map(|one| {
            let text = format!("the {} expires: {}", one.what.replace('_', " "), one.text);
            Ahead { at: Some(one.at), alarm: one.is_alarming(now), text }
        })
        .collect();
    let root = published.as_deref().map(|published| root(app, published));
    ahead.extend(root.iter().flat_map(|root| root.servers.iter().filter_map(|server| last_ca(server, now))));
    ahead.sort_by_key(|one| one.at);
    ahead.extend(root.iter().flat_map(|root| root.roles.iter().filter_map(fragile)));
    if let Some(published) = &published {
        ahead.extend(unfinished(app, published));
    }
    if let Some(root) = &root {
        ahead.extend(elsewhere(app, root));
    }
    if let [_, others @ ..] = device_cas.as_slice() {
        ahead.extend(others.iter().map(exchanged));
    }
    Ok(Trust {
        server_time: now,
        online_keys: online_keys(app, published.as_deref()),
        device_cas,
        standings: by_root_and_address(standings),
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

/// The root with its roles.
pub(crate) fn root(app: &App, published: &PublishedRoot) -> TrustRoot {
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
        servers: root.servers.iter().map(|server| listed(app, server)).collect(),
    }
}

fn listed(app: &App, server: &Server) -> TrustServer {
    // The first one is the issuer of the certificate that devices see.
    let own = ca::digests(&app.server_ca_pem).into_iter().next();
    let ca = server.ca_der.iter().map(|der| {
        let der = BASE64.decode(der.as_bytes()).unwrap_or_default();
        let sha256 = Digest::of(&der);
        TrustCa { sha256, expires: ca::end(&der).ok(), own: own == Some(sha256) }
    });
    TrustServer { url: server.url.clone(), ca: ca.collect() }
}

fn device_cas(app: &App, standings: &BTreeMap<db::devices::Standing, u64>) -> Result<Vec<DeviceCa>> {
    let unreadable = |source: ca::CaError| Error::Unexpected(source.to_string());
    let own = app.device_ca.certificate();
    let one = |certificate: &CertificateDer<'static>| {
        let name = ca::name(certificate).map_err(unreadable)?.short();
        let shown = standings.iter().filter(|(standing, _)| standing.ca.as_ref() == Some(&name));
        Ok::<_, Error>(DeviceCa {
            sha256: Digest::of(certificate),
            expires: ca::end(certificate).map_err(unreadable)?,
            issues: certificate == own,
            devices: shown.map(|(_, devices)| devices).sum(),
        })
    };
    app.device_ca.certificates().map(one).collect()
}

/// What is to be done about a device CA that does not issue.
fn exchanged(ca: &DeviceCa) -> Ahead {
    let text = format!(
        "device CA {} is taken and issues nothing: when every server has it and is to issue by it, callboard ca switch \
         device; when no device shows a certificate of the former one ({} do), callboard ca finish device",
        ca.sha256.short(),
        ca.devices
    );
    Ahead { at: None, alarm: false, text }
}

fn by_root_and_address(all: BTreeMap<db::devices::Standing, u64>) -> Vec<Standing> {
    let mut counts: BTreeMap<(Option<u64>, Option<String>), u64> = BTreeMap::new();
    for (standing, devices) in all {
        *counts.entry((standing.root, standing.address)).or_default() += devices;
    }
    let one = |((root_version, address), devices)| Standing { root_version, address, devices };
    counts.into_iter().map(one).collect()
}

const ROTATE: &str = "publish another root: callboard root rotate --server-url URL --server-ca FILE";

/// When the last CA of a listed server ends: one that lasts is enough.
fn last_ca(server: &TrustServer, now: Timestamp) -> Option<Ahead> {
    let at = server.ca.iter().filter_map(|ca| ca.expires).max()?;
    let text = format!("the last CA that the root lists for {} ends, and devices refuse it then: {ROTATE}", server.url);
    Some(Ahead { at: Some(at), alarm: at - expiry::WARN_BEFORE <= now, text })
}

/// How this server stands to those that the root lists.
fn elsewhere(app: &App, root: &TrustRoot) -> Option<Ahead> {
    let say = |alarm: bool, text: String| Some(Ahead { at: None, alarm, text });
    let own = &app.public_url;
    match root.servers.iter().find(|server| server.url == *own) {
        None if root.servers.is_empty() => None,
        None => say(false, format!("the root does not list this server's address {own}, so devices look for another")),
        Some(listed) if listed.ca.iter().any(|ca| ca.own) => None,
        Some(_) => say(
            true,
            format!("the root lists {own} without this server's CA, so devices that come anew refuse it: {ROTATE}"),
        ),
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

/// The head that was published under it, if there is one.
pub(crate) fn head(published: &PublishedRoot) -> Option<TrustHead> {
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
