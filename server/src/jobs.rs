//! What happens without a request: last-seen is flushed, gates and timers that wait for time are looked at, other
//! servers' changes are followed, old history is dropped, what expires soon is said. Nothing here assigns anything to a
//! device.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    app::{
        App, Error, attacks, expiry, once, people::login::IDLE, presence, rollouts::advance::advance_by_time, served,
        timers, told, webhooks,
    },
    db,
};

/// At most so much of last-seen is lost by a `kill -9`.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How far this server may be behind another one on the same database; grants are safe regardless.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How long whoever listens waits at most for what happens.
const TELL_EVERY: Duration = Duration::from_millis(500);
const DELIVER_EVERY: Duration = Duration::from_secs(1);
const GATES_EVERY: Duration = Duration::from_secs(5);
/// What is known of windows reaches farther than this.
const FORESEE_EVERY: Duration = Duration::from_secs(3600);
const TIMERS_EVERY: Duration = Duration::from_secs(5);
/// Between two rounds among the devices that wait: changes that come close together cost one.
const STIR_EVERY: Duration = Duration::from_millis(100);
const PURGE_EVERY: Duration = Duration::from_secs(3600);
/// The first time at the start, which is when whoever has just made a certificate looks at the log.
const WARN_EVERY: Duration = Duration::from_secs(86_400);
/// Events that one transaction drops, so that nobody's write waits long behind it.
const PURGE_AT_ONCE: i64 = 500;
/// Every server reads changes within seconds.
const KEEP_CHANGES: Duration = Duration::from_secs(3600);
/// A device that waits asks every minute while somebody installs it; one that did not for so long will not.
const KEEP_ENROLMENTS: Duration = Duration::from_secs(30 * 86_400);
/// Whoever listens and was away for longer has to look at the events.
const KEEP_NOTICES: Duration = Duration::from_secs(7 * 86_400);
/// Deliveries that were taken, or given up: somebody has to look at these within a month.
const KEEP_DELIVERIES: Duration = Duration::from_secs(30 * 86_400);
/// Longer than a forecast looks back.
const KEEP_HOURS: Duration = Duration::from_secs(8 * 86_400);

/// Starts the jobs; they end with the runtime.
pub(crate) fn start(app: &Arc<App>, retention: Duration) {
    every(app, FLUSH_EVERY, "flush last-seen", |app| async move { presence::flush(&app).await.map_err(Error::from) });
    every(
        app,
        FLUSH_EVERY,
        "count what was served",
        |app| async move { served::flush(&app).await.map_err(Error::from) },
    );
    every(app, FLUSH_EVERY, "write down attacks", |app| async move { attacks::flush(&app).await });
    every(app, GATES_EVERY, "look at gates", |app| async move { advance_by_time(&app).await });
    every(app, FORESEE_EVERY, "look ahead", |app| async move {
        app.foresee_on();
        Ok(())
    });
    tokio::spawn(ring(app.clone()));
    tokio::spawn(answer_waiting(app.clone()));
    every(app, PURGE_EVERY, "drop old history", move |app| async move { purge(&app, retention).await });
    every(app, WARN_EVERY, "look at what expires", |app| async move {
        expiry::warn(&app);
        expiry::tell(&app).await
    });
    every(app, TELL_EVERY, "see what was told", |app| async move { told::follow(&app).await });
    every(app, DELIVER_EVERY, "tell webhooks", |app| async move {
        while webhooks::deliver(&app).await? {}
        Ok(())
    });
    if app.db.is_shared() {
        let app = app.clone();
        tokio::spawn(async move { follow(&app).await });
    }
}

fn every<F, Fut>(app: &Arc<App>, period: Duration, what: &'static str, job: F)
where
    F: Fn(Arc<App>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let app = app.clone();
    tokio::spawn(async move {
        let mut beat = Beat::new(&app, period);
        loop {
            beat.next().await;
            if let Err(error) = job(app.clone()).await {
                tracing::warn!(%error, "cannot {what}; trying again");
            }
        }
    });
}

/// Every so often, and at once when the clock was set.
struct Beat {
    ticks: tokio::time::Interval,
    settings: watch::Receiver<()>,
}

impl Beat {
    fn new(app: &App, period: Duration) -> Self {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { ticks, settings: app.clock.settings() }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.ticks.tick() => {}
            // The clock lives as long as the server.
            _ = self.settings.changed() => {}
        }
    }
}

/// Lets the timers of assignments go off. Devices are not to blame for a server that could not hear them: after a start
/// and after a failure their silence begins anew.
async fn ring(app: Arc<App>) {
    let mut beat = Beat::new(&app, TIMERS_EVERY);
    let mut hears_since = app.clock.now();
    let mut deaf = false;
    loop {
        beat.next().await;
        if deaf {
            hears_since = app.clock.now();
        }
        let rang = timers::ring(&app, hears_since).await;
        deaf = rang.is_err();
        if let Err(error) = rang {
            tracing::warn!(%error, "cannot look at timers; trying again");
        }
    }
}

/// Lets waiting check-ins be decided anew when something changed for all of them, the time among it.
async fn answer_waiting(app: Arc<App>) {
    let mut settings = app.clock.settings();
    loop {
        tokio::select! {
            () = app.waiting.stirred() => {}
            _ = settings.changed() => {}
        }
        app.waiting.ring_for_all().await;
        tokio::time::sleep(STIR_EVERY).await;
    }
}

async fn purge(app: &App, retention: Duration) -> Result<(), Error> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            db::Purpose::Jobs.of(|| {
                db::counters::purge_changes(conn, now - KEEP_CHANGES)?;
                db::enrolments::purge(conn, now - KEEP_ENROLMENTS)?;
                db::sessions::purge(conn, now, now - IDLE)?;
                db::answers::purge(conn, now - once::KEPT)?;
                db::webhooks::purge(conn, now - KEEP_DELIVERIES)?;
                Ok::<_, Error>(db::hours::purge(conn, now - KEEP_HOURS)?)
            })
        })
        .await?;
    loop {
        let dropped = app
            .db
            .write(move |conn| {
                db::Purpose::Jobs.of(|| {
                    let notices = db::notices::purge(conn, now - KEEP_NOTICES, PURGE_AT_ONCE)?;
                    Ok::<_, Error>(notices + db::events::purge(conn, now - retention, now, PURGE_AT_ONCE)?)
                })
            })
            .await?;
        if dropped == 0 {
            return Ok(());
        }
    }
}

/// Follows the changes that other servers on the same database make.
async fn follow(app: &App) {
    let (mut seen, mut behind) = (None, false);
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    loop {
        ticks.tick().await;
        match changes(app, seen).await {
            Ok(last) => {
                seen = Some(last);
                if std::mem::take(&mut behind) {
                    app.waiting.stir();
                }
            }
            Err(error) => {
                behind = true;
                tracing::warn!(%error, "cannot follow the other servers' changes; trying again");
                // What was missed is not known.
                app.forget_devices();
            }
        }
    }
}

async fn changes(app: &App, seen: Option<i64>) -> Result<i64, Error> {
    app.refresh_catalog().await?;
    let (changed, last) = app
        .db
        .read(move |conn| {
            db::Purpose::Jobs.of(|| match seen {
                Some(seen) => Ok::<_, Error>(db::counters::changed_devices(conn, seen)?),
                None => Ok((Vec::new(), db::counters::last_change(conn)?)),
            })
        })
        .await?;
    changed.into_iter().for_each(|device| app.forget_device(device));
    Ok(last)
}
