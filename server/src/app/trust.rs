//! What devices trust: the chain of roots, and the head.

use std::{collections::BTreeMap, sync::Arc};

use callboard_policy::trust::{HeadTerms, Terms};
use callboard_proto::{
    digest::Digest,
    problem::Code,
    root::Root,
    signed::{Envelope, Refused, Verified},
};
use serde_json::{Value, json};

use super::{Actor, App, Error, Result};
use crate::db::{self, DbConn, events::NewEvent};
pub(crate) use head::PublishedHead;

pub(crate) mod head;
pub(crate) mod status;

/// The newest root and what belongs to it, verified, and the bytes it was published as.
#[derive(Debug)]
pub(crate) struct PublishedRoot {
    pub(crate) root: Verified<Root>,
    pub(crate) envelope: Vec<u8>,
    /// The newest head that its head role signed.
    pub(crate) head: Option<PublishedHead>,
    /// The online keys of every root that was published, by version: a device may trust an older one.
    online: BTreeMap<u64, Vec<Digest>>,
}

impl PublishedRoot {
    /// Reads what is stored; `None` before the first root.
    pub(crate) fn read(conn: &mut DbConn) -> Result<Option<Self>> {
        let (mut online, mut newest) = (BTreeMap::new(), None);
        for (version, envelope) in db::trust::roots(conn)? {
            let root = open(&envelope)?;
            online.insert(version, root.roles.online.keyids.clone());
            newest = Some((root, envelope));
        }
        let Some((root, envelope)) = newest else { return Ok(None) };
        let head = PublishedHead::read(conn, &root)?;
        Ok(Some(Self { root, envelope, head, online }))
    }

    /// The online keys that a device which trusts root `version` accepts, as far as that root is known.
    pub(crate) fn online_of(&self, version: u64) -> &[Digest] {
        self.online.get(&version).map_or(&[], Vec::as_slice)
    }

    /// Until when devices install anything new.
    pub(crate) fn terms(&self) -> Terms {
        let head = match (&self.root.roles.head, &self.head) {
            (None, _) => HeadTerms::NotNeeded,
            (Some(_), None) => HeadTerms::Missing,
            (Some(_), Some(head)) => HeadTerms::Until(head.head.expires),
        };
        Terms { root_expires: Some(self.root.expires), head }
    }
}

fn open(envelope: &[u8]) -> Result<Verified<Root>> {
    Root::open_initial(envelope).map_err(|source| Error::Unexpected(format!("the stored root is not valid: {source}")))
}

fn refused(source: impl ToString) -> Error {
    Error::refused(Code::DocumentRefused, source.to_string())
}

/// Publishes the first root, or the one after the newest. It must list an online key of this server, or every device would
/// refuse the server's answers.
pub(crate) async fn publish_root(app: &App, actor: Actor, bytes: Vec<u8>) -> Result<u64> {
    let envelope = Envelope::parse::<Root>(&bytes).map_err(refused)?;
    // To look at it before it is known whether it follows.
    let claimed: Root = envelope.claim().map_err(refused)?;
    app.signer.reload().map_err(|source| Error::Unexpected(source.to_string()))?;
    if !app.signer.any_of(&claimed.roles.online.keyids) {
        let ids = app.signer.ids().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = format!("the root does not list this server's online key {ids} in its online role");
        return Err(refused(what));
    }
    let now = app.clock.now();
    if claimed.expires <= now {
        return Err(refused(format!("the root expired at {}", claimed.expires)));
    }
    let version = claimed.version;
    app.db
        .write(move |conn| {
            if !insert(conn, version, &bytes, now)? {
                return Ok(());
            }
            db::counters::bump_generation(conn)?;
            let event = NewEvent::general("root.published", format!("root {version} was published"));
            let after = json!({ "version": version, "envelope_sha256": Digest::of(&bytes) });
            Ok::<_, Error>(db::events::insert(conn, now, &actor.did(event, &Value::Null, &after))?)
        })
        .await?;
    app.reload_catalog().await?;
    Ok(version)
}

/// Writes a root if it is the first one or follows the newest; says whether it was new.
fn insert(conn: &mut DbConn, version: u64, bytes: &[u8], now: callboard_proto::time::Timestamp) -> Result<bool> {
    match db::trust::newest_root(conn)? {
        Some(_) if db::trust::root(conn, version)?.is_some_and(|stored| stored == bytes) => return Ok(false),
        Some((newest, stored)) => {
            open(&stored)?.open_next(bytes).map_err(|source| match source {
                Refused::NotNext { wanted, found } => {
                    let what = format!("root {newest} is published, so root {wanted} comes next, not root {found}");
                    Error::refused(Code::Conflict, what)
                }
                source => refused(format!("root {version} does not follow root {newest}: {source}")),
            })?;
        }
        None => drop(Root::open_initial(bytes).map_err(refused)?),
    }
    db::trust::insert_root(conn, version, bytes, now)?;
    Ok(true)
}

/// The envelope of a release, as it was published.
pub(crate) async fn release_envelope(app: &App, sha256: Digest) -> Result<Vec<u8>> {
    let found = app.db.read(move |conn| Ok::<_, Error>(db::releases::get(conn, sha256)?)).await?;
    found.map(|release| release.envelope).ok_or_else(|| Error::not_found("release", sha256))
}

/// Who signed an envelope, by the keys of a root.
pub(crate) fn signers(root: &Root, envelope: &Envelope) -> Vec<Digest> {
    envelope.signers(&root.release_keys()).into_iter().collect()
}

impl App {
    /// The newest root, if one is published.
    pub(crate) fn newest_root(&self) -> Option<Arc<PublishedRoot>> {
        self.snapshot.load().root.clone()
    }
}
