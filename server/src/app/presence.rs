//! Last-seen, written behind: kept here when a device checks in, flushed to the database every second.
//!
//! A check-in that changes nothing else touches no database. What is lost by a `kill -9` is the last second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use callboard_proto::ids::DeviceId;

use crate::{
    app::App,
    db::{
        DbError, Purpose,
        devices::{self, Seen},
    },
};

/// Check-ins that are not in the database yet.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    pending: Mutex<Pending>,
    /// Held while one batch is on its way: a second one would not know which of its entries the first has written.
    flush: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Pending {
    fresh: HashMap<DeviceId, Seen>,
    /// On its way to the database, and kept there until the next batch goes: who read a row just before it was written
    /// looks here just after.
    flushing: HashMap<DeviceId, Seen>,
    written: bool,
}

impl Presence {
    /// Notes a check-in.
    pub(crate) fn note(&self, device: DeviceId, seen: Seen) {
        let mut pending = self.pending();
        // One that was not at work does not undo that it was a moment ago.
        let busy = seen.busy.or_else(|| pending.fresh.get(&device).and_then(|before| before.busy));
        pending.fresh.insert(device, Seen { busy, ..seen });
    }

    /// A check-in that what was read from the database may not show yet.
    pub(crate) fn pending_for(&self, device: DeviceId) -> Option<Seen> {
        let pending = self.pending();
        pending.fresh.get(&device).or_else(|| pending.flushing.get(&device)).cloned()
    }

    /// Everything that is not in the database yet.
    fn take(&self) -> Vec<(DeviceId, Seen)> {
        let mut pending = self.pending();
        if std::mem::take(&mut pending.written) {
            pending.flushing.clear();
        }
        let fresh = std::mem::take(&mut pending.fresh);
        pending.flushing.extend(fresh);
        pending.flushing.iter().map(|(id, seen)| (*id, seen.clone())).collect()
    }

    fn written(&self) {
        self.pending().written = true;
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes everything noted so far; what cannot be written is kept for the next time.
pub(crate) async fn flush(app: &App) -> Result<(), DbError> {
    let _one = app.presence.flush.lock().await;
    let mut seen = app.presence.take();
    if seen.is_empty() {
        return Ok(());
    }
    // One order for all servers.
    seen.sort_by_key(|(id, _)| *id);
    app.db.write(move |conn| Purpose::LastSeen.of(|| Ok::<_, DbError>(devices::set_seen(conn, &seen)?))).await?;
    app.presence.written();
    Ok(())
}

#[cfg(test)]
mod tests {
    use callboard_policy::rhythm::Rhythm;
    use callboard_proto::time::Timestamp;

    use super::*;

    fn seen(at: &str) -> Seen {
        let at: Timestamp = at.parse().unwrap();
        Seen {
            at,
            boot_id: "boot-1".to_owned(),
            absence: None,
            owed: None,
            busy: None,
            rhythm: Rhythm::default(),
            address: None,
            root: 1,
            ca: callboard_proto::digest::Digest::of(b"a CA"),
            trace: devices::Trace::default(),
        }
    }

    #[test]
    fn a_row_read_just_before_it_was_written_is_not_mistaken_for_the_truth() {
        let (presence, device) = (Presence::default(), DeviceId::from_uuid(uuid::Uuid::now_v7()));
        presence.note(device, seen("2026-03-01T10:00:00Z"));
        // Here somebody reads the row, and is overtaken by the whole of a batch.
        assert_eq!(presence.take().len(), 1);
        presence.written();
        assert_eq!(presence.pending_for(device).unwrap().at, seen("2026-03-01T10:00:00Z").at);
        assert!(presence.take().is_empty(), "written once is enough");
        assert!(presence.pending_for(device).is_none());
    }

    #[test]
    fn a_batch_that_could_not_be_written_goes_again_with_the_next_one() {
        let (presence, device) = (Presence::default(), DeviceId::from_uuid(uuid::Uuid::now_v7()));
        presence.note(device, seen("2026-03-01T10:00:00Z"));
        assert_eq!(presence.take().len(), 1);
        assert_eq!(presence.take().len(), 1);
        presence.note(device, seen("2026-03-01T10:05:00Z"));
        let batch = presence.take();
        assert_eq!(batch.len(), 1);
        assert_eq!(batch[0].1.at, seen("2026-03-01T10:05:00Z").at);
    }
}
