//! Bytes served, written behind: each transfer is counted for the rollout and the phase of the download that it belongs
//! to when it ends, and the database knows a second later. No transfer waits for the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use callboard_policy::device::Device;
use callboard_proto::{ids::RolloutId, state::AssignmentState};

use super::App;
use crate::db::{self, DbError, Purpose};

/// A rollout, and a phase of it.
type Place = (RolloutId, usize);

/// Bytes that are not in the database yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served(Arc<Mutex<HashMap<Place, u64>>>);

/// The bytes of one transfer.
#[derive(Debug)]
pub(crate) struct Tally {
    served: Served,
    place: Place,
    sent: u64,
}

impl Served {
    /// Begins to count a transfer to `device`; `None` if it is not downloading anything, and only looks.
    pub(crate) fn to(&self, device: &Device) -> Option<Tally> {
        let downloading = device.assignments.iter().filter(|one| one.state == AssignmentState::Downloading);
        let newest = downloading.max_by_key(|one| one.granted_at)?;
        Some(Tally { served: self.clone(), place: (newest.rollout, newest.phase), sent: 0 })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Place, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// So many bytes more.
    pub(crate) fn count(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        *self.served.waiting().entry(self.place).or_default() += self.sent;
    }
}

/// Writes everything counted so far; what cannot be written is kept for the next time.
pub(crate) async fn flush(app: &App) -> Result<(), DbError> {
    let counted = std::mem::take(&mut *app.served.waiting());
    if counted.is_empty() {
        return Ok(());
    }
    // One order for all servers.
    let mut rows: Vec<(Place, u64)> = counted.iter().map(|(place, bytes)| (*place, *bytes)).collect();
    rows.sort_unstable();
    let written = app
        .db
        .write(move |conn| {
            Purpose::LastSeen.of(|| {
                for ((rollout, phase), bytes) in &rows {
                    db::counts::serve(conn, *rollout, *phase, *bytes)?;
                }
                Ok::<_, DbError>(())
            })
        })
        .await;
    if written.is_err() {
        let mut waiting = app.served.waiting();
        for (place, bytes) in counted {
            *waiting.entry(place).or_default() += bytes;
        }
    }
    written
}
