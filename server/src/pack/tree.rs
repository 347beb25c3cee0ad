//! What is in a directory, in the order in which it is packed. Links are looked at, never followed.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
};

use callboard_proto::time::Timestamp;

use super::{PackError, at};

pub(super) struct Tree {
    /// Sorted by the bytes of their paths; so a directory comes before what is in it.
    pub(super) entries: Vec<Entry>,
    /// Of all files.
    pub(super) bytes: u64,
    /// Last change of a file; when a directory or link was made says nothing about the content.
    pub(super) newest: Timestamp,
}

pub(super) struct Entry {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Directory,
    Link(PathBuf),
    File { size: u64, executable: bool },
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self, PackError> {
        let mut tree = Self { entries: Vec::new(), bytes: 0, newest: Timestamp::default() };
        let mut pending = vec![PathBuf::new()];
        while let Some(directory) = pending.pop() {
            let full = root.join(&directory);
            for entry in fs::read_dir(&full).map_err(at("read", &full))? {
                let path = directory.join(entry.map_err(at("read", &full))?.file_name());
                let kind = tree.look_at(root, &path)?;
                if matches!(kind, Kind::Directory) {
                    pending.push(path.clone());
                }
                tree.entries.push(Entry { path, kind });
            }
        }
        if tree.entries.is_empty() {
            return Err(PackError::Empty(root.to_owned()));
        }
        tree.entries.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
        Ok(tree)
    }

    fn look_at(&mut self, root: &Path, path: &Path) -> Result<Kind, PackError> {
        let full = root.join(path);
        let metadata = fs::symlink_metadata(&full).map_err(at("read", &full))?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(Kind::Directory);
        }
        if kind.is_symlink() {
            let target = fs::read_link(&full).map_err(at("read", &full))?;
            return if stays_inside(path, &target) {
                Ok(Kind::Link(target))
            } else {
                Err(PackError::LinkLeavesTree { path: full, target })
            };
        }
        if !kind.is_file() {
            let what = match kind {
                kind if kind.is_fifo() => "pipe",
                kind if kind.is_socket() => "socket",
                _ => "device",
            };
            return Err(PackError::Unsupported { path: full, what });
        }
        let mode = metadata.permissions().mode();
        if mode & 0o6000 != 0 {
            return Err(PackError::SetId(full));
        }
        self.bytes = self.bytes.saturating_add(metadata.len());
        self.newest = self.newest.max(changed(&metadata));
        Ok(Kind::File { size: metadata.len(), executable: mode & 0o100 != 0 })
    }
}

/// To the second: not every file system keeps more, and copies should agree.
pub(super) fn changed(metadata: &fs::Metadata) -> Timestamp {
    Timestamp::from_millis(metadata.mtime().saturating_mul(1000))
}

/// Whether a link leads to something inside, whatever other links do: it may climb first, at most to the root, and
/// then only descend. Climbing after descending could leave through a directory that is itself a link.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut above = link.components().count().saturating_sub(1);
    let mut descended = false;
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if descended || above == 0 => return false,
            Component::ParentDir => above -= 1,
            Component::Normal(_) => descended = true,
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_climb_to_the_root_and_descend_from_there() {
        let stays = |link: &str, target: &str| stays_inside(Path::new(link), Path::new(target));
        for (link, target) in [("l", "a"), ("l", "./a/b"), ("d/l", "../a"), ("d/e/l", "../../a"), ("d/l", "..")] {
            assert!(stays(link, target), "{link} -> {target}");
        }
        let leaving = [("l", "/etc"), ("l", ".."), ("d/l", "../.."), ("l", "a/../b"), ("d/l", "../a/../../b")];
        for (link, target) in leaving {
            assert!(!stays(link, target), "{link} -> {target}");
        }
    }
}
