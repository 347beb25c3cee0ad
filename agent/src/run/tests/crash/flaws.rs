//! That somebody notices: filesystems that do not do what the agent relies on, and tills on which one invariant each was
//! broken by hand.

use super::{
    invariants::{self, Broken, Scene},
    office::Office,
    *,
};
use crate::fs::sim::Flaw;

/// The invariant that is found broken when a filesystem has this flaw.
fn found(flaw: Flaw, plan: Plan) -> String {
    let till = plan.till();
    till.set_flaw(Some(flaw));
    let mut explorer = Explorer::new(plan, seed() << 32);
    let found = explorer.explore(&till, Budget { mixes: 8, stride: usize::MAX, again: 0 });
    found.expect_err("a filesystem with a flaw goes unnoticed")
}

#[track_caller]
fn caught(flaw: Flaw, plan: Plan, invariants: &[&str]) {
    let found = found(flaw, plan);
    let named = invariants.iter().any(|name| found.contains(&format!(": {name} is broken")));
    assert!(named, "one of {invariants:?} is wanted: {found}");
}

fn update() -> Plan {
    Plan { orders: vec![2], ..GOOD }
}

#[test]
fn a_filesystem_that_does_not_sync_files_is_noticed() {
    caught(Flaw::Files, update(), &["I1", "I3", "I4", "I5", "I10", "I11"]);
}

#[test]
fn a_filesystem_that_does_not_sync_directories_is_noticed() {
    caught(Flaw::Directories, update(), &["I1", "I3", "I4", "I7", "I10"]);
}

#[test]
fn a_filesystem_that_does_not_sync_trees_is_noticed() {
    caught(Flaw::Trees, update(), &["I1", "I4"]);
}

/// A till on which all is over, and the server that heard of it.
fn over() -> (SimFs, Office) {
    let plan = Rc::new(update());
    let till = drive::Till::new(plan.till(), Office::of(&plan));
    let runtime = runtime();
    assert_eq!(till.drive(&runtime, &mut |_| false).expect("it goes well"), drive::Left::Done);
    let office = till.office.borrow().clone();
    (till.fs, office)
}

/// Breaks something, and says which invariant is found broken.
fn broken(harm: impl FnOnce(&SimFs, &mut Office)) -> &'static str {
    let (fs, mut office) = over();
    let plan = Rc::clone(&office.plan);
    let look = |fs: &SimFs, office: &Office| -> Result<(), Broken> {
        let scene = Scene { fs, plan: &plan, office, floor: 1, root: 0, faulty: false };
        invariants::in_the_end(&scene)?;
        invariants::i6_work_is_bounded(&scene)
    };
    look(&fs, &office).expect("nothing is broken yet");
    harm(&fs, &mut office);
    look(&fs, &office).expect_err("it goes unnoticed").invariant
}

/// Points `current` elsewhere.
fn point(fs: &SimFs, target: &str) {
    crate::fs::replace_link(fs, &product_dir().current(), Path::new(target)).expect("pointed");
}

/// Changes the product's record.
fn change(fs: &SimFs, change: impl FnOnce(&mut crate::products::ProductRecord)) {
    let copies = state_dir().product(&"pos-app".parse().expect("a name"));
    let (mut slots, _) =
        crate::products::ProductSlots::open(fs, copies, crate::slots::Schemas::just(1)).expect("readable");
    let mut record = slots.record().clone();
    change(&mut record);
    slots.write_twice(fs, record).expect("written");
}

#[test]
fn i1_is_broken_by_a_version_without_one_of_its_files() {
    let file = product_dir().current().join("config");
    assert_eq!(broken(|fs, _| fs.remove_file(&file).expect("removed")), "I1");
}

#[test]
fn i2_is_broken_by_a_version_below_the_floor() {
    let old = format!("versions/{}", signed(1).digest.short());
    assert_eq!(broken(|fs, _| point(fs, &old)), "I2");
}

#[test]
fn i3_is_broken_by_a_floor_that_is_lost() {
    assert_eq!(broken(|fs, _| change(fs, |record| record.floor.counter = 1)), "I3");
}

#[test]
fn i4_is_broken_by_another_byte_in_a_version_that_does_not_run() {
    let file = product_dir().version(&signed(1).digest.short()).join("app");
    assert_eq!(broken(|fs, _| fs.write_at(&file, 0, b"R").expect("written")), "I4");
}

#[test]
fn i5_is_broken_by_an_agent_that_does_not_start() {
    let (fs, office) = over();
    fs.remove_file(&state_dir().root()).expect("removed");
    let till = drive::Till::new(fs, office);
    assert_eq!(till.start_once().expect_err("without a root").invariant, "I5");
}

#[test]
fn i6_is_broken_by_an_order_that_takes_more_steps_than_any_needs() {
    let harm = |fs: &SimFs, _: &mut Office| {
        let (mut journal, _) =
            crate::journal::Journal::open(fs, state_dir().slots(), crate::slots::Schemas::just(1)).expect("readable");
        let order = testing::order(2, 1);
        let task = machine::Task {
            order,
            transitions: 21,
            phase: Phase::Committed,
            right: None,
            course: machine::Course::default(),
        };
        let state = machine::State::Busy(Box::new(task));
        journal.write(fs, crate::journal::Record { state, ..journal.record().clone() }).expect("written");
    };
    assert_eq!(broken(harm), "I6");
}

#[test]
fn i7_is_broken_when_the_version_before_goes_too_early() {
    let harm = |fs: &SimFs, _: &mut Office| {
        // As if nothing had been committed yet.
        change(fs, |record| record.installed = None);
        crate::fs::remove_tree(fs, &product_dir().version(&signed(1).digest.short())).expect("removed");
    };
    assert_eq!(broken(harm), "I7");
}

#[test]
fn i8_is_broken_by_a_start_that_changes_something() {
    let (fs, _) = over();
    let after = fs.clone();
    invariants::i8_another_start_changes_nothing(&fs, &after).expect("the same");
    point(&after, "versions/other");
    let broken = invariants::i8_another_start_changes_nothing(&fs, &after);
    assert_eq!(broken.expect_err("it was changed").invariant, "I8");
}

#[test]
fn i9_is_broken_by_what_is_left_over() {
    let payload = state_dir().payload(signed(2).contents[0].0.sha256);
    assert_eq!(broken(|fs, _| write(fs, &payload, b"some of it")), "I9");
    let staging = product_dir().staging(&signed(2).digest.short());
    assert_eq!(broken(|fs, _| fs.create_dir(&staging).expect("made")), "I9");
}

#[test]
fn i10_is_broken_by_no_result_by_two_and_by_another() {
    let last = outbox::seq(report::Event::Failed);
    let forget = |_: &SimFs, office: &mut Office| {
        office.heard.remove(&(0, 1, last));
    };
    let repeat = |_: &SimFs, office: &mut Office| {
        office.heard.insert((0, 2, last), report::Event::Succeeded);
    };
    assert_eq!((broken(forget), broken(repeat)), ("I10", "I10"));
    assert_eq!(broken(|_, office| office.contradictions.push("told twice".to_owned())), "I10");
}

#[test]
fn i11_is_broken_without_the_key_of_the_certificate_and_by_another_root() {
    assert_eq!(broken(|fs, _| fs.remove_file(&state_dir().key()).expect("removed")), "I11");
    let harm = |fs: &SimFs, _: &mut Office| fs.write_at(&state_dir().root(), 9, b"x").expect("written");
    assert_eq!(broken(harm), "I11");
}
