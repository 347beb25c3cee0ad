//! Who this device is: what enrolment left behind.

use std::{io, time::Duration};

use callboard_proto::{
    ids::{DeviceId, DeviceName, SiteId},
    root::Root,
    signed::{Document, Refused, Verified, max_envelope},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{client::belong_together, fs::Fs, layout::StateDir, servers::Place, vault};

/// Certificates and names: a few KiB.
const MAX_BYTES: usize = 256 * 1024;

/// Where the server did not say when: two months remain for a device that is switched off, or a server that is.
const UNSAID_BEFORE_END: Duration = Duration::from_secs(60 * 86_400);

/// `device.json`; its existence means that the device is enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) device_id: DeviceId,
    pub(crate) name: DeviceName,
    #[serde(default)]
    pub(crate) site: Option<SiteId>,
    /// Where to check in.
    pub(crate) server_url: String,
    /// Who issued the server's certificate.
    pub(crate) server_ca_pem: String,
    /// The root that was trusted when that address proved itself; what it listed says nothing against the address.
    #[serde(default = "first_root")]
    pub(crate) server_root: u64,
    /// The device's own certificate.
    pub(crate) certificate_pem: String,
    pub(crate) expires_at: Timestamp,
    /// From when on the certificate is to be renewed, as the server said.
    #[serde(default)]
    pub(crate) renew_at: Option<Timestamp>,
}

/// What was enrolled before addresses could move came with its first root.
const fn first_root() -> u64 {
    1
}

/// A state directory without a usable identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("this device is not enrolled: {path} does not exist; run `callboard-agent enrol --bundle FILE` first")]
    NotEnrolled { path: String },
    #[error("read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("read {path}: {source}")]
    Damaged { path: String, source: serde_json::Error },
    #[error("trust the root in {path}: {source}")]
    Root { path: String, source: Refused },
}

impl Identity {
    /// Where this device checks in.
    pub(crate) fn place(&self) -> Place {
        Place { url: self.server_url.clone(), ca_pem: self.server_ca_pem.clone() }
    }

    /// From when on the certificate is to be renewed.
    pub(crate) fn renew_at(&self) -> Timestamp {
        self.renew_at.unwrap_or(self.expires_at - UNSAID_BEFORE_END)
    }

    /// Reads the identity.
    pub(crate) fn load(fs: &dyn Fs, state_dir: &StateDir) -> Result<Self, IdentityError> {
        let path = state_dir.identity();
        let shown = path.display().to_string();
        let bytes = fs.read(&path, MAX_BYTES).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => IdentityError::NotEnrolled { path: shown.clone() },
            _ => IdentityError::Read { path: shown.clone(), source },
        })?;
        serde_json::from_slice(&bytes).map_err(|source| IdentityError::Damaged { path: shown, source })
    }
}

/// Reads the key of the device's certificate, PKCS#8 PEM.
pub(crate) fn key(fs: &dyn Fs, state_dir: &StateDir, own: &Identity) -> io::Result<Vec<u8>> {
    settle_key(fs, state_dir, own)?;
    vault::read(fs, state_dir, own, &vault::Systemd)
}

/// Seals the key, where the device's owner wants that. What cannot be sealed stays a file for root alone.
pub(crate) fn seal_key(fs: &dyn Fs, state_dir: &StateDir, own: &Identity, wanted: bool) {
    if wanted && let Err(error) = vault::seal(fs, state_dir, own, &vault::Systemd) {
        tracing::warn!(%error, "the device's key could not be sealed; it stays a file that root alone can read");
    }
}

/// Puts the next key in its place, if it has become that of the certificate.
pub(crate) fn settle_key(fs: &dyn Fs, state_dir: &StateDir, own: &Identity) -> io::Result<()> {
    let next = state_dir.next_key();
    if fs.read(&next, MAX_BYTES).is_ok_and(|bytes| belong_together(&own.certificate_pem, &bytes)) {
        fs.rename(&next, &state_dir.key())?;
        fs.sync_dir(state_dir.path())?;
    }
    Ok(())
}

/// Reads the trusted root; its own keys must have signed it.
pub(crate) fn load_root(fs: &dyn Fs, state_dir: &StateDir) -> Result<Verified<Root>, IdentityError> {
    let path = state_dir.root();
    let shown = path.display().to_string();
    let bytes = fs
        .read(&path, max_envelope(Root::MAX_BYTES))
        .map_err(|source| IdentityError::Read { path: shown.clone(), source })?;
    Root::open_initial(&bytes).map_err(|source| IdentityError::Root { path: shown, source })
}
