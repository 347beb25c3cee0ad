//! A disk of a few MiB under the data directory of a server or a till, which a test can fill.
//!
//! It is a tmpfs in a mount namespace of its own, where no other process sees it: nothing is mounted on the machine,
//! and it is gone with the process that holds it, however that ends. Needs `unshare` and a system that lets its users
//! make namespaces; elsewhere tests limit the size of files instead.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use super::TestServer;

/// Says when the disk is there, and keeps it until its input ends.
const HOLDER: &str = r#"mount -t tmpfs -o "size=$2,mode=0700" callboard-test "$1" && echo mounted && exec cat"#;

/// A mounted disk.
pub(crate) struct SmallDisk {
    holder: Child,
    /// Its end is the end of the disk.
    _input: ChildStdin,
    mounted_on: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk on a directory, for those who enter, with what the directory holds; `None` where that is not allowed.
    pub(crate) fn mount(on: &Path, bytes: u64) -> Option<Self> {
        let mut holder = Command::new("unshare")
            .args(namespaces())
            .args(["sh", "-c", HOLDER, "sh"])
            .arg(on)
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let input = holder.stdin.take().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() != "mounted" {
            holder.wait().unwrap();
            return None;
        }
        let disk = Self { holder, _input: input, mounted_on: on.to_owned() };
        let copied = Command::new("cp").arg("-a").arg(on.join(".")).arg(disk.seen_from_outside()).status().unwrap();
        assert!(copied.success());
        Some(disk)
    }

    /// The command that runs another one where the disk is mounted.
    pub(crate) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string());
        command.args(if is_root() { &["--mount"][..] } else { &["--mount", "--user", "--preserve-credentials"] });
        command.arg("--");
        command
    }

    /// The directory as this process sees it.
    pub(crate) fn seen_from_outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.mounted_on.strip_prefix("/").unwrap())
    }
}

/// What `unshare` is asked for by whoever wants to mount something.
pub(crate) fn namespaces() -> &'static [&'static str] {
    if is_root() { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] }
}

/// Root needs no namespace of users, in which the files of others would be out of reach.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server on it has ended by now; what is left ends with the namespace.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl TestServer {
    /// Moves the data directory of a stopped server to a disk of its own; says whether there is one.
    pub fn move_to_small_disk(&mut self, bytes: u64) -> bool {
        assert!(self.running.is_none(), "the server is stopped");
        self.disk = SmallDisk::mount(&self.servers_dir(), bytes);
        self.disk.is_some()
    }

    /// Fills the disk to the last byte, but for `free` bytes.
    pub fn fill_disk(&self, free: u64) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        let block = vec![0x5a; 4096];
        loop {
            match filler.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let len = filler.metadata().unwrap().len();
        filler.set_len(len.saturating_sub(free)).unwrap();
    }

    /// Makes space again.
    pub fn free_disk(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Mounts the disk anew, such that it can be written or cannot.
    pub fn remount_disk(&self, writable: bool) {
        let option = if writable { "remount,rw" } else { "remount,ro" };
        let disk = self.disk.as_ref().expect("there is a disk");
        assert!(disk.enter().args(["mount", "-o", option]).arg(&disk.mounted_on).status().unwrap().success());
    }

    fn filler(&self) -> PathBuf {
        self.dir().join("filler")
    }
}
