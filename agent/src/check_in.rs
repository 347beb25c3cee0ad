//! One conversation with the server: reports that wait, the check-in, and the release that its answer names.

use std::time::Duration;

use callboard_proto::{
    check_in::CheckIn,
    digest::Digest,
    instruction::{Action, Instruction},
    paths,
    problem::Code as Problem,
    release::Release,
    report::{Failure, Receipt},
    signed::{Document, Refused, Verified, max_envelope},
    text::Check as _,
};

use crate::{
    agent::Agent,
    client::{ClientError, Dates},
    clock::Attested,
    dice::{self, DiceError},
    fs,
    journal::Attempt,
    servers::{self, PlaceError},
    trust,
    verify::{self, Asked, Refusal},
    words::{Attack, Code},
};

/// A receipt names at most 32 reports.
const MAX_RECEIPT_BYTES: usize = 64 * 1024;

/// A check-in without a usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckInError {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("believe the answer: {0}")]
    Refused(Refusal),
    #[error("{0}")]
    Dice(#[from] DiceError),
    #[error("say all of this device: {0}")]
    Question(String),
    #[error("keep a document: {0}")]
    Storage(std::io::Error),
    #[error("{0}")]
    Place(PlaceError),
    #[error("come to root {wanted}, of which the server tells: it gives none after {have}")]
    RootMissing { have: u64, wanted: u64 },
}

impl CheckInError {
    /// Whether the server was reached and does not want this device. Anything else is a bad connection.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Client(ClientError::Status { status: 401 | 403 | 404, .. }))
    }

    /// Whether the device's certificate has ended, by the server's clock.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Client(error) if error.code() == Problem::CertificateExpired.as_str())
    }

    /// A stable word for `last_error`.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Client(error) => error.code(),
            Self::Refused(refusal) => refusal.code().as_str(),
            Self::Dice(_) => Code::NoRandomness.as_str(),
            Self::Question(_) => Code::BadFacts.as_str(),
            Self::Storage(error) => Code::of_storage(error).as_str(),
            Self::Place(_) => Code::Tls.as_str(),
            Self::RootMissing { .. } => Code::RootMissing.as_str(),
        }
    }
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) instruction: Verified<Instruction>,
    /// The release of a new order.
    pub(crate) release: Option<Result<Verified<Release>, Refusal>>,
    /// Why what is at hand is not to be activated any more.
    pub(crate) distrust: Option<Failure>,
}

/// Sends what lies in the outbox.
pub(crate) async fn flush(agent: &Agent) -> Result<(), ClientError> {
    loop {
        let Some(batch) = agent.outbox.borrow().batch() else { return Ok(()) };
        let body = serde_json::to_vec(&batch).unwrap_or_default();
        let bytes = agent.client().post(paths::REPORTS, body, MAX_RECEIPT_BYTES, Dates::Matter).await?;
        let receipt: Receipt = serde_json::from_slice(&bytes).unwrap_or(Receipt { accepted: vec![], refused: vec![] });
        let fewer = agent.outbox.borrow_mut().acknowledge(&*agent.fs, &agent.state_dir, &receipt);
        // A receipt for nothing, or for reports of somebody else, would be asked for over and over.
        if !fewer || receipt.accepted.len() + receipt.refused.len() < batch.reports.len() {
            return Ok(());
        }
    }
}

/// Asks what to do; the server may hold the answer back for `wait_s` while there is nothing new.
pub(crate) async fn check_in(agent: &Agent, wait_s: u32) -> Result<Answer, CheckInError> {
    let nonce = dice::nonce()?;
    let question: CheckIn = agent.question(nonce, wait_s);
    question.check().map_err(CheckInError::Question)?;
    let body = serde_json::to_vec(&question).map_err(|error| CheckInError::Question(error.to_string()))?;
    let asked = Asked { device_id: agent.identity.borrow().device_id, nonce, request_sha256: Digest::of(&body) };
    let cap = max_envelope(Instruction::MAX_BYTES);
    let wait = Duration::from_secs(wait_s.into());
    let bytes = agent.client().post_and_wait(paths::CHECK_IN, body, cap, Dates::MayBeWrong, wait).await?;
    let instruction = believed(agent, &bytes, &asked).await?;
    servers::answered(agent);
    if agent.clock.attest(instruction.server_time) == Attested::BehindFloor {
        agent.attack(Attack::ClockBack);
    }
    trust::refresh_head(agent, instruction.head_serial).await?;
    let distrust = trust::distrusted(agent);
    let release = match new_order(agent, &instruction) {
        Some(digest) => Some(release(agent, digest).await?),
        None => None,
    };
    Ok(Answer { instruction, release, distrust })
}

/// Accepts the answer under the newest root. It is looked for when the answer tells of it, and when the answer is signed by
/// none of the keys that this device knows: they may have been replaced. An answer by a key that the newer root does not list
/// is refused.
async fn believed(agent: &Agent, bytes: &[u8], asked: &Asked) -> Result<Verified<Instruction>, CheckInError> {
    let root = agent.trust.root();
    let mut verdict = verify::instruction(bytes, &root, asked);
    let unknown_key = matches!(verdict, Err(Refusal::Document(Refused::Threshold { .. })));
    let told = verdict.as_ref().map_or(0, |instruction| instruction.root_version);
    if unknown_key || told > root.version {
        match trust::walk(agent).await {
            Ok(true) => verdict = verify::instruction(bytes, &agent.trust.root(), asked),
            Ok(false) => {}
            // The answer says what is wrong with it; that there is no newer root to be had does not.
            Err(error) if unknown_key => {
                if let CheckInError::Client(error) = &error {
                    agent.unusable(error);
                }
                tracing::info!(%error, "failed to look for a newer root");
            }
            Err(error) => return Err(error),
        }
    }
    let instruction = verdict.map_err(|refusal| {
        agent.refused(&refusal);
        CheckInError::Refused(refusal)
    })?;
    let (have, wanted) = (agent.trust.root().version, instruction.root_version);
    if wanted > have {
        return Err(CheckInError::RootMissing { have, wanted });
    }
    Ok(instruction)
}

/// The release of an order that is neither being carried out nor over.
fn new_order(agent: &Agent, instruction: &Instruction) -> Option<Digest> {
    if !matches!(instruction.action, Action::Download | Action::Install) {
        return None;
    }
    let attempt = attempt(instruction)?;
    let record = agent.record();
    let known =
        record.last_ended == Some(attempt) || record.state.task().is_some_and(|task| task.order.attempt == attempt);
    instruction.release_sha256.filter(|_| !known)
}

/// Which attempt an instruction is about.
pub(crate) fn attempt(instruction: &Instruction) -> Option<Attempt> {
    Some(Attempt { assignment_id: instruction.assignment_id?, attempt: instruction.attempt? })
}

/// The release's document: from the state directory, else from the server and then kept. The outer error says that
/// it could not be had, the inner that it is not to be believed.
async fn release(agent: &Agent, digest: Digest) -> Result<Result<Verified<Release>, Refusal>, CheckInError> {
    if let Ok(release) = kept_release(agent, digest) {
        return Ok(Ok(release));
    }
    let bytes = agent.client().get(&paths::release(digest), max_envelope(Release::MAX_BYTES), Dates::Matter).await?;
    match verify::release(&bytes, &agent.trust.root(), digest) {
        Ok(release) => {
            fs::replace(&*agent.fs, &agent.state_dir.release(digest), &bytes).map_err(CheckInError::Storage)?;
            agent.clock.raise_floor(release.issued_at);
            Ok(Ok(release))
        }
        Err(refusal) => {
            agent.refused(&refusal);
            Ok(Err(refusal))
        }
    }
}

/// A release whose document was kept; it is verified again. Without a refusal there is none, or it is damaged.
pub(crate) fn kept_release(agent: &Agent, digest: Digest) -> Result<Verified<Release>, Option<Refusal>> {
    let bytes = agent.fs.read(&agent.state_dir.release(digest), max_envelope(Release::MAX_BYTES));
    let bytes = bytes.map_err(|_unreadable| None)?;
    verify::release(&bytes, &agent.trust.root(), digest).map_err(|refusal| match refusal {
        // Of the right bytes, and not accepted.
        Refusal::Untrusted(_) => Some(refusal),
        _ => None,
    })
}
