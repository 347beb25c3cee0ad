//! The time of the tests.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use callboard_proto::time::Timestamp;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// When every test begins: a Tuesday noon in UTC, far from any change of clocks.
pub const START: &str = "2027-01-12T12:00:00Z";

/// Reads a time.
pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The server's fixed clock as the test set it; devices verify certificates by it.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn starting() -> Self {
        Self(Arc::new(AtomicI64::new(time(START).millis())))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.millis(), Ordering::SeqCst);
    }
}

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.now().millis()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(ms)))
    }
}
