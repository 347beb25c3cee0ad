//! Who listens to what is told: a bounded number, woken when there is something, and never behind a lock of those who
//! tell it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use callboard_proto::{admin::Notice, problem::Code};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Actor, App, Error, Reach, Result, part, rollouts};
use crate::db::{self, DbConn, notices, selector::Context};

/// Listeners of one server: each is a connection and a look at the database for each notice.
const LISTENERS: usize = 64;
/// Listeners of one person or token: a few windows, and not all the places.
const EACH: usize = 16;
/// Notices read at a time.
const AT_ONCE: i64 = 100;

/// The listeners of one server.
pub(crate) struct Told {
    places: Arc<Semaphore>,
    /// How many each asker has.
    taken: Arc<Mutex<HashMap<String, usize>>>,
    /// The number of the newest notice, or that the server stops.
    newest: watch::Sender<Newest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Seq(i64),
    Stopping,
}

/// Somebody who listens.
pub(crate) struct Listener {
    _place: Place,
    newest: watch::Receiver<Newest>,
    /// The last number that was looked at.
    seq: i64,
    sees: Reach,
}

/// One of the places, and whose it is.
struct Place {
    _permit: OwnedSemaphorePermit,
    taken: Arc<Mutex<HashMap<String, usize>>>,
    who: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = taken.get_mut(&self.who) {
            *n = n.saturating_sub(1);
        }
        taken.retain(|_, n| *n > 0);
    }
}

impl Default for Told {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(LISTENERS));
        Self { places, taken: Arc::default(), newest: watch::channel(Newest::Seq(0)).0 }
    }
}

impl Told {
    fn place(&self, who: &str) -> Result<Place> {
        let permit = self.places.clone().try_acquire_owned().map_err(|_full| {
            Error::refused(Code::Unavailable, format!("{LISTENERS} listen already, and there is no place for more"))
        })?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let n = taken.entry(who.to_owned()).or_default();
        if *n >= EACH {
            let detail = format!("{who} listens {EACH} times already; close one of them first");
            return Err(Error::refused(Code::TooManyRequests, detail));
        }
        *n += 1;
        Ok(Place { _permit: permit, taken: self.taken.clone(), who: who.to_owned() })
    }

    /// Ends what listens.
    pub(crate) fn stop(&self) {
        self.newest.send_replace(Newest::Stopping);
    }
}

/// Begins to listen, after a number or from now on.
pub(crate) async fn listen(app: &App, actor: Actor, after: Option<i64>) -> Result<Listener> {
    let place = app.told.place(&actor.name)?;
    let sees = actor.sees;
    let newest = app.told.newest.subscribe();
    let seq = match after {
        Some(seq) => seq,
        None => app.db.read(|conn| Ok::<_, Error>(notices::newest(conn)?)).await?.unwrap_or(0),
    };
    Ok(Listener { _place: place, newest, seq, sees })
}

impl Listener {
    /// What has happened since, as far as it is seen; waits until something has. `None` when the server stops.
    pub(crate) async fn next(&mut self, app: &App) -> Result<Option<Vec<Notice>>> {
        loop {
            let newest = *self.newest.borrow_and_update();
            match newest {
                Newest::Stopping => return Ok(None),
                Newest::Seq(newest) if newest <= self.seq => {
                    if self.newest.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                Newest::Seq(_) => {
                    let (seq, sees, context) = (self.seq, self.sees.clone(), app.selector_context());
                    let (last, seen) = app.db.read(move |conn| read(conn, &sees, &context, seq)).await?;
                    // What is newest may have been dropped.
                    self.seq = if last == seq && seen.is_empty() { self.latest(seq) } else { last };
                    if !seen.is_empty() {
                        return Ok(Some(seen));
                    }
                }
            }
        }
    }

    fn latest(&self, seq: i64) -> i64 {
        match *self.newest.borrow() {
            Newest::Seq(newest) => newest.max(seq),
            Newest::Stopping => seq,
        }
    }
}

fn read(conn: &mut DbConn, sees: &Reach, context: &Context, seq: i64) -> Result<(i64, Vec<Notice>)> {
    let page = notices::after(conn, seq, AT_ONCE)?;
    let last = page.last().and_then(|told| i64::try_from(told.notice.seq).ok()).unwrap_or(seq);
    if sees.is_everything() {
        return Ok((last, page.into_iter().map(|told| told.notice).collect()));
    }
    let covered = part::devices(conn, sees, context, page.iter().map(|told| told.number))?;
    let mut seen = Vec::new();
    for (told, covered) in page.into_iter().zip(covered) {
        let of_rollout = match (told.number, &told.notice.rollout) {
            (None, Some(name)) => {
                let record = rollouts::resolve(conn, name)?;
                rollouts::is_within(conn, sees, &record)?
            }
            _ => false,
        };
        if covered || of_rollout {
            seen.push(told.notice);
        }
    }
    Ok((last, seen))
}

/// Looks whether anything new was told, by whichever server, if anybody listens.
pub(crate) async fn follow(app: &App) -> Result<()> {
    if app.told.newest.receiver_count() == 0 {
        return Ok(());
    }
    let read = app.db.read(|conn| db::Purpose::Jobs.of(|| Ok::<_, Error>(notices::newest(conn)?)));
    let newest = Newest::Seq(read.await?.unwrap_or(0));
    app.told.newest.send_if_modified(|known| {
        let changed = *known != newest && *known != Newest::Stopping;
        if changed {
            *known = newest;
        }
        changed
    });
    Ok(())
}
