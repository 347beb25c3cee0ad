//! Places for transfers. Whoever holds a lease may send; the place is free again when the lease is dropped.

use std::{
    collections::HashMap,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callboard_proto::ids::DeviceId;
use tokio::time::Instant;

/// Transfers of one device at the same time. An agent makes one; after its line broke, those before may take until the
/// stall limit to be noticed, while it tries again. More would let one device keep the others from theirs.
pub(super) const PER_DEVICE: usize = 4;
/// Pieces a second of all transfers together, where they are limited and pieces are not too small for that.
const TURNS_PER_S: u64 = 256;
/// Smaller ones cost more than they spread.
const SMALLEST_PIECE: usize = 16 * 1024;

/// The places of one server.
#[derive(Clone, Debug)]
pub(crate) struct Transfers(Arc<Places>);

#[derive(Debug)]
struct Places {
    places: usize,
    /// By device; nobody is in it with none, so it is never larger than there are places.
    taken: Mutex<HashMap<DeviceId, usize>>,
    served: Arc<AtomicU64>,
    /// If all of them together are limited.
    limit: Option<Limit>,
}

/// What all transfers together may send. Each piece takes the time after the one before, whosever that was.
#[derive(Debug)]
struct Limit {
    bytes_per_s: NonZeroU64,
    /// Up to when what was sent is paid for.
    paid: Mutex<Instant>,
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
    /// `served` counts every byte handed to a connection; `bytes_per_s` limits them.
    pub(crate) fn new(places: usize, bytes_per_s: Option<NonZeroU64>, served: Arc<AtomicU64>) -> Self {
        let limit = bytes_per_s.map(|bytes_per_s| Limit { bytes_per_s, paid: Mutex::new(Instant::now()) });
        Self(Arc::new(Places { places, taken: Mutex::default(), served, limit }))
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

impl Limit {
    /// Takes the time in which nobody else sends; says when it begins.
    fn turn(&self, bytes: u64, now: Instant) -> Instant {
        let took = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_s);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = now.max(*paid);
        *paid = begins + took;
        begins
    }
}

impl Lease {
    /// How large a piece may be: where all transfers together are limited, their turns come the sooner the smaller pieces
    /// are.
    pub(super) fn piece(&self, most: usize) -> usize {
        let turns = self.places.limit.as_ref().map(|limit| limit.bytes_per_s.get() / TURNS_PER_S);
        turns.map_or(most, |piece| usize::try_from(piece).unwrap_or(most).clamp(SMALLEST_PIECE.min(most), most))
    }

    /// When the next piece may be sent; `None` where there is no limit.
    pub(super) fn turn(&self, bytes: usize) -> Option<Instant> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.places.limit.as_ref().map(|limit| limit.turn(bytes, Instant::now()))
    }

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
        let transfers = Transfers::new(6, None, Arc::default());
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

    #[test]
    fn transfers_take_turns_under_one_limit_and_a_pause_is_not_saved_up() {
        let now = Instant::now();
        let limit = Limit { bytes_per_s: NonZeroU64::new(100_000).unwrap(), paid: Mutex::new(now) };
        let begins = |bytes, at| limit.turn(bytes, now + Duration::from_millis(at)).duration_since(now).as_millis();
        assert_eq!([begins(20_000, 0), begins(20_000, 0), begins(10_000, 100)], [0, 200, 400]);
        assert_eq!([begins(10_000, 10_000), begins(10_000, 10_000)], [10_000, 10_100]);
    }

    #[test]
    fn pieces_are_small_where_the_limit_is_low() {
        let piece = |rate: u64| {
            let transfers = Transfers::new(1, NonZeroU64::new(rate), Arc::default());
            transfers.admit(DeviceId::from_uuid(Uuid::nil())).unwrap().piece(256 * 1024)
        };
        assert_eq!([0, 65_536, 10_000_000, 1_000_000_000].map(piece), [262_144, 16_384, 39_062, 262_144]);
    }
}
