//! The only place that reads a clock.
//!
//! [`Clock::trusted_now`] is what dates are compared with. It never believes the system clock over a signed answer:
//! attested time (the server's, from a nonce-bound instruction, plus the time since) if there is one, else the later
//! of system clock and floor. Intervals use [`boottime`], which counts suspend and does not jump.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use callboard_proto::time::Timestamp;
use rustls_pki_types::UnixTime;

/// No certificate or document of ours is older than this program.
const BUILT: Timestamp = Timestamp::from_millis(1_793_491_200_000);
/// An online key alone cannot carry a device further than this past the newest document that was signed offline.
const MAX_AHEAD: Duration = Duration::from_secs(400 * 86_400);
const NONE: i64 = i64::MIN;

/// Time since boot, including suspend.
pub(crate) fn boottime() -> Duration {
    duration(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What the system clock says, right or wrong.
pub(crate) fn system() -> Timestamp {
    let time = duration(rustix::time::clock_gettime(rustix::time::ClockId::Realtime));
    Timestamp::from_millis(0) + time
}

/// Time that may be compared with dates in certificates and documents. Shared with the TLS library, hence atomic.
#[derive(Debug)]
pub(crate) struct Clock {
    floor_ms: AtomicI64,
    /// Attested time minus [`boottime`].
    attested_ms: AtomicI64,
}

impl Clock {
    /// A clock that knows of nothing signed later than `floor`.
    pub(crate) fn new(floor: Timestamp) -> Self {
        Self { floor_ms: AtomicI64::new(floor.max(BUILT).millis()), attested_ms: AtomicI64::new(NONE) }
    }

    /// Takes note of a verified document that was signed offline.
    pub(crate) fn raise_floor(&self, issued_at: Timestamp) {
        self.floor_ms.fetch_max(issued_at.millis(), Relaxed);
    }

    /// The newest date known from offline signatures; to be persisted.
    pub(crate) fn floor(&self) -> Timestamp {
        Timestamp::from_millis(self.floor_ms.load(Relaxed))
    }

    /// Takes over the time of a verified, nonce-bound answer. Says whether it lay before the floor.
    pub(crate) fn attest(&self, server_time: Timestamp) -> Attested {
        let floor = self.floor();
        let capped = server_time.clamp(floor, floor + MAX_AHEAD);
        let since_boot = i64::try_from(boottime().as_millis()).unwrap_or(i64::MAX);
        self.attested_ms.store(capped.millis().saturating_sub(since_boot), Relaxed);
        if server_time < floor { Attested::BehindFloor } else { Attested::Taken }
    }

    /// The time that dates are compared with.
    pub(crate) fn trusted_now(&self) -> Timestamp {
        match self.attested_ms.load(Relaxed) {
            NONE => system().max(self.floor()),
            offset => {
                let now = Timestamp::from_millis(offset) + boottime();
                now.clamp(self.floor(), self.floor() + MAX_AHEAD)
            }
        }
    }
}

/// What became of an attested time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attested {
    /// It is the time now.
    Taken,
    /// It was earlier than a signature that exists already; the floor is taken instead.
    BehindFloor,
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.trusted_now().millis()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn near(a: Timestamp, b: Timestamp) -> bool {
        a.since(b) + b.since(a) < Duration::from_secs(60)
    }

    #[test]
    fn an_attested_time_replaces_the_system_clock() {
        let clock = Clock::new(BUILT);
        let told = system() + DAY * 100;
        assert_eq!(clock.attest(told), Attested::Taken);
        assert!(near(clock.trusted_now(), told));
    }

    #[test]
    fn a_stolen_online_key_cannot_push_the_clock_beyond_the_cap() {
        let clock = Clock::new(BUILT);
        let _ = clock.attest(BUILT + DAY * 40_000);
        assert!(near(clock.trusted_now(), BUILT + MAX_AHEAD));
        clock.raise_floor(BUILT + DAY * 200);
        let _ = clock.attest(BUILT + DAY * 300);
        assert!(near(clock.trusted_now(), BUILT + DAY * 300), "a sane answer heals it");
    }

    #[test]
    fn time_never_falls_behind_a_signature() {
        let clock = Clock::new(BUILT + DAY * 10);
        assert_eq!(clock.attest(BUILT), Attested::BehindFloor);
        assert!(clock.trusted_now() >= BUILT + DAY * 10);
        assert_eq!(Clock::new(Timestamp::from_millis(0)).floor(), BUILT);
    }
}
