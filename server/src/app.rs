//! Use cases: what devices and operators can do, each with its own transaction.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use callboard_proto::ids::DeviceId;
use governor::Quota;

pub(crate) mod actor;
pub(crate) mod api_tokens;
pub(crate) mod assignments;
pub(crate) mod attacks;
pub(crate) mod attention;
mod bandwidth;
mod because;
pub(crate) mod catalog;
pub(crate) mod check_in;
pub(crate) mod clones;
pub(crate) mod devices;
pub(crate) mod edition;
pub(crate) mod eligibility;
pub(crate) mod enrol;
mod error;
pub(crate) mod expiry;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod freezes;
pub(crate) mod grants;
pub(crate) mod loads;
pub(crate) mod once;
pub(crate) mod overview;
pub(crate) mod part;
pub(crate) mod people;
pub(crate) mod presence;
pub(crate) mod releases;
pub(crate) mod renewal;
pub(crate) mod report;
pub(crate) mod rollouts;
pub(crate) mod served;
pub(crate) mod simulating;
pub(crate) mod sites;
pub(crate) mod timers;
pub(crate) mod tokens;
pub(crate) mod told;
pub(crate) mod trust;
pub(crate) mod waiting;
pub(crate) mod webhooks;

use crate::{
    ca::DeviceCa,
    clock::Clock,
    db::{Db, selector::Context},
    provider::Provider,
    sign::OnlineKeys,
    store::Store,
    telemetry::Metrics,
};
pub(crate) use actor::{AT_HOME, AT_THE_SERVER, Actor, Reach, note_at_home};
pub(crate) use because::Because;
use catalog::Snapshot;
use devices::{Changing, Remembered};
pub(crate) use error::{Error, Result};
use presence::Presence;
use simulating::Simulating;
use waiting::Waiting;

/// Devices kept in memory: one is about 2 KB, so at most some 100 MB.
pub(crate) const CACHED_DEVICES: usize = 50_000;

/// Everything that use cases need; one for the whole process.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) device_ca: Arc<DeviceCa>,
    pub(crate) signer: OnlineKeys,
    pub(crate) server_ca_pem: String,
    pub(crate) public_url: String,
    /// When this data directory was put in place, if it is a backup.
    pub(crate) restored_at: Option<callboard_proto::time::Timestamp>,
    /// The listeners' certificates, as they were loaded.
    pub(crate) certificates: Vec<expiry::Expiry>,
    pub(crate) poll_interval: Duration,
    /// Silence after which a device is abandoned.
    pub(crate) abandoned_after: Duration,
    /// Rollouts for more devices than this need a second person's approval.
    pub(crate) second_person_above: Option<u64>,
    /// Payload bytes a second to all devices together.
    pub(crate) max_bytes_per_s: Option<NonZeroU64>,
    /// How long a request of a device may take to arrive.
    pub(crate) request_timeout: Duration,
    /// Check-ins and reports of one device.
    pub(crate) requests_of_a_device: Quota,
    pub(crate) metrics: Metrics,
    pub(crate) presence: Presence,
    pub(crate) attacks: attacks::Pending,
    pub(crate) served: served::Served,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) devices: Arc<Remembered>,
    pub(crate) simulating: Simulating,
    pub(crate) doors: people::doors::Doors,
    /// The identity provider by which people may log in.
    pub(crate) provider: Option<Arc<Provider>>,
    pub(crate) fleet: fleet::Fleet,
    pub(crate) told: told::Told,
}

impl App {
    /// How long the body of an operator's request may take to arrive, or a MiB of a payload: megabytes over a tunnel.
    pub(crate) fn operators_request_timeout(&self) -> Duration {
        5 * self.request_timeout
    }

    /// What selectors need to know beside the rows.
    pub(crate) fn selector_context(&self) -> Context {
        Context { now: self.clock.now(), poll_interval: self.poll_interval, abandoned_after: self.abandoned_after }
    }

    /// Drops what is remembered of a device, after a change to it was committed. If it waits, it is answered by what it
    /// is now.
    pub(crate) fn forget_device(&self, id: DeviceId) {
        self.devices.forget(id);
        self.waiting.ring(id);
    }

    /// The same after a change that was announced before.
    pub(crate) fn changed(&self, change: Changing) {
        let device = change.device();
        drop(change);
        self.waiting.ring(device);
    }

    /// Drops what is remembered of every device. Those that wait learn of it with the next catalog.
    pub(crate) fn forget_devices(&self) {
        self.devices.forget_all();
    }

    /// The present rollouts and releases.
    pub(crate) fn catalog(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}
