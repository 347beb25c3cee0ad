//! Names in a tar: plain, or in a GNU entry of their own, and what they may be.

use std::{
    ffi::OsStr,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::UnpackError;

/// Longest path or link target. Fits every filesystem with room for the directory above.
const MAX_NAME: usize = 2048;
/// Most bytes that one entry may take besides its contents: three headers with padding and two long names.
pub(super) const MAX_OVERHEAD: u64 = 3 * 1024 + 2 * 4096;

/// Long names that were announced for the next entry.
#[derive(Default)]
pub(super) struct Names {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Names {
    /// Keeps a long name for the entry that follows. Says whether `entry` was one.
    pub(super) fn take_long<R: Read>(
        &mut self,
        kind: tar::EntryType,
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<bool, UnpackError> {
        let place = match kind {
            tar::EntryType::GNULongName => &mut self.path,
            tar::EntryType::GNULongLink => &mut self.target,
            _ => return Ok(false),
        };
        let shown = || String::from("(long name)");
        if place.is_some() {
            return Err(UnpackError::Path { path: shown(), reason: "has two long names" });
        }
        let size = usize::try_from(entry.header().entry_size()?).unwrap_or(usize::MAX);
        if size > MAX_NAME + 1 {
            return Err(UnpackError::Path { path: shown(), reason: "is longer than any path may be" });
        }
        let mut bytes = Vec::with_capacity(size);
        entry.read_to_end(&mut bytes)?;
        // One NUL ends it; one inside is refused like in any other name.
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        *place = Some(bytes);
        Ok(true)
    }

    /// Path and link target of `entry`, checked and as they are to be used.
    pub(super) fn of<R: Read>(&mut self, entry: &tar::Entry<'_, R>) -> Result<(PathBuf, Vec<u8>), UnpackError> {
        let bytes = self.path.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let target = self.target.take();
        let target = target.or_else(|| entry.header().link_name_bytes().map(|name| name.into_owned()));
        let path = below(&bytes, entry.header().entry_type().is_dir()).map_err(|reason| UnpackError::Path {
            path: String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default()).into_owned(),
            reason,
        })?;
        Ok((path, target.unwrap_or_default()))
    }

    /// At the end no announced name may be left over.
    pub(super) fn finish(&self) -> Result<(), UnpackError> {
        if self.path.is_none() && self.target.is_none() { Ok(()) } else { Err(UnpackError::Trailing) }
    }
}

/// A path that stays below the directory it is joined to; empty for the directory itself.
fn below(bytes: &[u8], directory: bool) -> Result<PathBuf, &'static str> {
    let trailing = directory && bytes.len() > 1;
    let bytes = if trailing { bytes.strip_suffix(b"/").unwrap_or(bytes) } else { bytes };
    let bytes = if directory && bytes == b"." { b"" } else { bytes.strip_prefix(b"./").unwrap_or(bytes) };
    if bytes.len() > MAX_NAME {
        return Err("is longer than any path may be");
    }
    if bytes.is_empty() {
        return if directory { Ok(PathBuf::new()) } else { Err("has no name") };
    }
    for part in bytes.split(|c| *c == b'/') {
        match part {
            b"" => return Err("is absolute or has an empty part"),
            b"." | b".." => return Err("leads out of the tree or back"),
            part if part.contains(&0) => return Err("has a NUL in its name"),
            part if part.len() > 255 => return Err("has a part longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// The target of the link at `path`, if it cannot lead out: relative, and `..` only at its beginning and at most as
/// often as the link is deep. The directories above a link are real ones, so this holds through chains of links.
pub(super) fn inside(path: &Path, target: &[u8]) -> Result<PathBuf, &'static str> {
    if target.is_empty() || target.len() > MAX_NAME || target.contains(&0) {
        return Err("is a link without a usable target");
    }
    let target = PathBuf::from(OsStr::from_bytes(target));
    let depth = path.components().count().saturating_sub(1);
    let ups = target.components().take_while(|part| *part == Component::ParentDir).count();
    let plain = target.components().skip(ups).all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if plain && ups <= depth { Ok(target) } else { Err("is a link that may lead out of the tree") }
}
