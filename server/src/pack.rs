//! From a directory or a file to a payload: the same tree gives the same bytes, wherever and whenever it is packed.
//!
//! A directory becomes a tar (entries sorted by path bytes, owner 0:0, time 0, modes 0644, 0755 or link; names that do
//! not fit a POSIX header use the GNU extension) in one zstd frame. A file is taken as it is. Owners, times, extended
//! attributes and hard links are dropped; what cannot be told faithfully (devices, sockets, set-user-id, links that
//! leave the tree) is refused. Two people get the same digest if they use the same version of this program, since
//! another zstd may compress otherwise. Nothing is held in memory but one buffer.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use callboard_proto::{
    digest::Digest,
    payload::{CHUNK_SIZE, Chunked, Chunker, Format},
    release::Payload,
    time::Timestamp,
};

mod tree;

use tree::{Kind, Tree};

/// Nearly as small as the highest levels at a tenth of their time; packing a gigabyte stays a matter of a minute.
const ZSTD_LEVEL: i32 = 12;
/// 4 MiB: what a till needs to unpack, whatever the size of the payload.
const ZSTD_WINDOW_LOG: u32 = 22;
const BUFFER: usize = 256 * 1024;

/// A payload that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) payload: Payload,
    /// When the youngest of the packed files was last changed.
    pub(crate) newest: Timestamp,
}

/// Packs `source` into `out`, into a file named by its digest.
///
/// `name` is what a directory's payload is called; a file keeps its own name.
pub(crate) fn pack(source: &Path, name: &str, out: &Path) -> Result<Packed, PackError> {
    let metadata = fs::metadata(source).map_err(at("read", source))?;
    let staged = tempfile::Builder::new().prefix(".payload-").tempfile_in(out).map_err(at("write to", out))?;
    let sink = Sink { file: staged.as_file(), chunker: Chunker::new(CHUNK_SIZE) };
    let (chunked, facts) = if metadata.is_dir() {
        let facts = Facts::of_tree(name, Tree::read(source)?)?;
        (pack_tree(&facts.tree, source, sink)?, facts)
    } else if metadata.is_file() {
        let file_name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let facts = Facts::of_file(file_name, source, &metadata)?;
        (pack_file(source, metadata.len(), sink)?, facts)
    } else {
        return Err(PackError::NeitherFileNorDirectory(source.to_owned()));
    };
    // Signed and public; temporary files are made for their owner alone.
    staged.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(at("write", staged.path()))?;
    staged.as_file().sync_all().map_err(at("write", staged.path()))?;
    let path = out.join(chunked.sha256.to_string());
    staged.persist(&path).map_err(|error| at("write", &path)(error.error))?;
    let payload = Payload {
        name: facts.name,
        sha256: chunked.sha256,
        size: chunked.size,
        chunk_size: CHUNK_SIZE,
        chunks_sha256: Digest::of(&chunked.list),
        format: facts.format,
        unpacked_size: facts.tree.bytes,
        entries: facts.entries,
    };
    Ok(Packed { payload, newest: facts.tree.newest })
}

struct Facts {
    name: String,
    format: Format,
    entries: u32,
    tree: Tree,
}

impl Facts {
    fn of_tree(name: &str, tree: Tree) -> Result<Self, PackError> {
        let entries = u32::try_from(tree.entries.len()).ok().ok_or(PackError::TooManyEntries)?;
        Ok(Self { name: name.to_owned(), format: Format::TarZst, entries, tree })
    }

    fn of_file(name: &str, source: &Path, metadata: &fs::Metadata) -> Result<Self, PackError> {
        if metadata.len() == 0 {
            return Err(PackError::Empty(source.to_owned()));
        }
        let tree = Tree { entries: Vec::new(), bytes: metadata.len(), newest: tree::changed(metadata) };
        Ok(Self { name: name.to_owned(), format: Format::Raw, entries: 1, tree })
    }
}

fn pack_file(source: &Path, size: u64, mut sink: Sink<'_>) -> Result<Chunked, PackError> {
    let mut file = exactly(source, size)?;
    io::copy(&mut file, &mut sink).map_err(at("pack", source))?;
    file.check().map_err(at("pack", source))?;
    Ok(sink.chunker.finish())
}

fn pack_tree(tree: &Tree, root: &Path, sink: Sink<'_>) -> Result<Chunked, PackError> {
    let failed = |source| PackError::Io { action: "pack", path: root.to_owned(), source };
    let mut encoder = zstd::stream::write::Encoder::new(sink, ZSTD_LEVEL).map_err(failed)?;
    encoder.window_log(ZSTD_WINDOW_LOG).map_err(failed)?;
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(BUFFER, encoder));
    for entry in &tree.entries {
        let mut header = tar::Header::new_ustar();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        let path = root.join(&entry.path);
        let done = match &entry.kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                tar.append_data(&mut header, &entry.path, io::empty())
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                tar.append_link(&mut header, &entry.path, target)
            }
            Kind::File { size, executable } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                let mut file = exactly(&path, *size)?;
                tar.append_data(&mut header, &entry.path, &mut file).and_then(|()| file.check())
            }
        };
        done.map_err(at("pack", &path))?;
    }
    let encoder = tar.into_inner().and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error));
    let sink = encoder.and_then(zstd::stream::write::Encoder::finish).map_err(failed)?;
    Ok(sink.chunker.finish())
}

/// A file of which exactly as many bytes are read as it had when the tree was looked at.
struct Exactly {
    file: File,
    left: u64,
}

fn exactly(path: &Path, size: u64) -> Result<Exactly, PackError> {
    Ok(Exactly { file: File::open(path).map_err(at("read", path))?, left: size })
}

impl Exactly {
    /// Nothing missing, nothing more.
    fn check(&mut self) -> io::Result<()> {
        if self.left == 0 && self.file.read(&mut [0])? == 0 { Ok(()) } else { Err(changed_meanwhile()) }
    }
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&self.file).take(self.left).read(buffer)?;
        self.left -= u64::try_from(read).unwrap_or(self.left);
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(changed_meanwhile());
        }
        Ok(read)
    }
}

fn changed_meanwhile() -> io::Error {
    io::Error::other("it changed while it was packed")
}

/// Hashes what is written.
struct Sink<'a> {
    file: &'a File,
    chunker: Chunker,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file;
        let written = file.write(bytes)?;
        self.chunker.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut file = self.file;
        file.flush()
    }
}

/// Why something cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("{action} {path:?}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("pack {0:?}: neither a file nor a directory")]
    NeitherFileNorDirectory(PathBuf),
    #[error("pack {0:?}: there is nothing in it")]
    Empty(PathBuf),
    #[error("pack {path:?}: a {what} cannot be part of a payload; only files, directories and links can")]
    Unsupported { path: PathBuf, what: &'static str },
    #[error("pack {path:?}: the link to {target:?} leaves the tree; a relative target inside it is wanted")]
    LinkLeavesTree { path: PathBuf, target: PathBuf },
    #[error("pack {0:?}: set-user-id and set-group-id are not kept; clear them (chmod a-s)")]
    SetId(PathBuf),
    #[error("pack the directory: more than {} entries", u32::MAX)]
    TooManyEntries,
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PackError + 'a {
    move |source| PackError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
