//! Places for transfers. Whoever holds a lease may send; the place is free again when the lease is dropped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use callboard_proto::ids::DeviceId;

/// Transfers of one device at the same time. An agent makes one; after its line broke, those before may take until the
/// stall limit to be noticed, while it tries again. More would let one device keep the others from theirs.
pub(super) const PER_DEVICE: usize = 4;

/// The places of one server.
#[derive(Clone, Debug)]
pub(crate) struct Transfers(Arc<Places>);

#[derive(Debug)]
struct Places {
    places: usize,
    /// By device; nobody is in it with none, so it is never larger than there are places.
    taken: Mutex<HashMap<DeviceId, usize>>,
    served: Arc<AtomicU64>,
}

/// One place, taken.
#[derive(Debug)]
pub(super) struct Lease {
    places: Arc<Places>,
    device: DeviceId,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// This device has all that it may have.
    Device,
    /// All devices together have all that there are.
    Server { places: usize },
}

impl Transfers {
    /// `served` counts every byte handed to a connection.
    pub(crate) fn new(places: usize, served: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Places { places, taken: Mutex::default(), served }))
    }

    /// A place, if one is free. Nobody waits here: waiting devices would hold connections.
    pub(super) fn admit(&self, device: DeviceId) -> Result<Lease, Full> {
        let places = &self.0;
        let mut taken = places.taken();
        if taken.get(&device).is_some_and(|own| *own >= PER_DEVICE) {
            return Err(Full::Device);
        }
        if taken.values().sum::<usize>() >= places.places {
            return Err(Full::Server { places: places.places });
        }
        *taken.entry(device).or_default() += 1;
        Ok(Lease { places: places.clone(), device })
    }
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, HashMap<DeviceId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn count(&self, bytes: usize) {
        self.places.served.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.device) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use callboard_proto::ids::DeviceId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_device_has_few_places_and_all_devices_together_those_that_there_are() {
        let transfers = Transfers::new(6, Arc::default());
        let [greedy, other] = [1, 2].map(|n| DeviceId::from_uuid(Uuid::from_u128(n)));
        let mut held: Vec<Lease> = (0..PER_DEVICE).map(|_| transfers.admit(greedy).unwrap()).collect();
        assert_eq!(transfers.admit(greedy).unwrap_err(), Full::Device);
        held.extend([transfers.admit(other).unwrap(), transfers.admit(other).unwrap()]);
        assert_eq!(transfers.admit(other).unwrap_err(), Full::Server { places: 6 });
        held.remove(0);
        held.push(transfers.admit(greedy).unwrap());
        assert_eq!(transfers.admit(greedy).unwrap_err(), Full::Device);
        held.clear();
        assert!(transfers.0.taken().is_empty());
    }
}
