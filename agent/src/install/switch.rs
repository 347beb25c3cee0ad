//! Flipping `current`, and back.
//!
//! `previous` is written before `current` changes. Each function may be cut short anywhere and called again.

use std::path::Path;

use super::InstallError;
use crate::{
    fs::{self, Fs, Kind},
    layout::{ProductDir, link_target},
    machine::Previous,
};

/// What a `current` that is a real directory becomes below `versions/`.
pub(super) const FACTORY: &str = "factory";

/// What the switch will replace.
pub(crate) fn inspect(fs: &dyn Fs, dirs: &ProductDir) -> Result<Previous, InstallError> {
    let current = dirs.current();
    let refuse = |path: &Path, reason| Err(InstallError::Layout { path: path.to_owned(), reason });
    match kind(fs, &current)? {
        None => Ok(Previous::Nothing),
        Some(Kind::Link) => {
            let target = fs.read_link(&current).map_err(InstallError::io("read", &current))?;
            match target.to_str() {
                Some(target) => Ok(Previous::Link(target.to_owned())),
                None => refuse(&current, "its target is not UTF-8"),
            }
        }
        Some(Kind::Directory) => match kind(fs, &dirs.version(FACTORY))? {
            None => Ok(Previous::Directory),
            Some(_) => refuse(&current, "it is a directory, and versions/factory is taken; remove one of them"),
        },
        Some(_) => refuse(&current, "it is neither a link nor a directory"),
    }
}

/// Points `current` at `versions/<dir>`, durably.
pub(crate) fn flip(fs: &dyn Fs, dirs: &ProductDir, dir: &str, previous: &Previous) -> Result<(), InstallError> {
    match previous {
        Previous::Nothing => {}
        Previous::Link(target) => point(fs, &dirs.previous(), Path::new(target))?,
        Previous::Directory => {
            adopt(fs, dirs, dir)?;
            point(fs, &dirs.previous(), &link_target(FACTORY))?;
        }
    }
    point(fs, &dirs.current(), &link_target(dir))
}

/// Points `current` at what it was before, durably.
pub(crate) fn revert(fs: &dyn Fs, dirs: &ProductDir, dir: &str, previous: &Previous) -> Result<(), InstallError> {
    let current = dirs.current();
    let target = match previous {
        Previous::Link(target) => Path::new(target).to_owned(),
        Previous::Directory => {
            adopt(fs, dirs, dir)?;
            link_target(FACTORY)
        }
        Previous::Nothing => {
            if kind(fs, &current)? == Some(Kind::Link) {
                fs.remove_file(&current).map_err(InstallError::io("remove", &current))?;
            }
            return fs.sync_dir(dirs.path()).map_err(InstallError::io("sync", dirs.path()));
        }
    };
    if fs.list(&dirs.path().join(&target)).is_err() {
        return Err(InstallError::Layout { path: target, reason: "the previous version is gone" });
    }
    point(fs, &current, &target)
}

/// Turns a `current` that is a directory into `versions/factory` and a link to `versions/<dir>`, by an exchange, so
/// that at no time there is nothing at `current`.
fn adopt(fs: &dyn Fs, dirs: &ProductDir, dir: &str) -> Result<(), InstallError> {
    let (current, factory) = (dirs.current(), dirs.version(FACTORY));
    let aside = dirs.path().join("current.new");
    if kind(fs, &current)? == Some(Kind::Directory) {
        if kind(fs, &aside)?.is_some() {
            fs::remove_tree(fs, &aside).map_err(InstallError::io("remove", &aside))?;
        }
        fs.symlink(&link_target(dir), &aside).map_err(InstallError::io("create", &aside))?;
        match fs.exchange(&aside, &current) {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                fs.rename(&current, &factory).map_err(InstallError::io("rename", &current))?;
                fs.rename(&aside, &current).map_err(InstallError::io("rename", &aside))?;
            }
            other => other.map_err(InstallError::io("exchange", &current))?,
        }
        fs.sync_dir(dirs.path()).map_err(InstallError::io("sync", dirs.path()))?;
    }
    // The exchange left the directory beside it.
    if kind(fs, &aside)? == Some(Kind::Directory) {
        fs.rename(&aside, &factory).map_err(InstallError::io("rename", &aside))?;
    }
    for path in [&dirs.versions(), dirs.path()] {
        fs.sync_dir(path).map_err(InstallError::io("sync", path))?;
    }
    Ok(())
}

/// Makes `link` point at `target`, unless it does.
pub(super) fn point(fs: &dyn Fs, link: &Path, target: &Path) -> Result<(), InstallError> {
    if kind(fs, link)? == Some(Kind::Link) && fs.read_link(link).is_ok_and(|found| found == target) {
        // It may be there and not be durable yet.
        let parent = link.parent().unwrap_or(link);
        return fs.sync_dir(parent).map_err(InstallError::io("sync", parent));
    }
    fs::replace_link(fs, link, target).map_err(InstallError::io("replace", link))
}

fn kind(fs: &dyn Fs, path: &Path) -> Result<Option<Kind>, InstallError> {
    Ok(fs.stat(path).map_err(InstallError::io("look at", path))?.map(|meta| meta.kind))
}
