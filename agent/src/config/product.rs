//! One `[products.NAME]` table: where a product lives and how its health is seen.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::{ids::Product, release::Installer, version::Version};
use serde::Deserialize;

use super::{absolute, seconds};
use crate::{itself, verify::Floor};

/// How one product is installed and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProductSettings {
    /// What puts its releases in place.
    pub(crate) installed_by: InstalledBy,
    /// The systemd unit that runs it.
    pub(crate) service: Option<String>,
    /// Program and arguments that exit 0 when the product is well.
    pub(crate) health: Option<Vec<String>>,
    pub(crate) health_timeout: Duration,
    /// How long a new version must stay healthy before it is kept; of the agent itself, how long it waits for an answer.
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

/// What puts a product's releases in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InstalledBy {
    /// The agent: the directory holds `versions/`, `current` and `previous`.
    Agent(PathBuf),
    /// A program of the device's owner.
    Program(InstallerProgram),
}

/// The program that puts a product's releases in place, and how long it may take for each verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstallerProgram {
    pub(crate) path: PathBuf,
    pub(crate) timeout: Duration,
}

impl ProductSettings {
    /// The product's directory, where the agent itself puts releases in place.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.installed_by {
            InstalledBy::Agent(directory) => Some(directory),
            InstalledBy::Program(_) => None,
        }
    }

    /// Which kind of releases it takes.
    pub(crate) const fn installer(&self) -> Installer {
        match self.installed_by {
            InstalledBy::Agent(_) => Installer::Directory,
            InstalledBy::Program(_) => Installer::Command,
        }
    }

    /// The installer program, where there is one.
    pub(crate) const fn program(&self) -> Option<&InstallerProgram> {
        match &self.installed_by {
            InstalledBy::Agent(_) => None,
            InstalledBy::Program(program) => Some(program),
        }
    }
}
/// Of most products.
const TRIAL_S: u64 = 300;
/// Of the agent: a server that is away for a while is not the new version's fault.
const TRIAL_OF_AGENT_S: u64 = 3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragment {
    directory: Option<PathBuf>,
    installer: Option<PathBuf>,
    installer_timeout_s: Option<u64>,
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
        let installed_by = installed_by(&key, self.directory, self.installer, self.installer_timeout_s)?;
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
        if let (InstalledBy::Program(_), Some(name)) = (&installed_by, self.health.iter().flatten().next())
            && !Path::new(name).is_absolute()
        {
            let key = key("health");
            return Err(format!("{key} is {name:?}; beside an installer wanted is a program's absolute path"));
        }
        let is_itself = itself::is_it(name);
        if is_itself && matches!(installed_by, InstalledBy::Program(_)) {
            return Err(format!("products.{name} has no installer: the agent updates itself; give its directory"));
        }
        if is_itself && (self.service.is_some() || self.health.is_some()) {
            let text =
                "has no service and no health: the launcher starts it, and that the server answers is its health";
            return Err(format!("products.{name} {text}; leave the keys out"));
        }
        let (trial_s, shortest) = if is_itself { (TRIAL_OF_AGENT_S, 1) } else { (TRIAL_S, 0) };
        let trial_tries = self.trial_tries.unwrap_or(3);
        if !(1..=10).contains(&trial_tries) {
            return Err(format!("{} is {trial_tries}, allowed is 1 to 10", key("trial_tries")));
        }
        Ok(ProductSettings {
            installed_by,
            service: self.service,
            health: self.health,
            health_timeout: seconds(&key("health_timeout_s"), self.health_timeout_s.unwrap_or(30), 1, 3600)?,
            trial: seconds(&key("trial_s"), self.trial_s.unwrap_or(trial_s), shortest, 86_400)?,
            trial_tries,
            contact: seconds(&key("contact_s"), self.contact_s.unwrap_or(14_400), 1800, 86_400)?,
            factory_version: self.factory_version,
            floor: self.floor.map(|floor| Floor { epoch: floor.epoch, counter: floor.counter }).unwrap_or_default(),
        })
    }
}

/// Either the one or the other.
fn installed_by(
    key: &dyn Fn(&str) -> String,
    directory: Option<PathBuf>,
    installer: Option<PathBuf>,
    timeout_s: Option<u64>,
) -> Result<InstalledBy, String> {
    match (directory, installer) {
        (Some(_), Some(_)) => {
            Err(format!("{} and {} are both there; a product has one of them", key("directory"), key("installer")))
        }
        (Some(_), None) if timeout_s.is_some() => {
            Err(format!("{} is there without {}", key("installer_timeout_s"), key("installer")))
        }
        (Some(directory), None) => Ok(InstalledBy::Agent(absolute(&key("directory"), directory)?)),
        (None, Some(path)) => Ok(InstalledBy::Program(InstallerProgram {
            path: absolute(&key("installer"), path)?,
            timeout: seconds(&key("installer_timeout_s"), timeout_s.unwrap_or(1800), 1, 86_400)?,
        })),
        (None, None) => Err(format!(
            "{} is missing; say where the product lives, or name the program that installs it as {}",
            key("directory"),
            key("installer")
        )),
    }
}

/// What systemd allows in a unit's name; it becomes an argument of `systemctl` and must not look like an option.
fn is_unit(unit: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b':' | b'_' | b'.' | b'\\' | b'@' | b'-');
    (1..=255).contains(&unit.len()) && !unit.starts_with('-') && unit.bytes().all(legal)
}
