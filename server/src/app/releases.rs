//! Releases: published after everything about them has been verified again.

use callboard_policy::{release as policy, selector::Glob, trust::Distrust};
use callboard_proto::{
    admin,
    digest::Digest,
    ids::Product,
    problem::Code,
    release::Release,
    signed::{Envelope, Verified},
    version::Version,
};
use serde_json::{Value, json};

use super::{
    Actor, App, Error, Result,
    trust::{self, PublishedRoot},
};
use crate::db::{self, DbConn, events::NewEvent, releases::Published};

/// Publishes a release: its signatures, its place in the order and its payloads are checked.
pub(crate) async fn publish(app: &App, actor: Actor, bytes: Vec<u8>) -> Result<(admin::Release, bool)> {
    let refused = |detail: String| Error::refused(Code::DocumentRefused, detail);
    let root = app
        .newest_root()
        .ok_or_else(|| Error::refused(Code::WrongState, "no root is published yet, so no release can be verified"))?;
    let envelope = Envelope::parse::<Release>(&bytes).map_err(|source| refused(source.to_string()))?;
    let release = root.root.verify_release(&envelope).map_err(|source| refused(source.to_string()))?;
    let now = app.clock.now();
    let sha256 = release.digest();
    if let Some(why) = root.head.as_ref().and_then(|head| head.head.allows(&release, sha256).err()) {
        return Err(refused(format!("{} {} cannot be published: {why}", release.product, release.version)));
    }
    let trusted = root.clone();
    let (published, new) = app
        .db
        .write(move |conn| {
            if let Some(known) = db::releases::get(conn, sha256)? {
                return Ok((signed_anew(conn, &trusted, known, &bytes)?, false));
            }
            check_order(conn, &release)?;
            for payload in &release.payloads {
                check_payload(conn, payload)?;
            }
            db::releases::insert(conn, sha256, &release, &bytes, now)?;
            db::counters::bump_generation(conn)?;
            let text = format!("{} {} was published", release.product, release.version);
            let event = NewEvent::general("release.published", text);
            let after = json!({ "product": release.product, "version": release.version, "sha256": sha256 });
            db::events::insert(conn, now, &actor.did(event, &Value::Null, &after))?;
            Ok::<_, Error>((Published { sha256, envelope: bytes, published_at: now }, true))
        })
        .await?;
    if !new {
        app.refresh_catalog().await?;
    }
    Ok((show(&root, &published)?, new))
}

/// The same release with other signatures: they take the place of those that the root does not accept any more.
fn signed_anew(conn: &mut DbConn, root: &PublishedRoot, known: Published, bytes: &[u8]) -> Result<Published> {
    match open(root, &known)?.distrust {
        Some((Distrust::Untrusted, _)) => {
            db::releases::set_envelope(conn, known.sha256, bytes)?;
            db::counters::bump_generation(conn)?;
            Ok(Published { envelope: bytes.to_vec(), ..known })
        }
        _ => Ok(known),
    }
}

fn check_order(conn: &mut DbConn, release: &Verified<Release>) -> Result<()> {
    let conflict = |detail: String| Err(Error::refused(Code::Conflict, detail));
    if let Some((epoch, counter)) = db::releases::newest(conn, &release.product)?
        && (release.epoch, release.counter) <= (epoch, counter)
    {
        return conflict(format!(
            "counter {}.{} of {} is not above the newest published one, {epoch}.{counter}",
            release.epoch, release.counter, release.product
        ));
    }
    if let Some(other) = db::releases::by_version(conn, &release.product, &release.version)? {
        return conflict(format!("{} {} is published with digest {}", release.product, release.version, other.sha256));
    }
    Ok(())
}

fn check_payload(conn: &mut DbConn, payload: &callboard_proto::release::Payload) -> Result<()> {
    let name = &payload.name;
    let stored = db::payloads::get(conn, payload.sha256)?
        .ok_or_else(|| Error::invalid(format!("payload {name} ({}) has not been uploaded", payload.sha256)))?;
    if stored.size != payload.size {
        return Err(Error::refused(
            Code::DigestMismatch,
            format!("payload {name} has {} bytes, the release says {}", stored.size, payload.size),
        ));
    }
    if stored.chunks_sha256 != payload.chunks_sha256 {
        return Err(Error::refused(
            Code::DigestMismatch,
            format!(
                "the chunk list of payload {name} is {}, the release says {}",
                stored.chunks_sha256, payload.chunks_sha256
            ),
        ));
    }
    Ok(())
}

/// What a reference means: a digest, or `product@version`.
pub(crate) fn resolve(conn: &mut DbConn, reference: &str) -> Result<Published> {
    let missing = || Error::refused(Code::NotFound, format!("there is no release {reference}"));
    if let Ok(digest) = reference.parse::<Digest>() {
        return db::releases::get(conn, digest)?.ok_or_else(missing);
    }
    let parts = reference.split_once('@');
    let parsed =
        parts.and_then(|(product, version)| Some((product.parse::<Product>().ok()?, version.parse::<Version>().ok()?)));
    let Some((product, version)) = parsed else {
        return Err(Error::invalid(format!("{reference:?} is not a release: a digest or product@version is wanted")));
    };
    db::releases::by_version(conn, &product, &version)?.ok_or_else(missing)
}

/// A published release, and what speaks against it by now.
pub(crate) struct Opened {
    pub(crate) sha256: Digest,
    pub(crate) release: Release,
    envelope: Envelope,
    /// Why devices would not install it, with the details.
    pub(crate) distrust: Option<(Distrust, String)>,
}

/// Opens a stored envelope under the newest root and head.
pub(crate) fn open(root: &PublishedRoot, published: &Published) -> Result<Opened> {
    let sha256 = published.sha256;
    let unexpected = |source: callboard_proto::signed::Refused| {
        Error::Unexpected(format!("the stored release {sha256} is not valid: {source}"))
    };
    let envelope = Envelope::parse::<Release>(&published.envelope).map_err(unexpected)?;
    // It was verified when it was published, by the root of that time.
    let release: Release = envelope.claim().map_err(unexpected)?;
    let distrust = match root.root.verify_release(&envelope) {
        Err(source) => Some((Distrust::Untrusted, format!("root {} does not accept it: {source}", root.root.version))),
        Ok(_) => {
            let taken_back = root.head.as_ref().and_then(|head| head.head.allows(&release, sha256).err());
            taken_back.map(|why| (Distrust::Revoked, why.to_string()))
        }
    };
    Ok(Opened { sha256, release, envelope, distrust })
}

/// A release as operators see it.
pub(crate) fn show(root: &PublishedRoot, published: &Published) -> Result<admin::Release> {
    let Opened { sha256, release, envelope, distrust } = open(root, published)?;
    Ok(admin::Release {
        sha256,
        product: release.product,
        version: release.version,
        epoch: release.epoch,
        counter: release.counter,
        min_floor: release.min_floor,
        requires_at_least: release.requires_at_least,
        requires: release.requires,
        requires_agent: release.requires_agent,
        not_after: release.not_after,
        kind: release.kind,
        installer: release.installer,
        restart: release.restart,
        hooks: release.hooks,
        rollback: release.rollback,
        needs_server_contact: release.needs_server_contact,
        max_postpone_s: release.max_postpone_s,
        channels: release.channels,
        hw: release.hw,
        payloads: release.payloads,
        signed_by: trust::signers(&root.root, &envelope),
        published_at: published.published_at,
        distrusted: distrust.map(|(_, why)| why),
    })
}

/// The part of a release that decisions are made of.
pub(crate) fn for_policy(opened: &Opened) -> policy::Release {
    let release = &opened.release;
    policy::Release {
        digest: opened.sha256,
        product: release.product.clone(),
        version: release.version.clone(),
        epoch: release.epoch,
        counter: release.counter,
        min_floor: release.min_floor,
        channels: release.channels.clone(),
        hw: release.hw.iter().map(Glob::new).collect(),
        not_after: release.not_after,
        requires_agent: release.requires_agent.clone(),
        requires_at_least: release.requires_at_least,
        requires: release.requires.clone(),
        space_bytes: release.space(),
        distrust: opened.distrust.as_ref().map(|(why, _)| *why),
    }
}
