//! Deleting what nobody needs any more, and repairing links from what the agent knows. No sync is needed: what
//! comes back after a crash is deleted again.

use std::{io, path::PathBuf};

use callboard_proto::digest::Digest;

use super::{InstallError, switch};
use crate::{
    fs::{self, Fs, Kind},
    layout::{ProductDir, StateDir, link_target},
};

/// Deletes trees that neither `current` nor `previous` nor `keep` names. Only names that this agent gives are touched.
pub(crate) fn versions(fs: &dyn Fs, dirs: &ProductDir, keep: Option<&str>) -> io::Result<()> {
    if fs.stat(&dirs.versions())?.is_none() {
        return Ok(());
    }
    let mut needed: Vec<PathBuf> = keep.map(link_target).into_iter().collect();
    for link in [dirs.current(), dirs.previous()] {
        // A link that cannot be read may point at any of them.
        if fs.stat(&link)?.is_some_and(|meta| meta.kind == Kind::Link) {
            needed.push(fs.read_link(&link)?);
        }
    }
    for name in fs.list(&dirs.versions())? {
        let Some(name) = name.to_str() else { continue };
        if is_ours(name) && !needed.contains(&link_target(name)) {
            discard(fs, dirs, name)?;
        }
    }
    Ok(())
}

/// Deletes a tree, so that at no time a part of it is visible under a version's name.
pub(super) fn discard(fs: &dyn Fs, dirs: &ProductDir, name: &str) -> io::Result<()> {
    let path = dirs.version(name);
    if name.starts_with('.') || fs.stat(&path)?.is_none() {
        return fs::remove_tree(fs, &path);
    }
    let aside = dirs.staging(name);
    fs::remove_tree(fs, &aside)?;
    fs.rename(&path, &aside)?;
    fs.sync_dir(&dirs.versions())?;
    fs::remove_tree(fs, &aside)
}

/// `0123456789ab`, `0123456789ab.1`, `.0123456789ab.tmp`
fn is_ours(name: &str) -> bool {
    let tree = match name.strip_prefix('.') {
        Some(rest) => rest.strip_suffix(".tmp").unwrap_or_default(),
        None => name,
    };
    let tree = tree.strip_suffix(".1").unwrap_or(tree);
    tree.len() == 12 && tree.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// Deletes payloads that are not in `keep`.
pub(crate) fn payloads(fs: &dyn Fs, state_dir: &StateDir, keep: &[Digest]) -> io::Result<()> {
    let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
    for name in fs.list(&state_dir.payloads())? {
        if name.to_str().is_none_or(|name| !keep.iter().any(|kept| kept == name)) {
            fs::remove_tree(fs, &state_dir.payloads().join(name))?;
        }
    }
    Ok(())
}

/// Deletes release documents that are not in `keep`.
pub(crate) fn releases(fs: &dyn Fs, state_dir: &StateDir, keep: &[Digest]) -> io::Result<()> {
    let keep: Vec<PathBuf> = keep.iter().map(|digest| state_dir.release(*digest)).collect();
    for name in fs.list(&state_dir.releases())? {
        let path = state_dir.releases().join(name);
        if !keep.contains(&path) {
            fs::remove_tree(fs, &path)?;
        }
    }
    Ok(())
}

/// Removes half-made links. Not for a product that is being switched.
pub(crate) fn half_links(fs: &dyn Fs, dirs: &ProductDir) -> io::Result<()> {
    for path in ["current.new", "previous.new"].map(|name| dirs.path().join(name)) {
        if fs.stat(&path)?.is_some_and(|meta| meta.kind == Kind::Link) {
            fs.remove_file(&path)?;
        }
    }
    Ok(())
}

/// Points `current` at the committed tree if it does not, and removes half-made links. Not for a product that is
/// being switched. Says whether the link had to be repaired.
pub(crate) fn links(fs: &dyn Fs, dirs: &ProductDir, committed: Option<&str>) -> Result<bool, InstallError> {
    half_links(fs, dirs).map_err(InstallError::io("remove half-made links in", dirs.path()))?;
    let Some(dir) = committed else { return Ok(false) };
    let right = fs.read_link(&dirs.current()).is_ok_and(|target| target == link_target(dir));
    // A directory in the link's place was put there by a person; that is not ours to undo.
    let replaceable = fs.stat(&dirs.current()).is_ok_and(|found| found.is_none_or(|meta| meta.kind == Kind::Link));
    if right || !replaceable || fs.list(&dirs.version(dir)).is_err() {
        return Ok(false);
    }
    switch::point(fs, &dirs.current(), &link_target(dir))?;
    Ok(true)
}
