//! Waiting places: check-ins whose answer is held back until there is something new.
//!
//! A waiting check-in is a future on its connection's worker, and an entry here; it holds no thread and asks no database.
//! Whatever may change an answer rings: for one device at once, for all of them in batches, so that ten thousand do not
//! decide in the same moment. A bell that rings while nobody listens rings on, so nothing falls between a decision and
//! the wait after it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callboard_proto::ids::DeviceId;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::Notify, time::Instant};

/// Devices rung for at once; then others have their turn.
const BATCH: usize = 500;
/// Between two batches: ten thousand are through in a fifth of a second.
const PAUSE: Duration = Duration::from_millis(10);

/// The places of one server.
#[derive(Debug)]
pub(crate) struct Waiting {
    places: usize,
    /// One place for each device, so it is never larger than there are places.
    taken: Mutex<HashMap<DeviceId, Arc<Bell>>>,
    /// Something changed for everybody.
    stirred: Notify,
    stopping: AtomicBool,
    count: Gauge,
}

#[derive(Debug, Default)]
struct Bell {
    ring: Notify,
    /// Another check-in of the same device has come.
    over: AtomicBool,
}

/// One place, taken; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    waiting: Arc<Waiting>,
    device: DeviceId,
    bell: Arc<Bell>,
}

impl Waiting {
    /// `count` shows how many wait.
    pub(crate) fn new(places: usize, count: Gauge) -> Self {
        let (taken, stirred, stopping) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        Self { places, taken, stirred, stopping, count }
    }

    /// A device has come: its check-in before this one waits no longer. Gives a place to one that wants to wait, if one
    /// is free.
    pub(crate) fn enter(self: &Arc<Self>, device: DeviceId, wants: bool) -> Option<Place> {
        let mut taken = self.taken();
        if let Some(before) = taken.remove(&device) {
            before.over.store(true, Ordering::Release);
            before.ring.notify_one();
        }
        let place = (wants && taken.len() < self.places && !self.is_stopping()).then(|| {
            let bell = Arc::<Bell>::default();
            taken.insert(device, bell.clone());
            Place { waiting: self.clone(), device, bell }
        });
        self.show(&taken);
        place
    }

    /// Something changed for one device.
    pub(crate) fn ring(&self, device: DeviceId) {
        if let Some(bell) = self.taken().get(&device) {
            bell.ring.notify_one();
        }
    }

    /// Something changed that may concern every device.
    pub(crate) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Waits until something changed for everybody.
    pub(crate) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Rings for everybody who waits, batch by batch.
    pub(crate) async fn ring_for_all(&self) {
        for batch in self.bells().chunks(BATCH) {
            batch.iter().for_each(|bell| bell.ring.notify_one());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// From now on nobody waits.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.bells().iter().for_each(|bell| bell.ring.notify_one());
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn bells(&self) -> Vec<Arc<Bell>> {
        self.taken().values().cloned().collect()
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<DeviceId, Arc<Bell>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, taken: &HashMap<DeviceId, Arc<Bell>>) {
        self.count.set(i64::try_from(taken.len()).unwrap_or(i64::MAX));
    }
}

impl Place {
    /// Waits until it rings, but not longer than `until`.
    pub(crate) async fn rung(&self, until: Instant) {
        let _ = tokio::time::timeout_at(until, self.bell.ring.notified()).await;
    }

    /// Whether another check-in of the device has come.
    pub(crate) fn is_over(&self) -> bool {
        self.bell.over.load(Ordering::Acquire)
    }

    /// Whether there is still something to wait for.
    pub(crate) fn is_open(&self) -> bool {
        !self.waiting.is_stopping()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.waiting.taken();
        if taken.get(&self.device).is_some_and(|bell| Arc::ptr_eq(bell, &self.bell)) {
            taken.remove(&self.device);
        }
        self.waiting.show(&taken);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn device(n: u128) -> DeviceId {
        DeviceId::from_uuid(Uuid::from_u128(n))
    }

    fn waiting(places: usize) -> Arc<Waiting> {
        Arc::new(Waiting::new(places, Gauge::default()))
    }

    fn in_an_hour() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[tokio::test]
    async fn places_are_bounded_and_free_again() {
        let waiting = waiting(2);
        let (first, second) = (waiting.enter(device(1), true), waiting.enter(device(2), true));
        assert!(first.is_some() && second.is_some() && waiting.enter(device(3), true).is_none());
        assert!(waiting.enter(device(4), false).is_none(), "it does not want to wait");
        assert_eq!(waiting.count.get(), 2);
        drop(first);
        assert!(waiting.enter(device(3), true).is_some());
        assert_eq!(waiting.count.get(), 1);
    }

    #[tokio::test]
    async fn a_device_has_one_place_and_its_newest_check_in_has_it() {
        let waiting = waiting(9);
        let old = waiting.enter(device(1), true).expect("a place");
        let new = waiting.enter(device(1), true).expect("a place");
        old.rung(in_an_hour()).await;
        assert!(old.is_over() && !new.is_over());
        drop(old);
        assert_eq!(waiting.count.get(), 1, "the place of the new one stays");
        assert!(waiting.enter(device(1), false).is_none());
        assert!(new.is_over(), "one that does not wait ends it too");
        assert_eq!(waiting.count.get(), 0);
    }

    #[tokio::test]
    async fn it_rings_for_one_or_for_all_and_nothing_is_missed() {
        let waiting = waiting(2000);
        let places: Vec<Place> = (0..1200).filter_map(|n| waiting.enter(device(n), true)).collect();
        let [first, second, ..] = places.as_slice() else { panic!("places") };
        let until = in_an_hour();
        waiting.ring(device(0));
        first.rung(until).await;
        assert!(pin!(first.rung(until)).now_or_never().is_none(), "it rang once");
        assert!(pin!(second.rung(until)).now_or_never().is_none(), "for another device");
        waiting.ring_for_all().await;
        for place in &places {
            place.rung(until).await;
        }
        assert!(Instant::now() < until, "all of them were rung for");
    }

    #[tokio::test]
    async fn nobody_waits_at_a_server_that_stops() {
        let waiting = waiting(9);
        let place = waiting.enter(device(1), true).expect("a place");
        waiting.stop();
        place.rung(in_an_hour()).await;
        assert!(!place.is_open() && !place.is_over());
        assert!(waiting.enter(device(2), true).is_none());
    }
}
