//! Rollouts on the overview: those that are open, with how far they are and when they will be done.

use callboard_policy::{forecast::LOOK_BACK, rollout::RolloutState};
use callboard_proto::{
    admin::{Counts, Rollout},
    ids::RolloutId,
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    app::{self, App, Error, Reach, fleet},
    db::{self, DbConn, rollouts::Record},
    http::{auth::View, problem::ApiResult},
    ui::{
        desk::Desk,
        parts::{Badge, count, span},
        pictures::{self, Picture},
        rollouts::{Bar, badge},
    },
};

/// Rollouts that are shown; more are never looked at at once.
const SHOWN: i64 = 8;
/// Of these, with a picture and a forecast.
const WITH_PICTURE: usize = 3;

/// A rollout and its phases.
pub(super) struct RolloutRow {
    pub(super) name: String,
    pub(super) release: String,
    pub(super) badge: Badge,
    pub(super) reason: String,
    pub(super) phases: Vec<PhaseRow>,
    /// When it will be done, in words.
    pub(super) eta: String,
    pub(super) basis: String,
    pub(super) burn_up: Option<Picture>,
}

/// A phase of it.
pub(super) struct PhaseRow {
    pub(super) name: String,
    pub(super) bar: Bar,
    pub(super) gate: String,
}

/// Open rollouts, the newest first; paused ones come last.
pub(super) async fn rows(app: &App, desk: &Desk<View>, now: Timestamp) -> ApiResult<Vec<RolloutRow>> {
    let sees = desk.sees.clone();
    let open = app.db.read(move |conn| open(conn, &sees)).await?;
    let mut rows = Vec::new();
    for (n, record) in open.into_iter().enumerate() {
        let id = record.id;
        let (mut eta, mut basis, mut burn_up) = (String::new(), String::new(), None);
        if n < WITH_PICTURE {
            burn_up = picture(app, &record, now).await?;
            if record.state == RolloutState::Running {
                let forecast = fleet::forecast(app, &desk.actor, id).await?;
                (eta, basis) = (when(forecast.from, forecast.to, now), forecast.basis);
            }
        }
        rows.push(RolloutRow { eta, basis, burn_up, ..row(app::rollouts::show(app, record)) });
    }
    Ok(rows)
}

fn open(conn: &mut DbConn, sees: &Reach) -> Result<Vec<Record>, Error> {
    let newest = RolloutId::from_uuid(Uuid::max());
    let mut found = Vec::new();
    for state in [RolloutState::Running, RolloutState::Paused] {
        for record in db::rollouts::list(conn, Some(state), newest, SHOWN)? {
            if app::rollouts::is_within(conn, sees, &record)? {
                found.push(record);
            }
        }
    }
    found.truncate(usize::try_from(SHOWN).unwrap_or(0));
    Ok(found)
}

/// How long it may take, in words.
fn when(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> String {
    let after = |at: Timestamp| span(at.since(now));
    match (from, to) {
        (Some(from), Some(to)) if after(from) == after(to) => format!("done in about {}", after(to)),
        (Some(from), Some(to)) => format!("done in {} to {}", after(from), after(to)),
        (Some(from), None) => format!("done in {} or more", after(from)),
        _ => String::new(),
    }
}

/// How many devices were done by when: from the hours of the last week, up to now.
async fn picture(app: &App, record: &Record, now: Timestamp) -> Result<Option<Picture>, Error> {
    let id = record.id;
    let hours = app.db.read(move |conn| Ok::<_, Error>(db::hours::of(conn, id, now, LOOK_BACK)?)).await?;
    let sum =
        |count: fn(&Counts) -> u32| record.phases.iter().map(|phase| u64::from(count(&phase.counts))).sum::<u64>();
    let (done, total) = (sum(Counts::done), sum(Counts::wanted));
    let (Some(started), false) = (record.started_at, hours.is_empty()) else {
        return Ok(None);
    };
    let counted: u64 = hours.iter().map(|hour| u64::from(hour.done)).sum();
    let mut so_far = done.saturating_sub(counted);
    let mut points = vec![(started.max(now - LOOK_BACK), so_far)];
    for hour in hours {
        so_far += u64::from(hour.done);
        let end = (hour.start + std::time::Duration::from_secs(3600)).min(now);
        points.push((end.max(started), so_far));
    }
    points.push((now, done));
    let title = format!("{} of {} done", done, count(total, "device"));
    Ok(Some(pictures::burn_up(&title, &points, total)))
}

fn row(rollout: Rollout) -> RolloutRow {
    let reason = rollout.state_reason.unwrap_or_default();
    // What stands above is not said once more.
    let gate = |gate: callboard_proto::instruction::Reason| Some(gate.text).filter(|text| *text != reason);
    let phase = |phase: callboard_proto::admin::PhaseProgress| PhaseRow {
        name: phase.name,
        bar: Bar::of(&phase.counts),
        gate: phase.gate.and_then(gate).unwrap_or_default(),
    };
    RolloutRow {
        name: rollout.spec.name.to_string(),
        release: rollout.spec.release,
        badge: badge(rollout.state),
        phases: rollout.phases.into_iter().map(phase).collect(),
        reason,
        eta: String::new(),
        basis: String::new(),
        burn_up: None,
    }
}
