//! Rollouts that take a release back: made by a halt rule, in the transaction of the report that tripped it.
//!
//! Their members are exactly the devices that got the release: those on which it has succeeded, and each further one in
//! the moment in which it succeeds there, because it was in the middle of it or could not be told any more.

use callboard_policy::{
    audience::Audience,
    device::Device,
    rollout::{RolloutState, undo_name},
};
use callboard_proto::{
    admin::{self, Policy, RolloutSpec, Unit},
    ids::{DeviceId, RolloutId, RolloutName},
    time::Timestamp,
};
use uuid::Uuid;

use super::{advance::advance, members};
use crate::{
    app::{Error, Result, releases},
    db::{self, DbConn, events::NewEvent, phases::Stored, rollouts::Record},
};

/// Rollouts of one name that take something back, at most: each was made by a rollout of its own.
const MAX_NAMESAKES: usize = 1000;

/// Makes the rollout that brings `to` to the devices that got the release of `bad`, and starts it; gives its name.
pub(super) fn begin(conn: &mut DbConn, bad: &Record, to: &str, now: Timestamp) -> Result<RolloutName> {
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
        created_by: format!("halt of {}", bad.spec.name),
        edited_by: None,
        countersigned: None,
        phases: Vec::new(),
    };
    db::rollouts::insert(conn, &record)?;
    db::rollouts::update(conn, &record)?;
    let members = Stored::of(&Audience::of(vec![members]))?;
    db::phases::insert(conn, record.id, ["all"], &members, now)?;
    let text =
        format!("started for {} devices, to take back what rollout {} brought them", members.devices, bad.spec.name);
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
        members::join(conn, id, 0, device.device.number)?;
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
