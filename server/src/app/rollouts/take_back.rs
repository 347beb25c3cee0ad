//! Rollouts that take a release back: made by a halt rule, in the transaction of the report that tripped it, or by hand.
//!
//! Their members are exactly the devices that got the release: those on which it has succeeded, and each further one in
//! the moment in which it succeeds there, because it was in the middle of it or could not be told any more.

use callboard_policy::{
    audience::Audience,
    device::Device,
    release::{Fit, fit},
    rollout::{RolloutState, undo_name},
};
use callboard_proto::{
    admin::{self, Policy, RolloutSpec, Unit},
    ids::{DeviceId, RolloutId, RolloutName},
    problem::Code,
    time::Timestamp,
};
use serde_json::json;
use uuid::Uuid;

use super::{advance::advance, members, resolve_for, spec as specs, targets};
use crate::{
    app::{App, Because, Error, Result, releases, trust::PublishedRoot},
    db::{self, DbConn, events::NewEvent, phases::Stored, rollouts::Record},
};

/// Devices that are read at a time.
const LOOKED_AT: usize = 1000;
/// Rollouts of one name that take something back, at most: each was made by a rollout of its own.
const MAX_NAMESAKES: usize = 1000;

/// Takes back by hand what a rollout brought: it is called off if it goes on, and the devices that got its release are
/// brought to `to`. Gives the name of the rollout that does it.
pub(crate) async fn by_hand(app: &App, reference: String, to: String, because: Because) -> Result<RolloutName> {
    because.required()?;
    let (now, root) = (app.clock.now(), targets::root(app)?);
    let name = app
        .db
        .write(move |conn| {
            let mut bad = resolve_for(conn, &because.by, &reference)?;
            check(conn, &root, &bad, &to, now)?;
            let before = json!({ "state": bad.state.as_str() });
            let made = begin(conn, &bad, &to, &because.by.name, now)?;
            let text = format!("rolled back {because}; rollout {made} brings {to} to the devices that got it");
            if bad.state.is_active() {
                bad.state = RolloutState::Cancelled;
                bad.state_reason = Some(text.clone());
                bad.ended_at = Some(now);
                db::rollouts::update(conn, &bad)?;
            }
            db::counters::bump_generation(conn)?;
            let event = NewEvent::rollout("rollout.rolled_back", bad.id, text);
            let after = json!({ "state": bad.state.as_str(), "rollout": made, "to": to });
            db::events::insert(conn, now, &because.by.did(event, &before, &after))?;
            Ok::<_, Error>(made)
        })
        .await?;
    app.reload_catalog().await?;
    Ok(name)
}

/// Refuses what cannot be taken back, or not to there.
fn check(conn: &mut DbConn, root: &PublishedRoot, bad: &Record, to: &str, now: Timestamp) -> Result<()> {
    let name = &bad.spec.name;
    if bad.started_at.is_none() {
        return Err(Error::refused(Code::WrongState, format!("rollout {name} has brought nothing to any device yet")));
    }
    if let Some(id) = db::rollouts::taking_back(conn, name)?
        && let Some(other) = db::rollouts::get(conn, id)?.filter(|other| other.state != RolloutState::Cancelled)
    {
        let detail = format!("rollout {} takes back what {name} brought already", other.spec.name);
        return Err(Error::refused(Code::Conflict, detail));
    }
    let published = db::releases::get(conn, bad.release)?.ok_or_else(|| Error::not_found("release", bad.release))?;
    let release = releases::for_policy(&releases::open(root, &published)?);
    let target =
        targets::target(conn, root, &release, to)?.map_err(|message| Error::invalid(format!("to: {message}")))?;
    let plan = specs::plan(&bad.spec, bad.release)?;
    let numbers: Vec<i64> = db::assignments::got(conn, bad.id)?.iter().map(i64::from).collect();
    let (mut stranded, mut first) = (0_u64, String::new());
    for numbers in numbers.chunks(LOOKED_AT) {
        for one in db::devices::numbered(conn, numbers.to_vec())? {
            if let Fit::Incompatible(misfit) = fit(&target, &one.device, true, now) {
                if stranded == 0 {
                    first = format!("{} ({})", one.device.name, misfit.text(&target, &one.device, &plan.name));
                }
                stranded += 1;
            }
        }
    }
    if stranded > 0 {
        let detail = format!("to: {stranded} of the devices could not go back to {to}, such as {first}");
        return Err(Error::invalid(detail));
    }
    Ok(())
}

/// Makes the rollout that brings `to` to the devices that got the release of `bad`, and starts it; gives its name.
pub(super) fn begin(conn: &mut DbConn, bad: &Record, to: &str, by: &str, now: Timestamp) -> Result<RolloutName> {
    let release = releases::resolve(conn, to)?.sha256;
    let name = free_name(conn, &bad.spec.name)?;
    let members = db::assignments::got(conn, bad.id)?;
    let record = Record {
        id: RolloutId::from_uuid(Uuid::now_v7()),
        release,
        spec: spec(&bad.spec, name.clone(), to),
        state: RolloutState::Running,
        state_reason: None,
        created_at: now,
        started_at: Some(now),
        ended_at: None,
        open_phase: 0,
        streak: Default::default(),
        takes_back: Some(bad.spec.name.clone()),
        created_by: by.to_owned(),
        edited_by: None,
        countersigned: None,
        phases: Vec::new(),
    };
    db::rollouts::insert(conn, &record)?;
    db::rollouts::update(conn, &record)?;
    let members = Stored::of(&Audience::of(vec![members]))?;
    db::phases::insert(conn, record.id, ["all"], &members, now)?;
    let (devices, name_of_bad) = (callboard_policy::counted(members.devices, "device"), &bad.spec.name);
    let text = format!("started for {devices}, to take back what rollout {name_of_bad} brought");
    db::events::insert(conn, now, &NewEvent::rollout("rollout.started", record.id, text))?;
    advance(conn, record.id, now)?;
    Ok(name)
}

/// As [`callboard_policy::rollout::Plan::undone_by`] says.
fn spec(bad: &RolloutSpec, name: RolloutName, to: &str) -> RolloutSpec {
    RolloutSpec {
        name,
        release: to.to_owned(),
        selector: None,
        audience: admin::Audience::Frozen,
        unit: Unit::Device,
        policy: Policy::Immediate,
        start_at: None,
        deadline: None,
        ends_at: None,
        min_absence_s: None,
        phases: Vec::new(),
        halt: Vec::new(),
        allow_downgrade: true,
        ..bad.clone()
    }
}

fn free_name(conn: &mut DbConn, bad: &RolloutName) -> Result<RolloutName> {
    for n in 1..=MAX_NAMESAKES {
        let name = undo_name(bad, n).ok_or_else(|| Error::Unexpected(format!("no name takes {bad} back")))?;
        if !db::rollouts::exists(conn, &name)? {
            return Ok(name);
        }
    }
    Err(Error::Unexpected(format!("too many rollouts take back one called {bad}")))
}

/// The release of the rollout called `bad` has arrived on a device; if it is being taken back, it is from there too. Says
/// whether the catalog has changed.
pub(crate) fn join(conn: &mut DbConn, bad: &RolloutName, device: DeviceId, now: Timestamp) -> Result<bool> {
    let Some(id) = db::rollouts::taking_back(conn, bad)? else {
        return Ok(false);
    };
    let (Some(mut record), Some(device)) = (db::rollouts::get(conn, id)?, db::devices::get(conn, device)?) else {
        return Ok(false);
    };
    if record.state == RolloutState::Cancelled {
        return Ok(false);
    }
    if !is_member(conn, id, &device.device)? {
        members::join(conn, id, 0, device.device.number, None)?;
    }
    if record.state == RolloutState::Completed {
        (record.state, record.state_reason, record.ended_at) = (RolloutState::Running, None, None);
        db::rollouts::update(conn, &record)?;
        let text = format!("it had completed, and runs again for {}", device.device.name);
        db::events::insert(conn, now, &NewEvent::rollout("rollout.reopened", id, text))?;
        db::counters::bump_generation(conn)?;
        return Ok(true);
    }
    Ok(false)
}

/// Whether it was there when the rollout began, or has joined since.
fn is_member(conn: &mut DbConn, id: RolloutId, device: &Device) -> Result<bool> {
    let joined = device.member_of.iter().any(|one| one.rollout == id);
    Ok(joined || db::phases::audience(conn, id)?.phase_of(device.number).is_some())
}

#[cfg(test)]
mod tests {
    use callboard_proto::digest::Digest;

    use super::*;
    use crate::app::rollouts::spec::plan;

    #[test]
    fn what_is_stored_is_the_plan_that_decisions_would_make() {
        let bad: RolloutSpec = toml::from_str(
            r#"
            name = "spring"
            release = "pos-app@2.2.0"
            policy = "progressive"
            selector = "region = northeast"
            priority = 700
            expected_install_min = 10
            deadline = "2027-03-01T00:00:00Z"
            windows = [{ start = "02:00", duration_min = 120 }]
            phases = [{ name = "canary", percent = 10 }, { name = "all", percent = 100 }]
            pace = { max_offers_per_minute = 10 }
            halt = [{ max_failures = 3, action = "rollback_to", rollback_to = "pos-app@2.1.0" }]
            caps = { downloads = { max_in_flight = 5 } }
            "#,
        )
        .expect("a rollout");
        let (old, new): (Digest, Digest) = (Digest::of(b"old"), Digest::of(b"new"));
        let name: RolloutName = "back".parse().expect("a name");
        let stored = plan(&spec(&bad, name.clone(), "pos-app@2.1.0"), old).expect("a plan");
        let decided = plan(&bad, new).expect("a plan").undone_by(name, old);
        assert_eq!(format!("{stored:?}"), format!("{decided:?}"));
    }
}
