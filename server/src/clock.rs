//! The only place that reads the wall clock.
//!
//! Tests fix it, the demo and tests step it; a production server always uses the system's.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use callboard_proto::time::Timestamp;
use tokio::sync::watch;

/// What time it is.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    /// Tells that the clock was set.
    set: watch::Sender<()>,
}

#[derive(Debug)]
enum Kind {
    System,
    /// The system's clock plus so many milliseconds.
    Stepped(AtomicI64),
    /// Stands still until it is set.
    Fixed(AtomicI64),
}

impl Clock {
    /// The system's clock.
    pub(crate) fn system() -> Self {
        Self::of(Kind::System)
    }

    /// The system's clock, which [`Clock::set`] can step.
    pub(crate) fn stepped() -> Self {
        Self::of(Kind::Stepped(AtomicI64::new(0)))
    }

    /// A clock that stands still until it is set.
    pub(crate) fn fixed(now: Timestamp) -> Self {
        Self::of(Kind::Fixed(AtomicI64::new(now.millis())))
    }

    fn of(kind: Kind) -> Self {
        Self(Arc::new(Inner { kind, set: watch::Sender::new(()) }))
    }

    /// Changes whenever the clock is set: what waits for a time need not wait for it in vain.
    pub(crate) fn settings(&self) -> watch::Receiver<()> {
        self.0.set.subscribe()
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.0.kind {
            Kind::System => system_now(),
            Kind::Stepped(offset) => {
                Timestamp::from_millis(system_now().millis().saturating_add(offset.load(Ordering::Relaxed)))
            }
            Kind::Fixed(now) => Timestamp::from_millis(now.load(Ordering::Relaxed)),
        }
    }

    /// Sets the clock; says whether it can be set.
    pub(crate) fn set(&self, to: Timestamp) -> bool {
        match &self.0.kind {
            Kind::System => return false,
            Kind::Stepped(offset) => {
                offset.store(to.millis().saturating_sub(system_now().millis()), Ordering::Relaxed);
            }
            Kind::Fixed(now) => now.store(to.millis(), Ordering::Relaxed),
        }
        self.0.set.send_replace(());
        true
    }
}

fn system_now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    chrono::Utc::now().into()
}
