//! Where verified chunks go: into a file of the agent's own, or straight to a program that puts them into a slot.

use std::{io, path::PathBuf, time::Duration};

use callboard_proto::{
    digest::{Digest, Hasher},
    release::Payload,
};
use tokio::{io::AsyncWriteExt, process::ChildStdin, time::timeout};

use super::stream::Stop;
use crate::fs::Fs;

/// Written bytes after which the medium is made to catch up.
const SYNC_EVERY: u64 = 64 << 20;

/// Takes chunks that were verified.
pub(super) enum Sink<'a> {
    File {
        fs: &'a dyn Fs,
        path: PathBuf,
        /// Bytes written since the medium last caught up.
        unsynced: u64,
    },
    Pipe(Pipe<'a>),
}

/// A program's standard input. Chunks come in order, each of them once.
pub(super) struct Pipe<'a> {
    stdin: &'a mut ChildStdin,
    /// How long the program may take for one chunk.
    patience: Duration,
    /// What all chunks so far come to, if they began with the first.
    whole: Option<Hasher>,
    sha256: Digest,
}

impl<'a> Pipe<'a> {
    /// For what is left of `payload` after its first `have` chunks.
    pub(super) fn new(stdin: &'a mut ChildStdin, patience: Duration, payload: &Payload, have: usize) -> Self {
        Self { stdin, patience, whole: (have == 0).then(Hasher::default), sha256: payload.sha256 }
    }

    /// A release that contradicts itself is found out before the program has all of it.
    async fn write(&mut self, bytes: &[u8], last: bool) -> Result<(), Stop> {
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        if last && self.whole.take().is_some_and(|whole| whole.finish() != self.sha256) {
            return Err(Stop::WrongSum);
        }
        match timeout(self.patience, self.stdin.write_all(bytes)).await {
            Ok(written) => written.map_err(Stop::Program),
            Err(_elapsed) => {
                let text = format!("it took none for {} s", self.patience.as_secs());
                Err(Stop::Program(io::Error::new(io::ErrorKind::TimedOut, text)))
            }
        }
    }
}

impl Sink<'_> {
    /// Takes the chunk that begins at `offset`; `last` is the payload's last one.
    pub(super) async fn write(&mut self, offset: u64, bytes: &[u8], last: bool) -> Result<(), Stop> {
        match self {
            Self::File { fs, path, unsynced } => {
                fs.write_at(path, offset, bytes).map_err(Stop::Disk)?;
                *unsynced += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if *unsynced >= SYNC_EVERY {
                    fs.sync_data(path).map_err(Stop::Disk)?;
                    *unsynced = 0;
                }
                Ok(())
            }
            Self::Pipe(pipe) => pipe.write(bytes, last).await,
        }
    }
}
