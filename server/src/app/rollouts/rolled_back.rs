//! Devices on which a release rolled back before: it is not offered to them again, so they are nobody's canaries.

use std::collections::HashSet;

use callboard_policy::device::Device;
use callboard_proto::{
    digest::Digest,
    ids::{DeviceId, Id},
};
use uuid::Uuid;

use crate::{
    app::Result,
    db::{self, DbConn},
};

/// Rows that are read at a time.
const STEP: i64 = 5000;

/// Where a release rolled back.
pub(crate) struct RolledBack {
    release: Digest,
    devices: HashSet<DeviceId>,
}

impl RolledBack {
    /// Looks up all devices.
    pub(crate) fn of(conn: &mut DbConn, release: Digest) -> Result<Self> {
        let mut devices = HashSet::new();
        let mut after = Id::from_uuid(Uuid::nil());
        loop {
            let page = db::penalties::on(conn, release, after, STEP)?;
            let Some(last) = page.last() else {
                return Ok(Self { release, devices });
            };
            after = *last;
            devices.extend(page);
        }
    }

    /// Whether it rolled back there.
    pub(crate) fn has(&self, device: DeviceId) -> bool {
        self.devices.contains(&device)
    }

    /// Tells a device that was read without it.
    pub(super) fn note(&self, device: &mut Device) {
        if self.has(device.id) {
            device.bad_releases.push(self.release);
        }
    }
}
