//! A release as far as decisions need it, and whether it fits a device.

use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::{Product, RolloutName},
    release::{self, Requirement},
    time::Timestamp,
    version::Version,
};

use crate::{device::Device, selector::Glob, trust::Distrust};

/// The deciding part of a signed release.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Its identity.
    pub digest: Digest,
    /// What it is a release of.
    pub product: Product,
    /// For people.
    pub version: Version,
    /// With `counter`, the order of releases of a product.
    pub epoch: u32,
    /// With `epoch`, the order of releases of a product.
    pub counter: u64,
    /// The floor it raises once committed. Used to foresee what devices
    /// accept afterwards.
    pub min_floor: u64,
    /// Channels it is meant for.
    pub channels: Vec<String>,
    /// Hardware it runs on.
    pub hw: Vec<Glob>,
    /// No new installs from then on.
    pub not_after: Option<Timestamp>,
    /// The oldest agent that can install it.
    pub requires_agent: Option<Version>,
    /// The counter that what the device runs of the product must have at least.
    pub requires_at_least: Option<u64>,
    /// Other products that must be there.
    pub requires: Vec<Requirement>,
    /// Free bytes that it takes at least.
    pub space_bytes: u64,
    /// Why devices would not install it any more, though it is published.
    pub distrust: Option<Distrust>,
}

impl Release {
    /// The device as it is once it has committed this release.
    pub fn committed_on(&self, device: &Device) -> Device {
        let mut device = device.clone();
        let raised = device.installed(&self.product).filter(|one| one.epoch == self.epoch).map_or(0, |one| one.floor);
        device.installed.retain(|one| one.product != self.product);
        device.installed.push(Installed {
            product: self.product.clone(),
            version: self.version.clone(),
            release: Some(self.digest),
            epoch: self.epoch,
            counter: self.counter,
            floor: raised.max(self.min_floor),
        });
        device
    }

    /// The first product that it needs and that the device does not have, or has too old.
    pub(crate) fn unmet(&self, device: &Device) -> Option<&Requirement> {
        release::unmet(&self.requires, |product| device.installed(product).map(|one| &one.version))
    }
}

/// Whether a device can take a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It can.
    Fits,
    /// It runs this very release.
    AlreadyInstalled,
    /// It never reported its facts, so it is taken for fitting until it does.
    Unreported,
    /// It cannot.
    Incompatible(Misfit),
}

/// Why a device cannot take a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Misfit {
    /// Another hardware model.
    Hardware,
    /// The device accepts none of the release's channels.
    Channel,
    /// The agent is too old, or its version cannot be read.
    Agent,
    /// Another product is missing, or too old.
    Product,
    /// The device refuses everything below its floor.
    BelowFloor,
    /// What the device runs is too old to hand over to it: another release comes first.
    SteppingStone,
    /// Something newer is installed.
    Downgrade,
    /// The release may not be installed any more.
    Expired,
    /// The head takes the release back.
    Revoked,
    /// The keys that signed the release may not sign it any more.
    Untrusted,
    /// It rolled back on this device before.
    RolledBackBefore,
}

/// Judges `release` for `device`, by what it last reported. A release that runs already is never a misfit.
pub fn fit(release: &Release, device: &Device, allow_downgrade: bool, now: Timestamp) -> Fit {
    match fit_reported(release, device, allow_downgrade, now) {
        // These are known without the device's word.
        Fit::Incompatible(why @ (Misfit::Expired | Misfit::Revoked | Misfit::Untrusted | Misfit::RolledBackBefore)) => {
            Fit::Incompatible(why)
        }
        Fit::Incompatible(_) | Fit::Fits if !device.has_reported() => Fit::Unreported,
        fit => fit,
    }
}

/// The same for a device whose facts are known.
fn fit_reported(release: &Release, device: &Device, allow_downgrade: bool, now: Timestamp) -> Fit {
    if device.runs(release.digest) {
        return Fit::AlreadyInstalled;
    }
    if release.not_after.is_some_and(|end| now >= end) {
        return Fit::Incompatible(Misfit::Expired);
    }
    match release.distrust {
        Some(Distrust::Revoked) => return Fit::Incompatible(Misfit::Revoked),
        Some(Distrust::Untrusted) => return Fit::Incompatible(Misfit::Untrusted),
        None => {}
    }
    if device.bad_releases.contains(&release.digest) {
        return Fit::Incompatible(Misfit::RolledBackBefore);
    }
    match misfit(release, device, allow_downgrade) {
        Some(why) => Fit::Incompatible(why),
        None => Fit::Fits,
    }
}

fn misfit(release: &Release, device: &Device, allow_downgrade: bool) -> Option<Misfit> {
    if !release.hw.iter().any(|glob| glob.matches(&device.hw)) {
        return Some(Misfit::Hardware);
    }
    if !release.channels.iter().any(|channel| device.channels.contains(channel)) {
        return Some(Misfit::Channel);
    }
    if let Some(oldest) = &release.requires_agent
        && !device.agent.parse::<Version>().is_ok_and(|agent| agent >= *oldest)
    {
        return Some(Misfit::Agent);
    }
    out_of_order(release, device, allow_downgrade).or_else(|| release.unmet(device).map(|_| Misfit::Product))
}

/// What the device has of the product is in the way.
fn out_of_order(release: &Release, device: &Device, allow_downgrade: bool) -> Option<Misfit> {
    let installed = device.installed(&release.product)?;
    let order = (release.epoch, release.counter);
    // The floor binds within its epoch, and a lower epoch lies below every floor.
    if order < (installed.epoch, installed.floor) {
        return Some(Misfit::BelowFloor);
    }
    if release.requires_at_least.is_some_and(|least| (installed.epoch, installed.counter) < (release.epoch, least)) {
        return Some(Misfit::SteppingStone);
    }
    (order < (installed.epoch, installed.counter) && !allow_downgrade).then_some(Misfit::Downgrade)
}

impl Misfit {
    /// Every misfit.
    pub const ALL: [Self; 11] = [
        Self::Hardware,
        Self::Channel,
        Self::Agent,
        Self::Product,
        Self::BelowFloor,
        Self::SteppingStone,
        Self::Downgrade,
        Self::Expired,
        Self::Revoked,
        Self::Untrusted,
        Self::RolledBackBefore,
    ];

    /// A stable word for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Hardware => "incompatible_hw",
            Self::Channel => "incompatible_channel",
            Self::Agent => "agent_too_old",
            Self::Product => "needs_product",
            Self::BelowFloor => "below_floor",
            Self::SteppingStone => "needs_stepping_stone",
            Self::Downgrade => "downgrade",
            Self::Expired => "release_expired",
            Self::Revoked => "release_revoked",
            Self::Untrusted => "release_untrusted",
            Self::RolledBackBefore => "rolled_back_before",
        }
    }

    /// A sentence about this release and this device, in this rollout.
    pub fn text(self, release: &Release, device: &Device, rollout: &RolloutName) -> String {
        let installed = device.installed(&release.product);
        let version = installed.map_or("none", |one| one.version.as_str());
        match self {
            Self::Hardware => {
                let globs: Vec<&str> = release.hw.iter().map(Glob::as_str).collect();
                format!("the release is for hardware {}, the device is {:?}", globs.join(", "), device.hw)
            }
            Self::Channel => format!(
                "the release is on channel {}, the device accepts {}",
                release.channels.join(", "),
                if device.channels.is_empty() { "none".to_owned() } else { device.channels.join(", ") }
            ),
            Self::Agent => {
                let oldest = release.requires_agent.as_ref().map_or("", Version::as_str);
                format!("the release needs agent {oldest} or newer, the device has {:?}", device.agent)
            }
            Self::Product => match release.unmet(device) {
                None => format!("{} {} needs another product", release.product, release.version),
                Some(needed) => {
                    let has = match device.installed(&needed.product) {
                        Some(one) => format!("has {} {}", needed.product, one.version),
                        None => format!("has no {}", needed.product),
                    };
                    format!("{} {} needs {needed}, the device {has}", release.product, release.version)
                }
            },
            Self::BelowFloor => format!(
                "release counter {}.{} is below the device's floor {}.{}",
                release.epoch,
                release.counter,
                installed.map_or(0, |one| one.epoch),
                installed.map_or(0, |one| one.floor)
            ),
            Self::SteppingStone => format!(
                "{} {} needs counter {}.{} or a higher one to be installed first, the device has {}.{} ({version})",
                release.product,
                release.version,
                release.epoch,
                release.requires_at_least.unwrap_or_default(),
                installed.map_or(0, |one| one.epoch),
                installed.map_or(0, |one| one.counter)
            ),
            Self::Downgrade => format!(
                "{} {version} is newer than {}, and the rollout does not allow a downgrade",
                release.product, release.version
            ),
            Self::Expired => {
                let end = release.not_after.map(|end| end.to_string()).unwrap_or_default();
                format!("the release may not be installed since {end}")
            }
            Self::Revoked => format!("{} {} was taken back by the head", release.product, release.version),
            Self::Untrusted => {
                let what = format!("{} {}", release.product, release.version);
                format!("the root does not accept the signatures of {what} any more; sign and publish it anew")
            }
            Self::RolledBackBefore => {
                let what = format!("{} {}", release.product, release.version);
                format!("{what} rolled back on this device; {}", retry_hint(rollout, device))
            }
        }
    }
}

/// How an operator asks for another try.
pub(crate) fn retry_hint(rollout: &RolloutName, device: &Device) -> String {
    format!("`callboard rollout retry {rollout} --device {} --reason ...` tries again", device.name)
}

#[cfg(test)]
mod tests;
