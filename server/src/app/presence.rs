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
pub(crate) struct Presence(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    fresh: HashMap<DeviceId, Seen>,
    /// On its way to the database.
    flushing: HashMap<DeviceId, Seen>,
}

impl Presence {
    /// Notes a check-in.
    pub(crate) fn note(&self, device: DeviceId, seen: Seen) {
        let mut pending = self.pending();
        // One that was not at work does not undo that it was a moment ago.
        let busy = seen.busy.or_else(|| pending.fresh.get(&device).and_then(|before| before.busy));
        pending.fresh.insert(device, Seen { busy, ..seen });
    }

    /// A check-in that the database may not show yet.
    pub(crate) fn pending_for(&self, device: DeviceId) -> Option<Seen> {
        let pending = self.pending();
        pending.fresh.get(&device).or_else(|| pending.flushing.get(&device)).cloned()
    }

    /// Everything that is not in the database yet.
    fn take(&self) -> Vec<(DeviceId, Seen)> {
        let mut pending = self.pending();
        let fresh = std::mem::take(&mut pending.fresh);
        pending.flushing.extend(fresh);
        pending.flushing.iter().map(|(id, seen)| (*id, seen.clone())).collect()
    }

    fn written(&self) {
        self.pending().flushing.clear();
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes everything noted so far; what cannot be written is kept for the next time.
pub(crate) async fn flush(app: &App) -> Result<(), DbError> {
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
