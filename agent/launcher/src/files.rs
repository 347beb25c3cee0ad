//! What the launcher does with files: three operations, so that a test can stop the power at each of them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::fcntl::OFlag;

use crate::slot;

/// What a name stands for; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// File, directory, or something that is neither.
    pub kind: Kind,
    /// Whether its owner may run it.
    pub executable: bool,
    /// Whether nobody but root and this process' own user can change it.
    pub guarded: bool,
}

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device, whatever.
    Other,
}

/// The operations.
pub trait Files {
    /// A slot's bytes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Overwrites a slot, durably. Makes the file if it is gone.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Looks at a name.
    fn look(&self, path: &Path) -> io::Result<Look>;
}

/// The filesystem of the machine.
#[derive(Debug)]
pub struct Disk;

/// Rights of group and others to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const EXECUTABLE: u32 = 0o100;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let most = u64::try_from(slot::SIZE).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let made = !path.exists();
        let mut options = OpenOptions::new();
        // Never through a link that somebody has planted.
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.open(path)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        match path.parent().filter(|_| made) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn look(&self, path: &Path) -> io::Result<Look> {
        let meta = fs::symlink_metadata(path)?;
        let kind = match meta.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            _ => Kind::Other,
        };
        let own = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw();
        let guarded = own && meta.mode() & WRITABLE_BY_OTHERS == 0;
        Ok(Look { kind, executable: meta.mode() & EXECUTABLE != 0, guarded })
    }
}
