//! Directory trees: copied as they are, and removed completely.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

/// Copies files, directories and links; links stay links.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?;
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !kind.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    // Last: a read-only directory takes no entries.
    fs::set_permissions(to, kind.permissions())
}

/// Removes a tree, read-only directories too; nothing there is fine.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    make_writable(dir)?;
    fs::remove_dir_all(dir)
}

fn make_writable(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_tree_with_links_is_copied_and_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("versions/a")).expect("made");
        fs::write(from.join("versions/a/VERSION"), "1\n").expect("written");
        symlink("versions/a", from.join("current")).expect("linked");
        fs::set_permissions(from.join("versions/a"), fs::Permissions::from_mode(0o555)).expect("read-only");
        copy(&from, &to).expect("copied");
        assert_eq!(fs::read_to_string(to.join("current/VERSION")).expect("read"), "1\n");
        assert_eq!(fs::read_link(to.join("current")).expect("a link"), Path::new("versions/a"));
        assert_eq!(fs::metadata(to.join("versions/a")).expect("there").permissions().mode() & 0o777, 0o555);
        for tree in [from, to] {
            remove(&tree).expect("removed");
            remove(&tree).expect("removed again");
            assert!(!tree.exists());
        }
    }
}
