//! The installer `directory`: versioned directories and one symbolic link. The other one is in [`command`].
//!
//! `versions/<id>` appears complete and durable or not at all; `current` is replaced by one rename. Every step may be
//! cut short and repeated. What was there before the switch stays until a newer version has been committed.

use std::{
    io,
    path::{Path, PathBuf},
};

use callboard_proto::{
    digest::Digest,
    payload::Format,
    release::{Release, SPARE_BYTES},
    report::{Failure, FailureClass},
};

use crate::{
    config::ProductSettings,
    fs::{self, Fs, Kind},
    layout::{ProductDir, StateDir, link_target},
    words::{Attack, Code},
};

pub(crate) mod command;
pub(crate) mod health;
pub(crate) mod service;
pub(crate) mod switch;
pub(crate) mod tidy;
mod tree;
mod unpack;

/// A chunk list is held in memory; with chunks of 1 MiB this is enough for 128 GiB.
const MAX_CHUNKS: u64 = 128 * 1024;

/// A step of the installer that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("{doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("find room: {needed} bytes are needed on the filesystem of {path}, {free} are free")]
    NoSpace { path: PathBuf, needed: u64, free: u64 },
    #[error("keep to quota_bytes: {needed} bytes are needed, {used} are used of {quota}")]
    Quota { needed: u64, used: u64, quota: u64 },
    #[error("unpack payload {name}: {source}")]
    Unpack { name: String, source: unpack::UnpackError },
    #[error("use {path}: {reason}")]
    Layout { path: PathBuf, reason: &'static str },
    #[error("accept payload {name}: its list of {chunks} chunks is larger than this agent can hold")]
    TooManyChunks { name: String, chunks: u64 },
}

impl InstallError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// What a report says of it.
    pub(crate) fn failure(&self) -> Failure {
        let (class, code) = match self {
            Self::NoSpace { .. } | Self::Quota { .. } => (FailureClass::Transient, Code::NoSpace),
            Self::Io { source, .. } => (FailureClass::Transient, Code::of_storage(source)),
            Self::Unpack { source, .. } => (source.class(), source.code()),
            Self::Layout { .. } => (FailureClass::Permanent, Code::Layout),
            Self::TooManyChunks { .. } => (FailureClass::Permanent, Code::TooManyChunks),
        };
        Failure { class, code: code.as_str().to_owned(), text: self.to_string() }
    }

    /// Whether the medium failed.
    pub(crate) fn is_of_the_medium(&self) -> bool {
        match self {
            Self::Io { source, .. } => fs::is_failing(source),
            Self::Unpack { source, .. } => source.code() == Code::StorageFailing,
            _ => false,
        }
    }

    /// What it counts as, if no honest signer makes such a payload.
    pub(crate) const fn attack(&self) -> Option<Attack> {
        match self {
            Self::Unpack { source, .. } => source.attack(),
            _ => None,
        }
    }
}

/// Makes sure that there is room for the payloads and for the tree.
pub(crate) fn prepare(
    fs: &dyn Fs,
    state_dir: &StateDir,
    product_dir: &ProductDir,
    release: &Release,
) -> Result<(), InstallError> {
    let versions = product_dir.versions();
    fs::create_dirs(fs, &versions).map_err(InstallError::io("create", &versions))?;
    can_hold(release)?;
    let unpacked: u64 = release.payloads.iter().map(|payload| payload.unpacked_size).sum();
    // Both may lie on one filesystem, and asking for the sum on each is the safe side.
    let needed = missing(fs, state_dir, release) + unpacked;
    for path in [state_dir.path(), &versions] {
        room(fs, path, needed, SPARE_BYTES)?;
    }
    Ok(())
}

/// Whether the agent can hold the release's chunk lists.
pub(crate) fn can_hold(release: &Release) -> Result<(), InstallError> {
    match release.payloads.iter().find(|payload| payload.chunk_count() > MAX_CHUNKS) {
        Some(payload) => {
            let (name, chunks) = (payload.name.clone(), payload.chunk_count());
            Err(InstallError::TooManyChunks { name, chunks })
        }
        None => Ok(()),
    }
}

/// Bytes of the payloads that are not in the state directory yet.
pub(crate) fn missing(fs: &dyn Fs, state_dir: &StateDir, release: &Release) -> u64 {
    let there = |sha256| fs.stat(&state_dir.payload(sha256)).ok().flatten().map_or(0, |meta| meta.size);
    release.payloads.iter().map(|payload| payload.size.saturating_sub(there(payload.sha256))).sum()
}

/// Makes sure that `needed` bytes fit where `path` is, and some stay free: `spare`, or a twentieth of a disk up to 1 GiB.
pub(crate) fn room(fs: &dyn Fs, path: &Path, needed: u64, spare: u64) -> Result<(), InstallError> {
    /// A twentieth of a large disk is more than any update takes.
    const MOST_SPARE: u64 = 1 << 30;
    let space = fs.space(path).map_err(InstallError::io("ask for the free space of", path))?;
    let needed = needed.saturating_add(spare.max((space.total / 20).min(MOST_SPARE)));
    if space.free < needed {
        return Err(InstallError::NoSpace { path: path.to_owned(), needed, free: space.free });
    }
    Ok(())
}

/// Makes sure that payloads and trees, those of `release` too, take no more than the owner grants.
pub(crate) fn within_quota(
    fs: &dyn Fs,
    state_dir: &StateDir,
    products: &[ProductDir],
    release: &Release,
    quota: u64,
) -> Result<(), InstallError> {
    let size = |path: &Path| fs::size(fs, path).map_err(InstallError::io("look through", path));
    let mut used = size(&state_dir.payloads())?;
    for dirs in products {
        used = used.saturating_add(size(&dirs.versions())?).saturating_add(size(&dirs.backups())?);
    }
    let mut needed = 0_u64;
    for payload in &release.payloads {
        // What has arrived is counted as used.
        let there = size(&state_dir.payload(payload.sha256))?;
        needed = needed.saturating_add(payload.size.saturating_sub(there)).saturating_add(payload.unpacked_size);
    }
    if used.saturating_add(needed) > quota { Err(InstallError::Quota { needed, used, quota }) } else { Ok(()) }
}

/// Unpacks the verified payloads of `release` into `versions/<dir>` and makes the tree durable. Returns its digest.
pub(crate) fn stage(
    fs: &dyn Fs,
    state_dir: &StateDir,
    product_dir: &ProductDir,
    release: &Release,
    dir: &str,
    progress: &dyn Fn(),
) -> Result<Digest, InstallError> {
    let (staging, finished) = (product_dir.staging(dir), product_dir.version(dir));
    // `dir` is never what `current` points to, so whatever is there was left by an earlier try.
    tidy::discard(fs, product_dir, dir).map_err(InstallError::io("remove", &finished))?;
    fs::remove_tree(fs, &staging).map_err(InstallError::io("remove", &staging))?;
    fs.create_dir(&staging).map_err(InstallError::io("create", &staging))?;
    for payload in &release.payloads {
        let from = state_dir.payload(payload.sha256);
        let unpacked = match payload.format {
            Format::TarZst => unpack::tar_zst(fs, &from, payload, &staging, progress),
            Format::Raw => unpack::raw(fs, &from, payload, &staging, progress),
        };
        unpacked.map_err(|source| InstallError::Unpack { name: payload.name.clone(), source })?;
    }
    let tree = tree::digest(fs, &staging, progress).map_err(InstallError::io("read back", &staging))?;
    fs.sync_all(&staging).map_err(InstallError::io("sync", &staging))?;
    fs.rename(&staging, &finished).map_err(InstallError::io("rename", &staging))?;
    let versions = product_dir.versions();
    fs.sync_dir(&versions).map_err(InstallError::io("sync", &versions))?;
    Ok(tree)
}

/// Whether the tree at `versions/<dir>` still has this digest.
pub(crate) fn is_intact(fs: &dyn Fs, product_dir: &ProductDir, dir: &str, tree: Digest, progress: &dyn Fn()) -> bool {
    tree::digest(fs, &product_dir.version(dir), progress).is_ok_and(|found| found == tree)
}

/// A name for the tree of `release` that is not the one `current` points to: what is there goes.
pub(crate) fn free_dir(fs: &dyn Fs, product_dir: &ProductDir, release: Digest) -> io::Result<String> {
    let (plain, other) = (release.short(), format!("{}.1", release.short()));
    let is_plain = match fs.read_link(&product_dir.current()) {
        Ok(target) => target == link_target(&plain),
        // Nothing, or a directory of the image.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => false,
        Err(error) => return Err(error),
    };
    Ok(if is_plain { other } else { plain })
}

/// Whether something of the product may be there that the agent has not installed: in its directory, or wherever its
/// installer program looks.
pub(crate) fn has_factory(fs: &dyn Fs, settings: &ProductSettings) -> bool {
    let current = |directory| fs.stat(&ProductDir::new(directory).current());
    let is_there = |directory| matches!(current(directory), Ok(Some(meta)) if meta.kind != Kind::Other);
    settings.directory().is_none_or(is_there)
}

#[cfg(test)]
mod tests;
