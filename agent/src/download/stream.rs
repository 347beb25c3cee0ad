//! One ranged request: its answer is cut into chunks, and each is verified before it is written.

use std::{io, ops::Range, time::Duration};

use callboard_proto::{paths, release::Payload};
use http_body_util::BodyExt;
use hyper::{
    StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue},
};
use tokio::time::{Instant, timeout};

use super::{
    Download, Host,
    list::{ChunkList, WrongList},
    partial::Partial,
    sink::Sink,
};
use crate::{
    client::ClientError,
    words::{Attack, Code},
};

/// Least progress within one stall timeout: slower than any line that is still a line.
const MIN_PROGRESS: usize = 8 * 1024;

/// Why a request ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("{0}")]
    Client(ClientError),
    #[error("read the body: less than {MIN_PROGRESS} bytes in {} s", .0.as_secs())]
    Slow(Duration),
    #[error("read the body: nothing came any more, within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("read the body: it ended early")]
    Short,
    #[error("get the range asked for: {0}")]
    Range(&'static str),
    #[error("accept the chunk list: {0}")]
    BadList(WrongList),
    #[error("accept chunk {0}")]
    BadChunk(usize),
    #[error("write: {0}")]
    Disk(io::Error),
    #[error("hand chunks to the installer: {0}")]
    Program(io::Error),
    #[error("accept the payload: the chunks are right, their sum is not what the release says")]
    WrongSum,
}

impl Stop {
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Client(_) | Self::Silent(_) | Self::Short => Code::Download,
            Self::Slow(_) => Code::Slow,
            Self::Range(_) => Code::BadRange,
            Self::BadList(_) => Code::BadChunkList,
            Self::BadChunk(_) => Code::BadChunk,
            Self::Disk(_) => Code::Storage,
            Self::Program(_) => Code::Installer,
            Self::WrongSum => Code::WrongPayload,
        }
    }

    pub(super) const fn attack(&self) -> Option<Attack> {
        match self {
            Self::Slow(_) => Some(Attack::Slow),
            Self::BadList(_) | Self::BadChunk(_) => Some(Attack::BadChunk),
            Self::Client(error) => error.attack(),
            _ => None,
        }
    }
}

/// Fetches the chunks of `gap`. `Ok` means that all of them are there.
pub(super) async fn fetch(
    download: &Download<'_>,
    payload: &Payload,
    list: &ChunkList,
    partial: &mut Partial,
    sink: &mut Sink<'_>,
    gap: Range<usize>,
) -> Result<(), Stop> {
    let first = list.range(gap.start).start;
    let last = list.range(gap.end - 1).end;
    // Open-ended to the end, so that one request brings everything.
    let range = if last == payload.size { format!("bytes={first}-") } else { format!("bytes={first}-{}", last - 1) };
    let mut answer = download.client.range(&paths::payload(payload.sha256), &range).await?;
    let wanted = if answer.response.status() == StatusCode::PARTIAL_CONTENT {
        partial_range(answer.response.headers(), payload.size, first)?
    } else {
        whole_range(answer.response.headers(), payload.size)?
    };
    let start = wanted.start / u64::from(payload.chunk_size.max(1));
    let mut body = Body::new(answer.response.body_mut(), download.client.network().stall, download.host);
    let mut buffer = Vec::new();
    for n in usize::try_from(start).unwrap_or(usize::MAX)..gap.end {
        let chunk = list.range(n);
        if chunk.end > wanted.end {
            return Err(Stop::Short);
        }
        body.fill(&mut buffer, usize::try_from(chunk.end - chunk.start).unwrap_or(0)).await?;
        if partial.has(n) {
            continue;
        }
        if !list.is_right(n, &buffer) {
            return Err(Stop::BadChunk(n));
        }
        let begun = Instant::now();
        sink.write(chunk.start, &buffer, n + 1 == list.len()).await?;
        body.excuse(begun.elapsed());
        partial.add(n, chunk.end - chunk.start);
        download.host.progress(download.base + partial.bytes_done());
    }
    Ok(())
}

/// What a 206 brings; it must begin where the request said and be of the payload that the release names.
fn partial_range(headers: &HeaderMap, size: u64, first: u64) -> Result<Range<u64>, Stop> {
    let range = content_range(headers.get(CONTENT_RANGE).map(HeaderValue::as_bytes), size, first)?;
    if number(headers, CONTENT_LENGTH).is_some_and(|length| length != range.end - range.start) {
        return Err(Stop::Range("the answer has another length than its range"));
    }
    Ok(range)
}

/// Reads `bytes first-last/size`.
pub(crate) fn content_range(header: Option<&[u8]>, size: u64, first: u64) -> Result<Range<u64>, Stop> {
    let text = header.and_then(|header| std::str::from_utf8(header).ok());
    let parsed = text.and_then(|text| text.strip_prefix("bytes ")).and_then(|text| {
        let (range, total) = text.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        Some((start.parse::<u64>().ok()?, end.parse::<u64>().ok()?, total.parse::<u64>().ok()?))
    });
    let (start, end, total) = parsed.ok_or(Stop::Range("the answer does not say which range it is"))?;
    if total != size {
        return Err(Stop::Range("the payload has another size there"));
    }
    if start != first || end < start || end >= size {
        return Err(Stop::Range("the answer is another range"));
    }
    Ok(start..end + 1)
}

/// What a 200 brings: everything, although a part was asked for.
fn whole_range(headers: &HeaderMap, size: u64) -> Result<Range<u64>, Stop> {
    match number(headers, CONTENT_LENGTH) {
        Some(length) if length != size => Err(Stop::Range("the payload has another size there")),
        _ => Ok(0..size),
    }
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// A body that must make progress.
struct Body<'a> {
    incoming: &'a mut Incoming,
    rest: Bytes,
    host: &'a dyn Host,
    stall: Duration,
    since: Instant,
    progress: usize,
    /// When something came last.
    last: Instant,
}

impl<'a> Body<'a> {
    fn new(incoming: &'a mut Incoming, stall: Duration, host: &'a dyn Host) -> Self {
        let now = Instant::now();
        Self { incoming, rest: Bytes::new(), host, stall, since: now, progress: 0, last: now }
    }

    /// Reads exactly `length` bytes into `buffer`.
    async fn fill(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), Stop> {
        buffer.clear();
        while buffer.len() < length {
            if self.rest.is_empty() {
                self.rest = self.next().await?;
                self.keep_pace().await;
            }
            let part = self.rest.split_to(self.rest.len().min(length - buffer.len()));
            buffer.extend_from_slice(&part);
        }
        Ok(())
    }

    /// Reads on no sooner than is allowed. Whoever sends is not to blame for that time.
    async fn keep_pace(&mut self) {
        let owed = self.host.owed(u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        if !owed.is_zero() {
            tokio::time::sleep(owed).await;
            self.excuse(owed);
        }
    }

    /// Does not count time that went by on this side.
    fn excuse(&mut self, time: Duration) {
        self.since += time;
        self.last += time;
    }

    async fn next(&mut self) -> Result<Bytes, Stop> {
        loop {
            let left = self.stall.saturating_sub(self.since.elapsed());
            if left.is_zero() {
                if self.progress < MIN_PROGRESS {
                    // A line that was cut delivers nothing; whoever wants to bind the device has to deliver something.
                    let silent = self.last.elapsed() >= self.stall / 2;
                    return Err(if silent { Stop::Silent(self.stall) } else { Stop::Slow(self.stall) });
                }
                (self.since, self.progress) = (Instant::now(), 0);
                continue;
            }
            let Ok(frame) = timeout(left, self.incoming.frame()).await else { continue };
            let frame = frame.ok_or(Stop::Short)?.map_err(|error| Stop::Client(ClientError::Http(error)))?;
            if let Ok(data) = frame.into_data() {
                self.progress += data.len();
                self.last = Instant::now();
                return Ok(data);
            }
        }
    }
}
