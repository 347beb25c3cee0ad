//! Who is in a rollout: late joiners, those who turn out to need nothing, those who leave.

use callboard_policy::{audience::Exclusion, device::Device};
use callboard_proto::{
    admin::Unit,
    ids::{DeviceId, RolloutId},
    time::Timestamp,
};

use super::advance::advance;
use crate::{
    app::{Error, Result, assignments},
    db::{self, DbConn},
};

/// Adds a late joiner to a phase; where whole sites move, its neighbours will follow it there.
pub(crate) fn join(conn: &mut DbConn, id: RolloutId, phase: usize, device: &Device) -> Result<()> {
    let record = db::rollouts::get(conn, id)?.ok_or_else(|| Error::not_found("rollout", id))?;
    let Some(stored) = record.phases.get(phase) else {
        return Err(Error::Unexpected(format!("rollout {id} has no phase {phase}")));
    };
    let mut members = stored.members.clone();
    if members.insert(device.number) {
        db::phases::set_members(conn, id, phase, &members, stored.counts.excluded)?;
    }
    if let (Unit::Site, Some(site)) = (record.spec.unit, &device.site) {
        let mut sites = db::rollouts::sites(conn, id)?;
        if !sites.contains_key(site) {
            sites.insert(site.clone(), phase);
            db::rollouts::set_sites(conn, id, &sites)?;
        }
    }
    Ok(())
}

/// Lets a member count no longer and says why, or count again.
pub(crate) fn exclude(
    conn: &mut DbConn,
    id: RolloutId,
    phase: usize,
    number: u32,
    why: Option<Exclusion>,
) -> Result<()> {
    let record = db::rollouts::get(conn, id)?.ok_or_else(|| Error::not_found("rollout", id))?;
    let Some(stored) = record.phases.get(phase) else {
        return Err(Error::Unexpected(format!("rollout {id} has no phase {phase}")));
    };
    let mut set = record.excluded.clone();
    let excluded = why.is_some();
    let changed = if excluded { set.insert(number) } else { set.remove(number) };
    db::exclusions::put(conn, id, number, why.map(Exclusion::code))?;
    if !changed {
        return Ok(());
    }
    let mut members = stored.members.clone();
    // A device that joined in the same moment may be missing.
    members.insert(number);
    let delta = if excluded { stored.counts.excluded + 1 } else { stored.counts.excluded.saturating_sub(1) };
    db::phases::set_members(conn, id, phase, &members, delta)?;
    db::rollouts::set_excluded(conn, id, &set)?;
    Ok(db::counters::bump_generation(conn)?)
}

/// Takes a decommissioned device out of every active rollout.
pub(crate) fn leave(conn: &mut DbConn, device: DeviceId, now: Timestamp) -> Result<()> {
    let Some(known) = db::devices::get(conn, device)? else {
        return Ok(());
    };
    assignments::leave(conn, device, now)?;
    for record in db::rollouts::active(conn)? {
        let number = known.device.number;
        let Some(phase) = record.phases.iter().position(|phase| phase.members.contains(number)) else {
            continue;
        };
        if db::assignments::of(conn, record.id, device)?.is_none() {
            exclude(conn, record.id, phase, number, Some(Exclusion::OutOfService))?;
            advance(conn, record.id, now)?;
        }
    }
    Ok(db::counters::bump_generation(conn)?)
}
