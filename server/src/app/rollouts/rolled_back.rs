//! Devices on which a release rolled back before: it is not offered to them again, so they are nobody's canaries.

use std::collections::HashMap;

use callboard_policy::device::Device;
use callboard_proto::{
    digest::Digest,
    ids::{DeviceId, Id},
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    app::Result,
    db::{self, DbConn},
};

/// Rows that are read at a time.
const STEP: i64 = 5000;

/// Where a release rolled back, and when.
pub(super) struct RolledBack {
    release: Digest,
    devices: HashMap<DeviceId, Timestamp>,
}

impl RolledBack {
    /// Looks up all devices.
    pub(super) fn of(conn: &mut DbConn, release: Digest) -> Result<Self> {
        let mut devices = HashMap::new();
        let mut after = Id::from_uuid(Uuid::nil());
        loop {
            let page = db::penalties::on(conn, release, after, STEP)?;
            let Some((last, _)) = page.last() else {
                return Ok(Self { release, devices });
            };
            after = *last;
            devices.extend(page);
        }
    }

    /// Tells a device that was read without it. What was before it enrolled anew does not count.
    pub(super) fn note(&self, device: &mut Device) {
        if self.devices.get(&device.id).is_some_and(|at| *at >= device.enrolled_at.unwrap_or_default()) {
            device.bad_releases.push(self.release);
        }
    }
}
