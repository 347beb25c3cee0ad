//! One `[products.NAME]` table: where a product lives and how its health is seen.

use std::{path::PathBuf, time::Duration};

use callboard_proto::{ids::Product, version::Version};
use serde::Deserialize;

use super::{absolute, seconds};
use crate::verify::Floor;

/// How one product is installed and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProductSettings {
    /// Holds `versions/`, `current` and `previous`.
    pub(crate) directory: PathBuf,
    /// The systemd unit that runs it.
    pub(crate) service: Option<String>,
    /// Program and arguments that exit 0 when the product is well.
    pub(crate) health: Option<Vec<String>>,
    pub(crate) health_timeout: Duration,
    /// How long a new version must stay healthy before it is kept.
    pub(crate) trial: Duration,
    /// How often a trial may be begun before it counts as failed.
    pub(crate) trial_tries: u8,
    /// How long a version that needs the server may take to reach it.
    pub(crate) contact: Duration,
    /// What was there before the first update.
    pub(crate) factory_version: Option<Version>,
    /// No release below it, whatever the state directory says or has lost.
    pub(crate) floor: Floor,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragment {
    directory: Option<PathBuf>,
    service: Option<String>,
    health: Option<Vec<String>>,
    health_timeout_s: Option<u64>,
    trial_s: Option<u64>,
    trial_tries: Option<u8>,
    contact_s: Option<u64>,
    factory_version: Option<Version>,
    floor: Option<FloorFragment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FloorFragment {
    epoch: u32,
    counter: u64,
}

impl Fragment {
    pub(super) fn validate(self, name: &Product) -> Result<ProductSettings, String> {
        let key = |field: &str| format!("products.{name}.{field}");
        let directory =
            self.directory.ok_or_else(|| format!("{} is missing; say where the product lives", key("directory")))?;
        if let Some(unit) = &self.service
            && !is_unit(unit)
        {
            return Err(format!("{} is {unit:?}, wanted is the name of a unit such as pos.service", key("service")));
        }
        if let Some(argv) = &self.health
            && argv.first().is_none_or(String::is_empty)
        {
            return Err(format!("{} is empty; name a program, or leave the key out", key("health")));
        }
        let trial_tries = self.trial_tries.unwrap_or(3);
        if !(1..=10).contains(&trial_tries) {
            return Err(format!("{} is {trial_tries}, allowed is 1 to 10", key("trial_tries")));
        }
        Ok(ProductSettings {
            directory: absolute(&key("directory"), directory)?,
            service: self.service,
            health: self.health,
            health_timeout: seconds(&key("health_timeout_s"), self.health_timeout_s.unwrap_or(30), 1, 3600)?,
            trial: seconds(&key("trial_s"), self.trial_s.unwrap_or(300), 0, 86_400)?,
            trial_tries,
            contact: seconds(&key("contact_s"), self.contact_s.unwrap_or(14_400), 1800, 86_400)?,
            factory_version: self.factory_version,
            floor: self.floor.map(|floor| Floor { epoch: floor.epoch, counter: floor.counter }).unwrap_or_default(),
        })
    }
}

/// What systemd allows in a unit's name; it becomes an argument of `systemctl` and must not look like an option.
fn is_unit(unit: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b':' | b'_' | b'.' | b'\\' | b'@' | b'-');
    (1..=255).contains(&unit.len()) && !unit.starts_with('-') && unit.bytes().all(legal)
}
