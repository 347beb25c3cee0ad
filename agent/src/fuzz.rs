//! A door for fuzzing: what reads bytes of the network or of a damaged disk, and what must be true of whatever it takes.
//!
//! Only built with the feature `fuzz`, which tests switch on. Each function panics when something is not true.

#![expect(clippy::expect_used, reason = "a panic is what a finding is")]

use std::ops::Range;

use callboard_launcher::slot;
use callboard_proto::{
    digest::Digest,
    payload::{Chunker, Format},
    release::Payload,
    report::Event as Said,
    time::Timestamp,
};

use crate::{
    download::{list::ChunkList, stream},
    journal::Record,
    machine::{
        self, Effect, Event, MAX_TRANSITIONS, MAX_TRIES, Occasion, Order, Phase, Previous, State, Work, permanent,
        transient,
    },
    slots::Body as _,
    words::Code,
};

/// The schema of the journal that this agent reads and writes.
const SCHEMA: u32 = crate::Program::OURS.schema;

/// Events that one input can ask for.
const WALK: usize = 24;

/// What the agent believes of a `Content-Range`, for a payload of `size` bytes of which it asked for those from `first`.
pub fn content_range(header: &[u8], size: u64, first: u64) -> Option<Range<u64>> {
    stream::content_range(Some(header), size, first).ok()
}

/// A payload and its list, when the first byte is even; else any list for any payload. The next 9 bytes are sizes.
pub fn chunk_list(input: &[u8]) -> bool {
    let Some((&[kind, power], rest)) = input.split_first_chunk::<2>() else { return false };
    let Some((size, bytes)) = rest.split_first_chunk::<8>() else { return false };
    if kind.is_multiple_of(2) {
        made(1 << (power % 10), bytes);
        true
    } else {
        claimed(u64::from_le_bytes(*size), 1 << (power % 23), bytes)
    }
}

/// The list of these bytes takes each of their chunks, and nothing else.
fn made(chunk_size: u32, contents: &[u8]) {
    let mut chunker = Chunker::new(chunk_size);
    chunker.update(contents);
    let chunked = chunker.finish();
    let payload = payload(chunked.size, chunk_size, &chunked.list);
    let list = ChunkList::parse(chunked.list, &payload).expect("its own list");
    let mut at = 0;
    for n in 0..list.len() {
        let range = list.range(n);
        let mut chunk = contents
            .get(usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small"))
            .expect("a part of the payload")
            .to_vec();
        assert!(range.start == at && list.is_right(n, &chunk), "chunk {n} is not taken");
        at = range.end;
        if let Some(byte) = chunk.first_mut() {
            *byte ^= 1;
        }
        assert!(!list.is_right(n, &chunk), "chunk {n} is taken with another byte");
    }
    assert_eq!(at, chunked.size, "the list does not cover the payload");
}

/// A list that has the right digest is of the right length, and names parts of the payload in order.
fn claimed(size: u64, chunk_size: u32, list: &[u8]) -> bool {
    let payload = payload(size, chunk_size, list);
    let Ok(list) = ChunkList::parse(list.to_vec(), &payload) else { return false };
    assert_eq!(u64::try_from(list.len()).ok(), Some(payload.chunk_count()));
    let mut at = 0;
    for n in 0..list.len() {
        let range = list.range(n);
        assert!(range.start == at && range.start < range.end && range.end <= size, "{range:?} of {size}");
        at = range.end;
    }
    assert_eq!(at, size, "the list does not cover the payload");
    assert!(list.range(list.len()).is_empty() && list.range(usize::MAX).is_empty());
    assert!(!list.is_right(list.len(), b""));
    true
}

fn payload(size: u64, chunk_size: u32, list: &[u8]) -> Payload {
    Payload {
        name: "app".to_owned(),
        sha256: Digest::of(b"of no matter"),
        size,
        chunk_size,
        chunks_sha256: Digest::of(list),
        format: Format::Raw,
        unpacked_size: size,
        entries: 1,
    }
}

/// A slot as it lies on the disk, when the first byte is odd; else the body of one whose checksum is right. The next 24
/// bytes say what happens to an agent that finds it.
pub fn journal(input: &[u8]) -> bool {
    let Some((&kind, rest)) = input.split_first() else { return false };
    let Some((events, body)) = rest.split_first_chunk::<WALK>() else { return false };
    let slot =
        if kind.is_multiple_of(2) { slot::Slot { schema: SCHEMA, seq: 7, body }.encode() } else { Some(body.to_vec()) };
    let Some(slot) = slot else { return false };
    let Some((seq, record)) = record_of(&slot) else { return false };
    if let Some(written) = (slot::Slot { schema: SCHEMA, seq, body: &record.encode(SCHEMA) }).encode() {
        assert_eq!(record_of(&written), Some((seq, record.clone())), "it does not read back");
        torn(&slot, seq, &record);
    }
    walk(record.state, events);
    true
}

/// What this agent reads in a slot.
fn record_of(bytes: &[u8]) -> Option<(u64, Record)> {
    let slot = slot::decode(bytes).filter(|slot| slot.schema <= SCHEMA)?;
    Some((slot.seq, Record::decode(slot.schema, slot.body)?))
}

/// A slot that was not written whole is never another record.
fn torn(slot: &[u8], seq: u64, record: &Record) {
    for length in (0..slot.len()).step_by(512) {
        let (there, _) = slot.split_at(length);
        for missing in [Vec::new(), vec![0; slot.len() - length]] {
            let part = [there, &missing].concat();
            if let Some(found) = record_of(&part) {
                assert_eq!(found, (seq, record.clone()), "torn after {length} bytes");
            }
        }
    }
}

/// Whatever state is found and whatever happens in it: no loop without an end, and no way back from a switch but by its end.
fn walk(mut state: State, events: &[u8]) {
    for byte in [&[0], events].concat() {
        let Some(event) = event(&state, byte) else { continue };
        let (next, _) = machine::step(&state, event);
        let switching = state.task().is_some_and(|task| !task.phase.is_before_switch() && !is_ended(&task.phase));
        let before = next.task().is_none_or(|task| task.phase.is_before_switch());
        assert!(!(switching && before), "{state:?} is left for {next:?}");
        if let (Some(task), Some(was)) = (next.task(), state.task()) {
            assert!(task.transitions <= MAX_TRANSITIONS.max(was.transitions), "{} steps", task.transitions);
        }
        state = next;
    }
    // Nothing works any more: even then it comes to rest.
    for _ in 0..usize::from(MAX_TRIES) + 4 {
        (state, _) = machine::step(&state, Event::Failed(transient(Code::Internal, "it broke")));
    }
    let (_, effects) = machine::step(&state, Event::Started);
    // What was prepared for a switch is taken back once at every start; nothing follows from that.
    let works = |effect: &Effect| matches!(effect, Effect::Work(work) if *work != Work::Undo);
    assert!(!effects.iter().any(works), "{state:?} does not come to rest");
}

fn is_ended(phase: &Phase) -> bool {
    matches!(phase, Phase::Committed | Phase::RolledBack { .. } | Phase::Cleanup { .. } | Phase::Inconsistent { .. })
}

/// The event that a byte stands for, about the order at hand if there is one.
fn event(state: &State, byte: u8) -> Option<Event> {
    let order = state.task().map(|task| task.order.clone());
    let right = state.task().and_then(|task| task.right.clone());
    let other = |order: Order| Order { release: Digest::of(&[byte]), ..order };
    let about = |order: &Order| (order.attempt, order.release);
    let (tree, boot) = (Digest::of(b"tree"), format!("boot {}", byte / 64));
    Some(match byte % 30 {
        0 => Event::Started,
        1 => Event::Ordered { order: order?, activate: false, right },
        2 => Event::Ordered { order: order?, activate: true, right: None },
        3 => Event::Ordered { order: other(order?), activate: byte > 127, right },
        4 => Event::Held { right },
        5 => Event::Withdrawn,
        6 => {
            let right = right?;
            Event::Alone(Occasion { on: right.on, now: right.not_before, boot: "another".to_owned() })
        }
        7 => {
            let (attempt, release) = about(&order?);
            Event::Cancelled { attempt, release }
        }
        8 => Event::Distrusted(permanent(Code::Untrusted, "it was revoked")),
        9 => Event::Prepared,
        10 => Event::Fetched,
        11 => Event::Unpacked { tree },
        12 => Event::Inspected { previous: Previous::Nothing, programs: Vec::new() },
        13 => Event::Damaged,
        14 => Event::Flipped { boot },
        15 => Event::Restarted,
        16 => Event::Healthy,
        17 => Event::Recorded,
        18 => Event::Reverted,
        19 => Event::Cleaned,
        20 => Event::Acknowledged,
        21 => {
            let (attempt, release) = about(&order?);
            Event::Settled { attempt, release, event: Said::Failed, failure: None }
        }
        22 => Event::Ready { backup_at: None },
        23 => {
            let failure = transient(Code::Internal, "not now");
            Event::Deferred { failure, at: Timestamp::from_millis(0), backup_at: None }
        }
        24 => Event::Undone,
        25 => Event::Turned { boot },
        26 => Event::Recovered { boot },
        27 => Event::Resolved { keep: byte > 127 },
        28 => Event::GoesDown,
        _ => Event::Failed(transient(Code::Internal, "it broke")),
    })
}
