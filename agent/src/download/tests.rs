//! A download against a server that cuts, stalls, lies and tampers.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::Arc,
};

use callboard_proto::payload::{Chunker, Format};

use super::{pace::Pace, *};
use crate::{
    clock::Clock,
    fs::Disk,
    testing::server::{Answer, Asked, End, TestServer},
};

const CHUNK: u32 = 4096;
const NOW_VALID: (i32, i32) = (2000, 2100);

struct World {
    bytes: Vec<u8>,
    list: Vec<u8>,
    payload: Payload,
    dir: tempfile::TempDir,
    rate: Option<u64>,
}

#[derive(Default)]
struct Seen {
    progress: Cell<u64>,
    attacks: RefCell<BTreeMap<&'static str, u32>>,
    asked_to_wait: Cell<Option<Duration>>,
    /// A rate, and a clock that only waiting moves.
    rate: Option<u64>,
    now: Cell<Duration>,
    pace: RefCell<Pace>,
    read: Cell<u64>,
    /// Tries in vain, as they were counted at each pause.
    pauses: RefCell<Vec<u32>>,
}

impl Host for Seen {
    fn progress(&self, bytes: u64) {
        self.progress.set(bytes);
    }

    fn attack(&self, attack: Attack) {
        *self.attacks.borrow_mut().entry(attack.as_str()).or_default() += 1;
    }

    fn pause(&self, tries: u32, asked: Option<Duration>) -> Duration {
        self.pauses.borrow_mut().push(tries);
        if asked.is_some() {
            self.asked_to_wait.set(asked);
        }
        Duration::ZERO
    }

    fn owed(&self, bytes: u64) -> Duration {
        self.read.set(self.read.get() + bytes);
        let owed = self.pace.borrow_mut().wait(self.now.get(), bytes, self.rate);
        self.now.set(self.now.get() + owed);
        // The clock says what it would take; the test does not.
        Duration::from_nanos(u64::from(!owed.is_zero()))
    }
}

fn world(size: usize) -> World {
    let bytes: Vec<u8> = (0..size).map(|n| u8::try_from((n * 31 + n / 4096) % 251).expect("small")).collect();
    let mut chunker = Chunker::new(CHUNK);
    chunker.update(&bytes);
    let chunked = chunker.finish();
    let payload = Payload {
        name: "app".to_owned(),
        sha256: chunked.sha256,
        size: chunked.size,
        chunk_size: CHUNK,
        chunks_sha256: callboard_proto::digest::Digest::of(&chunked.list),
        format: Format::Raw,
        unpacked_size: chunked.size,
        entries: 1,
    };
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(StateDir::new(dir.path()).payloads()).expect("made");
    World { bytes, list: chunked.list, payload, dir, rate: None }
}

struct Outcome {
    result: Result<(), Failure>,
    asked: Vec<Asked>,
    seen: Seen,
}

impl Outcome {
    /// Ranges of the payload that were asked for.
    fn ranges(&self) -> Vec<&str> {
        self.asked.iter().filter_map(|asked| asked.range.as_deref()).collect()
    }

    fn code(&self) -> &str {
        self.result.as_ref().expect_err("failed").code.as_str()
    }
}

impl World {
    fn path(&self) -> std::path::PathBuf {
        StateDir::new(self.dir.path()).payload(self.payload.sha256)
    }

    /// Downloads from a server that answers requests for the payload by `answer(how many before, request, bytes)`.
    fn download(&self, mut answer: impl FnMut(usize, &Asked, &[u8]) -> Answer + 'static) -> Outcome {
        let (bytes, list, list_path) =
            (self.bytes.clone(), self.list.clone(), paths::payload(self.payload.chunks_sha256));
        let mut before = 0;
        self.download_from(move |asked| {
            if asked.line.ends_with(&list_path) {
                return Answer::ok(list.clone());
            }
            before += 1;
            answer(before - 1, asked, &bytes)
        })
    }

    fn download_from(&self, handler: impl FnMut(&Asked) -> Answer + 'static) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let server = TestServer::start(NOW_VALID, handler).await;
            let client = server.client(&Arc::new(Clock::new(crate::testing::NOW)));
            let seen = Seen { rate: self.rate, ..Seen::default() };
            let state_dir = StateDir::new(self.dir.path());
            let download = Download { fs: &Disk, client: &client, state_dir: &state_dir, host: &seen, base: 0 };
            let result = download.run(&self.payload).await;
            Outcome { result, asked: server.asked(), seen }
        })
    }

    fn assert_complete(&self, outcome: &Outcome) {
        assert_eq!(outcome.result, Ok(()));
        assert_eq!(std::fs::read(self.path()).expect("a file"), self.bytes);
        assert_eq!(outcome.seen.progress.get(), self.payload.size);
    }

    fn assert_nothing_wrong_on_disk(&self) {
        let found = std::fs::read(self.path()).unwrap_or_default();
        assert!(self.bytes.starts_with(&found), "unverified bytes were written");
    }
}

fn honest(_: usize, asked: &Asked, bytes: &[u8]) -> Answer {
    Answer::part(bytes, asked.range.as_deref())
}

#[test]
fn a_payload_arrives_in_one_request_over_the_same_connection_as_its_list() {
    for size in [1, 4095, 4096, 4097, 40_000] {
        let world = world(size);
        let outcome = world.download(honest);
        world.assert_complete(&outcome);
        assert_eq!(outcome.ranges(), ["bytes=0-"]);
        assert!(outcome.asked.iter().all(|asked| asked.connection == 0));
    }
}

#[test]
fn a_payload_is_read_no_faster_than_allowed() {
    let world = World { rate: Some(10_000), ..world(200_000) };
    let outcome = world.download(honest);
    world.assert_complete(&outcome);
    assert_eq!(outcome.seen.read.get(), 200_000);
    // By its own clock, which began at the start of the machine: no burst is saved up yet.
    assert_eq!(outcome.seen.now.get().as_millis(), 20_000);
}

#[test]
fn a_cut_connection_costs_at_most_one_chunk() {
    let world = world(40_000);
    let outcome = world.download(|before, asked, bytes| {
        let answer = Answer::part(bytes, asked.range.as_deref());
        match before {
            0 => Answer { body: answer.body[..10_000].to_vec(), ..answer }.end(End::Cut),
            1 => Answer { body: answer.body[..4096].to_vec(), ..answer }.end(End::Cut),
            _ => answer,
        }
    });
    world.assert_complete(&outcome);
    assert_eq!(outcome.ranges(), ["bytes=0-", "bytes=8192-", "bytes=12288-"]);
}

#[test]
fn cuts_at_every_place_fetch_the_payload_once() {
    let world = world(60_000);
    let outcome = world.download(|before, asked, bytes| {
        let answer = Answer::part(bytes, asked.range.as_deref());
        let cut = (4096 + before * 777).min(answer.body.len());
        let end = if cut == answer.body.len() { End::Proper } else { End::Cut };
        Answer { body: answer.body[..cut].to_vec(), ..answer }.end(end)
    });
    world.assert_complete(&outcome);
}

#[test]
fn a_line_that_is_cut_in_the_middle_is_resumed_and_no_attack() {
    let world = world(40_000);
    let outcome = world.download(|before, asked, bytes| {
        let answer = Answer::part(bytes, asked.range.as_deref());
        if before == 0 {
            return Answer { body: answer.body[..5000].to_vec(), ..answer }.end(End::Silence);
        }
        answer
    });
    world.assert_complete(&outcome);
    assert_eq!(outcome.ranges(), ["bytes=0-", "bytes=4096-"]);
    assert!(outcome.seen.attacks.borrow().is_empty(), "nothing came any more: a pulled cable looks like that");
}

#[test]
fn a_server_that_keeps_the_device_busy_with_a_trickle_is_left_and_counted() {
    let world = world(40_000);
    // More than one, as a machine that is busy otherwise may see nothing of a trickle for a while.
    let outcome = world.download(|before, asked, bytes| {
        let answer = Answer::part(bytes, asked.range.as_deref());
        if before < 4 { answer.end(End::Trickle) } else { answer }
    });
    world.assert_complete(&outcome);
    assert!(outcome.seen.attacks.borrow()["slow"] > 0);
}

#[test]
fn a_server_that_is_away_is_asked_ever_more_rarely_and_no_failure() {
    let world = world(40_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let server = TestServer::start(NOW_VALID, |_| Answer::status(500)).await;
        let client = server.client_of_nobody(&Arc::new(Clock::new(crate::testing::NOW)));
        let (seen, state_dir) = (Seen::default(), StateDir::new(world.dir.path()));
        let download = Download { fs: &Disk, client: &client, state_dir: &state_dir, host: &seen, base: 0 };
        let mut run = std::pin::pin!(download.run(&world.payload));
        while seen.pauses.borrow().len() < 20 {
            tokio::select! {
                result = &mut run => panic!("it was given up: {result:?}"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
        let pauses = seen.pauses.borrow();
        assert!(pauses.iter().copied().eq(1..=u32::try_from(pauses.len()).expect("few")), "{pauses:?}");
    });
}

#[test]
fn a_reason_is_news_once() {
    let mut vain = Vain::default();
    let news = ["away", "away", "slow", "away", "away"].map(|reason| vain.is_news(reason.to_owned()));
    assert_eq!(news, [true, false, true, true, false]);
}

#[test]
fn a_tampered_chunk_is_never_written_and_fetched_again_over_another_connection() {
    let world = world(40_000);
    let outcome = world.download(|before, asked, bytes| {
        let mut answer = Answer::part(bytes, asked.range.as_deref());
        if before == 0 {
            answer.body[3 * 4096 + 17] ^= 1;
        }
        answer
    });
    world.assert_complete(&outcome);
    assert_eq!(outcome.ranges(), ["bytes=0-", "bytes=12288-"]);
    let connections: Vec<usize> = outcome.asked.iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    assert_eq!(outcome.seen.attacks.borrow()["bad_chunk"], 1);
}

#[test]
fn a_chunk_that_stays_wrong_fails_the_download_and_keeps_what_is_right() {
    let world = world(40_000);
    let outcome = world.download(|_, asked, bytes| {
        let mut tampered = bytes.to_vec();
        tampered[20_000] ^= 0x80;
        Answer::part(&tampered, asked.range.as_deref())
    });
    assert_eq!(outcome.code(), "bad_chunk");
    assert_eq!(outcome.seen.attacks.borrow()["bad_chunk"], 4);
    assert_eq!(std::fs::read(world.path()).expect("a file"), world.bytes[..4 * 4096]);
}

#[test]
fn a_partial_file_is_hashed_and_only_what_is_missing_is_fetched() {
    let world = world(40_000);
    let mut partial = world.bytes[..30_000].to_vec();
    partial[5 * 4096] ^= 1;
    std::fs::write(world.path(), partial).expect("written");
    let outcome = world.download(honest);
    world.assert_complete(&outcome);
    assert_eq!(outcome.ranges(), ["bytes=20480-24575", "bytes=28672-"]);
}

#[test]
fn a_complete_file_is_not_fetched_again() {
    let world = world(40_000);
    world.assert_complete(&world.download(honest));
    let again = world.download_from(|asked| panic!("asked for {}", asked.line));
    world.assert_complete(&again);
}

#[test]
fn a_file_that_is_too_long_is_cut() {
    let world = world(10_000);
    let mut long = world.bytes.clone();
    long.extend_from_slice(&[7; 5000]);
    std::fs::write(world.path(), long).expect("written");
    world.assert_complete(&world.download(honest));
}

#[test]
fn an_answer_of_200_to_a_range_is_read_from_its_beginning() {
    let world = world(40_000);
    std::fs::write(world.path(), &world.bytes[..8192]).expect("written");
    let outcome = world.download(|_, _, bytes| Answer::ok(bytes));
    world.assert_complete(&outcome);
    assert_eq!(outcome.ranges(), ["bytes=8192-"]);
}

#[test]
fn a_wrong_content_range_is_never_spliced_in() {
    for (status, header) in [
        (206, Some("bytes 4096-8191/40000")),
        (206, Some("bytes 0-39999/50000")),
        (206, Some("bytes 0-40000/40000")),
        (206, Some("bytes */40000")),
        (206, Some("bytes 9-3/40000")),
        (206, Some("items 0-39999/40000")),
        (206, None),
    ] {
        let world = world(40_000);
        let outcome = world.download(move |_, _, bytes| {
            let answer = Answer { status, ..Answer::ok(bytes) };
            header.map_or(answer.clone(), |header| answer.header("content-range", header))
        });
        assert_eq!(outcome.code(), "bad_range", "{header:?}");
        world.assert_nothing_wrong_on_disk();
    }
}

#[test]
fn a_body_of_another_size_is_refused() {
    for grown in [false, true] {
        let world = world(40_000);
        let outcome = world.download(move |_, _, bytes| {
            let mut other = bytes.to_vec();
            if grown {
                other.push(1)
            } else {
                other.truncate(39_999)
            }
            Answer::ok(other).header("content-length", if grown { "40001" } else { "39999" })
        });
        assert_eq!(outcome.code(), "bad_range");
    }
}

#[test]
fn an_endless_body_is_left_at_the_right_byte() {
    let world = world(9000);
    let outcome = world.download(|_, asked, bytes| {
        let mut answer = Answer::part(bytes, asked.range.as_deref());
        answer.body.extend_from_slice(&vec![0; 1 << 20]);
        answer.end(End::Silence)
    });
    world.assert_complete(&outcome);
}

#[test]
fn retry_after_is_obeyed_and_does_not_count_as_a_failure() {
    let world = world(9000);
    let outcome = world.download(|before, asked, bytes| {
        if before < 20 {
            return Answer::status(503).header("retry-after", "7");
        }
        Answer::part(bytes, asked.range.as_deref())
    });
    world.assert_complete(&outcome);
    assert_eq!(outcome.seen.asked_to_wait.get(), Some(Duration::from_secs(7)));
}

#[test]
fn a_server_that_never_answers_right_fails_the_download() {
    for status in [403, 404, 408, 410, 416, 500, 301] {
        let world = world(9000);
        let outcome = world.download(move |_, _, _| Answer::status(status).header("location", "https://example.com/"));
        assert_eq!(outcome.code(), "download", "{status}");
        assert_eq!(outcome.ranges().len(), 9, "no redirect is followed");
    }
}

#[test]
fn an_encoded_body_is_refused() {
    let world = world(9000);
    let outcome = world
        .download(|_, asked, bytes| Answer::part(bytes, asked.range.as_deref()).header("content-encoding", "gzip"));
    assert_eq!(outcome.code(), "download");
}

#[test]
fn a_tampered_chunk_list_is_refused_before_any_payload_byte() {
    let world = world(40_000);
    let mut list = world.list.clone();
    list[40] ^= 1;
    let outcome = world.download_from(move |_| Answer::ok(list.clone()));
    assert_eq!(outcome.code(), "bad_chunk_list");
    assert!(outcome.ranges().is_empty());
}

#[test]
fn an_oversize_chunk_list_is_cut_off() {
    let world = world(40_000);
    let outcome = world.download_from(move |_| Answer::ok(vec![0; 1 << 20]));
    assert_eq!(outcome.code(), "download");
    assert!(outcome.seen.attacks.borrow()["oversize"] > 0);
}

#[test]
fn a_payload_swapped_for_another_valid_one_is_refused() {
    let world = world(40_000);
    let other = vec![9; 40_000];
    let outcome = world.download(move |_, asked, _| Answer::part(&other, asked.range.as_deref()));
    assert_eq!(outcome.code(), "bad_chunk");
    world.assert_nothing_wrong_on_disk();
}
