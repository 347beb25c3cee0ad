//! Enrolment: a key made here, a certificate from the server, and everything that the bundle brings.
//!
//! The identity is written last. Until then a repeated enrolment uses the same key, and the server answers the same
//! token and key with the same certificate; so a lost answer or a power cut costs nothing. A device that enrols again
//! keeps its present key until then, and what is installed in any case.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use callboard_proto::{
    digest::Digest,
    enrol::{Bundle, Enrol, Enrolled},
    ids::DeviceName,
    paths,
    problem::Code as Problem,
    root::Root,
    signed::{Document, Refused, Verified, max_envelope},
};
use hyper::body::Bytes;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _};

use crate::{
    client::{Client, ClientError, Credentials, Dates, Endpoint, TlsError},
    clock::Clock,
    config::Settings,
    fs::{self, Fs},
    identity::{self, Identity, IdentityError},
    layout::StateDir,
    lock::{Lock, LockError},
};

/// A bundle: a certificate, a root, a token.
pub(crate) const MAX_BUNDLE_BYTES: usize = 512 * 1024;
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Between two questions whether an operator has accepted the device: somebody stands before it.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// An enrolment that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("say which serial number this device has: {0}")]
    Serial(String),
    #[error("{0}")]
    Lock(#[from] LockError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("use state directory {path}: {source}")]
    StateDir { path: PathBuf, source: io::Error },
    #[error("enrol at {wanted}: this device is enrolled at {own} as {name}; add --again to enrol it anew")]
    Elsewhere { wanted: String, own: String, name: DeviceName },
    #[error("make the device's key: {0}")]
    Key(rcgen::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error(
        "use the bundle: {server_url} has no root {version}, so the bundle is another server's; the token is not used"
    )]
    NoRoot { server_url: String, version: u64 },
    #[error(
        "use the bundle: root {version} of {server_url} is another one, so the bundle is another server's; the token is not used"
    )]
    OtherRoot { server_url: String, version: u64 },
    #[error("read the server's answer: {0}")]
    Answer(serde_json::Error),
}

/// A bundle that was looked through.
pub(crate) struct Checked {
    bundle: Bundle,
    endpoint: Endpoint,
    root: Vec<u8>,
    verified: Verified<Root>,
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
    Ok(Checked { bundle, endpoint, root, verified })
}

/// How to enrol.
pub(crate) struct How<'a> {
    /// The name that the device would like to have.
    pub(crate) name: Option<DeviceName>,
    /// Also if it is enrolled, and with a new key.
    pub(crate) again: bool,
    /// Until an operator has accepted the device.
    pub(crate) wait: bool,
    /// Told once, before it waits, the SHA-256 of the key.
    pub(crate) tell: &'a dyn Fn(Digest),
}

/// What an enrolment led to.
pub(crate) enum Outcome {
    New(Identity),
    /// The device has another key and another certificate than before.
    Again(Identity),
    /// The device was enrolled there before; nothing was changed.
    Already(Identity),
}

/// Enrols this device. What is installed stays.
pub(crate) async fn enrol(
    fs: &dyn Fs,
    settings: &Settings,
    checked: Checked,
    how: How<'_>,
) -> Result<Outcome, EnrolError> {
    let state_dir = StateDir::new(&settings.state_dir);
    let failed = |source| EnrolError::StateDir { path: settings.state_dir.clone(), source };
    prepare(fs, &state_dir).map_err(failed)?;
    let _lock = Lock::take(&state_dir)?;
    let (key, before) = match begin(fs, &state_dir, &checked, how.again)? {
        Begun::Already(own) => return Ok(Outcome::Already(own)),
        Begun::Key { key, enrolled } => (key, enrolled),
    };
    let identity = ask(settings, &checked, &how, &key).await?;
    store(fs, &state_dir, &checked, &identity).map_err(failed)?;
    identity::seal_key(fs, &state_dir, &identity, settings.seal_key);
    Ok(if before { Outcome::Again(identity) } else { Outcome::New(identity) })
}

/// How far an enrolment comes without the server.
pub(crate) enum Begun {
    /// The device is enrolled there.
    Already(Identity),
    /// The key to be certified, durable; and whether the device is enrolled with another one.
    Key { key: KeyPair, enrolled: bool },
}

/// Everything before the server is asked.
pub(crate) fn begin(fs: &dyn Fs, state_dir: &StateDir, checked: &Checked, again: bool) -> Result<Begun, EnrolError> {
    let failed = |source| EnrolError::StateDir { path: state_dir.path().to_owned(), source };
    let enrolled = match Identity::load(fs, state_dir) {
        Ok(own) if again => {
            // Else the next key could be the present one.
            identity::settle_key(fs, state_dir, &own).map_err(failed)?;
            true
        }
        Ok(own) if own.server_url == checked.bundle.server_url => return Ok(Begun::Already(own)),
        Ok(own) => {
            let wanted = checked.bundle.server_url.clone();
            return Err(EnrolError::Elsewhere { wanted, own: own.server_url, name: own.name });
        }
        Err(IdentityError::NotEnrolled { .. }) => false,
        // There is no other way out of it.
        Err(IdentityError::Damaged { .. }) if again => false,
        Err(error) => return Err(error.into()),
    };
    let key = key(fs, &if again { state_dir.next_key() } else { state_dir.key() })?;
    Ok(Begun::Key { key, enrolled })
}

/// Spends the token, after everything that can be looked at beforehand.
async fn ask(settings: &Settings, checked: &Checked, how: &How<'_>, key: &KeyPair) -> Result<Identity, EnrolError> {
    let (bundle, endpoint) = (&checked.bundle, &checked.endpoint);
    let clock = Arc::new(Clock::new(checked.verified.issued_at));
    let client = Client::new(endpoint.clone(), &bundle.server_ca_pem, None, &clock, settings.network.clone())?;
    same_root(&client, checked).await?;
    let question = Enrol {
        crit: Vec::new(),
        token: bundle.token.clone(),
        csr_pem: request(key).map_err(EnrolError::Key)?,
        name: how.name.clone(),
        serial: settings.serial.read().map_err(EnrolError::Serial)?,
        hw: settings.hw.clone(),
        arch: settings.arch.clone(),
    };
    let body = serde_json::to_vec(&question).map_err(EnrolError::Answer)?;
    let bytes = accepted(&client, body, how, settings, key).await?;
    let enrolled: Enrolled = serde_json::from_slice(&bytes).map_err(EnrolError::Answer)?;
    // A certificate for another key would be found out at the first check-in; now somebody is looking.
    let credentials = Credentials::from_pem(&enrolled.certificate_pem, key.serialize_pem().as_bytes())?;
    Client::new(endpoint.clone(), &bundle.server_ca_pem, Some(credentials), &clock, settings.network.clone())?;
    Ok(Identity {
        device_id: enrolled.device_id,
        name: enrolled.name,
        site: enrolled.site,
        server_url: bundle.server_url.clone(),
        server_ca_pem: bundle.server_ca_pem.clone(),
        server_root: checked.verified.version,
        certificate_pem: enrolled.certificate_pem,
        expires_at: enrolled.expires_at,
        renew_at: Some(enrolled.renew_at),
    })
}

/// The answer of the server, however long an operator takes to allow it.
async fn accepted(
    client: &Client,
    body: Vec<u8>,
    how: &How<'_>,
    settings: &Settings,
    key: &KeyPair,
) -> Result<Bytes, ClientError> {
    let mut told = false;
    loop {
        match client.post(paths::ENROL, body.clone(), MAX_ANSWER_BYTES, Dates::MayBeWrong).await {
            Err(error) if how.wait && error.code() == Problem::EnrolmentPending.as_str() => {
                if !std::mem::replace(&mut told, true) {
                    (how.tell)(Digest::of(&key.subject_public_key_info()));
                }
                client.close();
                tokio::time::sleep(ASK_AGAIN.min(settings.polling.max)).await;
            }
            // Somebody waits for it: a line that is down for a moment ends nothing.
            Err(error) if told && error.is_unreachable() => {
                tokio::time::sleep(ASK_AGAIN.min(settings.polling.max)).await;
            }
            answer => return answer,
        }
    }
}

/// Whether the server is that of the bundle: what it signs would be refused by a device that trusts another root.
async fn same_root(client: &Client, checked: &Checked) -> Result<(), EnrolError> {
    let (server_url, version) = (checked.bundle.server_url.clone(), checked.verified.version);
    let served = client.get(&paths::root(version), max_envelope(Root::MAX_BYTES), Dates::MayBeWrong).await;
    let served = match served {
        Err(ClientError::Status { status: 404, .. }) => return Err(EnrolError::NoRoot { server_url, version }),
        served => served?,
    };
    match Root::open_initial(&served) {
        Ok(root) if root.digest() == checked.verified.digest() => Ok(()),
        _ => Err(EnrolError::OtherRoot { server_url, version }),
    }
}

/// The identity is written last; its key comes to its place then, or at the next start.
pub(crate) fn store(fs: &dyn Fs, state_dir: &StateDir, checked: &Checked, own: &Identity) -> io::Result<()> {
    fs::replace(fs, &state_dir.root(), &checked.root)?;
    fs::replace(fs, &state_dir.identity(), &serde_json::to_vec_pretty(own)?)?;
    identity::settle_key(fs, state_dir, own)
}

pub(crate) fn prepare(fs: &dyn Fs, state_dir: &StateDir) -> io::Result<()> {
    fs::create_dirs(fs, state_dir.path())?;
    // Keys lie here.
    fs.make_private(state_dir.path())
}

/// The key at `path`: the one of a try before, else a new one, durable before it is used.
pub(crate) fn key(fs: &dyn Fs, path: &Path) -> Result<KeyPair, EnrolError> {
    let failed = |source| EnrolError::StateDir { path: path.to_owned(), source };
    match fs.read(path, MAX_ANSWER_BYTES) {
        Ok(bytes) => {
            // One that is damaged was never used: a certificate for it would lie beside it.
            KeyPair::from_pem(&String::from_utf8_lossy(&bytes)).or_else(|_damaged| new_key(fs, path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_key(fs, path),
        Err(error) => Err(failed(error)),
    }
}

fn new_key(fs: &dyn Fs, path: &Path) -> Result<KeyPair, EnrolError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(EnrolError::Key)?;
    let written = fs::replace(fs, path, key.serialize_pem().as_bytes());
    written.map_err(|source| EnrolError::StateDir { path: path.to_owned(), source })?;
    Ok(key)
}

/// A certificate request. The server ignores names in it, so there are none.
pub(crate) fn request(key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key)?.pem()
}
