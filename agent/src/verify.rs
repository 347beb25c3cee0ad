//! Whether an answer or a release is to be believed and obeyed. Pure: bytes and circumstances in, verdict out.
//!
//! The order: size, envelope, type, signatures, and only then the contents (all of that in `callboard_proto::signed`);
//! then whether an instruction answers this device's own question; then whether the release suits this device.

use callboard_proto::{
    digest::Digest,
    head::TakenBack,
    ids::DeviceId,
    instruction::{Instruction, Nonce},
    release::{Installer, Release, Requirement},
    root::Root,
    signed::{self, Envelope, Refused, Verified},
    version::Version,
};

use crate::words::{Attack, Code};
pub(crate) use release::{Device, Floor, Standing, stale, suits};

mod release;

/// The question that an instruction must answer. Each is asked once.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) device_id: DeviceId,
    pub(crate) nonce: Nonce,
    pub(crate) request_sha256: Digest,
}

/// Why something was not believed or not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Document(Refused),
    #[error("root {version} does not follow the trusted one: {source}")]
    Root { version: u64, source: Refused },
    #[error("{0}")]
    Untrusted(Refused),
    #[error("the root asks for a head, and there is none; nothing new is installed without one")]
    HeadMissing,
    #[error("the head has expired at {0}; nothing new is installed under it")]
    HeadExpired(callboard_proto::time::Timestamp),
    #[error("{0}")]
    TakenBack(TakenBack),
    #[error("the instruction is for device {0}, not for this one")]
    WrongDevice(DeviceId),
    #[error("the instruction answers another check-in (replayed, or crossed with another)")]
    Nonce,
    #[error("the instruction was signed for another request than the one sent")]
    Request,
    #[error("the release's digest is {found}, ordered was {wanted}")]
    Digest { wanted: Digest, found: Digest },
    #[error("the trusted root has expired; nothing new is installed under it")]
    RootExpired,
    #[error("the release may not be installed any more since {0}")]
    Expired(callboard_proto::time::Timestamp),
    #[error("product {0} is not configured on this device")]
    UnknownProduct(callboard_proto::ids::Product),
    #[error("the agent was not started by its launcher, so it cannot make room for another version of itself")]
    NoLauncher,
    #[error("the release is for {wanted:?}, this device is {own:?}")]
    WrongHardware { wanted: Vec<String>, own: String },
    #[error("the release is for channels {wanted:?}, this device accepts {own:?}")]
    WrongChannel { wanted: Vec<String>, own: Vec<String> },
    #[error("the release is for the installer {}, this device's product has the installer {}", word(*wanted), word(*own))]
    WrongInstaller { wanted: Installer, own: Installer },
    #[error("the release needs agent {wanted} or newer, this is {own}")]
    AgentTooOld { wanted: callboard_proto::version::Version, own: String },
    #[error("the release needs counter {wanted} to be installed first, ({}, {}) is", own.epoch, own.counter)]
    NeedsSteppingStone { wanted: u64, own: Floor },
    #[error("the release needs {wanted}, {}", has(wanted, own.as_ref()))]
    NeedsProduct { wanted: Requirement, own: Option<Version> },
    #[error("({epoch}, {counter}) is below this device's floor ({}, {})", floor.epoch, floor.counter)]
    BelowFloor { epoch: u32, counter: u64, floor: Floor },
    #[error("({epoch}, {counter}) is older than the installed release, and going back was not ordered")]
    Downgrade { epoch: u32, counter: u64 },
    #[error("another release with the same counter is installed")]
    SameCounter,
    #[error("the release failed on this device {times} times")]
    KnownBad { times: u32 },
}

impl Refusal {
    /// A stable word for reports and logs.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Document(Refused::Threshold { .. }) | Self::Untrusted(Refused::Threshold { .. }) => {
                Code::BadSignature
            }
            Self::Document(Refused::TooLarge { .. }) => Code::Oversize,
            Self::Document(_) | Self::Untrusted(_) => Code::BadDocument,
            Self::Root { .. } => Code::BadRoot,
            Self::HeadMissing => Code::HeadMissing,
            Self::HeadExpired(_) => Code::HeadExpired,
            Self::TakenBack(TakenBack::Revoked { .. }) => Code::Revoked,
            Self::TakenBack(TakenBack::BelowMinimum { .. }) => Code::BelowFloor,
            Self::WrongDevice(_) => Code::WrongDevice,
            Self::Nonce => Code::NonceMismatch,
            Self::Request => Code::RequestMismatch,
            Self::Digest { .. } => Code::WrongRelease,
            Self::RootExpired => Code::RootExpired,
            Self::Expired(_) => Code::Expired,
            Self::UnknownProduct(_) => Code::UnknownProduct,
            Self::NoLauncher => Code::NoLauncher,
            Self::WrongHardware { .. } => Code::WrongHardware,
            Self::WrongChannel { .. } => Code::WrongChannel,
            Self::WrongInstaller { .. } => Code::WrongInstaller,
            Self::AgentTooOld { .. } => Code::AgentTooOld,
            Self::NeedsSteppingStone { .. } => Code::NeedsSteppingStone,
            Self::NeedsProduct { .. } => Code::NeedsProduct,
            Self::BelowFloor { .. } => Code::BelowFloor,
            Self::Downgrade { .. } => Code::Downgrade,
            Self::SameCounter => Code::CounterConflict,
            Self::KnownBad { .. } => Code::KnownBad,
        }
    }

    /// The counter of attacks it belongs to, if it cannot be an honest mistake of an operator.
    pub(crate) const fn attack(&self) -> Option<Attack> {
        Some(match self {
            Self::Document(source) | Self::Untrusted(source) | Self::Root { source, .. } => match source {
                Refused::Threshold { valid, .. } if *valid > 0 => Attack::Threshold,
                Refused::TooLarge { .. } => Attack::Oversize,
                Refused::NotNext { .. } => Attack::Rollback,
                _ => Attack::BadSig,
            },
            Self::Digest { .. } => Attack::BadSig,
            Self::TakenBack(_) => Attack::Rollback,
            Self::WrongDevice(_) => Attack::WrongDevice,
            Self::Nonce | Self::Request => Attack::NonceMismatch,
            Self::BelowFloor { .. } | Self::Downgrade { .. } | Self::SameCounter => Attack::Rollback,
            Self::Expired(_) => Attack::Expired,
            _ => return None,
        })
    }
}

const fn word(installer: Installer) -> &'static str {
    match installer {
        Installer::Directory => "directory",
        Installer::Command => "command",
    }
}

fn has(wanted: &Requirement, own: Option<&Version>) -> String {
    match own {
        Some(version) => format!("this device has {} {version}", wanted.product),
        None => format!("this device has no {}", wanted.product),
    }
}

/// Accepts the answer to `asked`, and nothing else.
pub(crate) fn instruction(bytes: &[u8], root: &Root, asked: &Asked) -> Result<Verified<Instruction>, Refusal> {
    let envelope = Envelope::parse::<Instruction>(bytes).map_err(Refusal::Document)?;
    let (keys, threshold) = root.online();
    let instruction: Verified<Instruction> = signed::verify(&envelope, &keys, threshold).map_err(Refusal::Document)?;
    if instruction.device_id != asked.device_id {
        return Err(Refusal::WrongDevice(instruction.device_id));
    }
    if instruction.nonce != asked.nonce {
        return Err(Refusal::Nonce);
    }
    if instruction.request_sha256 != asked.request_sha256 {
        return Err(Refusal::Request);
    }
    Ok(instruction)
}

/// Accepts the release that was ordered, signed by a role that may sign it.
pub(crate) fn release(bytes: &[u8], root: &Root, wanted: Digest) -> Result<Verified<Release>, Refusal> {
    let envelope = Envelope::parse::<Release>(bytes).map_err(Refusal::Document)?;
    if envelope.digest() != wanted {
        return Err(Refusal::Digest { wanted, found: envelope.digest() });
    }
    root.verify_release(&envelope).map_err(Refusal::Untrusted)
}

#[cfg(test)]
mod tests;
