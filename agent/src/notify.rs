//! What systemd is told. Without systemd nobody listens, and nothing happens.

use std::{cell::Cell, time::Duration};

use sd_notify::NotifyState;

use crate::clock::boottime;

/// Pings at most this often; the watchdog of the unit is a multiple of it.
const PING_EVERY: Duration = Duration::from_secs(10);

/// What makes progress at all has made some within this time.
const PROGRESS_WITHIN: Duration = Duration::from_secs(600);

/// The way to the service manager.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    last_ping: Cell<Duration>,
    /// Until then what is being done may be silent.
    silent_until: Cell<Duration>,
}

impl Notifier {
    /// Startup is finished.
    pub(crate) fn ready(&self) {
        send(&[NotifyState::Ready]);
    }

    /// A clean stop has begun.
    pub(crate) fn stopping(&self) {
        send(&[NotifyState::Stopping]);
    }

    /// For `systemctl status`.
    pub(crate) fn status(&self, text: &str) {
        send(&[NotifyState::Status(text)]);
    }

    /// Something was done. Called by what makes progress, never by a timer.
    pub(crate) fn alive(&self) {
        self.expect(PROGRESS_WITHIN);
        self.ping();
    }

    /// What begins now needs this long, and a little more, before it can tell of progress.
    pub(crate) fn expect(&self, silence: Duration) {
        self.silent_until.set(boottime() + silence + Duration::from_secs(60));
    }

    /// The loop has come round. That is no progress of what is being done, which must be within its time.
    pub(crate) fn turned(&self, working: bool) {
        if !working || self.is_within() {
            self.ping();
        }
    }

    /// Whether what is being done is within its time.
    fn is_within(&self) -> bool {
        boottime() <= self.silent_until.get()
    }

    fn ping(&self) {
        let now = boottime();
        if now.saturating_sub(self.last_ping.get()) >= PING_EVERY {
            self.last_ping.set(now);
            send(&[NotifyState::Watchdog]);
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_progress_within_its_time_is_not_kept_alive() {
        let notifier = Notifier::default();
        assert!(!notifier.is_within(), "nothing was begun");
        notifier.expect(Duration::from_secs(5));
        assert!(notifier.is_within());
        notifier.silent_until.set(boottime().saturating_sub(Duration::from_millis(1)));
        assert!(!notifier.is_within());
        notifier.alive();
        assert!(notifier.is_within());
    }
}
