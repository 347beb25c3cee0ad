//! Fetching payloads: every chunk is verified in memory before it is written or handed on, and nothing that is there is
//! fetched again.
//!
//! There is no journal of chunks: after a restart the partial file is hashed against the chunk list, which was
//! authenticated by the release. Nothing on disk is believed without that.

use std::{io, path::Path, time::Duration};

use callboard_proto::{paths, release::Payload, report::Failure};

use crate::{
    client::{Client, ClientError, Dates},
    fs::{self, Fs, Mode},
    layout::StateDir,
    machine::{permanent, transient},
    words::{Attack, Code},
};
use list::ChunkList;
use partial::Partial;
use sink::{Pipe, Sink};
use stream::Stop;
use tokio::process::ChildStdin;

pub(crate) mod list;
pub(crate) mod pace;
mod partial;
mod sink;
pub(crate) mod stream;

/// Answers without a single new chunk, before the download counts as failed.
const MAX_FRUITLESS: u32 = 8;
/// Wrong copies of one chunk, before the download counts as failed.
const MAX_BAD: u32 = 3;
/// Complete files that read back wrong, before the medium counts as failing.
const MAX_REREADS: u32 = 2;

/// What a download needs from the agent.
pub(crate) trait Host {
    /// Verified bytes of all payloads so far.
    fn progress(&self, bytes: u64);
    /// Counts an attack.
    fn attack(&self, attack: Attack);
    /// How long to wait after `tries` in vain in a row.
    fn pause(&self, tries: u32, asked: Option<Duration>) -> Duration;
    /// How long to wait after reading so many bytes of a payload, so as to be no faster than allowed.
    fn owed(&self, bytes: u64) -> Duration;
}

/// Tries of which nothing new came, in a row.
#[derive(Debug, Default)]
struct Vain {
    tries: u32,
    /// Those that reached a server, which had nothing better to say.
    fruitless: u32,
    /// The reason that was logged last.
    said: Option<String>,
}

impl Vain {
    /// Whether a reason is another one than before, so that a server that stays away is one line in the log.
    fn is_news(&mut self, reason: String) -> bool {
        self.said.replace(reason) != self.said
    }
}

/// One payload on its way in.
pub(crate) struct Download<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) client: &'a Client,
    pub(crate) state_dir: &'a StateDir,
    pub(crate) host: &'a dyn Host,
    /// Bytes of the payloads before this one.
    pub(crate) base: u64,
}

impl Download<'_> {
    /// Fetches what is missing of `payload`, and returns when it is complete, durable and read back.
    pub(crate) async fn run(&self, payload: &Payload) -> Result<(), Failure> {
        let list = self.list(payload).await?;
        let path = self.state_dir.payload(payload.sha256);
        let mut failed = false;
        for _ in 0..=MAX_REREADS {
            if let Err(failure) = self.write(&path, payload, &list).await {
                if failure.code != Code::StorageFailing.as_str() {
                    return Err(failure);
                }
                // What is there may be shown and not be on the medium; the next file lies elsewhere.
                fs::remove_tree(self.fs, &path).map_err(|error| storage("remove", &path, &error))?;
                if std::mem::replace(&mut failed, true) {
                    return Err(failure);
                }
                tracing::warn!(text = failure.text, "the medium fails; fetching the payload once more");
                continue;
            }
            let read_back = Partial::scan(self.fs, &path, payload, &list).await;
            let read_back = read_back.map_err(|error| storage("read back", &path, &error))?;
            if !read_back.is_complete() {
                tracing::warn!(path = %path.display(), "what was written reads back differently; fetching it again");
            } else if read_back.whole() == Some(payload.sha256) {
                return Ok(());
            } else {
                return Err(permanent(Code::WrongPayload, format!("failed to {}", Stop::WrongSum)));
            }
        }
        Err(transient(Code::StorageFailing, format!("{} does not read back as written", path.display())))
    }

    /// Fetches `payload` from its byte `from` on, which begins a chunk, and hands it to a program chunk by chunk. Nothing
    /// of it is stored.
    pub(crate) async fn pipe(
        &self,
        payload: &Payload,
        from: u64,
        stdin: &mut ChildStdin,
        patience: Duration,
    ) -> Result<(), Failure> {
        let list = self.list(payload).await?;
        let have = usize::try_from(from.div_ceil(u64::from(payload.chunk_size.max(1)))).unwrap_or(usize::MAX);
        let mut partial = Partial::first(have.min(list.len()), &list);
        let mut sink = Sink::Pipe(Pipe::new(stdin, patience, payload, have));
        self.fill(payload, &list, &mut partial, &mut sink).await
    }

    async fn list(&self, payload: &Payload) -> Result<ChunkList, Failure> {
        let path = self.state_dir.payload(payload.chunks_sha256);
        if let Ok(bytes) = self.fs.read(&path, ChunkList::bytes_of(payload))
            && let Ok(list) = ChunkList::parse(bytes, payload)
        {
            return Ok(list);
        }
        let mut vain = Vain::default();
        loop {
            let cap = ChunkList::bytes_of(payload);
            let fetched = self.client.get(&paths::payload(payload.chunks_sha256), cap, Dates::Matter).await;
            let wrong = match fetched {
                Ok(bytes) => match ChunkList::parse(bytes.to_vec(), payload) {
                    Ok(list) => {
                        let stored = fs::replace(self.fs, &path, list.as_bytes());
                        stored.map_err(|error| storage("write", &path, &error))?;
                        return Ok(list);
                    }
                    Err(wrong) => Stop::BadList(wrong),
                },
                Err(error) => Stop::Client(error),
            };
            self.next_try(wrong, &mut vain).await?;
        }
    }

    /// Completes the file and makes it durable.
    async fn write(&self, path: &Path, payload: &Payload, list: &ChunkList) -> Result<(), Failure> {
        let mut partial = self.open(path, payload, list).await?;
        let mut sink = Sink::File { fs: self.fs, path: path.to_owned(), unsynced: 0 };
        self.fill(payload, list, &mut partial, &mut sink).await?;
        self.fs.sync_data(path).map_err(|error| storage("sync", path, &error))
    }

    async fn open(&self, path: &Path, payload: &Payload, list: &ChunkList) -> Result<Partial, Failure> {
        let failed = |doing: &'static str| move |error: io::Error| storage(doing, path, &error);
        if self.fs.stat(path).map_err(failed("look at"))?.is_none() {
            self.fs.create(path, Mode::Private).map_err(failed("create"))?;
            self.fs.sync_dir(&self.state_dir.payloads()).map_err(failed("sync"))?;
        }
        self.fs.reserve(path, payload.size).map_err(failed("reserve"))?;
        let partial = Partial::scan(self.fs, path, payload, list).await.map_err(failed("read"))?;
        self.host.progress(self.base + partial.bytes_done());
        Ok(partial)
    }

    async fn fill(
        &self,
        payload: &Payload,
        list: &ChunkList,
        partial: &mut Partial,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let (mut vain, mut bad) = (Vain::default(), (0, 0));
        while let Some(gap) = partial.first_gap() {
            let before = partial.bytes_done();
            let stopped = stream::fetch(self, payload, list, partial, sink, gap).await;
            if partial.bytes_done() > before {
                vain = Vain::default();
            }
            match stopped {
                Ok(()) => {}
                Err(Stop::Disk(error)) => {
                    return Err(storage("write", &self.state_dir.payload(payload.sha256), &error));
                }
                Err(stop @ Stop::Program(_)) => return Err(transient(stop.code(), format!("failed to {stop}"))),
                Err(stop @ Stop::WrongSum) => return Err(permanent(stop.code(), format!("failed to {stop}"))),
                Err(Stop::BadChunk(chunk)) => {
                    self.host.attack(Attack::BadChunk);
                    bad = if bad.0 == chunk { (chunk, bad.1 + 1) } else { (chunk, 1) };
                    tracing::warn!(chunk, tries = bad.1, "a chunk is not what the release says");
                    if bad.1 > MAX_BAD {
                        let text = format!("chunk {chunk} of payload {} was wrong {} times", payload.name, bad.1);
                        return Err(transient(Code::BadChunk, text));
                    }
                }
                Err(other) => self.next_try(other, &mut vain).await?,
            }
        }
        Ok(())
    }

    /// Waits before another try, or gives up. A server that cannot be reached at all is no reason to give up.
    async fn next_try(&self, stop: Stop, vain: &mut Vain) -> Result<(), Failure> {
        if let Some(attack) = stop.attack() {
            self.host.attack(attack);
        }
        let counts = !matches!(&stop, Stop::Client(error) if error.is_unreachable() || error.retry_after().is_some());
        if vain.is_news(stop.to_string()) {
            tracing::info!(reason = %stop, "the download was interrupted; it is tried again until it goes on");
        }
        vain.tries = vain.tries.saturating_add(1);
        vain.fruitless += u32::from(counts);
        if vain.fruitless > MAX_FRUITLESS {
            return Err(transient(stop.code(), format!("failed to {stop}, {} times in a row", vain.fruitless)));
        }
        let asked = match &stop {
            Stop::Client(error) => error.retry_after(),
            _ => None,
        };
        tokio::time::sleep(self.host.pause(vain.tries, asked)).await;
        Ok(())
    }
}

fn storage(doing: &str, path: &Path, error: &io::Error) -> Failure {
    transient(Code::of_storage(error), format!("failed to {doing} {}: {error}", path.display()))
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

#[cfg(test)]
mod tests;
