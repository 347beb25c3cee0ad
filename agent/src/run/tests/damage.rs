//! What the flash does to the records: torn, flipped and emptied copies. The floor must never fall without a word.

use super::*;
use crate::{slots::Found, verify::Floor, words::Code};

/// The two copies of the product's record.
fn copies() -> [PathBuf; 2] {
    state_dir().product(&"pos-app".parse().expect("a name"))
}

fn start(fs: &SimFs, more: &str) -> Agent {
    let text = format!("state_dir = '{STATE}'\n[products.pos-app]\ndirectory = '{POS}'\n{more}");
    let settings = Settings::parse(&text).expect("settings");
    start::open(settings, Rc::new(SimFs::shared(fs)), identity().0, testing::process()).expect("an agent")
}

fn floor_of(agent: &Agent) -> Floor {
    agent.product_record(&"pos-app".parse().expect("a name")).floor
}

fn damage(fs: &SimFs, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs.read(path, 1 << 20).expect("a slot");
    change(&mut bytes);
    fs.truncate(path, 0).expect("emptied");
    fs.write_at(path, 0, &bytes).expect("written");
}

fn is_whole(fs: &SimFs) -> bool {
    let (slots, found) =
        crate::products::ProductSlots::open(fs, copies(), crate::slots::Schemas::just(1)).expect("readable");
    found == Found::Valid && slots.record().floor.counter == 1
}

#[test]
fn a_bit_that_flips_in_either_copy_neither_lowers_the_floor_nor_stays() {
    let whole = shop(Before::Release);
    for copy in 0..2 {
        for at in (0..8192_usize).step_by(7) {
            let fs = SimFs::clone(&whole);
            damage(&fs, &copies()[copy], |bytes| bytes[at] ^= 1 << (at % 8));
            let agent = start(&fs, "");
            assert_eq!(floor_of(&agent), Floor { epoch: 1, counter: 1 }, "copy {copy}, byte {at}");
            assert_eq!(agent.record().last_error, None);
            assert!(is_whole(&fs), "copy {copy}, byte {at}");
        }
    }
}

#[test]
fn a_copy_that_is_cut_emptied_or_gone_is_made_again_from_the_other() {
    for copy in 0..2 {
        let cut = |length: usize| move |bytes: &mut Vec<u8>| bytes.truncate(length);
        for length in [0, 1, 512, 4096, 8191] {
            let fs = shop(Before::Release);
            damage(&fs, &copies()[copy], cut(length));
            assert_eq!(floor_of(&start(&fs, "")).counter, 1);
            assert!(is_whole(&fs));
        }
        let fs = shop(Before::Release);
        damage(&fs, &copies()[copy], |bytes| bytes.fill(0));
        assert_eq!(floor_of(&start(&fs, "")).counter, 1);
        let fs = shop(Before::Release);
        fs.remove_file(&copies()[copy]).expect("removed");
        assert_eq!(floor_of(&start(&fs, "")).counter, 1);
        assert!(is_whole(&fs));
    }
}

#[test]
fn without_either_copy_the_floor_is_that_of_the_installed_release_or_of_the_package_and_the_loss_is_told() {
    for (packaged, wanted) in
        [("", 1), ("floor = { epoch = 1, counter = 9 }", 9), ("floor = { epoch = 0, counter = 9 }", 1)]
    {
        let fs = shop(Before::Release);
        for path in copies() {
            damage(&fs, &path, |bytes| bytes.fill(0xff));
        }
        let agent = start(&fs, packaged);
        assert_eq!(floor_of(&agent), Floor { epoch: 1, counter: wanted }, "{packaged}");
        assert_eq!(agent.record().last_error.as_deref(), Some(Code::JournalLost.as_str()));
        let installed = agent.product_record(&"pos-app".parse().expect("a name")).installed.expect("known again");
        assert_eq!(installed.release, signed(1).digest);
        assert_eq!(running(&fs), Some(contents_of(1)));
        assert!(is_whole(&fs), "what was found out is written down");
    }
}

#[test]
fn a_trial_under_way_is_not_taken_for_installed_when_the_record_is_lost() {
    let before = shop(Before::Release);
    let mut cut = 0;
    // Up to the first call after the flip.
    let trial = loop {
        let fs = SimFs::clone(&before);
        fs.cut_power_at(cut);
        assert!(!Server::ordering(2).drive(&fs, Health::Good), "the update was over before it was on trial");
        let fs = fs.reboot(Keeps::Everything);
        let record = crate::journal::Journal::peek(&fs, state_dir().slots(), 1).expect("readable");
        if matches!(record.unwrap_or_default().state.task().map(|task| &task.phase), Some(Phase::Trial { .. })) {
            break fs;
        }
        cut += 1;
    };
    for path in copies() {
        damage(&trial, &path, |bytes| bytes.fill(0));
    }
    assert_eq!(running(&trial), Some(contents_of(2)), "the new one runs, on probation");
    assert_eq!(floor_of(&start(&trial, "")), Floor { epoch: 1, counter: 1 });
}

#[test]
fn what_was_refused_is_counted_and_told_although_the_flash_has_failed() {
    let fs = shop(Before::Release);
    let agent = start(&fs, "");
    fs.cut_power_at(0);
    for _ in 0..3 {
        agent.attack(crate::words::Attack::BadSig);
    }
    assert!(fs.is_off(), "the journal was to be written, and could not be");
    let question = agent.question(callboard_proto::instruction::Nonce([7; 32]), 0);
    assert_eq!((question.attacks["bad_sig"], callboard_proto::text::Check::check(&question)), (3, Ok(())));
}
