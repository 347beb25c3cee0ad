//! Which installation of the system this is: a digest of a file that a new image brings, or that its first start makes.
//!
//! The file itself is not told: a machine id is meant to stay on its machine.

use std::path::Path;

use callboard_proto::digest::Digest;

/// Made at the first start of an installation, and kept.
pub(crate) const MACHINE_ID: &str = "/etc/machine-id";
/// There if systemd could not keep the machine id, and makes another one at each start.
const TRANSIENT: &str = "/run/machine-id";
/// A machine id has 33 bytes; a file with a version and a date has a few more.
const MAX_BYTES: u64 = 4096;

/// The id; `None` if nothing tells one installation from another.
pub(crate) fn id(file: Option<&Path>) -> Option<String> {
    let file = file?;
    if file == Path::new(MACHINE_ID) && Path::new(TRANSIENT).exists() {
        return None;
    }
    of(file)
}

fn of(file: &Path) -> Option<String> {
    if std::fs::metadata(file).ok()?.len() > MAX_BYTES {
        tracing::warn!(path = %file.display(), "larger than {MAX_BYTES} bytes, this is no image_id_file");
        return None;
    }
    let text = std::fs::read(file).ok()?;
    let text = text.trim_ascii();
    // What systemd writes into an image that was not started yet.
    if text.is_empty() || text == b"uninitialized" {
        return None;
    }
    let digest = Digest::of(&[b"callboard image id\n", text].concat()).to_string();
    digest.get(..32).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_same_file_is_the_same_installation_and_another_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("image");
        let id = |text: &str| {
            std::fs::write(&file, text).expect("written");
            super::id(Some(&file))
        };
        let first = id("3f0c9d0e8d0f4d7a9a534b8f6b1f2c11\n").expect("an id");
        assert_eq!(first.len(), 32);
        assert!(!first.contains("3f0c9d0e"), "the file is not told");
        assert_eq!(id("3f0c9d0e8d0f4d7a9a534b8f6b1f2c11"), Some(first.clone()));
        assert!(id("4f0c9d0e8d0f4d7a9a534b8f6b1f2c11\n").is_some_and(|other| other != first));
        assert_eq!([id(""), id("uninitialized\n"), id(&"x".repeat(5000))], [None, None, None]);
        assert_eq!(super::id(Some(&dir.path().join("none"))), None);
        assert_eq!(super::id(None), None);
    }
}
