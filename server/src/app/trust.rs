//! Root documents: which keys are trusted for what.

use std::sync::Arc;

use callboard_proto::{
    digest::Digest,
    problem::Code,
    root::Root,
    signed::{Envelope, Verified},
};

use super::{App, Error, Result};
use crate::db::{self, events::NewEvent};

/// The newest root, verified, and the bytes it was published as.
#[derive(Debug)]
pub(crate) struct PublishedRoot {
    pub(crate) root: Verified<Root>,
    pub(crate) envelope: Vec<u8>,
}

impl PublishedRoot {
    pub(crate) fn open(envelope: Vec<u8>) -> Result<Arc<Self>> {
        let root = Root::open_initial(&envelope)
            .map_err(|source| Error::Unexpected(format!("the stored root is not valid: {source}")))?;
        Ok(Arc::new(Self { root, envelope }))
    }
}

/// Publishes a root. It must list this server's online key, or every device would refuse the server's answers.
pub(crate) async fn publish_root(app: &App, bytes: Vec<u8>) -> Result<u64> {
    let refused = |detail: String| Error::refused(Code::DocumentRefused, detail);
    let root = Root::open_initial(&bytes).map_err(|source| refused(source.to_string()))?;
    let online: Digest = app.signer.key_id();
    if !root.roles.online.keyids.contains(&online) {
        return Err(refused(format!("the root does not list this server's online key {online} in its online role")));
    }
    let now = app.clock.now();
    if root.expires <= now {
        return Err(refused(format!("the root expired at {}", root.expires)));
    }
    let version = root.version;
    app.db
        .write(move |conn| {
            match db::trust::newest_root(conn)? {
                Some((newest, stored)) if newest == version && stored == bytes => return Ok(()),
                Some((newest, _)) => {
                    return Err(Error::refused(
                        Code::Conflict,
                        format!("root {newest} is published; devices follow only a chain of roots, and rotation is not supported yet"),
                    ));
                }
                None => {}
            }
            db::trust::insert_root(conn, version, &bytes, now)?;
            db::counters::bump_generation(conn)?;
            let event = NewEvent::general("root.published", format!("root {version} was published"));
            Ok(db::events::insert(conn, now, &event)?)
        })
        .await?;
    app.reload_catalog().await?;
    Ok(version)
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
