//! `callboard-agent enrol`

use std::path::Path;

use super::{Failed, runtime, say};
use crate::{
    config::Settings,
    enrol::{self, EnrolError, MAX_BUNDLE_BYTES, Outcome},
    fs::{Disk, Fs},
};

pub(super) fn enrol(settings: &Settings, bundle: &Path, name: Option<String>) -> Result<(), Failed> {
    let wrong = |reason: String| Failed::Input(format!("{}: {reason}", bundle.display()));
    let bytes = Disk.read(bundle, MAX_BUNDLE_BYTES).map_err(|error| wrong(error.to_string()))?;
    let checked = enrol::read_bundle(&bytes).map_err(wrong)?;
    let name = name.map(|name| name.parse()).transpose();
    let name = name.map_err(|error: callboard_proto::ids::BadName| Failed::Input(error.to_string()))?;
    let outcome = runtime()?.block_on(enrol::enrol(&Disk, settings, checked, name));
    match outcome {
        Ok(Outcome::New(own)) => say(&format!("enrolled at {} as {} ({})", own.server_url, own.name, own.device_id)),
        Ok(Outcome::Already(own)) => {
            say(&format!("enrolled already at {} as {} ({})", own.server_url, own.name, own.device_id))
        }
        Err(error @ (EnrolError::Elsewhere { .. } | EnrolError::Tls(_))) => {
            Err(Failed::Input(format!("failed to {error}")))
        }
        Err(error) => Err(Failed::Tried(format!("failed to {error}"))),
    }
}
