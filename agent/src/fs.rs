//! Every file operation of the agent, so that a test can stop the power before and after each of them.
//!
//! Paths instead of handles: a handle would hide from the simulation what was synced and what was not. Whatever is
//! written must be made durable by the caller, in the order that the callers' headers give.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

pub(crate) use disk::Disk;

mod disk;
#[cfg(test)]
pub(crate) mod sim;

/// What a name stands for; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// What is known of a name without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) executable: bool,
}

/// Room on a filesystem, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// Who may do what with a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 0600: the agent's own.
    Private,
    /// 0644: part of an installed tree.
    Data,
    /// 0755: part of an installed tree, can be run.
    Program,
}

/// The file operations.
pub(crate) trait Fs {
    /// The whole file; an error when it is larger than `limit`.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Fills `buffer` from `offset` on as far as the file goes; says how many bytes that were.
    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes an empty file where nothing is yet.
    fn create(&self, path: &Path, mode: Mode) -> io::Result<()>;
    /// Writes all of `bytes`.
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reserves room without changing the file's length, so that a full disk shows now and not in the middle.
    fn reserve(&self, path: &Path, size: u64) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, path: &Path, size: u64) -> io::Result<()>;
    /// `fdatasync`, then forgets cached pages, so that the next read comes from the medium.
    fn sync_data(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything on the filesystem of `path` durable.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to` by `from`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Swaps two names; `Unsupported` where the filesystem cannot.
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()>;
    /// Makes a symbolic link.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// Where a symbolic link points.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// Makes one directory, 0755.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// 0700, for the directory that holds the device's key.
    fn make_private(&self, path: &Path) -> io::Result<()>;
    /// Removes a file or a link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// What a name stands for; `None` if for nothing.
    fn stat(&self, path: &Path) -> io::Result<Option<Meta>>;
    /// Room on the filesystem of `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// Removes whatever stands at `path`; nothing is nothing to remove.
pub(crate) fn remove_tree(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.stat(path)?.map(|meta| meta.kind) {
        None => Ok(()),
        Some(Kind::Directory) => {
            for name in fs.list(path)? {
                remove_tree(fs, &path.join(name))?;
            }
            fs.remove_dir(path)
        }
        Some(_) => fs.remove_file(path),
    }
}

/// Bytes of all files at and below `path`; nothing has none.
pub(crate) fn size(fs: &dyn Fs, path: &Path) -> io::Result<u64> {
    match fs.stat(path)? {
        Some(Meta { kind: Kind::Directory, .. }) => {
            fs.list(path)?.iter().try_fold(0_u64, |sum, name| Ok(sum.saturating_add(size(fs, &path.join(name))?)))
        }
        Some(Meta { kind: Kind::File, size, .. }) => Ok(size),
        _ => Ok(0),
    }
}

/// Makes `path` and what is missing above it; existing directories are kept.
pub(crate) fn create_dirs(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.stat(path)?.map(|meta| meta.kind) {
        Some(Kind::Directory) => return Ok(()),
        // A link to a directory is the device owner's choice.
        Some(Kind::Link) if fs.list(path).is_ok() => return Ok(()),
        Some(_) => return Err(io::Error::new(io::ErrorKind::NotADirectory, "exists and is not a directory")),
        None => {}
    }
    if let Some(parent) = path.parent() {
        create_dirs(fs, parent)?;
        fs.create_dir(path)?;
        fs.sync_dir(parent)?;
    }
    Ok(())
}

/// Whether the medium itself reports that it fails. What was on its way to it then is not to be relied on: the kernel may
/// have dropped it, go on showing it, and call the next sync a success.
pub(crate) fn is_failing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Writes a small file so that after a crash either the old or the new bytes are there. Where the medium fails, once more
/// to a file that lies elsewhere.
pub(crate) fn replace(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = parent.join(name);
    match write_new(fs, &new, bytes) {
        Err(error) if is_failing(&error) => write_new(fs, &new, bytes)?,
        written => written?,
    }
    fs.rename(&new, path)?;
    fs.sync_dir(parent)
}

fn write_new(fs: &dyn Fs, new: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_tree(fs, new)?;
    fs.create(new, Mode::Private)?;
    fs.write_at(new, 0, bytes)?;
    fs.sync_data(new)
}

/// Points the link `path` at `target` so that after a crash either the old or the new link is there.
pub(crate) fn replace_link(fs: &dyn Fs, path: &Path, target: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = parent.join(name);
    if fs.stat(&new)?.is_some() {
        fs.remove_file(&new)?;
    }
    fs.symlink(target, &new)?;
    fs.rename(&new, path)?;
    fs.sync_dir(parent)
}
