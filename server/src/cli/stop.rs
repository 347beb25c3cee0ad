//! Waiting that can be ended: by a signal, where that matters.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

/// Tells whether the process was asked to end. Copies share the answer.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Signals keep their usual effect.
    pub(crate) fn never() -> Self {
        Self::default()
    }

    /// Takes over SIGINT, SIGTERM and SIGHUP for the rest of the process.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let told = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            told.stop();
        })?;
        Ok(stop)
    }

    /// Ends every wait, now and later.
    pub(crate) fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits at most `longest`; whether it was told to stop.
    pub(crate) fn wait(&self, longest: Duration) -> bool {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(guard, longest, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_all_waits() {
        let stop = Stop::never();
        assert!(!stop.wait(Duration::from_millis(1)));
        let other = stop.clone();
        let waiting = thread::spawn(move || other.wait(Duration::from_secs(600)));
        stop.stop();
        assert!(waiting.join().expect("no panic"));
        assert!(stop.wait(Duration::from_secs(600)));
    }
}
