//! The devices that a server remembers, so that an idle check-in asks no database.
//!
//! What is remembered must not be older than the last change: the device would be answered by it until something else
//! happens to it. So whoever reads a row looks here first, and the row is kept only if the device was not forgotten
//! meanwhile. A change that is to hold from its commit on is announced before that: until it is through, nothing is
//! remembered of the device.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use callboard_proto::ids::DeviceId;
use quick_cache::sync::Cache;

use super::Known;

/// Devices share a shard by the last byte of their ids, which is random.
const SHARDS: usize = 256;

/// Devices in memory, and what happens to them there.
pub(crate) struct Remembered<V = Arc<Known>> {
    cache: Cache<DeviceId, V>,
    shards: [Shard; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// How often one of its devices was forgotten.
    forgotten: AtomicU64,
    /// Those whose change is announced and not through, once for each change.
    changing: Mutex<Vec<DeviceId>>,
}

/// When a row began to be read.
pub(crate) struct Look(u64);

/// A change of a device that is not through. When it is dropped, it is.
pub(crate) struct Changing<V: Clone = Arc<Known>> {
    remembered: Arc<Remembered<V>>,
    device: DeviceId,
}

impl<V: Clone> Remembered<V> {
    /// Remembers this many devices at most.
    pub(crate) fn new(devices: usize) -> Self {
        Self { cache: Cache::new(devices), shards: std::array::from_fn(|_| Shard::default()) }
    }

    /// The device, if it is remembered.
    pub(crate) fn get(&self, id: DeviceId) -> Option<V> {
        if self.shard(id).changing().contains(&id) { None } else { self.cache.get(&id) }
    }

    /// To be called before the row of a device is read.
    pub(crate) fn look(&self, id: DeviceId) -> Look {
        Look(self.shard(id).forgotten.load(SeqCst))
    }

    /// Remembers a device as it was read, unless it may have changed since. What was remembered of it before is forgotten
    /// in any case.
    pub(crate) fn keep(&self, id: DeviceId, known: V, read: Look) {
        let shard = self.shard(id);
        self.cache.insert(id, known);
        // Not before it is in: whoever forgets it from now on finds it there.
        if shard.forgotten.load(SeqCst) != read.0 || shard.changing().contains(&id) {
            self.cache.remove(&id);
        }
    }

    /// A change to the device was committed.
    pub(crate) fn forget(&self, id: DeviceId) {
        self.shard(id).forgotten.fetch_add(1, SeqCst);
        self.cache.remove(&id);
    }

    /// A change was committed that may concern every device.
    pub(crate) fn forget_all(&self) {
        for shard in &self.shards {
            shard.forgotten.fetch_add(1, SeqCst);
        }
        self.cache.clear();
    }

    /// A change to the device is about to be committed.
    pub(crate) fn change(self: &Arc<Self>, device: DeviceId) -> Changing<V> {
        self.shard(device).changing().push(device);
        self.cache.remove(&device);
        Changing { remembered: self.clone(), device }
    }

    #[expect(clippy::indexing_slicing, reason = "there is a shard for every byte")]
    fn shard(&self, id: DeviceId) -> &Shard {
        let [.., last] = *id.as_bytes();
        &self.shards[usize::from(last)]
    }
}

impl Shard {
    fn changing(&self) -> MutexGuard<'_, Vec<DeviceId>> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Changing<V> {
    /// Which device changes.
    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }
}

impl<V: Clone> Drop for Changing<V> {
    fn drop(&mut self) {
        self.remembered.forget(self.device);
        let mut changing = self.remembered.shard(self.device).changing();
        if let Some(place) = changing.iter().position(|one| *one == self.device) {
            changing.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TILL: DeviceId = DeviceId::from_uuid(Uuid::from_u128(7));

    fn remembered() -> Arc<Remembered<&'static str>> {
        let remembered = Arc::new(Remembered::new(9));
        remembered.keep(TILL, "as it was", remembered.look(TILL));
        assert_eq!(remembered.get(TILL), Some("as it was"));
        remembered
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let remembered = remembered();
        let read = remembered.look(TILL);
        remembered.forget(TILL);
        remembered.keep(TILL, "as it was", read);
        assert_eq!(remembered.get(TILL), None, "one device was forgotten");
        let read = remembered.look(TILL);
        remembered.forget_all();
        remembered.keep(TILL, "as it was", read);
        assert_eq!(remembered.get(TILL), None, "all of them were");
        remembered.keep(TILL, "as it is", remembered.look(TILL));
        assert_eq!(remembered.get(TILL), Some("as it is"));
        let read = remembered.look(TILL);
        remembered.forget(DeviceId::from_uuid(Uuid::from_u128(8)));
        remembered.keep(TILL, "as it is", read);
        assert_eq!(remembered.get(TILL), Some("as it is"), "another one was");
    }

    #[test]
    fn nothing_is_remembered_from_before_a_commit_until_the_change_is_through() {
        let remembered = remembered();
        let read = remembered.look(TILL);
        let (one, other) = (remembered.change(TILL), remembered.change(TILL));
        assert_eq!(remembered.get(TILL), None);
        let neighbour = DeviceId::from_uuid(Uuid::from_u128(0x100 + 7));
        remembered.keep(neighbour, "another", remembered.look(neighbour));
        assert_eq!(remembered.get(neighbour), Some("another"), "it shares the shard, and does not change");
        remembered.keep(TILL, "as it was", read);
        remembered.keep(TILL, "as it was", remembered.look(TILL));
        assert_eq!(remembered.get(TILL), None, "it may be committed by now");
        drop(one);
        remembered.keep(TILL, "as it was", remembered.look(TILL));
        assert_eq!(remembered.get(TILL), None, "the other change may not be");
        let read = remembered.look(TILL);
        assert_eq!(other.device(), TILL);
        drop(other);
        remembered.keep(TILL, "as it was", read);
        assert_eq!(remembered.get(TILL), None);
        remembered.keep(TILL, "as it is", remembered.look(TILL));
        assert_eq!(remembered.get(TILL), Some("as it is"));
    }
}
