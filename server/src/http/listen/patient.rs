//! A connection that waits for the other side, but not for ever.
//!
//! Once bytes have come in, an answer has to go out within a time, or something on this side has to say that it makes
//! progress. The HTTP library has deadlines for the first head of a connection and for idleness; this one covers the
//! heads after it, and bodies that nobody reads.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A connection, and how long it waits.
pub(super) struct Patient<S> {
    io: S,
    patience: Duration,
    /// When the bytes that have no answer yet began to come.
    asked: Option<Instant>,
    /// Fires at the end of the patience or earlier; set anew only then, since setting it costs more than looking at it.
    timer: Pin<Box<Sleep>>,
    progress: Progress,
}

/// How a handler that reads for long says that it gets on.
#[derive(Clone, Default)]
pub(crate) struct Progress(Rc<Cell<bool>>);

impl Progress {
    /// Gives the connection as much time again.
    pub(crate) fn made(&self) {
        self.0.set(true);
    }
}

impl<S> Patient<S> {
    pub(super) fn new(io: S, patience: Duration) -> Self {
        Self { io, patience, asked: None, timer: Box::pin(sleep(patience)), progress: Progress::default() }
    }

    pub(super) fn inner(&self) -> &S {
        &self.io
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(asked) = self.asked else { return Poll::Pending };
        let mut end = asked + self.patience;
        loop {
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if self.progress.0.take() {
                self.asked = Some(now);
                end = now + self.patience;
            }
            if now >= end {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.timer.as_mut().reset(end);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_pending() {
            return self.poll_patience(context);
        }
        if self.asked.is_none() && buffer.filled().len() > before {
            self.asked = Some(Instant::now());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if written.is_ready() {
            self.asked = None;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
