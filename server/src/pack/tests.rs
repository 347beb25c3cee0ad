use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt as _, symlink},
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::*;

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scene.tree()).unwrap();
        fs::create_dir(scene.out()).unwrap();
        scene
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn file(&self, path: &str, bytes: &[u8], mode: u32, changed_s: u64) -> &Self {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(changed_s);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        self
    }

    fn pack(&self) -> Result<Packed, PackError> {
        pack(&self.tree(), "pos-app.tar.zst", &self.out())
    }

    fn bytes(&self, packed: &Packed) -> Vec<u8> {
        fs::read(self.out().join(packed.payload.sha256.to_string())).unwrap()
    }

    /// Path, mode, type, and content or link target of each entry.
    fn listing(&self, packed: &Packed) -> Vec<String> {
        let tar = zstd::stream::decode_all(self.bytes(packed).as_slice()).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        archive.entries().unwrap().map(|entry| line(entry.unwrap())).collect()
    }
}

fn line(mut entry: tar::Entry<'_, &[u8]>) -> String {
    let header = entry.header().clone();
    assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    let link = entry.link_name().unwrap().map(|link| link.display().to_string()).unwrap_or_default();
    let (mode, kind) = (header.mode().unwrap(), header.entry_type().as_byte());
    format!("{} {mode:o} {} {text}{link}", entry.path().unwrap().display(), char::from(kind))
}

fn sample() -> Scene {
    let scene = Scene::new();
    scene.file("bin/app", b"program", 0o755, 500).file("bin.cfg", b"x = 1", 0o600, 400).file("lib/a/b", b"", 0o664, 3);
    symlink("bin/app", scene.tree().join("run")).unwrap();
    symlink("../../bin", scene.tree().join("lib/a/up")).unwrap();
    fs::create_dir(scene.tree().join("empty")).unwrap();
    scene
}

#[test]
fn a_directory_becomes_a_sorted_tar_with_plain_modes() {
    let scene = sample();
    let packed = scene.pack().unwrap();
    let wanted = [
        "bin 755 5 ",
        "bin.cfg 644 0 x = 1",
        "bin/app 755 0 program",
        "empty 755 5 ",
        "lib 755 5 ",
        "lib/a 755 5 ",
        "lib/a/b 644 0 ",
        "lib/a/up 777 2 ../../bin",
        "run 777 2 bin/app",
    ];
    assert_eq!(scene.listing(&packed), wanted);
    let payload = &packed.payload;
    assert_eq!((payload.entries, payload.unpacked_size, payload.format), (9, 12, Format::TarZst));
    assert_eq!(payload.name, "pos-app.tar.zst");
    assert_eq!(packed.newest, Timestamp::from_millis(500_000));
}

#[test]
fn the_payload_is_what_its_digests_say() {
    let scene = sample();
    let noise: Vec<u8> = (0..900_000_u32).flat_map(|n| Digest::of(&n.to_le_bytes()).as_bytes()[..3].to_vec()).collect();
    scene.file("noise", &noise, 0o644, 1);
    let packed = scene.pack().unwrap();
    let bytes = scene.bytes(&packed);
    assert!(bytes.len() > 2 << 20);
    let list: Vec<u8> = bytes.chunks(1 << 20).flat_map(|chunk| *Digest::of(chunk).as_bytes()).collect();
    assert_eq!(packed.payload.sha256, Digest::of(&bytes));
    assert_eq!(packed.payload.chunks_sha256, Digest::of(&list));
    assert_eq!(packed.payload.size, u64::try_from(bytes.len()).unwrap());
    assert_eq!(fs::read_dir(scene.out()).unwrap().count(), 1, "no temporary file is left");
}

/// Another digest here means that signers with different versions of this program no longer agree.
#[test]
fn the_same_tree_always_has_the_same_digest() {
    let packed = sample().pack().unwrap();
    assert_eq!(packed.payload.sha256.to_string(), "ff2466353967dd29342c838c8cd97830beb1602a76ad31e4c0bc7495d5708965");
}

#[test]
fn names_too_long_for_a_posix_header_survive() {
    let scene = Scene::new();
    let deep = format!("{}/{}", vec!["directory"; 30].join("/"), "n".repeat(200));
    scene.file(&deep, b"deep", 0o644, 1);
    symlink(&deep, scene.tree().join("link")).unwrap();
    let listing = scene.listing(&scene.pack().unwrap());
    assert!(listing.contains(&format!("{deep} 644 0 deep")));
    assert!(listing.contains(&format!("link 777 2 {deep}")));
}

#[test]
fn a_file_is_taken_as_it_is_under_its_own_name() {
    let scene = Scene::new();
    scene.file("prices.csv", b"coffee,2", 0o644, 77);
    let packed = pack(&scene.tree().join("prices.csv"), "unused", &scene.out()).unwrap();
    assert_eq!(scene.bytes(&packed), b"coffee,2");
    let payload = &packed.payload;
    assert_eq!((payload.name.as_str(), payload.format), ("prices.csv", Format::Raw));
    assert_eq!((payload.size, payload.unpacked_size, payload.entries), (8, 8, 1));
    assert_eq!(packed.newest, Timestamp::from_millis(77_000));
}

#[test]
fn what_cannot_be_told_faithfully_is_refused_and_leaves_nothing() {
    let refused = |prepare: &dyn Fn(&Path)| {
        let scene = sample();
        prepare(&scene.tree());
        let error = scene.pack().unwrap_err();
        assert_eq!(fs::read_dir(scene.out()).unwrap().count(), 0);
        error
    };
    let link = |target: &'static str| refused(&move |tree| symlink(target, tree.join("bin/bad")).unwrap());
    assert!(matches!(link("/etc/passwd"), PackError::LinkLeavesTree { .. }));
    assert!(matches!(link("../../outside"), PackError::LinkLeavesTree { .. }));
    let pipe = refused(&|tree| {
        rustix::fs::mknodat(rustix::fs::CWD, tree.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    });
    assert!(matches!(pipe, PackError::Unsupported { what: "pipe", .. }), "{pipe}");
    let socket = refused(&|tree| drop(std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap()));
    assert!(matches!(socket, PackError::Unsupported { what: "socket", .. }), "{socket}");
    let set_id =
        refused(&|tree| fs::set_permissions(tree.join("bin/app"), fs::Permissions::from_mode(0o4755)).unwrap());
    assert!(matches!(set_id, PackError::SetId(_)), "{set_id}");
}

#[test]
fn nothing_and_what_is_not_there_is_refused() {
    let scene = Scene::new();
    assert!(matches!(scene.pack(), Err(PackError::Empty(_))));
    scene.file("empty", b"", 0o644, 1);
    let packed = |name: &str| pack(&scene.tree().join(name), "x", &scene.out());
    assert!(matches!(packed("empty"), Err(PackError::Empty(_))));
    assert!(matches!(packed("missing"), Err(PackError::Io { action: "read", .. })));
    assert!(matches!(pack(Path::new("/dev/null"), "x", &scene.out()), Err(PackError::NeitherFileNorDirectory(_))));
}

#[test]
fn a_file_that_grows_or_shrinks_meanwhile_is_refused() {
    let scene = sample();
    let path = scene.tree().join("bin.cfg");
    for wrong in [4, 6] {
        let sink = Sink { file: &tempfile::tempfile().unwrap(), chunker: Chunker::new(CHUNK_SIZE) };
        let error = pack_file(&path, wrong, sink).unwrap_err();
        let PackError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.to_string(), "it changed while it was packed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn order_and_time_of_creation_do_not_matter(
        files in proptest::collection::btree_map("[a-c]{1,2}(/[a-c.-]{1,2}x){0,2}y", any::<Vec<u8>>(), 1..12),
        times in proptest::collection::vec(0..2_000_000_000_u64, 24),
        seed in any::<usize>(),
    ) {
        let build = |files: Vec<(&String, &Vec<u8>)>, times: &[u64]| {
            let scene = Scene::new();
            for ((path, bytes), time) in files.into_iter().zip(times) {
                scene.file(path, bytes, 0o644, *time);
            }
            scene.pack().unwrap().payload
        };
        let files: BTreeMap<String, Vec<u8>> = files;
        let forward: Vec<_> = files.iter().collect();
        let mut turned = forward.clone();
        turned.rotate_left(seed % forward.len());
        turned.reverse();
        prop_assert_eq!(build(forward, &times[..12]), build(turned, &times[12..]));
    }
}
