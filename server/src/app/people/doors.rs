//! How often somebody may try to log in. An address has few tries, whatever names it tries; a name has few from addresses
//! that never got in with it, however many those are. Addresses that did are not held up by the others, so nobody can
//! be locked out by strangers for good.

use std::{
    collections::HashSet,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use callboard_proto::problem::Code;
use governor::{DefaultKeyedRateLimiter, Quota};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::app::{Error, Result};

/// Tries of an address a minute, and at once: a person mistypes.
const OF_ADDRESS: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Tries for a name a minute from all addresses that are not known for it: 15,000 a day, of passwords with 12 characters.
const OF_NAME: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Passwords that are looked at at the same time: each takes 19 MiB and a core.
const AT_ONCE: usize = 2;
/// Names and addresses remembered, before those are forgotten that have had no try for a while.
const REMEMBERED: usize = 10_000;

/// The doors of one server.
pub(crate) struct Doors {
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    names: DefaultKeyedRateLimiter<String>,
    known: Mutex<HashSet<(String, IpAddr)>>,
    places: Semaphore,
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            addresses: DefaultKeyedRateLimiter::keyed(Quota::per_minute(OF_ADDRESS)),
            names: DefaultKeyedRateLimiter::keyed(Quota::per_minute(OF_NAME)),
            known: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }
}

impl Doors {
    /// Counts a try, or refuses it.
    pub(crate) fn enter(&self, name: &str, from: Option<IpAddr>) -> Result<()> {
        self.forget_old();
        let name = name.trim().to_ascii_lowercase();
        let own = from.is_some_and(|from| self.known().contains(&(name.clone(), from)));
        let admitted = from.is_none_or(|from| self.addresses.check_key(&from).is_ok())
            && (own || self.names.check_key(&name).is_ok());
        if admitted {
            return Ok(());
        }
        Err(too_many())
    }

    /// The same before it is known who it is.
    pub(crate) fn enter_from(&self, from: Option<IpAddr>) -> Result<()> {
        self.forget_old();
        if from.is_none_or(|from| self.addresses.check_key(&from).is_ok()) {
            return Ok(());
        }
        Err(too_many())
    }

    /// Forgets those that have had no try for a while, when there are many.
    fn forget_old(&self) {
        if self.addresses.len() + self.names.len() > REMEMBERED {
            self.addresses.retain_recent();
            self.names.retain_recent();
        }
    }

    /// Waits for a place to look at a password.
    pub(crate) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.places.acquire().await.ok()
    }

    /// Remembers that somebody got in from there.
    pub(crate) fn passed(&self, name: &str, from: Option<IpAddr>) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.extend(from.map(|from| (name.trim().to_ascii_lowercase(), from)));
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<(String, IpAddr)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many() -> Error {
    Error::refused(Code::TooManyRequests, "too many logins were tried; wait a minute and try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    #[test]
    fn an_address_has_few_tries_and_so_has_a_name() {
        let doors = Doors::default();
        let tries = |from: Option<IpAddr>| (0..50).filter(|_| doors.enter("Ada", from).is_ok()).count();
        assert!((10..20).contains(&tries(address(1))));
        // The name is used up, but not for an address that got in before.
        let other = (2..50).filter(|n| doors.enter("ada", address(*n)).is_ok()).count();
        assert!(other < 10, "{other}");
        doors.passed("ADA ", address(99));
        assert!(doors.enter("ada", address(99)).is_ok());
        assert!(doors.enter("bob", address(98)).is_ok());
    }
}
