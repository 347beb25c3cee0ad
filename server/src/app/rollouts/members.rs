//! Who is in a rollout: late joiners, those who turn out to need nothing, those who leave. Each is a row beside the sets
//! that the start wrote, and no change of the catalog: whoever decides about the device knows its rows.

use std::sync::Arc;

use callboard_policy::{
    audience::Exclusion,
    device::{Device, Member},
};
use callboard_proto::{
    ids::{DeviceId, RolloutId},
    time::Timestamp,
};

use super::advance::advance;
use crate::{
    app::{Result, assignments, catalog},
    db::{self, DbConn},
};

/// Adds a late joiner to a phase.
pub(crate) fn join(conn: &mut DbConn, rollout: RolloutId, phase: usize, number: u32) -> Result<()> {
    db::members::put(conn, number, &Member { rollout, phase, excluded: None })?;
    Ok(db::counts::join(conn, rollout, phase, 1)?)
}

/// Lets a member count no longer and says why, or count again. `was` is what it was excluded for before.
pub(crate) fn exclude(conn: &mut DbConn, number: u32, was: Option<Exclusion>, is: &Member) -> Result<()> {
    db::members::put(conn, number, is)?;
    Ok(db::counts::exclude(conn, is.rollout, is.phase, was, is.excluded)?)
}

/// Takes devices that are out of service out of every active rollout. Their revisions rise with whatever took them out.
pub(crate) fn leave(conn: &mut DbConn, devices: &[DeviceId], now: Timestamp) -> Result<()> {
    let mut left: Vec<Device> = Vec::new();
    for id in devices {
        assignments::leave(conn, *id, now)?;
        left.extend(db::devices::get(conn, *id)?.map(|record| record.device));
    }
    for record in db::rollouts::active(conn)? {
        let id = record.id;
        let members = Arc::new(db::phases::audience(conn, id)?);
        let rollout = catalog::active(record, members)?;
        let mut any = false;
        for device in &left {
            let Some(member) = rollout.member(device) else {
                continue;
            };
            if db::assignments::of(conn, id, device.id)?.is_none() {
                let is = Member { excluded: Some(Exclusion::OutOfService), ..member };
                exclude(conn, device.number, member.excluded, &is)?;
                any = true;
            }
        }
        if any {
            advance(conn, id, now)?;
        }
    }
    db::counters::count_departure(conn)?;
    Ok(db::counters::bump_generation(conn)?)
}
