//! A disk that is full, and one that fails: at every call, once and for good, and with the power cut afterwards. The order may
//! end otherwise than planned; nothing else may suffer.

use super::{explore::Failing, *};
use crate::fs::sim::Broken;

/// Lets the story fail at every `step`th call. It fails `at_least` so often, and one of the failures is told as `code`.
#[track_caller]
fn check(plan: Plan, (kind, lasting): (Broken, bool), (step, mixes): (usize, u64), (at_least, code): (u32, &str)) {
    let till = plan.till();
    let mut explorer = Explorer::new(plan, seed() << 32);
    let failed = explorer.fail(&till, Failing { kind, lasting }, step, mixes).unwrap_or_else(|found| panic!("{found}"));
    let (media, codes) = (explorer.counts.media.len(), &explorer.counts.codes);
    eprintln!("{kind:?}, lasting: {lasting}: {failed} times, {media} media, {codes:?}, seed {}", seed());
    assert!(failed >= at_least, "{failed} calls failed");
    assert!(code.is_empty() || codes.contains(code), "{codes:?}");
}

fn update() -> Plan {
    Plan { orders: vec![2], ..GOOD }
}

fn rollback() -> Plan {
    Plan { health: Health::Bad, ..update() }
}

#[test]
fn a_full_disk_at_any_call_leaves_a_working_till() {
    check(update(), (Broken::NoSpace, false), (1, 1), (20, "no_space"));
    check(update(), (Broken::NoSpace, true), (5, 0), (5, "no_space"));
    check(rollback(), (Broken::NoSpace, false), (2, 0), (10, ""));
}

#[test]
fn an_error_of_the_medium_at_any_call_leaves_a_working_till() {
    check(update(), (Broken::Io, false), (1, 1), (60, "storage_failing"));
    check(update(), (Broken::Io, true), (7, 0), (5, ""));
    check(rollback(), (Broken::Io, false), (2, 0), (30, ""));
}

#[test]
fn an_unreadable_file_at_any_call_leaves_a_working_till() {
    check(update(), (Broken::Read, false), (3, 0), (30, ""));
}

#[test]
fn a_sync_that_failed_is_final_for_its_file() {
    let (fs, path) = (SimFs::with_directories(&[Path::new("/d")]), Path::new("/d/file"));
    write(&fs, path, b"bytes");
    fs.sync_dir(Path::new("/d")).expect("synced");
    fs.break_at(1, Broken::Io, false);
    assert!(fs.sync_data(path).is_err_and(|error| crate::fs::is_failing(&error)));
    fs.sync_data(path).expect("the second calls itself a success");
    let after = |fs: &SimFs| fs.reboot(Keeps::Nothing).read(path, 99).expect("a file");
    assert_eq!((fs.read(path, 99).expect("shown"), after(&fs) == b"bytes"), (b"bytes".to_vec(), false));
    // Created, written, and then the sync fails: another file, elsewhere.
    fs.break_at(3, Broken::Io, false);
    crate::fs::replace(&fs, path, b"other").expect("at the second try");
    assert!(fs.mend());
    assert_eq!(after(&fs), b"other");
    fs.break_at(3, Broken::Io, true);
    let error = crate::fs::replace(&fs, path, b"third").expect_err("the medium fails for good");
    assert_eq!(Code::of_storage(&error), Code::StorageFailing);
    assert_eq!(after(&fs), b"other");
}

#[test]
fn a_slot_whose_sync_failed_is_made_anew_and_the_other_has_the_record_meanwhile() {
    let (fs, dir) = (SimFs::with_directories(&[Path::new("/d")]), StateDir::new(Path::new("/d")));
    let schemas = crate::slots::Schemas::just(1);
    let (mut slots, _) = crate::journal::Journal::open(&fs, dir.slots(), schemas).expect("made");
    let record = |checkin_seq| crate::journal::Record { checkin_seq, ..Default::default() };
    slots.write(&fs, record(1)).expect("written");
    for (call, number) in [(2, 2), (1, 3)] {
        fs.break_at(call, Broken::Io, false);
        slots.write(&fs, record(number)).expect("at the second try");
        assert!(fs.mend());
        let found = crate::journal::Journal::peek(&fs.reboot(Keeps::Nothing), dir.slots(), 1).expect("readable");
        assert_eq!(found, Some(record(number)));
    }
}
