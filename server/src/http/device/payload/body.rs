//! A response body that reads a file as fast as the connection takes it.
//!
//! A piece is read inline with `preadv2(RWF_NOWAIT)`, which copies what the page cache has and never waits for the
//! disk. During a rollout that is nearly always: thousands of devices fetch the same bytes. A piece that is not in the
//! cache is read on the blocking pool, together with an order for the bytes after it, so a cold file costs its own
//! device a wait and no other. The alternatives, a piece of 256 KiB in the cache: the blocking pool for everything takes
//! 90 us where this takes 30, and plain inline reading takes about as much as this but stops a worker, and with it every
//! device on it, at each disk access.
//!
//! Memory: the pieces that are read inline share one buffer per thread, since actix copies a piece into the
//! connection's own buffer at once; only cold pieces have one of their own, while they are read.

use std::{
    cell::Cell,
    fs::File,
    future::Future as _,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::{
    body::{BodySize, MessageBody},
    web::{Bytes, BytesMut},
};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::{
    task::JoinHandle,
    time::{Sleep, sleep_until},
};

use super::transfers::Lease;
use crate::app::served::Tally;

/// Large enough that system calls do not count beside encryption, small enough to stay in a processor's cache.
const PIECE: usize = 256 * 1024;
/// What is ordered from the disk at a cold piece; a spinning disk reads it in about the time of one seek.
const READ_AHEAD: u64 = 4 << 20;

thread_local! {
    /// The piece that was sent last; free to be overwritten as soon as nobody else holds it.
    static LAST: Cell<Bytes> = const { Cell::new(Bytes::new()) };
}

/// The bytes of a file from one position to another.
pub(super) struct Body {
    file: Arc<File>,
    rest: Range<u64>,
    size: u64,
    cold: Option<JoinHandle<io::Result<Bytes>>>,
    /// When the next piece may be sent, where all transfers together are limited.
    turn: Option<Pin<Box<Sleep>>>,
    lease: Lease,
    tally: Option<Tally>,
}

impl Body {
    pub(super) fn new(file: File, range: Range<u64>, lease: Lease, tally: Option<Tally>) -> Self {
        let size = range.end.saturating_sub(range.start);
        Self { file: Arc::new(file), rest: range, size, cold: None, turn: None, lease, tally }
    }

    fn wanted(&self) -> usize {
        let left = self.rest.end.saturating_sub(self.rest.start);
        let piece = self.lease.piece(PIECE);
        usize::try_from(left).map_or(piece, |left| left.min(piece))
    }

    fn sent(&mut self, piece: Bytes) -> Bytes {
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.rest.start = self.rest.start.saturating_add(bytes);
        self.lease.count(piece.len());
        self.turn = None;
        if let Some(tally) = &mut self.tally {
            tally.count(bytes);
        }
        piece
    }
}

impl MessageBody for Body {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let wanted = self.wanted();
        if wanted == 0 {
            return Poll::Ready(None);
        }
        if self.turn.is_none() {
            self.turn = self.lease.turn(wanted).map(|at| Box::pin(sleep_until(at)));
        }
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(context));
        }
        if self.cold.is_none() {
            match read_cached(&self.file, self.rest.start, wanted) {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(self.sent(piece)))),
                Ok(None) => {
                    let (file, at) = (self.file.clone(), self.rest.start);
                    self.cold = Some(tokio::task::spawn_blocking(move || read_cold(&file, at, wanted)));
                }
                Err(error) => return Poll::Ready(Some(Err(unreadable(error)))),
            }
        }
        let Some(cold) = self.cold.as_mut() else {
            return Poll::Ready(None);
        };
        let read = ready!(Pin::new(cold).poll(context));
        self.cold = None;
        let piece = read.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        Poll::Ready(Some(piece.map(|piece| self.sent(piece)).map_err(unreadable)))
    }
}

/// Nobody but the log is told: the head of the answer has gone out.
fn unreadable(error: io::Error) -> io::Error {
    tracing::error!(%error, "a payload cannot be read");
    error
}

/// As much of a piece as the page cache has; `None` if the disk would have to be asked.
fn read_cached(file: &File, at: u64, wanted: usize) -> io::Result<Option<Bytes>> {
    let mut buffer = match LAST.take().try_into_mut() {
        Ok(buffer) if buffer.len() == PIECE => buffer,
        _ => BytesMut::zeroed(PIECE),
    };
    let room = buffer.get_mut(..wanted).unwrap_or_default();
    let read = loop {
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(room)], at, ReadWriteFlags::NOWAIT) {
            Err(Errno::INTR) => {}
            // A file system that cannot promise not to wait is treated as one that would.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break None,
            Ok(0) => return Err(truncated()),
            Ok(read) => break Some(read),
            Err(errno) => return Err(errno.into()),
        }
    };
    let whole = buffer.freeze();
    LAST.set(whole.clone());
    Ok(read.map(|read| whole.slice(..read.min(wanted))))
}

/// A piece from the disk; waits.
fn read_cold(file: &File, at: u64, wanted: usize) -> io::Result<Bytes> {
    // Advice: if it is not taken, the next piece is cold again and that is all.
    let _ = rustix::fs::fadvise(file, at, std::num::NonZero::new(READ_AHEAD), rustix::fs::Advice::WillNeed);
    let mut buffer = vec![0; wanted];
    let read = loop {
        match file.read_at(&mut buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if read == 0 {
        return Err(truncated());
    }
    buffer.truncate(read);
    Ok(buffer.into())
}

/// Ends the connection: the device has counted the bytes that were promised.
fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the payload file is shorter than it was")
}

#[cfg(test)]
mod tests;
