//! The real filesystem.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, FallocateFlags, RenameFlags};

use super::{Fs, Kind, Meta, Mode, Space};

/// The filesystem of the machine.
#[derive(Debug)]
pub(crate) struct Disk;

/// What `statfs` says of file systems that a restart empties: tmpfs and ramfs.
const IN_MEMORY: [rustix::fs::FsWord; 2] = [0x0102_1994, 0x8584_58f6];

impl Disk {
    /// Whether a restart forgets what lies at `path`.
    pub(crate) fn is_in_memory(&self, path: &Path) -> io::Result<bool> {
        Ok(IN_MEMORY.contains(&rustix::fs::statfs(path)?.f_type))
    }
}

impl Mode {
    const fn bits(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Data => 0o644,
            Self::Program => 0o755,
        }
    }
}

fn open_to_write(path: &Path) -> io::Result<File> {
    // O_NOFOLLOW: nobody may plant a link where the agent is about to write.
    OpenOptions::new().write(true).custom_flags(nofollow()).open(path)
}

fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn meta(meta: &fs::Metadata) -> Meta {
    let kind = match meta.file_type() {
        kind if kind.is_file() => Kind::File,
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Link,
        _ => Kind::Other,
    };
    Meta { kind, size: meta.len(), executable: meta.permissions().mode() & 0o100 != 0 }
}

impl Fs for Disk {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        use io::Read;
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn read_at(&self, path: &Path, offset: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
        let file = File::open(path)?;
        let (mut offset, mut filled) = (offset, 0);
        while !buffer.is_empty() {
            match file.read_at(buffer, offset) {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    offset += u64::try_from(n).unwrap_or(0);
                    buffer = buffer.split_at_mut(n).1;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn create(&self, path: &Path, mode: Mode) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode.bits()).open(path)?;
        // Whatever the umask is.
        file.set_permissions(fs::Permissions::from_mode(mode.bits()))
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        open_to_write(path)?.write_all_at(bytes, offset)
    }

    fn reserve(&self, path: &Path, size: u64) -> io::Result<()> {
        let file = open_to_write(path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size) {
            // Not every filesystem can; then the space check has to do.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn truncate(&self, path: &Path, size: u64) -> io::Result<()> {
        open_to_write(path)?.set_len(size)
    }

    fn sync_data(&self, path: &Path) -> io::Result<()> {
        let file = open_to_write(path)?;
        file.sync_data()?;
        // Only advice: where it is not taken, the re-read comes from the cache and proves less.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, RenameFlags::EXCHANGE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            other => Ok(other?),
        }
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        symlink(target, link)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        // Against an odd umask: what runs the product must be able to enter.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    }

    fn make_private(&self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Meta>> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(meta(&found))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}
