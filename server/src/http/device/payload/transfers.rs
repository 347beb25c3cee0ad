//! Places for transfers. Whoever holds a lease may send; the place is free again when the lease is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one server.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    free: Arc<Semaphore>,
    places: usize,
    served: Arc<AtomicU64>,
}

/// One place, taken.
#[derive(Debug)]
pub(super) struct Lease {
    served: Arc<AtomicU64>,
    _place: OwnedSemaphorePermit,
}

impl Transfers {
    /// `served` counts every byte handed to a connection.
    pub(crate) fn new(places: usize, served: Arc<AtomicU64>) -> Self {
        let places = places.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(places)), places, served }
    }

    /// How many there are.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// A place, if one is free. Nobody waits here: waiting devices would hold connections.
    pub(super) fn admit(&self) -> Option<Lease> {
        let place = self.free.clone().try_acquire_owned().ok()?;
        Some(Lease { served: self.served.clone(), _place: place })
    }
}

impl Lease {
    pub(super) fn count(&self, bytes: usize) {
        self.served.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
