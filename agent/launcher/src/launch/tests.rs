//! Every way from a record to a program, on the real disk.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use super::*;
use crate::{files::Disk, record::Trial};

struct World(tempfile::TempDir);

fn name(text: &str) -> Dir {
    text.parse().expect("a name")
}

fn launch(committed: &str, previous: &str, starts: u8) -> Launch {
    let named = |text: &str| (!text.is_empty()).then(|| name(text));
    Launch { committed: named(committed), previous: named(previous), trial: None, starts }
}

fn trial(tries_left: u8) -> Launch {
    let trial = Trial { dir: name("new"), tries_left, schema: 1 };
    Launch { trial: Some(trial), ..launch("good", "old", 0) }
}

impl World {
    /// With the versions `good`, `new` and `old`, and a record.
    fn new(launch: &Launch) -> Self {
        let world = Self(tempfile::tempdir().expect("a directory"));
        for version in ["good", "new", "old"] {
            let dir = world.path().join("versions").join(version);
            fs::create_dir_all(&dir).expect("made");
            fs::write(dir.join(PROGRAM), "#!/bin/sh\n").expect("written");
            world.mode(&format!("versions/{version}/{PROGRAM}"), 0o755);
            world.mode(&format!("versions/{version}"), 0o755);
        }
        world.mode("versions", 0o755);
        for seq in [1, 2] {
            write(&Disk, world.path(), seq, launch).expect("written");
        }
        world
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path().join(path), fs::Permissions::from_mode(mode)).expect("set");
    }

    /// Launches once; the names of what is tried, and the packaged agent after them.
    fn launch(&self) -> String {
        let chosen = choose(&Disk, self.path());
        let version = |path: &PathBuf| path.parent().and_then(Path::file_name).expect("a version").to_owned();
        let names = chosen.programs.iter().map(|path| version(path).into_string().expect("text"));
        names.collect::<Vec<_>>().join(" ")
    }

    fn record(&self) -> Launch {
        newest(&Disk, self.path(), &mut Vec::new()).expect("a record").1
    }
}

#[test]
fn a_trial_is_counted_before_it_begins_and_after_the_last_try_the_committed_version_runs() {
    let world = World::new(&trial(3));
    for left in [2, 1, 0] {
        assert_eq!(world.launch(), "new good old");
        assert_eq!(world.record(), trial(left));
    }
    assert_eq!(world.launch(), "good old");
    assert_eq!(world.record(), Launch { starts: 1, ..trial(0) });
}

#[test]
fn three_starts_without_one_that_lasts_give_way_to_the_version_before_and_to_the_packaged_agent() {
    let world = World::new(&launch("good", "old", 0));
    let tried: Vec<String> = (0..8).map(|_| world.launch()).collect();
    assert_eq!(tried, ["good old", "good old", "good old", "old", "old", "old", "", ""]);
    assert_eq!(world.record().starts, 6, "of the packaged agent nothing is counted");
    let world = World::new(&launch("good", "", 0));
    let tried: Vec<String> = (0..5).map(|_| world.launch()).collect();
    assert_eq!(tried, ["good", "good", "good", "", ""]);
}

#[test]
fn without_a_record_the_packaged_agent_runs_and_nothing_is_written() {
    let empty = tempfile::tempdir().expect("a directory");
    assert_eq!(choose(&Disk, empty.path()), Chosen::default());
    assert_eq!(choose(&Disk, &empty.path().join("nowhere")), Chosen::default());
    assert_eq!(fs::read_dir(empty.path()).expect("a list").count(), 0);
}

#[test]
fn one_damaged_slot_costs_nothing_and_two_lead_to_the_packaged_agent() {
    let world = World::new(&launch("good", "old", 0));
    let [even, odd] = slots(world.path());
    fs::write(&even, b"garbage").expect("damaged");
    assert_eq!(world.launch(), "good old");
    fs::remove_file(&odd).expect("removed");
    assert_eq!(world.launch(), "good old", "the one that was damaged has been written anew");
    assert_eq!(world.launch(), "good old", "and the one that was gone");
    assert_eq!(world.record().starts, 3);
    for path in [&even, &odd] {
        fs::write(path, vec![0xff; slot::SIZE]).expect("damaged");
    }
    let chosen = choose(&Disk, world.path());
    assert_eq!((chosen.programs.len(), chosen.notes.len()), (0, 2), "{chosen:?}");
}

#[test]
fn a_record_of_another_schema_or_with_unknown_lines_is_not_believed() {
    let world = World::new(&launch("good", "old", 0));
    for (schema, body) in [(SCHEMA + 1, "committed good\n"), (SCHEMA, "committed good\ncolour blue\n")] {
        for path in slots(world.path()) {
            let bytes = Slot { schema, seq: 9, body: body.as_bytes() }.encode().expect("fits");
            fs::write(path, bytes).expect("written");
        }
        assert_eq!(world.launch(), "", "{body:?}");
    }
}

/// What cannot be trusted or run is passed over, and the next one is tried.
#[track_caller]
fn passed_over(change: impl Fn(&World), why: &str) {
    let world = World::new(&launch("good", "old", 0));
    change(&world);
    let chosen = choose(&Disk, world.path());
    let notes = chosen.notes.join("; ");
    assert!(notes.contains(why), "{notes:?} does not say {why:?}");
    assert!(!chosen.programs.iter().any(|path| path.ends_with(Path::new("good").join(PROGRAM))), "{chosen:?}");
    let old = chosen.programs.iter().any(|path| path.ends_with(Path::new("old").join(PROGRAM)));
    assert_eq!(old, !notes.contains("versions can be"), "{chosen:?}");
}

#[test]
fn a_version_that_is_not_whole_or_that_others_can_change_is_passed_over() {
    passed_over(|world| fs::remove_dir_all(world.path().join("versions/good")).expect("removed"), "No such file");
    passed_over(|world| fs::remove_file(world.path().join("versions/good").join(PROGRAM)).expect("removed"), "No such");
    passed_over(|world| world.mode("versions/good/callboard-agent", 0o644), "is not executable");
    passed_over(|world| world.mode("versions/good/callboard-agent", 0o757), "can be changed by others");
    passed_over(|world| world.mode("versions/good/callboard-agent", 0o775), "can be changed by others");
    passed_over(|world| world.mode("versions/good", 0o777), "can be changed by others");
    passed_over(|world| world.mode("versions", 0o777), "versions can be changed by others");
    let link = |world: &World| {
        let program = world.path().join("versions/good").join(PROGRAM);
        fs::remove_file(&program).expect("removed");
        symlink("/bin/true", program).expect("linked");
    };
    passed_over(link, "is not what it must be");
}

#[test]
fn a_start_that_cannot_be_counted_is_none_of_a_version() {
    struct Full;
    impl Files for Full {
        fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
            Disk.read(path)
        }
        fn write(&self, _: &Path, _: &[u8]) -> std::io::Result<()> {
            Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
        }
        fn look(&self, path: &Path) -> std::io::Result<crate::files::Look> {
            Disk.look(path)
        }
    }
    let world = World::new(&trial(3));
    let chosen = choose(&Full, world.path());
    assert!(chosen.programs.is_empty() && chosen.notes[0].starts_with("failed to count this start"), "{chosen:?}");
}
