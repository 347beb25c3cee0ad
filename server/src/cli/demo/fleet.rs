//! The facts of the demo: eight shops and ten tills, six of them online, three offline, one never seen.

use callboard_proto::{
    admin::{ImportDevice, ImportSite, Labels},
    ids::{DeviceName, Product, SiteId},
    version::Version,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The shops and tills.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fleet {
    pub(super) sites: Vec<ImportSite>,
    pub(super) devices: Vec<Facts>,
}

/// One till before anything happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    pub(super) name: DeviceName,
    pub(super) site: SiteId,
    pub(super) description: String,
    pub(super) at_start: AtStart,
    pub(super) labels: Labels,
    pub(super) installed: BTreeMap<Product, Version>,
}

/// How a till stands when a scenario begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AtStart {
    /// Switched on.
    Online,
    /// Enrolled and seen once, then switched off.
    Offline,
    /// Known from the import alone.
    Unknown,
}

/// What all tills run.
pub(super) const PRODUCT: &str = "pos-app";

/// Reads the facts.
pub(super) fn load() -> anyhow::Result<Fleet> {
    Ok(serde_json::from_str(include_str!("fleet.json"))?)
}

impl Facts {
    /// As the registry imports it.
    pub(super) fn import(&self) -> ImportDevice {
        ImportDevice {
            name: self.name.clone(),
            site: Some(self.site.clone()),
            serial: None,
            description: self.description.clone(),
            labels: self.labels.clone(),
            installed: self.installed.clone(),
        }
    }

    /// The version that its image brought.
    pub(super) fn factory(&self) -> String {
        self.installed.values().next().map(ToString::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_is_the_one_that_is_promised() {
        let fleet = load().expect("facts");
        let count = |at| fleet.devices.iter().filter(|device| device.at_start == at).count();
        assert_eq!(fleet.sites.len(), 8);
        assert_eq!((count(AtStart::Online), count(AtStart::Offline), count(AtStart::Unknown)), (6, 3, 1));
        for device in &fleet.devices {
            assert!(fleet.sites.iter().any(|site| site.id == device.site), "{}", device.name);
            assert_eq!(device.installed.keys().map(Product::as_str).collect::<Vec<_>>(), [PRODUCT]);
        }
    }
}
