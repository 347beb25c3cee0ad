//! Enrolment: a key made here, a certificate from the server, and everything that the bundle brings.
//!
//! The identity is written last. Until then a repeated enrolment uses the same key, and the server answers the same
//! token and key with the same certificate; so a lost answer or a power cut costs nothing.

use std::{io, path::PathBuf, sync::Arc};

use callboard_proto::{
    enrol::{Bundle, Enrol, Enrolled},
    ids::DeviceName,
    paths,
    root::Root,
    signed::Refused,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::{
    client::{Client, ClientError, Credentials, Dates, Endpoint, TlsError},
    clock::Clock,
    config::Settings,
    fs::{self, Fs},
    identity::{Identity, IdentityError},
    layout::StateDir,
    lock::{Lock, LockError},
};

/// A bundle: a certificate, a root, a token.
pub(crate) const MAX_BUNDLE_BYTES: usize = 512 * 1024;
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// An enrolment that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("{0}")]
    Lock(#[from] LockError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("use state directory {path}: {source}")]
    StateDir { path: PathBuf, source: io::Error },
    #[error("enrol at {wanted}: this device is enrolled at {own} as {name}; empty its state directory to start anew")]
    Elsewhere { wanted: String, own: String, name: DeviceName },
    #[error("make the device's key: {0}")]
    Key(rcgen::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("read the server's answer: {0}")]
    Answer(serde_json::Error),
}

/// A bundle that was looked through.
pub(crate) struct Checked {
    bundle: Bundle,
    endpoint: Endpoint,
    root: Vec<u8>,
    issued_at: callboard_proto::time::Timestamp,
}

/// Reads a bundle. An error is a sentence about the bundle.
pub(crate) fn read_bundle(bytes: &[u8]) -> Result<Checked, String> {
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|error| format!("not an enrolment bundle: {error}"))?;
    if bundle.v != 1 {
        return Err(format!("the bundle has format {}, this agent knows 1", bundle.v));
    }
    let endpoint = Endpoint::parse(&bundle.server_url).map_err(|reason| format!("server_url: {reason}"))?;
    let root = serde_json::to_vec(&bundle.root).map_err(|error| error.to_string())?;
    let verified = Root::open_initial(&root).map_err(|refused: Refused| format!("root: {refused}"))?;
    Ok(Checked { bundle, endpoint, root, issued_at: verified.issued_at })
}

/// What an enrolment led to.
pub(crate) enum Outcome {
    New(Identity),
    /// The device was enrolled there before; nothing was changed.
    Already(Identity),
}

/// Enrols this device.
pub(crate) async fn enrol(
    fs: &dyn Fs,
    settings: &Settings,
    checked: Checked,
    name: Option<DeviceName>,
) -> Result<Outcome, EnrolError> {
    let state_dir = StateDir::new(&settings.state_dir);
    prepare(fs, &state_dir).map_err(|source| EnrolError::StateDir { path: settings.state_dir.clone(), source })?;
    let _lock = Lock::take(&state_dir)?;
    match Identity::load(fs, &state_dir) {
        Ok(own) if own.server_url == checked.bundle.server_url => return Ok(Outcome::Already(own)),
        Ok(own) => {
            return Err(EnrolError::Elsewhere {
                wanted: checked.bundle.server_url,
                own: own.server_url,
                name: own.name,
            });
        }
        Err(IdentityError::NotEnrolled { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let key = key(fs, &state_dir)?;
    let clock = Arc::new(Clock::new(checked.issued_at));
    let ca_pem = checked.bundle.server_ca_pem;
    let client = Client::new(checked.endpoint, &ca_pem, None, &clock, settings.network)?;
    let question = Enrol {
        crit: Vec::new(),
        token: checked.bundle.token,
        csr_pem: request(&key).map_err(EnrolError::Key)?,
        name,
        serial: settings.serial.clone(),
        hw: settings.hw.clone(),
        arch: settings.arch.clone(),
    };
    let body = serde_json::to_vec(&question).map_err(EnrolError::Answer)?;
    let bytes = client.post(paths::ENROL, body, MAX_ANSWER_BYTES, Dates::MayBeWrong).await?;
    let enrolled: Enrolled = serde_json::from_slice(&bytes).map_err(EnrolError::Answer)?;
    let identity = Identity {
        device_id: enrolled.device_id,
        name: enrolled.name,
        site: enrolled.site,
        server_url: checked.bundle.server_url,
        server_ca_pem: ca_pem,
        certificate_pem: enrolled.certificate_pem,
        expires_at: enrolled.expires_at,
    };
    // A certificate for another key would be found out at the first check-in; now somebody is looking.
    let credentials = Credentials::from_pem(&identity.certificate_pem, key.serialize_pem().as_bytes())?;
    let endpoint = Endpoint::parse(&identity.server_url).map_err(|_checked| TlsError::Pem { what: "server_url" })?;
    Client::new(endpoint, &identity.server_ca_pem, Some(credentials), &clock, settings.network)?;
    let stored = fs::replace(fs, &state_dir.root(), &checked.root).and_then(|()| {
        let bytes = serde_json::to_vec_pretty(&identity)?;
        fs::replace(fs, &state_dir.identity(), &bytes)
    });
    stored.map_err(|source| EnrolError::StateDir { path: settings.state_dir.clone(), source })?;
    Ok(Outcome::New(identity))
}

fn prepare(fs: &dyn Fs, state_dir: &StateDir) -> io::Result<()> {
    fs::create_dirs(fs, state_dir.path())?;
    // Keys lie here.
    fs.make_private(state_dir.path())
}

/// The device's key: the one that is there, else a new one, durable before it is used.
fn key(fs: &dyn Fs, state_dir: &StateDir) -> Result<KeyPair, EnrolError> {
    let path = state_dir.key();
    let failed = |source| EnrolError::StateDir { path: path.clone(), source };
    match fs.read(&path, MAX_ANSWER_BYTES) {
        Ok(bytes) => {
            let pem = String::from_utf8_lossy(&bytes);
            KeyPair::from_pem(&pem).map_err(EnrolError::Key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(EnrolError::Key)?;
            fs::replace(fs, &path, key.serialize_pem().as_bytes()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

/// A certificate request. The server ignores names in it, so there are none.
fn request(key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key)?.pem()
}
