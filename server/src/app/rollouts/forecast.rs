//! When a rollout will be done: the measured rate, and a look at some of the devices that are left.

use callboard_policy::{
    catalog::Catalog,
    decide::stretches,
    forecast::{self, Basis, Forecast, Gates, LOOK_AHEAD, LOOK_BACK, Left},
    rhythm::Rhythm,
    rollout::{Rollout, RolloutState},
};
use callboard_proto::{
    admin::{self, Counts},
    ids::RolloutId,
    state::AssignmentState,
    time::Timestamp,
};

use super::{resolve_for, spec, unreached};
use crate::{
    app::{Actor, App, Result},
    db::{self, DbConn, phases::Phase, rollouts::Record},
};

/// Devices that are looked at: the reach of a percent is within what is said anyhow.
const SAMPLE: u32 = 200;
/// Members among which those without an assignment are looked for.
const LOOKED_THROUGH: u32 = 2000;

/// Of a rollout, by its id or its name.
pub(crate) async fn forecast(app: &App, actor: Actor, reference: String) -> Result<admin::Forecast> {
    let (now, snapshot) = (app.clock.now(), app.catalog());
    crate::app::presence::flush(app).await?;
    app.db
        .read(move |conn| {
            let record = resolve_for(conn, &actor, &reference)?;
            let sum = |count: fn(&Counts) -> u32| record.phases.iter().map(|phase| count(&phase.counts)).sum::<u32>();
            let (open, unreached) = (sum(Counts::open), sum(|counts| counts.unreached));
            let left = open + unreached;
            let said = |from, to, basis| admin::Forecast { left, unreached, from, to, basis };
            let Some(since) = record.started_at.filter(|_| record.state == RolloutState::Running) else {
                return Ok(said(None, None, format!("the rollout is {}", record.state.as_str())));
            };
            let hours = db::hours::of(conn, record.id, now, LOOK_BACK)?;
            let sample = sample(conn, &record, &snapshot.catalog, (open, unreached), now)?;
            let plan = spec::plan(&record.spec, record.release)?;
            let times = record.phases.get(record.open_phase).map(Phase::times).unwrap_or_default();
            let of_phases: Vec<u32> =
                record.phases.iter().map(|phase| phase.counts.open() + phase.counts.unreached).collect();
            let gates = Gates::ahead(&plan.phases, record.open_phase, times, &of_phases, now);
            Ok(match forecast::forecast(&Basis { now, since, hours: &hours, left, sample: &sample, gates }) {
                Forecast::Between { from, to, basis } => said(Some(from), to, basis),
                Forecast::NotEnough(why) => said(None, None, why),
                Forecast::Done => said(None, None, done(record.spec.audience).to_owned()),
            })
        })
        .await
}

/// Some of the devices that are left: as large a part of those that have begun as of those that were not reached.
fn sample(
    conn: &mut DbConn,
    record: &Record,
    catalog: &Catalog,
    (open, unreached): (u32, u32),
    now: Timestamp,
) -> Result<Vec<Left>> {
    let Some(rollout) = catalog.rollout(record.id) else {
        return Ok(Vec::new());
    };
    let all = u64::from(open) + u64::from(unreached);
    let part = |of: u32| {
        let part = (u64::from(of) * u64::from(SAMPLE)).checked_div(all.max(SAMPLE.into())).unwrap_or(0);
        usize::try_from(part).unwrap_or(0).max(usize::from(of > 0))
    };
    let mut numbers = begun(conn, record.id, part(open))?;
    numbers.extend(evenly(untouched(conn, rollout)?, part(unreached)));
    let devices = db::devices::numbered(conn, numbers)?;
    let left = |one: db::devices::Record| Left {
        open: stretches(catalog, rollout, &one.device, now - LOOK_BACK, now + LOOK_AHEAD),
        rhythm: one.rhythm.unwrap_or_else(|| Rhythm::guess(&one.device, now)),
    };
    Ok(devices.into_iter().map(left).collect())
}

/// What there is to say of a rollout whose members are through.
const fn done(audience: admin::Audience) -> &'static str {
    match audience {
        admin::Audience::Frozen => "nothing is left to do",
        admin::Audience::Live => "every device that has joined is done; one that matches later joins when it asks",
    }
}

/// Numbers of devices that have begun and are not done.
fn begun(conn: &mut DbConn, rollout: RolloutId, limit: usize) -> Result<Vec<i64>> {
    let open = AssignmentState::ALL.into_iter().filter(|state| !state.is_final());
    Ok(db::assignments::numbers(conn, rollout, &open.collect::<Vec<_>>(), limit)?)
}

/// Numbers of members without an assignment, from all over the rollout.
fn untouched(conn: &mut DbConn, rollout: &Rollout) -> Result<Vec<i64>> {
    let most = usize::try_from(LOOKED_THROUGH).unwrap_or(usize::MAX);
    let members = unreached::counted(conn, rollout, most)?;
    let n = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let looked: Vec<u32> = if n <= LOOKED_THROUGH {
        members.iter().collect()
    } else {
        let rank = |k: u32| u64::from(k) * u64::from(n) / u64::from(LOOKED_THROUGH);
        (0..LOOKED_THROUGH).filter_map(|k| members.select(u32::try_from(rank(k)).ok()?)).collect()
    };
    unreached::without_offer(conn, rollout, looked.into_iter().map(i64::from).collect())
}

/// `n` of them, from all over the list.
fn evenly(all: Vec<i64>, n: usize) -> Vec<i64> {
    let step = all.len().div_ceil(n.max(1)).max(1);
    all.into_iter().step_by(step).take(n).collect()
}
