//! The fuzz targets' corpora, replayed: seeds of every kind, and whatever a fuzzer once found.

use std::{collections::BTreeSet, fs, panic, path::Path};

use callboard_tests::fuzz::TARGETS;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

/// Names in a directory below `fuzz/`, without their extension.
fn names(dir: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(FUZZ).join(dir)).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_the_other_way_round() {
    let known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!((TARGETS.len(), known.len()), (10, 10));
    assert_eq!(names("targets"), known);
    assert_eq!(names("corpus"), known);
    let manifest: toml::Table = fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap().parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(programs.collect::<BTreeSet<_>>(), known);
    for name in &known {
        let program = fs::read_to_string(Path::new(FUZZ).join(format!("targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("run(\"{name}\", bytes)")), "{name} runs another target");
    }
}

#[test]
fn no_corpus_has_a_finding_and_each_has_what_is_taken_and_what_is_not() {
    for target in TARGETS {
        let (mut taken, mut refused) = (0, 0);
        let entries = fs::read_dir(Path::new(FUZZ).join("corpus").join(target.name)).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()) {
            let bytes = fs::read(&path).unwrap();
            match panic::catch_unwind(|| (target.run)(&bytes)) {
                Ok(true) => taken += 1,
                Ok(false) => refused += 1,
                Err(_) => panic!("{} is a finding", path.display()),
            }
        }
        assert!(taken >= 3 && refused >= 1, "{}: {taken} taken, {refused} refused", target.name);
    }
}
