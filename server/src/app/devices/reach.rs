//! Devices as those find them who see a part of the fleet.

use callboard_policy::device::Device;
use callboard_proto::{
    admin::Labels,
    ids::{DeviceId, DeviceName},
    time::Timestamp,
};
use uuid::Uuid;

use super::{resolve, standing_at};
use crate::{
    app::{Actor, Error, Reach, Result},
    db::{DbConn, devices::Record, sites::Site},
};

/// A device by its id or its name, for somebody whose permission holds for it.
pub(crate) fn resolve_for(conn: &mut DbConn, actor: &Actor, reference: &str, now: Timestamp) -> Result<Record> {
    let record = resolve(conn, reference)?;
    let device = &record.device;
    actor.check("device", reference, actor.may.covers(device, now), actor.sees.covers(device, now))?;
    Ok(record)
}

/// Refuses a device as it would be after a change: nobody moves one out of where the permission holds.
pub(crate) fn check_after(actor: &Actor, device: &Device, now: Timestamp) -> Result<()> {
    if actor.may.covers(device, now) {
        return Ok(());
    }
    Err(actor.outside(format!("device {} as it would be then", device.name)))
}

/// Whether a device that says nothing of itself would be in reach, if it stood there with these labels.
pub(crate) fn would_cover(reach: &Reach, site: Option<&Site>, labels: &Labels, now: Timestamp) -> Result<bool> {
    if reach.is_everything() {
        return Ok(true);
    }
    let name = "new".parse::<DeviceName>().map_err(|source| Error::Unexpected(source.to_string()))?;
    let device = standing_at(unheard_of(DeviceId::from_uuid(Uuid::nil()), name), labels, site)?;
    Ok(reach.covers(&device, now))
}

/// A device that has said nothing and stands nowhere.
pub(super) fn unheard_of(id: DeviceId, name: DeviceName) -> Device {
    // No set of members has this number.
    Device::unheard_of(id, u32::MAX, name)
}
