//! Torn, damaged, missing and newer slots.

use super::*;
use crate::{
    fs::Disk,
    journal::{Journal, Record},
    layout::StateDir,
};

const OURS: Schemas = Schemas::just(1);

fn bytes(schema: u32, seq: u64, record: &impl Body) -> Vec<u8> {
    encode(Path::new("slot"), schema, seq, record).expect("encoded")
}

fn record(n: u64) -> Record {
    Record { checkin_seq: n, ..Record::default() }
}

fn journal_with(records: u64) -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let state_dir = StateDir::new(dir.path());
    let (mut journal, found) = Journal::open(&Disk, state_dir.slots(), OURS).expect("new");
    assert_eq!(found, Found::New);
    for n in 1..=records {
        journal.write(&Disk, record(n)).expect("written");
    }
    (dir, state_dir)
}

fn reopen(state_dir: &StateDir) -> (u64, Found) {
    let (journal, found) = Journal::open(&Disk, state_dir.slots(), OURS).expect("readable");
    (journal.record().checkin_seq, found)
}

#[test]
fn the_newest_record_is_found_again() {
    for records in 1..5 {
        let (_dir, state_dir) = journal_with(records);
        assert_eq!(reopen(&state_dir), (records, Found::Valid));
    }
}

#[test]
fn a_write_torn_at_any_sector_costs_one_step() {
    for torn in 0..16 {
        let (_dir, state_dir) = journal_with(3);
        let bytes = bytes(1, 4, &record(4));
        // Record 4 goes to slot 0; only its first `torn` sectors arrive.
        let old = std::fs::read(&state_dir.slots()[0]).expect("slot");
        let mut mixed = bytes[..torn * 512].to_vec();
        mixed.extend_from_slice(&old[torn * 512..]);
        std::fs::write(&state_dir.slots()[0], &mixed).expect("torn");
        let (seq, found) = reopen(&state_dir);
        assert_eq!(found, Found::Valid);
        assert!(seq == 3 || seq == 4, "{seq}");
        assert_eq!(seq == 4, mixed == bytes, "only a complete write counts");
    }
}

#[test]
fn one_damaged_slot_leaves_the_other_and_two_are_reported_as_lost() {
    let (_dir, state_dir) = journal_with(2);
    let [even, odd] = state_dir.slots();
    std::fs::write(&even, b"garbage").expect("damaged");
    assert_eq!(reopen(&state_dir), (1, Found::Half));
    std::fs::write(&odd, vec![0xff; 8192]).expect("damaged");
    std::fs::write(&even, vec![0xff; 100_000]).expect("damaged");
    assert_eq!(reopen(&state_dir), (0, Found::Lost));
}

#[test]
fn the_journal_goes_on_after_a_damaged_slot() {
    let (_dir, state_dir) = journal_with(4);
    std::fs::write(&state_dir.slots()[0], b"").expect("damaged");
    let (mut journal, _) = Journal::open(&Disk, state_dir.slots(), OURS).expect("readable");
    assert_eq!(journal.record().checkin_seq, 3);
    for n in 10..13 {
        journal.write(&Disk, record(n)).expect("written");
        assert_eq!(reopen(&state_dir), (n, Found::Valid));
    }
}

#[test]
fn a_newer_schema_is_not_overwritten() {
    let (_dir, state_dir) = journal_with(1);
    let bytes = bytes(2, 9, &record(9));
    std::fs::write(&state_dir.slots()[0], &bytes).expect("written");
    let error = Journal::open(&Disk, state_dir.slots(), OURS).expect_err("newer");
    assert!(error.to_string().contains("newer agent (schema 2, this one knows 1)"), "{error}");
    assert_eq!(std::fs::read(&state_dir.slots()[0]).expect("kept"), bytes);
}

#[test]
fn a_record_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let (_dir, state_dir) = journal_with(1);
    let (mut journal, _) = Journal::open(&Disk, state_dir.slots(), OURS).expect("readable");
    let large = Record { last_error: Some("x".repeat(9000)), ..record(2) };
    assert!(matches!(journal.write(&Disk, large), Err(SlotError::TooLarge { .. })));
    assert_eq!(reopen(&state_dir), (1, Found::Valid));
}

/// A record of the future: what was one number has become two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Next {
    high: u64,
    low: u64,
}

impl Body for Next {
    fn encode(&self, schema: u32) -> Vec<u8> {
        match schema {
            1 => record(self.high * 100 + self.low).encode(1),
            _ => format!("{} {}", self.high, self.low).into_bytes(),
        }
    }

    fn decode(schema: u32, bytes: &[u8]) -> Option<Self> {
        if schema == 1 {
            let seq = Record::decode(1, bytes)?.checkin_seq;
            return Some(Self { high: seq / 100, low: seq % 100 });
        }
        let (high, low) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
        Some(Self { high: high.parse().ok()?, low: low.parse().ok()? })
    }
}

fn next(state_dir: &StateDir, written: u32) -> Slots<Next> {
    let (slots, found) = Slots::open(&Disk, state_dir.slots(), Schemas { known: 2, written }).expect("readable");
    assert_eq!(found, Found::Valid);
    slots
}

#[test]
fn an_agent_on_trial_leaves_what_the_one_before_it_can_read_until_it_is_committed() {
    let (_dir, state_dir) = journal_with(3);
    let mut slots = next(&state_dir, 1);
    assert_eq!(*slots.record(), Next { high: 0, low: 3 });
    for low in [4, 5, 6] {
        slots.write(&Disk, Next { high: 7, low }).expect("written");
        assert_eq!(reopen(&state_dir), (700 + low, Found::Valid), "the one before finds everything");
    }
    slots.write_in(2);
    slots.write(&Disk, Next { high: 8, low: 7 }).expect("written");
    assert!(matches!(Journal::open(&Disk, state_dir.slots(), OURS), Err(SlotError::Newer { found: 2, known: 1, .. })));
    assert_eq!(*next(&state_dir, 2).record(), Next { high: 8, low: 7 }, "in whatever schema the older slot is");
}

#[test]
fn a_last_resort_sets_a_newer_record_aside_and_starts() {
    let (_dir, state_dir) = journal_with(3);
    let newer = bytes(2, 9, &record(9));
    std::fs::write(&state_dir.slots()[1], &newer).expect("written");
    let (mut journal, found) = Journal::open_anyway(&Disk, state_dir.slots(), OURS).expect("started");
    assert_eq!((journal.record().checkin_seq, found), (0, Found::Lost));
    assert_eq!(std::fs::read(state_dir.path().join("state.1.newer")).expect("kept"), newer);
    journal.write(&Disk, record(1)).expect("written");
    let (journal, found) = Journal::open_anyway(&Disk, state_dir.slots(), OURS).expect("started");
    assert_eq!((journal.record().checkin_seq, found), (1, Found::Valid));
}
