//! What ends some day and is not renewed by itself: the listeners' certificates and the root. The log warns in time, and
//! `/metrics` tells how long is left.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use super::App;

/// Long enough for a change window, and for the holders of root keys to meet.
pub(crate) const WARN_BEFORE: Duration = Duration::from_secs(60 * 86_400);

/// Something that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// A word for programs.
    pub(crate) what: &'static str,
    pub(crate) at: Timestamp,
    /// What then happens, and what helps.
    pub(crate) text: &'static str,
}

/// When the device listener's certificate ends.
pub(crate) const fn server_certificate(at: Timestamp) -> Expiry {
    let text = "from then on devices check in, but fetch nothing and report nothing; \
                make another with: callboard certificate renew --dir DIR, and restart";
    Expiry { what: "server_certificate", at, text }
}

/// When the admin listener's certificate ends, where it has one.
pub(crate) const fn admin_certificate(at: Timestamp) -> Expiry {
    let text = "from then on operators' programs refuse the server; replace the file of admin_tls_cert, and restart";
    Expiry { what: "admin_certificate", at, text }
}

/// Everything that ends.
pub(crate) fn all(app: &App) -> Vec<Expiry> {
    let text = "from then on devices install nothing new";
    let root = app.newest_root().map(|root| Expiry { what: "root", at: root.root.expires, text });
    app.certificates.iter().copied().chain(root).collect()
}

/// Seconds until `at`; negative afterwards.
pub(crate) fn seconds_until(at: Timestamp, now: Timestamp) -> i64 {
    at.millis().saturating_sub(now.millis()).div_euclid(1000)
}

/// Warns of everything that ends soon, or has ended.
pub(crate) fn warn(app: &App) {
    let now = app.clock.now();
    for Expiry { what, at, text } in all(app).into_iter().filter(|expiry| now + WARN_BEFORE >= expiry.at) {
        if at <= now {
            tracing::error!("the {} has expired at {at}: {text}", what.replace('_', " "));
        } else {
            let days = seconds_until(at, now) / 86_400;
            tracing::warn!("the {} expires at {at}, in {days} days: {text}", what.replace('_', " "));
        }
    }
}
