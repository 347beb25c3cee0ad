//! What an overview shows that is too dear to be worked out for each look at it, and check-ins over a day.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use callboard_proto::{
    admin::{Forecast, Overview},
    ids::RolloutId,
    time::Timestamp,
};
use tokio::sync::Mutex as Turn;

use super::{Actor, App, Error, Reach, Result, overview, rollouts};
use crate::db::{self, selector::Runs};

/// Devices from which on a look at all of them is remembered: it takes a millisecond for each thousand or more.
const MANY: u64 = 10_000;
/// How long it is. After that it is shown once more, and looked again behind that.
const LOOK_FOR: Duration = Duration::from_secs(10);
/// Unless it is as old as this: then nobody has looked for long, and whoever does now waits for it.
const OLDEST: Duration = Duration::from_secs(60);
/// How long a forecast is: it is about hours and days.
const FORECAST_FOR: Duration = Duration::from_secs(30);
/// Forecasts remembered; more rollouts than that are never open at once.
const FORECASTS: usize = 1000;
const MINUTE_MS: i64 = 60_000;
/// Minutes of a day.
const DAY: u16 = 1440;

/// What is remembered between looks.
#[derive(Default)]
pub(crate) struct Fleet {
    look: Mutex<Option<Arc<Look>>>,
    /// One looks, and the others wait for that.
    looking: Turn<()>,
    forecasts: Mutex<HashMap<RolloutId, (Instant, Forecast)>>,
    check_ins: Mutex<Vec<(i64, u32)>>,
}

impl Fleet {
    /// Counts a check-in that was answered.
    pub(crate) fn checked_in(&self, now: Timestamp) {
        let minute = now.millis().div_euclid(MINUTE_MS);
        let mut minutes = self.minutes();
        if minutes.is_empty() {
            minutes.resize(usize::from(DAY), (i64::MIN, 0));
        }
        let place = usize::try_from(minute.rem_euclid(DAY.into())).unwrap_or(0);
        if let Some((known, n)) = minutes.get_mut(place) {
            *n = if *known == minute { n.saturating_add(1) } else { 1 };
            *known = minute;
        }
    }

    /// Check-ins that this server answered in the last 24 hours since it runs: `parts` numbers, the newest last, with the
    /// moment at which each part begins.
    pub(crate) fn check_ins(&self, now: Timestamp, parts: u16) -> Vec<(Timestamp, u64)> {
        let last = now.millis().div_euclid(MINUTE_MS);
        let (parts, first) = (i64::from(parts.max(1)), last - i64::from(DAY) + 1);
        let minutes = self.minutes();
        let begin = |part: i64| first + part * i64::from(DAY) / parts;
        let part = |part: i64| {
            let (from, to) = (begin(part), begin(part + 1));
            let within = minutes.iter().filter(|(minute, _)| (from..to).contains(minute));
            let at = Timestamp::from_millis(from.saturating_mul(MINUTE_MS));
            (at, within.map(|(_, n)| u64::from(*n)).sum())
        };
        (0..parts).map(part).collect()
    }

    /// Check-ins in the last minute that is over.
    pub(crate) fn per_minute(&self, now: Timestamp) -> u32 {
        let wanted = now.millis().div_euclid(MINUTE_MS) - 1;
        self.minutes().iter().find(|(minute, _)| *minute == wanted).map_or(0, |(_, n)| *n)
    }

    fn minutes(&self) -> MutexGuard<'_, Vec<(i64, u32)>> {
        self.check_ins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look at every device.
pub(crate) struct Look {
    at: Instant,
    pub(crate) overview: Overview,
    /// How many devices run which version of each product.
    pub(crate) runs: Runs,
}

/// How the part of the fleet stands that somebody sees. Of the whole of a large one it is the look of a moment ago.
pub(crate) async fn look(app: &Arc<App>, sees: &Reach) -> Result<Arc<Look>> {
    if !sees.is_everything() {
        return Ok(Arc::new(look_now(app, sees.clone()).await?));
    }
    let Some(known) = known(app) else {
        let _turn = app.fleet.looking.lock().await;
        return match known(app) {
            Some(known) => Ok(known),
            None => look_and_keep(app).await,
        };
    };
    if known.at.elapsed() >= LOOK_FOR {
        let app = app.clone();
        tokio::spawn(async move {
            // Whoever finds the turn taken need not look too.
            let Ok(_turn) = app.fleet.looking.try_lock() else { return };
            if let Err(error) = look_and_keep(&app).await {
                tracing::warn!(%error, "the fleet could not be looked at for the overview");
            }
        });
    }
    Ok(known)
}

fn known(app: &App) -> Option<Arc<Look>> {
    let known = app.fleet.look.lock().unwrap_or_else(PoisonError::into_inner).clone();
    known.filter(|known| known.at.elapsed() < OLDEST)
}

async fn look_and_keep(app: &App) -> Result<Arc<Look>> {
    let look = Arc::new(look_now(app, Reach::Everything).await?);
    let many = look.overview.devices.values().sum::<u64>() >= MANY;
    *app.fleet.look.lock().unwrap_or_else(PoisonError::into_inner) = many.then(|| look.clone());
    Ok(look)
}

async fn look_now(app: &App, sees: Reach) -> Result<Look> {
    let (context, selector) = (app.selector_context(), sees.selector());
    let overview = overview::overview(app, sees).await?;
    let runs = app.db.read(move |conn| {
        db::Purpose::Metrics.of(|| Ok::<_, Error>(db::selector::versions(conn, &selector, &context)?))
    });
    Ok(Look { at: Instant::now(), overview, runs: runs.await? })
}

/// When a rollout will be done, as it was a moment ago.
pub(crate) async fn forecast(app: &App, actor: &Actor, rollout: RolloutId) -> Result<Forecast> {
    let forecasts = || app.fleet.forecasts.lock().unwrap_or_else(PoisonError::into_inner);
    let known = forecasts().get(&rollout).filter(|(at, _)| at.elapsed() < FORECAST_FOR).map(|(_, known)| known.clone());
    if let Some(known) = known {
        return Ok(known);
    }
    let forecast = rollouts::forecast::forecast(app, actor.clone(), rollout.to_string()).await?;
    let mut known = forecasts();
    if known.len() >= FORECASTS {
        known.clear();
    }
    known.insert(rollout, (Instant::now(), forecast.clone()));
    Ok(forecast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_ins_are_counted_by_the_minute_for_a_day() {
        let (fleet, start) = (Fleet::default(), Timestamp::from_millis(1_800_000_000_000));
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        for (minute, n) in [(0, 3), (1, 2), (700, 5), (1439, 1)] {
            (0..n).for_each(|_| fleet.checked_in(at(minute)));
        }
        assert_eq!((fleet.per_minute(at(2)), fleet.per_minute(at(1))), (2, 3));
        let halves = |now| fleet.check_ins(now, 2).into_iter().map(|(_, n)| n).collect::<Vec<_>>();
        assert_eq!(halves(at(1439)), [10, 1]);
        // A day later the first minute is another one.
        fleet.checked_in(at(1440));
        assert_eq!(halves(at(1440)), [7, 2]);
        assert_eq!(fleet.check_ins(at(1440), 24).len(), 24);
        assert_eq!(halves(at(10_000)), [0, 0]);
    }
}
