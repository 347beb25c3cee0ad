//! Staging hostile payloads, switching and going back.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use callboard_proto::release::Payload;

use super::*;
use crate::{
    fs::Disk,
    machine::Previous,
    testing::{self, World},
};

/// A tar built by hand, so that it can say what no honest program would.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn raw(mut self, kind: tar::EntryType, path: &[u8], target: &[u8], mode: u32, bytes: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(u64::try_from(bytes.len()).expect("small"));
        header.set_mode(mode);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target);
        header.set_cksum();
        self.0.append(&header, bytes).expect("appended");
        self
    }

    fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.raw(tar::EntryType::Regular, path.as_bytes(), b"", 0o644, bytes)
    }

    fn dir(self, path: &str) -> Self {
        self.raw(tar::EntryType::Directory, path.as_bytes(), b"", 0o755, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Symlink, path.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("finished")
    }

    fn packed(self) -> Vec<u8> {
        pack(&self.bytes())
    }
}

fn pack(tar: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(tar, 1).expect("packed")
}

/// Stages `packed`, declared with `unpacked` bytes and `entries` entries; the text of the refusal, or the tree.
fn stage_declared(packed: &[u8], unpacked: u64, entries: u32) -> Result<(World, PathBuf), String> {
    let world = World::new();
    let mut release = testing::release(1);
    release.payloads = vec![Payload { unpacked_size: unpacked, entries, ..testing::payload("app.tar.zst", packed) }];
    std::fs::write(world.state_dir.payload(release.payloads[0].sha256), packed).expect("written");
    let staged = stage(&Disk, &world.state_dir, &world.dirs, &release, "0123456789ab", &|| {});
    assert_eq!(staged.is_ok(), world.dirs.version("0123456789ab").exists(), "a tree appears complete or not at all");
    let tree = world.dirs.version("0123456789ab");
    staged.map(|_digest| (world, tree)).map_err(|error| error.to_string())
}

fn stage_tar(tar: Tar) -> Result<(World, PathBuf), String> {
    stage_declared(&tar.packed(), 1000, 10)
}

#[track_caller]
fn refused(tar: Tar, wanted: &str) {
    let error = stage_tar(tar).err().expect("refused");
    assert!(error.contains(wanted), "{error:?}, wanted {wanted:?}");
}

#[test]
fn files_directories_programs_and_links_are_unpacked_as_they_are() {
    let tar = Tar::new()
        .dir("bin/")
        .raw(tar::EntryType::Regular, b"bin/pos", b"", 0o755, b"#!/bin/sh\n")
        .file("data", b"1234")
        .link("bin/data", "../data")
        .link("latest", "bin/pos");
    let (_world, tree) = stage_tar(tar).expect("staged");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &str| std::fs::metadata(tree.join(path)).expect("there").permissions().mode() & 0o7777;
    assert_eq!([mode("bin"), mode("bin/pos"), mode("data")], [0o755, 0o755, 0o644]);
    assert_eq!(std::fs::read(tree.join("bin/data")).expect("through the link"), b"1234");
    assert_eq!(std::fs::read_link(tree.join("latest")).expect("a link"), Path::new("bin/pos"));
}

#[test]
fn long_names_and_missing_directory_entries_are_understood() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b"abc"[..]).expect("appended");
    let (_world, tree) = stage_tar(Tar(builder)).expect("staged");
    assert_eq!(std::fs::read(tree.join(long)).expect("there"), b"abc");
}

#[test]
fn a_path_that_leads_out_is_refused() {
    for path in ["../x", "/etc/x", "a/../../x", "a/./x", "a//x", "..", "a/..", "\u{1}/../x", ""] {
        refused(Tar::new().file(path, b"x"), "entry");
    }
    refused(Tar::new().dir("/"), "is absolute");
}

#[test]
fn a_nul_in_a_long_name_is_refused() {
    let tar = Tar::new().raw(tar::EntryType::GNULongName, b"././@LongLink", b"", 0o644, b"a\0b\0").file("x", b"");
    refused(tar, "NUL");
}

#[test]
fn a_long_name_longer_than_any_path_is_refused() {
    let name = vec![b'a'; 100_000];
    refused(Tar::new().raw(tar::EntryType::GNULongName, b"././@LongLink", b"", 0o644, &name), "longer than any path");
}

#[test]
fn a_long_name_for_nothing_is_refused() {
    refused(Tar::new().raw(tar::EntryType::GNULongName, b"././@LongLink", b"", 0o644, b"a\0"), "after its end");
}

#[test]
fn a_link_that_leads_out_is_refused() {
    for (path, target) in [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("l", "../x"),
        ("d/l", "../../x"),
        ("d/l", "a/../../../x"),
        ("d/l", "x/.."),
        ("l", ""),
    ] {
        refused(Tar::new().dir("d").link(path, target), "link");
    }
}

#[test]
fn a_file_through_a_link_is_refused() {
    refused(Tar::new().dir("d").link("l", "d").file("l/x", b"x"), "occurs twice");
    refused(Tar::new().dir("d").link("l", "d").dir("l"), "occurs twice");
    refused(Tar::new().dir("d").link("l", "nowhere").file("l", b"x"), "occurs twice");
}

#[test]
fn names_that_occur_twice_are_refused() {
    refused(Tar::new().file("a", b"1").file("a", b"2"), "occurs twice");
    refused(Tar::new().dir("a").dir("a/"), "occurs twice");
    refused(Tar::new().file("a", b"1").dir("a"), "occurs twice");
    refused(Tar::new().file("a", b"1").file("a/b", b"2"), "occurs twice");
}

#[test]
fn hard_links_devices_and_pipes_are_refused() {
    use tar::EntryType::{Block, Char, Continuous, Fifo, GNUSparse, Link, XGlobalHeader, XHeader};
    for kind in [Link, Block, Char, Fifo, Continuous, GNUSparse, XHeader, XGlobalHeader] {
        refused(Tar::new().raw(kind, b"x", b"target", 0o644, b""), "neither file, directory nor symbolic link");
    }
}

#[test]
fn set_user_id_is_refused() {
    for mode in [0o4755, 0o2755, 0o1777] {
        refused(Tar::new().raw(tar::EntryType::Regular, b"x", b"", mode, b""), "set-user-id");
    }
}

#[test]
fn more_bytes_or_entries_than_declared_are_refused() {
    let tar = || Tar::new().file("a", &[1; 600]).file("b", &[1; 400]).packed();
    assert!(stage_declared(&tar(), 1000, 2).is_ok());
    let refusal = |bytes, entries| stage_declared(&tar(), bytes, entries).err().expect("refused");
    assert!(refusal(999, 2).contains("declares (bytes)"));
    assert!(refusal(1000, 1).contains("declares (entries)"));
}

#[test]
fn gigabytes_of_zeros_in_a_few_bytes_are_cut_off() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("an encoder");
    for _ in 0..300 {
        encoder.write_all(&[0; 1 << 20]).expect("packed");
    }
    let bomb = encoder.finish().expect("packed");
    assert!(bomb.len() < 100_000);
    let refusal = stage_declared(&bomb, 1000, 10).err().expect("refused");
    assert!(refusal.contains("larger than the release declares"), "{refusal}");
}

#[test]
fn a_window_larger_than_a_till_can_hold_is_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(30).expect("set");
    encoder.write_all(&Tar::new().file("a", b"1").bytes()).expect("packed");
    assert!(stage_declared(&encoder.finish().expect("packed"), 1000, 10).is_err());
}

#[test]
fn anything_after_the_end_is_refused() {
    let tar = Tar::new().file("a", b"1").bytes();
    let after_frame = [pack(&tar), b"more".to_vec()].concat();
    let second_frame = [pack(&tar), pack(b"more")].concat();
    let after_tar = pack(&[tar.clone(), b"more".to_vec()].concat());
    let second_tar = pack(&[tar.clone(), tar.clone()].concat());
    for bytes in [after_frame, second_frame, after_tar, second_tar] {
        let refusal = stage_declared(&bytes, 1000, 10).err().expect("refused");
        assert!(refusal.contains("after its end"), "{refusal}");
    }
    let padded = pack(&[tar, vec![0; 8192]].concat());
    assert!(stage_declared(&padded, 1000, 10).is_ok(), "padding to a record is not junk");
}

#[test]
fn a_truncated_payload_is_refused() {
    let whole = Tar::new().file("a", &[7; 900]).packed();
    for cut in 0..whole.len() {
        assert!(stage_declared(&whole[..cut], 1000, 10).is_err(), "{cut}");
    }
    let tar = Tar::new().file("a", &[7; 900]).bytes();
    assert!(stage_declared(&pack(&tar[..1000]), 1000, 10).is_err(), "the file is not all there");
}

#[test]
fn raw_payloads_become_files_of_their_name() {
    let world = World::new();
    let mut release = testing::release(1);
    release.payloads = vec![testing::payload("pos-app", b"program"), testing::payload("config.toml", b"a = 1")];
    for (payload, bytes) in release.payloads.iter().zip([&b"program"[..], b"a = 1"]) {
        std::fs::write(world.state_dir.payload(payload.sha256), bytes).expect("written");
    }
    let tree = stage(&Disk, &world.state_dir, &world.dirs, &release, "aaaaaaaaaaaa", &|| {}).expect("staged");
    assert_eq!(std::fs::read(world.dirs.version("aaaaaaaaaaaa").join("pos-app")).expect("there"), b"program");
    assert!(is_intact(&Disk, &world.dirs, "aaaaaaaaaaaa", tree, &|| {}));
    std::fs::write(world.dirs.version("aaaaaaaaaaaa").join("config.toml"), b"a = 2").expect("changed");
    assert!(!is_intact(&Disk, &world.dirs, "aaaaaaaaaaaa", tree, &|| {}), "a change is noticed");
}

#[test]
fn a_release_that_does_not_fit_is_refused_before_a_byte_is_fetched() {
    let world = World::new();
    let mut release = testing::release(1);
    release.payloads[0].size = 1 << 40;
    release.payloads[0].chunk_size = 4 << 20;
    release.payloads[0].unpacked_size = 1 << 40;
    let error = prepare(&Disk, &world.state_dir, &world.dirs, &release).expect_err("refused");
    assert_eq!(error.failure().code, "too_many_chunks");
    release.payloads[0].size = 400 << 30;
    let error = prepare(&Disk, &world.state_dir, &world.dirs, &release).expect_err("refused");
    assert_eq!(error.failure().code, "no_space");
}

#[test]
fn what_is_there_and_what_comes_keep_to_the_quota_together() {
    let world = World::new();
    let mut release = testing::release(1);
    (release.payloads[0].size, release.payloads[0].unpacked_size) = (1000, 3000);
    std::fs::create_dir(world.dirs.version("aaaaaaaaaaaa")).expect("made");
    std::fs::write(world.dirs.version("aaaaaaaaaaaa").join("app"), [0; 5000]).expect("written");
    std::fs::write(world.state_dir.payload(release.payloads[0].sha256), [0; 600]).expect("written");
    let within =
        |quota| within_quota(&Disk, &world.state_dir, std::slice::from_ref(&world.dirs), &release, quota).is_ok();
    assert_eq!([8999, 9000].map(within), [false, true]);
}

// The switch.

fn tree(world: &World, dir: &str, text: &str) {
    std::fs::create_dir_all(world.dirs.version(dir)).expect("made");
    std::fs::write(world.dirs.version(dir).join("app"), text).expect("written");
}

fn running(world: &World) -> String {
    std::fs::read_to_string(world.dirs.current().join("app")).unwrap_or_else(|error| error.kind().to_string())
}

fn previous_of(world: &World) -> String {
    std::fs::read_to_string(world.dirs.previous().join("app")).unwrap_or_else(|error| error.kind().to_string())
}

/// Switches to a new tree and back; what runs after each.
fn there_and_back(world: &World) -> (Previous, [String; 2], String) {
    tree(world, "new", "new");
    let previous = switch::inspect(&Disk, &world.dirs).expect("inspected");
    for _ in 0..2 {
        switch::flip(&Disk, &world.dirs, "new", &previous).expect("flipped, and again");
    }
    let (new, before) = (running(world), previous_of(world));
    for _ in 0..2 {
        switch::revert(&Disk, &world.dirs, "new", &previous).expect("reverted, and again");
    }
    (previous, [new, running(world)], before)
}

#[test]
fn the_first_installation_has_nothing_to_go_back_to() {
    let world = World::new();
    let (previous, runs, _) = there_and_back(&world);
    assert_eq!(previous, Previous::Nothing);
    assert_eq!(runs, ["new", "entity not found"]);
}

#[test]
fn a_link_goes_forth_and_back() {
    let world = World::new();
    tree(&world, "old", "old");
    std::os::unix::fs::symlink("versions/old", world.dirs.current()).expect("linked");
    let (previous, runs, before) = there_and_back(&world);
    assert_eq!(previous, Previous::Link("versions/old".to_owned()));
    assert_eq!((runs, before), (["new", "old"].map(str::to_owned), "old".to_owned()));
}

#[test]
fn a_factory_link_to_elsewhere_is_kept() {
    let world = World::new();
    let factory = world.dirs.path().join("pos-1.0");
    std::fs::create_dir(&factory).expect("made");
    std::fs::write(factory.join("app"), "factory").expect("written");
    std::os::unix::fs::symlink(&factory, world.dirs.current()).expect("linked");
    let (_, runs, before) = there_and_back(&world);
    assert_eq!((runs, before), (["new", "factory"].map(str::to_owned), "factory".to_owned()));
}

#[test]
fn a_factory_directory_becomes_a_version() {
    let world = World::new();
    std::fs::create_dir(world.dirs.current()).expect("made");
    std::fs::write(world.dirs.current().join("app"), "factory").expect("written");
    let (previous, runs, before) = there_and_back(&world);
    assert_eq!(previous, Previous::Directory);
    assert_eq!((runs, before), (["new", "factory"].map(str::to_owned), "factory".to_owned()));
    assert_eq!(std::fs::read_link(world.dirs.current()).expect("a link"), Path::new("versions/factory"));
    tidy::versions(&Disk, &world.dirs, None).expect("tidied");
    assert!(world.dirs.version("factory").exists());
}

#[test]
fn a_file_in_the_place_of_the_link_is_refused() {
    let world = World::new();
    std::fs::write(world.dirs.current(), "not a link").expect("written");
    assert_eq!(switch::inspect(&Disk, &world.dirs).expect_err("refused").failure().code, "layout");
}

#[test]
fn going_back_to_what_is_gone_is_an_error_and_changes_nothing() {
    let world = World::new();
    tree(&world, "new", "new");
    std::os::unix::fs::symlink("versions/new", world.dirs.current()).expect("linked");
    let previous = Previous::Link("versions/gone".to_owned());
    assert!(switch::revert(&Disk, &world.dirs, "new", &previous).is_err());
    assert_eq!(running(&world), "new");
}

#[test]
fn tidying_keeps_current_previous_and_what_is_not_ours() {
    let world = World::new();
    for dir in
        ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd.1", ".eeeeeeeeeeee.tmp", "factory", "mine"]
    {
        tree(&world, dir, dir);
    }
    std::os::unix::fs::symlink("versions/aaaaaaaaaaaa", world.dirs.current()).expect("linked");
    std::os::unix::fs::symlink("versions/bbbbbbbbbbbb", world.dirs.previous()).expect("linked");
    tidy::versions(&Disk, &world.dirs, None).expect("tidied");
    let left = Disk.list(&world.dirs.versions()).expect("a list");
    assert_eq!(left, ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "factory", "mine"]);
}

#[test]
fn a_missing_dangling_or_half_made_link_is_repaired_at_the_start() {
    for broken in [None, Some("versions/gone"), Some("/etc")] {
        let world = World::new();
        tree(&world, "aaaaaaaaaaaa", "committed");
        if let Some(target) = broken {
            std::os::unix::fs::symlink(target, world.dirs.current()).expect("linked");
        }
        std::os::unix::fs::symlink("versions/x", world.dirs.path().join("current.new")).expect("linked");
        assert!(tidy::links(&Disk, &world.dirs, Some("aaaaaaaaaaaa")).expect("repaired"));
        assert_eq!(running(&world), "committed");
        assert!(!world.dirs.path().join("current.new").is_symlink());
        assert!(!tidy::links(&Disk, &world.dirs, Some("aaaaaaaaaaaa")).expect("nothing to do"));
    }
}

#[test]
fn a_damaged_release_is_installed_again_beside_itself() {
    let world = World::new();
    let release = callboard_proto::digest::Digest::of(b"release");
    let free = |fs: &dyn crate::fs::Fs| free_dir(fs, &world.dirs, release);
    assert_eq!(free(&Disk).expect("readable"), release.short());
    std::os::unix::fs::symlink(link_target(&release.short()), world.dirs.current()).expect("linked");
    assert_eq!(free(&Disk).expect("readable"), format!("{}.1", release.short()));
    // What cannot be read may be the very tree.
    let failing = crate::fs::sim::SimFs::with_directories(&[world.dirs.path()]);
    assert_eq!(free(&failing).expect("readable"), release.short());
    failing.break_at(0, crate::fs::sim::Broken::Read, true);
    free(&failing).expect_err("the medium fails");
}
