//! What a rollout would do in the days ahead: the registry as it is now is played through them by `policy::simulate`.

use std::{collections::HashMap, time::Duration};

use callboard_policy::{
    gate::PhaseCounts,
    ledger::{Ledger, Row, Unit},
    selector::Selector,
    simulate::{self, Assumptions, Chance, SimulateError, Subject, Timeline, What},
};
use callboard_proto::{
    admin::{
        Assume, Counts, Deferred, RolloutSpec, Simulate, SimulatedEvent, SimulatedHour, SimulatedMark, SimulatedPhase,
        Simulation,
    },
    digest::Digest,
    ids::{DeviceId, RolloutId},
    problem::Code,
};

use super::{
    all_counts, check_times,
    rolled_back::RolledBack,
    spec,
    targets::{self, Checked},
};
use crate::{
    app::{
        Actor, App, Error, Result,
        catalog::{self, Snapshot},
        devices::each,
        releases,
        simulating::Place,
    },
    db::{
        self, DbConn,
        phases::Phase,
        selector::{Context, Whom},
    },
};

/// Devices that are played at most: each takes about 2 KB while it is.
const MAX_DEVICES: usize = 250_000;
/// Check-ins that are played at most: less than a minute.
const MAX_PLAYED: u64 = 5_000_000;

/// Everything that a simulation begins with.
struct Setting {
    subject: Subject,
    ledger: Ledger,
    fleet: Vec<Unit>,
}

/// Simulates a rollout that does not exist yet, as if it were started now.
pub(crate) async fn simulate(app: &App, actor: Actor, wanted: Simulate) -> Result<Simulation> {
    let Simulate { rollout, assume } = wanted;
    let rollout = RolloutSpec { selector: actor.confine(rollout.selector)?, ..rollout };
    let busy = "another simulation is running, and there is place for one; try again when it is done";
    // Dropped with this request, and then nobody plays on.
    let (place, _asked) = app.simulating.enter().ok_or_else(|| Error::refused(Code::Unavailable, busy))?;
    let (context, poll_interval) = (app.selector_context(), app.poll_interval);
    let root = targets::root(app)?;
    // Who is there counts.
    crate::app::presence::flush(app).await?;
    let (setting, place) = app
        .db
        .read(move |conn| {
            let release = releases::resolve(conn, &rollout.release)?.sha256;
            let checked = targets::check(conn, &root, &rollout, release)?;
            check_times(&checked.plan, context.now)?;
            let setting = read(conn, checked, &assume, (&context, poll_interval), &place)?;
            Ok::<_, Error>((setting, place))
        })
        .await?;
    tracing::info!(devices = setting.fleet.len(), days = assume.days, "simulating");
    let played = tokio::task::spawn_blocking(move || play(setting, assume, &place));
    played.await.unwrap_or_else(|source| Err(Error::Unexpected(format!("simulate a rollout: {source}"))))
}

fn play(setting: Setting, assume: Assume, place: &Place) -> Result<Simulation> {
    let phases: Vec<String> = setting.subject.plan.phases.iter().map(|phase| phase.name.clone()).collect();
    let release = setting.subject.release.digest;
    let assumptions = Assumptions {
        time: Duration::from_secs(u64::from(assume.days) * 86_400),
        failures: chance(assume.failure_percent),
        offline: chance(assume.offline_percent),
        download: Duration::from_secs(assume.download_s.into()),
        install: Duration::from_secs(assume.install_s.into()),
        seed: assume.seed.into(),
        most_played: MAX_PLAYED,
    };
    let given_up = || place.is_given_up();
    match simulate::simulate(setting.subject, setting.ledger, setting.fleet, &assumptions, &given_up) {
        Ok(timeline) => Ok(show(timeline, release, assume, phases)),
        Err(SimulateError::Start(why)) => Err(Error::invalid(why)),
        Err(SimulateError::GivenUp) => Err(give_up()),
        Err(why @ SimulateError::TooMuch { .. }) => Err(Error::invalid(why.to_string())),
        Err(why @ (SimulateError::Illegal(_) | SimulateError::Unheard(_))) => {
            Err(Error::Unexpected(format!("simulate a rollout: {why}")))
        }
    }
}

/// Whether it is still asked for.
fn asked(place: &Place) -> Result<()> {
    if place.is_given_up() { Err(give_up()) } else { Ok(()) }
}

/// For a client that is still there: if it is not, nobody reads this but the log.
fn give_up() -> Error {
    tracing::info!("a simulation was given up");
    Error::refused(Code::Unavailable, "the server is stopping; simulate again when it is back")
}

fn chance(percent: f64) -> Chance {
    // Checked when it came in; what is finer than a millionth does not matter.
    let text = format!("{:.0}", (percent * 10_000.0).clamp(0.0, 1_000_000.0));
    Chance::from_millionths(text.parse().unwrap_or_default())
}

/// Reads the fleet and what is under way.
fn read(
    conn: &mut DbConn,
    checked: Checked,
    assume: &Assume,
    (context, poll_interval): (&Context, Duration),
    place: &Place,
) -> Result<Setting> {
    let mut ledger = Ledger::new(catalog::read(conn, &Snapshot::default(), context.now)?.catalog, poll_interval);
    ledger.abandoned_after = context.abandoned_after;
    let targets = checked.releases().map(|release| (release.digest, release.clone()));
    ledger.catalog.releases.extend(targets.collect::<Vec<_>>());
    let (plan, release) = (checked.plan, checked.release);
    for record in db::rollouts::active(conn)? {
        let times = record.phases.get(record.open_phase).map(Phase::times).unwrap_or_default();
        ledger.set_standing(record.id, all_counts(&record), times);
    }
    let fleet = fleet(conn, &ledger, release.digest, context, place)?;
    // The seed stands for the id that a real rollout would get. Who is a canary does not depend on it.
    let seed = Digest::of(&assume.seed.to_be_bytes());
    let id = seed.as_bytes().get(..16).and_then(RolloutId::from_slice);
    let id = id.ok_or_else(|| Error::Unexpected("a digest is too short for an id".to_owned()))?;
    Ok(Setting { subject: Subject { now: context.now, id, plan, release }, ledger, fleet })
}

/// All devices that a rollout could be for, with what they have under way.
fn fleet(conn: &mut DbConn, ledger: &Ledger, release: Digest, context: &Context, place: &Place) -> Result<Vec<Unit>> {
    let all = Selector::parse("all").map_err(|error| Error::Unexpected(format!("parse a selector: {error}")))?;
    let mut fleet: HashMap<DeviceId, Unit> = HashMap::new();
    each(conn, &all, context, Whom::AtOpenSites, |_, records| {
        let units = records.into_iter().map(|record| {
            let id = record.device.id;
            let rhythm = record.rhythm.unwrap_or_default();
            let mut unit = Unit::new(record.device, record.last_seen);
            (unit.absence, unit.rhythm) = (record.absence, rhythm);
            (id, unit)
        });
        fleet.extend(units);
        asked(place)?;
        if fleet.len() > MAX_DEVICES {
            let detail = format!("the registry has more than {MAX_DEVICES} devices, which are too many to simulate");
            return Err(Error::invalid(detail));
        }
        Ok(())
    })?;
    for rollout in &ledger.catalog.rollouts {
        attach_assignments(conn, rollout.id, &mut fleet, place)?;
    }
    let releases = ledger.catalog.releases.keys().copied().filter(|one| *one != release);
    for release in releases.chain([release]).collect::<Vec<_>>() {
        let rolled_back = RolledBack::of(conn, release)?;
        fleet.values_mut().for_each(|unit| rolled_back.note(&mut unit.device));
    }
    let mut fleet: Vec<Unit> = fleet.into_values().collect();
    fleet.sort_by_key(|unit| unit.device.number);
    Ok(fleet)
}

fn attach_assignments(
    conn: &mut DbConn,
    rollout: RolloutId,
    fleet: &mut HashMap<DeviceId, Unit>,
    place: &Place,
) -> Result<()> {
    db::assignments::each_own(conn, rollout, |page| {
        asked(place)?;
        for record in page {
            let Some(unit) = fleet.get_mut(&record.device) else { continue };
            unit.put(record.assignment, Row { seq: record.seq, granted_site: record.granted_site });
        }
        Ok(())
    })
}

fn show(timeline: Timeline, release: Digest, assume: Assume, names: Vec<String>) -> Simulation {
    let name = |phase: usize| names.get(phase).cloned();
    let marks = timeline.marks.into_iter().map(|mark| {
        let (what, phase) = match mark.what {
            What::Started => (SimulatedEvent::Started, None),
            What::GateMet(phase) => (SimulatedEvent::GateMet, name(phase)),
            What::GateLost(phase) => (SimulatedEvent::GateLost, name(phase)),
            What::Approved(phase) => (SimulatedEvent::Approved, name(phase)),
            What::PhaseOpened(phase) => (SimulatedEvent::PhaseOpened, name(phase)),
            What::Paused => (SimulatedEvent::Paused, None),
            What::Cancelled => (SimulatedEvent::Cancelled, None),
            What::TakenBack => (SimulatedEvent::TakenBack, None),
            What::Completed => (SimulatedEvent::Completed, None),
        };
        SimulatedMark { at: mark.at, what, phase, text: mark.text }
    });
    let marks = marks.collect();
    let hours = timeline.hours.into_iter().map(|hour| SimulatedHour {
        until: hour.until,
        succeeded: hour.phases.iter().map(|phase| count(phase.succeeded)).collect(),
        counts: counts(hour.phases.iter().copied().sum()),
        check_ins: count(hour.check_ins),
        offers: count(hour.offers),
        offers_in_busiest_minute: count(hour.offers_in_busiest_minute),
        installs: count(hour.installs),
        downloading: count(hour.downloading),
    });
    let hours = hours.collect();
    let phases = names.into_iter().zip(timeline.phases);
    Simulation {
        release,
        from: timeline.from,
        to: timeline.to,
        assume,
        devices: count(timeline.fleet),
        gone: count(timeline.gone),
        state: spec::state_to_wire(timeline.state),
        state_reason: timeline.state_reason,
        marks,
        phases: phases.map(|(name, phase)| SimulatedPhase { name, counts: counts(phase) }).collect(),
        hours,
    }
}

fn counts(of: PhaseCounts) -> Counts {
    Counts {
        size: count(of.size),
        excluded: 0,
        unreached: count(of.untouched()),
        queued: count(of.queued),
        downloading: count(of.downloading),
        staged: count(of.staged),
        deferred: Deferred {
            window: count(of.deferred.window),
            trading_hours: count(of.deferred.trading_hours),
            freeze: count(of.deferred.freeze),
            inhibitor: count(of.deferred.inhibitor),
            user: count(of.deferred.user),
        },
        activating: count(of.activating),
        verifying: count(of.verifying),
        silent: count(of.silent),
        succeeded: count(of.succeeded),
        rolled_back: count(of.rolled_back),
        failed: count(of.failed),
        timed_out: count(of.timed_out),
        cancelled: count(of.cancelled + of.expired),
        acknowledged: count(of.acknowledged),
    }
}

fn count(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
