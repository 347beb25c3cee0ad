//! Small files that must survive a crash whole: written elsewhere, synced, then put in place.
//!
//! Not for payloads (see `store`), which are streamed.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// 0600: keys and tokens, and settings, which may hold a password.
    Owner,
    /// 0644: certificates, public keys, documents.
    Everyone,
}

/// Lets nobody else read what this process makes from now on, unless it is made for everyone: the database and what lies
/// beside it, locks, payloads, directories.
pub(crate) fn keep_to_oneself() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Writes a file that must not exist yet; [`io::ErrorKind::AlreadyExists`] if it does.
pub(crate) fn write_new(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    staged(path, bytes, access)?.persist_noclobber(path)?;
    sync_dir(parent(path))
}

/// Writes a file, replacing an earlier one in one step. It stays its owner's, and nobody may read it who could not
/// read the earlier one.
pub(crate) fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let file = staged(path, bytes, access)?;
    if let Ok(earlier) = fs::metadata(path) {
        let own = file.as_file().metadata()?;
        if (own.uid(), own.gid()) != (earlier.uid(), earlier.gid()) {
            chown(file.path(), Some(earlier.uid()), Some(earlier.gid()))?;
        }
        fs::set_permissions(file.path(), Permissions::from_mode(earlier.mode() & access.mode()))?;
    }
    file.persist(path)?;
    sync_dir(parent(path))
}

/// Makes created, renamed and removed names of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A random temporary name beside `path`, deleted on failure; made with mode 0600, so no moment shows a key to others.
fn staged(path: &Path, bytes: &[u8], access: Access) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent(path))?;
    file.write_all(bytes)?;
    fs::set_permissions(file.path(), Permissions::from_mode(access.mode()))?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_never_replaces_an_old_one_and_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"one", Access::Owner).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = write_new(&path, b"two", Access::Everyone).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three", Access::Everyone).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "as closed as it was");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        replace(&path, b"three", Access::Everyone).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        replace(&path, b"three", Access::Owner).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
