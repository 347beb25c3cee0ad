//! How often somebody may try to log in. An address has few tries, whatever names it tries; a name has few from addresses
//! that never got in with it, however many those are. Addresses that did are not held up by the others, so nobody can
//! be locked out by strangers for good.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
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
/// Questions to the identity provider at the same time: one that does not answer holds up nothing else.
const ASKING: usize = 8;
/// Longer names are nobody's, and not remembered whole.
const MAX_NAME: usize = 65;
/// Names and addresses remembered, before those are forgotten that have had no try for a while.
const REMEMBERED: usize = 10_000;

/// The doors of one server.
pub(crate) struct Doors {
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    names: DefaultKeyedRateLimiter<Tries>,
    known: Mutex<HashSet<(String, IpAddr)>>,
    places: Semaphore,
    asking: Semaphore,
}

/// For whom tries are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Tries {
    /// A name, from wherever nobody got in with it.
    Name(String),
    /// A name from where somebody did.
    Known(String, IpAddr),
    /// Somebody who is in, and shows that once more.
    Inside(String),
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            addresses: DefaultKeyedRateLimiter::keyed(Quota::per_minute(OF_ADDRESS)),
            names: DefaultKeyedRateLimiter::keyed(Quota::per_minute(OF_NAME)),
            known: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            asking: Semaphore::new(ASKING),
        }
    }
}

impl Doors {
    /// Counts a try, or refuses it.
    pub(crate) fn enter(&self, name: &str, from: Option<IpAddr>) -> Result<()> {
        self.forget_old();
        let (name, from) = (key(name), from.map(network));
        let known = from.filter(|from| self.known().contains(&(name.clone(), *from)));
        let admitted = match known {
            // Others behind the same address, a tunnel say, do not use up these tries.
            Some(from) => self.names.check_key(&Tries::Known(name, from)).is_ok(),
            None => {
                from.is_none_or(|from| self.addresses.check_key(&from).is_ok())
                    && self.names.check_key(&Tries::Name(name)).is_ok()
            }
        };
        if admitted { Ok(()) } else { Err(too_many()) }
    }

    /// Counts a try of somebody who is in, whom strangers with the same name do not hold up.
    pub(crate) fn enter_inside(&self, name: &str) -> Result<()> {
        self.forget_old();
        if self.names.check_key(&Tries::Inside(key(name))).is_ok() { Ok(()) } else { Err(too_many()) }
    }

    /// A place to ask the identity provider, if there is one.
    pub(crate) fn ask(&self) -> Result<SemaphorePermit<'_>> {
        self.asking.try_acquire().map_err(|_full| {
            Error::refused(Code::Unavailable, "many logins wait for the identity provider; try again in a moment")
        })
    }

    /// The same before it is known who it is.
    pub(crate) fn enter_from(&self, from: Option<IpAddr>) -> Result<()> {
        self.forget_old();
        if from.is_none_or(|from| self.addresses.check_key(&network(from)).is_ok()) {
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
        known.extend(from.map(|from| (key(name), network(from))));
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<(String, IpAddr)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(name: &str) -> String {
    name.trim().chars().take(MAX_NAME).collect::<String>().to_ascii_lowercase()
}

/// Whose tries an address counts as: with IPv6 a single machine has a whole /64 of addresses.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
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
        // Neither by its neighbours behind the same address, nor once it is in.
        while doors.enter("eve", address(99)).is_ok() {}
        assert!(doors.enter("ada", address(99)).is_ok() && doors.enter_inside("ada").is_ok());
        // A machine has no more tries because it has more addresses.
        let tries = (0..50_u16).filter(|n| {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, *n);
            doors.enter(&format!("u{n}"), Some(address.into())).is_ok()
        });
        assert!(tries.count() < 20);
    }

    #[test]
    fn a_name_that_is_too_long_is_not_remembered_whole() {
        assert_eq!(key(&"ä".repeat(100_000)).chars().count(), MAX_NAME);
    }

    #[test]
    fn a_machine_with_many_addresses_has_one_quota() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }
}
