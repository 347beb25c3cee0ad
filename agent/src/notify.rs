//! What systemd is told. Without systemd nobody listens, and nothing happens.

use std::{cell::Cell, time::Duration};

use sd_notify::NotifyState;

use crate::clock::boottime;

/// Pings at most this often; the watchdog of the unit is a multiple of it.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The way to the service manager.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    last_ping: Cell<Duration>,
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

    /// Something was done. Called by what makes progress, never by a timer of its own.
    pub(crate) fn alive(&self) {
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
