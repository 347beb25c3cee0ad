//! Renewal of the device's certificate, with a new key, before the present one ends.
//!
//! Nothing depends on it being in time: a certificate that has ended still renews itself, and a renewal that fails is
//! tried again later while everything else goes on. Both keys are kept until the server has answered one of them in a
//! way that can be verified: a server that hands out useless certificates, loses what it issued, or is cut off in the
//! middle cannot shut the device out.

use std::{io, path::Path, rc::Rc, time::Duration};

use callboard_proto::{
    enrol::{Renew, Renewed},
    paths,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    client::{ClientError, Credentials, Dates, TlsError, belong_together},
    clock::boottime,
    enrol::{self, EnrolError},
    fs::{self, Fs},
    identity::{self, Identity},
    layout::StateDir,
    servers::PlaceError,
};

/// A certificate and three dates.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// After a renewal that failed: a certificate with two months left is in no hurry.
const RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A certificate for the next key, from when it was issued until the server has answered to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Next {
    certificate_pem: String,
    expires_at: Timestamp,
    renew_at: Timestamp,
}

/// Where a renewal stands.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    next: Option<Next>,
    /// The server sees the next certificate and not the present one.
    next_is_shown: bool,
    /// After a failure: not before, in time since boot.
    not_before: Duration,
}

/// A renewal that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("{0}")]
    Key(#[from] EnrolError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("read the server's answer: {0}")]
    Answer(serde_json::Error),
    #[error("use the server's answer: {0}")]
    Tls(#[from] TlsError),
    #[error("show the device's certificate: {0}")]
    Show(#[from] PlaceError),
    #[error("use the server's answer: the certificate is for another key")]
    OtherKey,
    #[error("keep the certificates: {0}")]
    Storage(#[from] io::Error),
}

/// What a renewal before the last restart left behind. What belongs to no key is nothing, and goes: the power may have
/// taken its removal back.
pub(crate) fn open(fs: &dyn Fs, state_dir: &StateDir) -> Renewal {
    let read = |path: &Path| fs.read(path, MAX_ANSWER_BYTES);
    let path = state_dir.renewal();
    let Ok(kept) = read(&path) else { return Renewal::default() };
    let key = read(&state_dir.next_key());
    let is_known = key.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |_key| true);
    let next: Option<Next> = serde_json::from_slice(&kept).ok();
    let next = next.filter(|next| key.is_ok_and(|key| belong_together(&next.certificate_pem, &key)));
    if next.is_none()
        && is_known
        && let Err(error) = fs.remove_file(&path)
    {
        tracing::warn!(%error, "what a renewal left over could not be removed");
    }
    Renewal { next, ..Renewal::default() }
}

/// Shows the next certificate, if there is one: whoever was asked for it may refuse the present one by now.
pub(crate) fn resume(agent: &Agent) {
    if let Err(error) = show(agent, true) {
        tracing::warn!(%error, "failed to show the renewed certificate; the present one is shown");
    }
}

/// Renews the certificate if it is time, and not too soon after a try that failed.
pub(crate) async fn if_due(agent: &Agent) {
    let due = agent.clock.trusted_now() >= agent.identity.borrow().renew_at();
    let under_way = agent.renewal.borrow().next.is_some();
    if due && !under_way && boottime() >= agent.renewal.borrow().not_before {
        now(agent).await;
    }
}

/// Renews the certificate; says whether there is a new one to show.
pub(crate) async fn now(agent: &Agent) -> bool {
    match renew(agent).await {
        Ok(()) => true,
        Err(error) => {
            let until = agent.identity.borrow().expires_at;
            tracing::warn!(%error, %until, "failed to renew the device's certificate; it is tried again");
            agent.renewal.borrow_mut().not_before = boottime() + RETRY_AFTER;
            false
        }
    }
}

/// The server answered, and the answer was verified: what was shown is this device's certificate, and the other is none.
pub(crate) fn answered(agent: &Agent) {
    let Some(next) = agent.renewal.borrow().next.clone() else { return };
    let settled = if agent.renewal.borrow().next_is_shown { settle(agent, next) } else { drop_next(agent) };
    if let Err(error) = settled {
        tracing::warn!(%error, "the renewed certificate could not be put in its place; both are kept");
    }
}

/// The server could not be asked, or did not want to hear this device: perhaps it wants the other certificate.
pub(crate) fn unanswered(agent: &Agent) {
    let next_is_shown = agent.renewal.borrow().next_is_shown;
    if let Err(error) = show(agent, !next_is_shown) {
        tracing::warn!(%error, "failed to show the other certificate");
    }
}

async fn renew(agent: &Agent) -> Result<(), RenewError> {
    let key = enrol::key(&*agent.fs, &agent.state_dir.next_key())?;
    let question = Renew { crit: Vec::new(), csr_pem: enrol::request(&key).map_err(EnrolError::Key)? };
    let body = serde_json::to_vec(&question).map_err(RenewError::Answer)?;
    // Nothing that comes back is believed before an answer was verified, so a clock that is wrong is no danger here; and
    // a device whose certificate has ended has no other way to learn the time.
    let bytes = agent.client().post(paths::RENEW, body, MAX_ANSWER_BYTES, Dates::MayBeWrong).await?;
    let Renewed { certificate_pem, expires_at, renew_at, .. } =
        serde_json::from_slice(&bytes).map_err(RenewError::Answer)?;
    if !belong_together(&certificate_pem, key.serialize_pem().as_bytes()) {
        return Err(RenewError::OtherKey);
    }
    let next = Next { certificate_pem, expires_at, renew_at };
    fs::replace(
        &*agent.fs,
        &agent.state_dir.renewal(),
        &serde_json::to_vec_pretty(&next).map_err(RenewError::Answer)?,
    )?;
    agent.renewal.borrow_mut().next = Some(next);
    show(agent, true)
}

/// Shows the next certificate, or the present one.
fn show(agent: &Agent, next_is_shown: bool) -> Result<(), RenewError> {
    let Some(next) = agent.renewal.borrow().next.clone() else { return Ok(()) };
    let credentials = credentials(agent, Some(&next).filter(|_| next_is_shown))?;
    let client = agent.client();
    client.show(agent.servers.borrow().ca_pem(), credentials)?;
    agent.renewal.borrow_mut().next_is_shown = next_is_shown;
    Ok(())
}

/// The next certificate and its key, or without one the present.
fn credentials(agent: &Agent, next: Option<&Next>) -> Result<Credentials, PlaceError> {
    let own = Rc::clone(&agent.identity.borrow());
    let (fs, state_dir) = (&*agent.fs, &agent.state_dir);
    Ok(match next {
        Some(next) => Credentials::from_pem(&next.certificate_pem, &fs.read(&state_dir.next_key(), MAX_ANSWER_BYTES)?)?,
        None => Credentials::from_pem(&own.certificate_pem, &identity::key(fs, state_dir, &own)?)?,
    })
}

/// The next certificate becomes this device's.
fn settle(agent: &Agent, next: Next) -> io::Result<()> {
    let Next { certificate_pem, expires_at, renew_at } = next;
    let before = Rc::clone(&agent.identity.borrow());
    let own = Identity { certificate_pem, expires_at, renew_at: Some(renew_at), ..(*before).clone() };
    fs::replace(&*agent.fs, &agent.state_dir.identity(), &serde_json::to_vec_pretty(&own)?)?;
    identity::settle_key(&*agent.fs, &agent.state_dir, &own)?;
    identity::seal_key(&*agent.fs, &agent.state_dir, &own, agent.settings.seal_key);
    drop_next(agent)?;
    tracing::info!(until = %own.expires_at, "the device's certificate was renewed");
    *agent.identity.borrow_mut() = Rc::new(own);
    Ok(())
}

fn drop_next(agent: &Agent) -> io::Result<()> {
    fs::remove_tree(&*agent.fs, &agent.state_dir.renewal())?;
    *agent.renewal.borrow_mut() = Renewal { not_before: boottime() + RETRY_AFTER, ..Renewal::default() };
    Ok(())
}
