//! What ends some day and is not renewed by itself: the listeners' certificates, the CAs, the root, the head. The log warns in time,
//! and `/metrics` tells how long is left.

use std::time::Duration;

use callboard_policy::trust::{HeadTerms, Stop};
use callboard_proto::time::Timestamp;

use super::{App, Error, Result};
use crate::db;

/// Long enough for a change window, and for the holders of root keys to meet.
pub(crate) const WARN_BEFORE: Duration = Duration::from_secs(60 * 86_400);

/// A little less than a day: it is looked at once a day.
const TELL_EVERY: Duration = Duration::from_secs(23 * 3600);

/// Something that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// A word for programs.
    pub(crate) what: &'static str,
    pub(crate) at: Timestamp,
    /// From when on it is said.
    pub(crate) warn_from: Timestamp,
    /// What then happens, and what helps.
    pub(crate) text: &'static str,
}

impl Expiry {
    fn new(what: &'static str, at: Timestamp, text: &'static str) -> Self {
        Self { what, at, warn_from: at - WARN_BEFORE, text }
    }

    /// Whether somebody should look after it by now.
    pub(crate) fn is_alarming(&self, now: Timestamp) -> bool {
        now >= self.warn_from
    }
}

/// When the device listener's certificate ends.
pub(crate) fn server_certificate(at: Timestamp) -> Expiry {
    let text = "from then on devices check in, but fetch nothing and report nothing; \
                make another with: callboard certificate renew --dir DIR, and restart";
    Expiry::new("server_certificate", at, text)
}

/// When the admin listener's certificate ends, where it has one.
pub(crate) fn admin_certificate(at: Timestamp) -> Expiry {
    let text = "from then on operators' programs refuse the server; replace the file of admin_tls_cert, and restart";
    Expiry::new("admin_certificate", at, text)
}

/// Every device renews its certificate within half a year; some time on top of that for whoever has to act.
const DEVICE_CA_WARN_BEFORE: Duration = Duration::from_secs(365 * 86_400);
/// Devices have to learn of the next one by a root, also those that are off for months.
const SERVER_CA_WARN_BEFORE: Duration = Duration::from_secs(730 * 86_400);

/// When the CA that issues devices' certificates ends.
pub(crate) fn device_ca(at: Timestamp) -> Expiry {
    let text = "put another one in its place while devices renew: callboard ca new device --dir DIR";
    Expiry { warn_from: at - DEVICE_CA_WARN_BEFORE, ..Expiry::new("device_ca", at, text) }
}

/// When the CA that issued the device listener's certificate ends.
pub(crate) fn server_ca(at: Timestamp) -> Expiry {
    let text = "put another one in its place: callboard ca new server --dir DIR";
    Expiry { warn_from: at - SERVER_CA_WARN_BEFORE, ..Expiry::new("server_ca", at, text) }
}

const ROOT: &str =
    "from then on devices install nothing new; make the next with: callboard root rotate, and publish it";
const HEAD: &str = "from then on devices install nothing new; make the next with: callboard head new, and publish it";

/// Everything that ends. A head is looked after from half of its life on: a forgotten one stops the fleet. One that is
/// needed and missing has ended with the root that asks for it.
pub(crate) fn all(app: &App) -> Vec<Expiry> {
    let published = app.newest_root();
    let head = published.as_ref().and_then(|published| match published.terms().head {
        HeadTerms::NotNeeded => None,
        HeadTerms::Missing => Some(Expiry::new("head", published.root.issued_at, HEAD)),
        HeadTerms::Until(at) => {
            let half = published.head.as_ref().map_or(at, |head| head.head.half_life());
            Some(Expiry { warn_from: half, ..Expiry::new("head", at, HEAD) })
        }
    });
    let root = published.map(|published| Expiry::new("root", published.root.expires, ROOT));
    app.certificates.iter().copied().chain(root).chain(head).collect()
}

/// Seconds until `at`; negative afterwards.
pub(crate) fn seconds_until(at: Timestamp, now: Timestamp) -> i64 {
    at.millis().saturating_sub(now.millis()).div_euclid(1000)
}

/// Tells those outside, once a day and whichever server it is, of everything that ends soon or has ended.
pub(crate) async fn tell(app: &App) -> Result<()> {
    let now = app.clock.now();
    let alarming = all(app).into_iter().filter(|expiry| expiry.is_alarming(now));
    let texts: Vec<String> = alarming
        .map(|Expiry { what, at, text, .. }| format!("the {} ends at {at}: {text}", what.replace('_', " ")))
        .collect();
    if texts.is_empty() {
        return Ok(());
    }
    app.db
        .write(move |conn| {
            db::Purpose::Jobs.of(|| {
                for text in texts {
                    if !db::notices::was_told(conn, "trust.expiring", &text, now - TELL_EVERY)? {
                        db::notices::insert(conn, now, "trust.expiring", None, None, &text)?;
                    }
                }
                Ok::<_, Error>(())
            })
        })
        .await
}

/// Warns of everything that ends soon, or has ended.
pub(crate) fn warn(app: &App) {
    let now = app.clock.now();
    let stop = app.newest_root().and_then(|published| published.terms().stop(now));
    for Expiry { what, at, text, .. } in all(app).into_iter().filter(|expiry| expiry.is_alarming(now)) {
        let name = what.replace('_', " ");
        if what == "head" && stop == Some(Stop::HeadMissing) {
            tracing::error!("there is no head, and the root asks for one: {text}");
        } else if at <= now {
            tracing::error!("the {name} has expired at {at}: {text}");
        } else {
            let days = seconds_until(at, now) / 86_400;
            tracing::warn!("the {name} expires at {at}, in {days} days: {text}");
        }
    }
}
