//! `callboard-agent enrol`

use std::path::Path;

use callboard_proto::digest::Digest;

use super::{Failed, runtime, say};
use crate::{
    config::Settings,
    enrol::{self, Checked, EnrolError, How, MAX_BUNDLE_BYTES, Outcome},
    fs::{Disk, Fs},
    identity::Identity,
};

/// Looks a bundle through.
pub(super) fn read(bundle: &Path) -> Result<Checked, Failed> {
    let wrong = |reason: String| Failed::Input(format!("{}: {reason}", bundle.display()));
    let bytes = Disk.read(bundle, MAX_BUNDLE_BYTES).map_err(|error| wrong(error.to_string()))?;
    enrol::read_bundle(&bytes).map_err(wrong)
}

pub(super) fn enrol(
    settings: &Settings,
    bundle: &Path,
    name: Option<String>,
    (again, wait): (bool, bool),
) -> Result<(), Failed> {
    let checked = read(bundle)?;
    let name = name.map(|name| name.parse()).transpose();
    let name = name.map_err(|error: callboard_proto::ids::BadName| Failed::Input(error.to_string()))?;
    let tell = |key: Digest| {
        // Whoever stands before the till reads this out to whoever accepts it. A pipe that is closed stops nothing.
        let told =
            say(&format!("waits until an operator accepts this device (callboard enrolment list); its key is {key}"));
        told.unwrap_or_default();
    };
    // Such as that the key could not be sealed.
    super::run::log();
    let how = How { name, again, wait, tell: &tell };
    let outcome = runtime()?.block_on(enrol::enrol(&Disk, settings, checked, how));
    let shown = |own: Identity| format!("at {} as {} ({})", own.server_url, own.name, own.device_id);
    match outcome {
        Ok(Outcome::New(own)) => say(&format!("enrolled {}", shown(own))),
        Ok(Outcome::Again(own)) => {
            say(&format!("enrolled again {}; the key before is refused from now on", shown(own)))
        }
        Ok(Outcome::Already(own)) => {
            say(&format!("enrolled already {}; for another key and certificate add --again", shown(own)))
        }
        Err(
            error @ (EnrolError::Serial(_)
            | EnrolError::Elsewhere { .. }
            | EnrolError::Tls(_)
            | EnrolError::NoRoot { .. }
            | EnrolError::OtherRoot { .. }),
        ) => Err(Failed::Input(format!("failed to {error}"))),
        Err(error) => Err(Failed::Tried(format!("failed to {error}"))),
    }
}
