//! Why a device gets what it gets: the decision of its next check-in, with every rollout that was looked at.

use std::collections::{HashMap, HashSet};

use callboard_policy::{
    decide::{self, Decision, Verdict},
    device::{self, Absence, Contact, Device},
    rhythm::Rhythm,
};
use callboard_proto::{
    admin::{Considered, Explanation},
    ids::{DeviceId, RolloutId},
    report::Failure,
    time::Timestamp,
};

use super::{
    Actor, App, Error, Reach, Result, bandwidth,
    devices::{self, LastContact, resolve_for},
    loads, rollouts,
};
use crate::db::{self, DbConn};

/// Explains what the next check-in of a device would bring.
pub(crate) async fn explain(app: &App, actor: Actor, reference: String) -> Result<Explanation> {
    let now = app.clock.now();
    let sees = actor.sees.clone();
    let id = app.db.read(move |conn| Ok::<_, Error>(resolve_for(conn, &actor, &reference, now)?.device.id)).await?;
    let known = devices::known(app, id).await?.ok_or_else(|| Error::not_found("device", id))?;
    let (last, snapshot) = (devices::last_contact_anywhere(app, &known).await?, app.catalog());
    let device = &known.record.device;
    let (last_seen, poll_interval, expected_at) =
        (last.last_seen, app.poll_interval, expected(app, device, &last, now));
    let absence = Absence::at(now, last_seen, poll_interval, last.absence);
    let (owed, works_on, free_bytes) = (last.owed, last.works_on, last.free_bytes);
    let contact = Contact { last_seen, absence, boot_changed: false, owed, poll_interval, works_on, free_bytes };
    let loads = loads::read_all(app, &snapshot.catalog, device.site.as_ref()).await?;
    let mut decision = decide::explain(now, &snapshot.catalog, device, &contact, &loads);
    say_what_phases_wait_for(app, &mut decision, now).await?;
    let before = decision.reason.clone();
    bandwidth::allot(app, &snapshot.catalog, device, &mut decision, false, now).await?;
    for one in decision.considered.iter_mut().filter(|one| one.reason == before) {
        one.reason.clone_from(&decision.reason);
    }
    leave_out_foreign(app, sees, &mut decision).await?;
    let mut failures = failures(app, id, &decision).await?;
    let again = decision.next_check_in.min(poll_interval).as_secs().max(1);
    let rollouts = decision.considered.into_iter().filter_map(|considered| {
        let rollout = snapshot.catalog.rollout(considered.rollout)?;
        Some(Considered {
            rollout: rollout.plan.name.clone(),
            reason: considered.reason,
            assignment: device.assignment(considered.rollout).map(|one| one.state),
            failure: failures.remove(&considered.rollout),
        })
    });
    Ok(Explanation {
        device: device.name.clone(),
        now,
        last_seen,
        expected_at,
        next: decision.reason,
        next_check_in_s: u32::try_from(again).unwrap_or(u32::MAX),
        rollouts: rollouts.collect(),
        progress: last.progress,
        agent_state: last.state,
        last_error: last.last_error,
    })
}

/// Says nothing of rollouts that whoever asks does not see and that are not for the device: for whom they are is not for
/// everybody to know.
async fn leave_out_foreign(app: &App, sees: Reach, decision: &mut Decision) -> Result<()> {
    if sees.is_everything() {
        return Ok(());
    }
    let audience = |one: &decide::Considered| matches!(one.verdict, Verdict::NotInAudience | Verdict::LeftAudience);
    let others: Vec<RolloutId> =
        decision.considered.iter().filter(|one| audience(one)).map(|one| one.rollout).collect();
    let foreign = move |conn: &mut DbConn| {
        let mut foreign = HashSet::new();
        for id in others {
            let Some(record) = db::rollouts::get(conn, id)? else { continue };
            if !rollouts::is_within(conn, &sees, &record)? {
                foreign.insert(id);
            }
        }
        Ok::<_, Error>(foreign)
    };
    let foreign = app.db.read(foreign).await?;
    let considered = std::mem::take(&mut decision.considered).into_iter();
    let (left_out, kept): (Vec<_>, _) = considered.partition(|one| foreign.contains(&one.rollout));
    decision.considered = kept;
    if left_out.iter().any(|one| one.reason == decision.reason) {
        decision.reason.text = "another rollout is not for this device".to_owned();
    }
    Ok(())
}

/// When its next check-in is to be expected, if it was ever seen and is still to come.
fn expected(app: &App, device: &Device, last: &LastContact, now: Timestamp) -> Option<Timestamp> {
    let last_seen = last.last_seen.filter(|_| !device.decommissioned)?;
    let due = last.asks_again.unwrap_or(last_seen + app.poll_interval);
    if now.since(last_seen) <= device::online_for(app.poll_interval) {
        // One whose question waits for news is answered as soon as there is any.
        return Some(due.max(now));
    }
    last.rhythm.unwrap_or_else(|| Rhythm::guess(device, now)).expects(due, now)
}

/// What the device reported of attempts that failed. Decisions do not look at it.
async fn failures(app: &App, device: DeviceId, decision: &Decision) -> Result<HashMap<RolloutId, Failure>> {
    let rollouts: Vec<RolloutId> = decision.considered.iter().map(|one| one.rollout).collect();
    let found = move |conn: &mut DbConn| {
        let of = |id: RolloutId| {
            let record = db::assignments::of(conn, id, device)?;
            Ok::<_, Error>(record.and_then(|record| Some((id, record.failure?))))
        };
        rollouts.into_iter().map(of).filter_map(Result::transpose).collect()
    };
    app.db.read(found).await
}

/// Adds to "its phase is not open" what the next phase waits for. Counters are not in the catalog.
async fn say_what_phases_wait_for(app: &App, decision: &mut Decision, now: Timestamp) -> Result<()> {
    for one in &mut decision.considered {
        let Verdict::PhaseNotOpen { .. } = one.verdict else {
            continue;
        };
        let id = one.rollout;
        let record = app.db.read(move |conn| Ok::<_, Error>(db::rollouts::get(conn, id)?)).await?;
        if let Some(waits_for) = record.and_then(|record| rollouts::waits_for(&record, now)) {
            let told = decision.reason == one.reason;
            one.reason.text = format!("{}; {}", one.reason.text, waits_for.text);
            if told {
                decision.reason.text.clone_from(&one.reason.text);
            }
        }
    }
    Ok(())
}
