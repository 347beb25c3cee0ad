//! JSON: a list, or an object with the list under its name, as the admin API takes it.

use callboard_proto::admin::{ImportDevice, ImportSite};
use serde::{Deserialize, de::DeserializeOwned};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sites {
    sites: Vec<ImportSite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Devices {
    devices: Vec<ImportDevice>,
}

/// Reads sites.
pub(super) fn sites(text: &str) -> Result<Vec<ImportSite>, serde_json::Error> {
    either(text, |object: Sites| object.sites)
}

/// Reads devices.
pub(super) fn devices(text: &str) -> Result<Vec<ImportDevice>, serde_json::Error> {
    either(text, |object: Devices| object.devices)
}

/// The first character decides, so that errors keep their line and column.
fn either<T: DeserializeOwned, O: DeserializeOwned>(
    text: &str,
    list: fn(O) -> Vec<T>,
) -> Result<Vec<T>, serde_json::Error> {
    if text.trim_start().starts_with('{') { serde_json::from_str(text).map(list) } else { serde_json::from_str(text) }
}
