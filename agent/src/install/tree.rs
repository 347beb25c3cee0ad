//! The digest of a tree: names, kinds, who may run what, contents. Owners and times do not count.

use std::{io, os::unix::ffi::OsStrExt, path::Path};

use callboard_proto::digest::{Digest, Hasher};

use crate::fs::{Fs, Kind};

const BUFFER: usize = 128 * 1024;

/// Reads everything below `root`. `progress` is called now and then.
pub(super) fn digest(fs: &dyn Fs, root: &Path, progress: &dyn Fn()) -> io::Result<Digest> {
    if fs.stat(root)?.is_none_or(|meta| meta.kind != Kind::Directory) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER];
    add(fs, root, &mut hasher, &mut buffer, progress)?;
    Ok(hasher.finish())
}

fn add(fs: &dyn Fs, dir: &Path, hasher: &mut Hasher, buffer: &mut [u8], progress: &dyn Fn()) -> io::Result<()> {
    for name in fs.list(dir)? {
        let path = dir.join(&name);
        let meta = fs.stat(&path)?.ok_or(io::ErrorKind::NotFound)?;
        let kind: &[u8] = match meta.kind {
            Kind::File if meta.executable => b"program",
            Kind::File => b"file",
            Kind::Directory => b"directory",
            Kind::Link => b"link",
            Kind::Other => return Err(io::Error::other("neither file, directory nor link")),
        };
        field(hasher, kind);
        field(hasher, name.as_bytes());
        match meta.kind {
            Kind::Directory => {
                add(fs, &path, hasher, buffer, progress)?;
                field(hasher, b"end");
            }
            Kind::Link => field(hasher, fs.read_link(&path)?.as_os_str().as_bytes()),
            _ => {
                hasher.update(&meta.size.to_le_bytes());
                contents(fs, &path, meta.size, hasher, buffer)?;
                progress();
            }
        }
    }
    Ok(())
}

fn contents(fs: &dyn Fs, path: &Path, size: u64, hasher: &mut Hasher, buffer: &mut [u8]) -> io::Result<()> {
    let mut offset = 0;
    while offset < size {
        let filled = fs.read_at(path, offset, buffer)?;
        let bytes = buffer.get(..filled).filter(|bytes| !bytes.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
        hasher.update(bytes);
        offset += u64::try_from(filled).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// With its length, so that no two trees give the same bytes.
fn field(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(bytes);
}
