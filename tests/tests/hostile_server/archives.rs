//! What may be in an archive whose release was signed: nothing in it is trusted for that.

use callboard_tests::hostile::{Stolen, pack};

use super::{
    Case, Sign,
    Sign::{Counts, Says},
    release,
};

/// An archive built by hand, so that it can say what no honest program would.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: tar::EntryType, path: &str, target: &str, mode: u32, bytes: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(u64::try_from(bytes.len()).unwrap());
        header.set_mode(mode);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    fn file(self, path: &str) -> Self {
        self.entry(tar::EntryType::Regular, path, "", 0o644, b"harm")
    }

    fn directory(self, path: &str) -> Self {
        self.entry(tar::EntryType::Directory, path, "", 0o755, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, path, target, 0o777, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An archive that leads out of its directory, or is no plain tree.
fn leads_out(name: &'static str, make: fn(Tar) -> Tar) -> Case {
    archive(name, Counts("path_escape"), move |_| pack(&make(Tar::new()).bytes()))
}

fn archive(name: &'static str, sign: Sign, make: impl Fn(&Stolen) -> Vec<u8> + Send + Sync + 'static) -> Case {
    release(name, sign, move |stolen| stolen.archive(make(stolen), |_| {}))
}

/// A product whose health command is this script.
pub(super) fn program(script: &str) -> Vec<u8> {
    let tar = Tar::new().directory("bin").entry(tar::EntryType::Regular, "bin/health", "", 0o755, script.as_bytes());
    pack(&tar.bytes())
}

pub(super) fn cases() -> Vec<Case> {
    use tar::EntryType as T;
    vec![
        leads_out("a file above its directory", |tar| tar.file("../harm")),
        leads_out("a file above its directory, further down", |tar| tar.file("a/../../harm")),
        leads_out("a file at the root", |tar| tar.file("/tmp/callboard-harm")),
        leads_out("a link that leads out", |tar| tar.link("out", "../../..")),
        leads_out("a link to the root", |tar| tar.link("out", "/etc")),
        leads_out("a file through a link", |tar| tar.directory("a").link("b", "a").file("b/harm")),
        leads_out("a directory over a link", |tar| tar.directory("a").link("b", "a").directory("b")),
        leads_out("a hard link", |tar| tar.entry(T::Link, "harm", "/etc/passwd", 0o644, b"")),
        leads_out("a device", |tar| tar.entry(T::Block, "harm", "", 0o644, b"")),
        leads_out("a pipe", |tar| tar.entry(T::Fifo, "harm", "", 0o644, b"")),
        leads_out("a program with the owner's rights", |tar| tar.entry(T::Regular, "harm", "", 0o4755, b"harm")),
        leads_out("a name twice", |tar| tar.file("harm").file("harm")),
        leads_out("a file in the place of a directory", |tar| tar.directory("a").file("a/b").file("a")),
        leads_out("an extended header with another size", |tar| {
            tar.entry(T::XHeader, "pax", "", 0o644, b"13 size=9999\n").file("harm")
        }),
        leads_out("a sparse file", |tar| tar.entry(T::GNUSparse, "harm", "", 0o644, b"")),
        archive("more entries than declared", Counts("oversize"), |_| {
            let tar = (0..20).fold(Tar::new(), |tar, n| tar.file(&format!("file-{n}")));
            pack(&tar.bytes())
        }),
        archive("gigabytes of zeros", Counts("oversize"), |_| {
            let zeros = vec![0; 64 << 20];
            pack(&Tar::new().entry(T::Regular, "zeros", "", 0o644, &zeros).bytes())
        }),
        archive("something after the end", Counts("oversize"), |_| {
            [pack(&Tar::new().file("harm").bytes()), pack(b"and more")].concat()
        }),
        archive("a frame that ends early", Says("unpack"), |_| {
            let packed = pack(&Tar::new().file("harm").bytes());
            packed[..packed.len() - 10].to_vec()
        }),
        archive("a window of two gigabytes", Says("unpack"), |_| {
            // Magic number, a descriptor without size, a window of 2 GiB, and an empty last block.
            vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]
        }),
        archive("no archive at all", Says("unpack"), |_| b"this is no archive".to_vec()),
    ]
}
