//! What the device's owner has laid down: hooks of the device itself, and reasons not to switch now.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use callboard_proto::release::Stage;
use rustix::fs::OFlags;

use crate::client::plain;

/// Local hooks of one stage at most.
const MAX_HOOKS: usize = 16;
/// Of what a file says, this much is told.
const MAX_REASON: usize = 200;

/// The programs in `DIRECTORY/STAGE`, in the order of their names. An error says why none of them is to be believed:
/// whoever may write there runs programs as root.
pub(super) fn programs(directory: &Path, stage: Stage) -> Result<Vec<PathBuf>, String> {
    let own = directory.join(stage.as_str());
    let entries = match fs::read_dir(&own) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", own.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", own.display()))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        let meta = belongs_to_owner(&path)?;
        if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Ok(found);
    }
    if found.len() > MAX_HOOKS {
        return Err(format!("{}: {} programs; at most {MAX_HOOKS} are allowed", own.display(), found.len()));
    }
    for above in [&own, directory] {
        belongs_to_owner(above)?;
    }
    found.sort();
    Ok(found)
}

/// Nobody but root, or who runs the agent, may change it.
fn belongs_to_owner(path: &Path) -> Result<fs::Metadata, String> {
    let meta = fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let user = rustix::process::geteuid().as_raw();
    if meta.is_symlink() {
        return Err(format!("{} is a link; a file of its own is wanted", path.display()));
    }
    if meta.uid() != 0 && meta.uid() != user {
        return Err(format!("{} belongs to user {}; root is wanted (chown root)", path.display(), meta.uid()));
    }
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(format!("{} can be written by others; clear that (chmod go-w)", path.display()));
    }
    Ok(meta)
}

/// One reason not to switch now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inhibitor {
    /// Name of the file.
    pub(crate) name: String,
    /// Its first line.
    pub(crate) reason: String,
}

impl Inhibitor {
    /// Whether a person put it off, and not what the device is doing.
    pub(crate) fn is_persons(&self) -> bool {
        self.name == "postponed" || self.name.starts_with("postponed-")
    }
}

/// The files in the directory; none without it. One that cannot be looked at may hold anything, and is a reason too.
pub(super) fn inhibitors(directory: &Path) -> Vec<Inhibitor> {
    let unreadable = |error: &io::Error| {
        vec![Inhibitor { name: directory.display().to_string(), reason: format!("it cannot be read: {error}") }]
    };
    let entries = match fs::read_dir(directory).and_then(|entries| entries.collect::<io::Result<Vec<_>>>()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return unreadable(&error),
    };
    let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    names.sort_unstable();
    names.iter().map(|name| inhibitor(directory, name)).collect()
}

/// Anybody who may write there could lay down a pipe or a link; only a plain file is read.
fn inhibitor(directory: &Path, name: &std::ffi::OsStr) -> Inhibitor {
    let path = directory.join(name);
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = fs::File::options().read(true).custom_flags(flags).open(&path);
    let mut text = Vec::new();
    if let Some(file) = file.ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file())) {
        // Without its words it is a reason all the same.
        let _ = io::Read::read_to_end(&mut io::Read::take(file, 1024), &mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let name = plain(&name.to_string_lossy(), MAX_REASON);
    Inhibitor { name, reason: plain(text.lines().next().unwrap_or_default().trim(), MAX_REASON) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn local_hooks_come_in_the_order_of_their_names_and_what_is_no_program_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(programs(dir.path(), Stage::Health), Ok(Vec::new()));
        for (name, mode) in [("20-b", 0o755), ("10-a", 0o700), ("README", 0o644), (".hidden", 0o777)] {
            program(&dir.path().join("health").join(name), mode);
        }
        let found = programs(dir.path(), Stage::Health).expect("programs");
        assert_eq!(found, ["10-a", "20-b"].map(|name| dir.path().join("health").join(name)));
        assert_eq!(programs(dir.path(), Stage::Backup), Ok(Vec::new()));
    }

    #[test]
    fn a_local_hook_that_others_may_change_is_not_run_and_none_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("health");
        program(&own.join("10-a"), 0o755);
        let refused = |wanted: &str| {
            let said = programs(dir.path(), Stage::Health).expect_err("refused");
            assert!(said.contains(wanted), "{said}");
        };
        program(&own.join("20-b"), 0o775);
        refused("20-b can be written by others");
        program(&own.join("20-b"), 0o755);
        for above in [own.as_path(), dir.path()] {
            fs::set_permissions(above, fs::Permissions::from_mode(0o777)).expect("set");
            refused("can be written by others");
            fs::set_permissions(above, fs::Permissions::from_mode(0o755)).expect("set");
        }
        std::os::unix::fs::symlink("/bin/true", own.join("30-c")).expect("linked");
        refused("30-c is a link");
    }

    #[test]
    fn every_file_is_a_reason_to_wait_and_says_which() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("inhibit.d");
        assert_eq!(inhibitors(&at), []);
        fs::create_dir(&at).expect("made");
        assert_eq!(inhibitors(&at), []);
        fs::write(at.join("sale"), "receipt 4711\nmore").expect("written");
        fs::write(at.join(".ignored"), "").expect("written");
        fs::write(at.join("postponed-by-ada"), "").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", at.join("link")).expect("linked");
        let found = inhibitors(&at);
        let said: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.reason.as_str(), one.is_persons())).collect();
        assert_eq!(said, [("link", "", false), ("postponed-by-ada", "", true), ("sale", "receipt 4711", false)]);
        fs::write(dir.path().join("file"), "").expect("written");
        assert_eq!(inhibitors(&dir.path().join("file")).len(), 1, "what cannot be looked at is a reason");
    }
}
