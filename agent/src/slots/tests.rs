//! Torn, damaged, missing and newer slots.

use super::*;
use crate::{
    fs::Disk,
    journal::{Journal, Record},
    layout::StateDir,
};

fn record(n: u64) -> Record {
    Record { checkin_seq: n, ..Record::default() }
}

fn journal_with(records: u64) -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let state_dir = StateDir::new(dir.path());
    let (mut journal, found) = Journal::open(&Disk, state_dir.slots()).expect("new");
    assert_eq!(found, Found::New);
    for n in 1..=records {
        journal.write(&Disk, record(n)).expect("written");
    }
    (dir, state_dir)
}

fn reopen(state_dir: &StateDir) -> (u64, Found) {
    let (journal, found) = Journal::open(&Disk, state_dir.slots()).expect("readable");
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
        let bytes = bytes::encode(4, &record(4)).expect("encoded");
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
    let (mut journal, _) = Journal::open(&Disk, state_dir.slots()).expect("readable");
    assert_eq!(journal.record().checkin_seq, 3);
    for n in 10..13 {
        journal.write(&Disk, record(n)).expect("written");
        assert_eq!(reopen(&state_dir), (n, Found::Valid));
    }
}

#[test]
fn a_newer_schema_is_not_overwritten() {
    let (_dir, state_dir) = journal_with(1);
    let mut bytes = bytes::encode(9, &record(9)).expect("encoded");
    bytes[8] = 2;
    let end = 24 + usize::try_from(u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]])).expect("small");
    let digest = callboard_proto::digest::Digest::of(&bytes[..end]);
    bytes[end..end + 32].copy_from_slice(digest.as_bytes());
    std::fs::write(&state_dir.slots()[0], &bytes).expect("written");
    let error = Journal::open(&Disk, state_dir.slots()).expect_err("newer");
    assert!(error.to_string().contains("newer agent (schema 2, this one knows 1)"), "{error}");
    assert_eq!(std::fs::read(&state_dir.slots()[0]).expect("kept"), bytes);
}

#[test]
fn a_record_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let (_dir, state_dir) = journal_with(1);
    let (mut journal, _) = Journal::open(&Disk, state_dir.slots()).expect("readable");
    let large = Record { last_error: Some("x".repeat(9000)), ..record(2) };
    assert!(matches!(journal.write(&Disk, large), Err(SlotError::TooLarge { .. })));
    assert_eq!(reopen(&state_dir), (1, Found::Valid));
}
