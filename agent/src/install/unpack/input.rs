//! Readers: a file by the file operations, and a stream with a ceiling.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::UnpackError;
use crate::fs::Fs;

/// Reads a file from its beginning.
pub(super) struct Input<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    offset: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(fs: &'a dyn Fs, path: &Path) -> Self {
        Self { fs, path: path.to_owned(), offset: 0 }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let filled = self.fs.read_at(&self.path, self.offset, buffer)?;
        self.offset += u64::try_from(filled).unwrap_or(0);
        Ok(filled)
    }
}

/// Fails after a number of bytes: a few compressed bytes can be gigabytes of zeros.
pub(super) struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Limited<R> {
    pub(super) const fn new(inner: R, most: u64) -> Self {
        Self { inner, left: most }
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// Reads to the end.
    pub(super) fn only_zeros_follow(&mut self) -> Result<bool, UnpackError> {
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(true),
                n if buffer.iter().take(n).all(|byte| *byte == 0) => {}
                _ => return Ok(false),
            }
        }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let filled = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(u64::try_from(filled).unwrap_or(u64::MAX))
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "larger than the release declares"))?;
        Ok(filled)
    }
}
