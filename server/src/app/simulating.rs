//! The one place for simulations: each holds a whole fleet in memory and keeps a core busy. Nobody plays on for a client
//! that has hung up, or for a server that is to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The place of one server.
#[derive(Debug)]
pub(crate) struct Simulating {
    place: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
}

/// The place, taken; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    hung_up: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
}

/// Somebody waits for what comes of it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Default for Simulating {
    fn default() -> Self {
        Self { place: Arc::new(Semaphore::new(1)), stopping: Arc::default() }
    }
}

impl Simulating {
    /// Takes the place, if it is free.
    pub(crate) fn enter(&self) -> Option<(Place, Asked)> {
        let permit = self.place.clone().try_acquire_owned().ok()?;
        let hung_up = Arc::<AtomicBool>::default();
        let place = Place { _permit: permit, hung_up: hung_up.clone(), stopping: self.stopping.clone() };
        Some((place, Asked(hung_up)))
    }

    /// From now on every simulation is given up.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl Place {
    /// Whether nobody waits for it any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.hung_up.load(Ordering::Acquire) || self.stopping.load(Ordering::Acquire)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_place_and_it_is_given_up_with_whoever_asked() {
        let simulating = Simulating::default();
        let (place, asked) = simulating.enter().expect("a place");
        assert!(simulating.enter().is_none() && !place.is_given_up());
        drop(asked);
        assert!(place.is_given_up());
        assert!(simulating.enter().is_none(), "whoever plays has not noticed yet");
        drop(place);
        let (place, _asked) = simulating.enter().expect("it is free again");
        assert!(!place.is_given_up());
        simulating.stop();
        assert!(place.is_given_up());
    }
}
