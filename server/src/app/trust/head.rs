//! Head documents: how fresh is fresh, and what is taken back.

use callboard_proto::{
    digest::Digest,
    head::Head,
    problem::Code,
    root::Root,
    signed::{Document as _, Envelope, Verified, max_envelope},
};
use serde_json::{Value, json};

use super::refused;
use crate::{
    app::{Actor, App, Error, Result},
    db::{self, DbConn, events::NewEvent},
};

/// A head, verified, and the bytes it was published as.
#[derive(Debug)]
pub(crate) struct PublishedHead {
    pub(crate) head: Verified<Head>,
    pub(crate) envelope: Vec<u8>,
}

impl PublishedHead {
    /// The newest one, if the root's head role signed it: after a rotation of its keys, or with a new epoch, there is none
    /// until the next is published.
    pub(super) fn read(conn: &mut DbConn, root: &Root) -> Result<Option<Self>> {
        let newest = db::trust::newest_head(conn)?;
        Ok(newest.and_then(|envelope| Some(Self { head: root.open_head(&envelope).ok()?, envelope })))
    }
}

/// Publishes a head. It must be newer than every other.
pub(crate) async fn publish(app: &App, actor: Actor, bytes: Vec<u8>) -> Result<u64> {
    if bytes.len() > max_envelope(Head::MAX_BYTES) {
        return Err(refused(format!("a head has at most {} bytes", max_envelope(Head::MAX_BYTES))));
    }
    let root = app
        .newest_root()
        .ok_or_else(|| Error::refused(Code::WrongState, "no root is published yet, so no head can be verified"))?;
    let head = root.root.open_head(&bytes).map_err(refused)?;
    let now = app.clock.now();
    if head.expires <= now {
        return Err(refused(format!("the head expired at {}", head.expires)));
    }
    let serial = head.serial;
    app.db
        .write(move |conn| {
            if !insert(conn, &head, &bytes, now)? {
                return Ok(());
            }
            db::counters::bump_generation(conn)?;
            let revoked: usize = head.products.iter().map(|one| one.revoked.len()).sum();
            let text =
                format!("head {serial} was published, good until {}; it revokes {revoked} releases", head.expires);
            let event = NewEvent::general("head.published", text);
            let after = json!({ "serial": serial, "envelope_sha256": Digest::of(&bytes) });
            Ok::<_, Error>(db::events::insert(conn, now, &actor.did(event, &Value::Null, &after))?)
        })
        .await?;
    app.reload_catalog().await?;
    Ok(serial)
}

fn insert(conn: &mut DbConn, head: &Head, bytes: &[u8], now: callboard_proto::time::Timestamp) -> Result<bool> {
    if let Some(stored) = db::trust::newest_head(conn)? {
        if stored == bytes {
            return Ok(false);
        }
        let newest: Head = Envelope::parse::<Head>(&stored)
            .and_then(|envelope| envelope.claim())
            .map_err(|source| Error::Unexpected(format!("the stored head is not valid: {source}")))?;
        if !head.replaces(&newest) {
            let (epoch, serial) = (newest.epoch, newest.serial);
            let what = format!("head {serial} of epoch {epoch} is published; one with a higher serial is wanted");
            return Err(Error::refused(Code::Conflict, what));
        }
    }
    db::trust::insert_head(conn, (head.epoch, head.serial), bytes, now)?;
    Ok(true)
}
