//! Warns of keys that others can read. Whoever has them speaks for the server, so it says so at every start; what it
//! finds may be meant that way, so it starts all the same.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    config::{FILE, Settings},
    db::DbUrl,
};

/// Looks at every file whose contents are nobody else's business.
pub(super) fn warn(settings: &Settings) {
    for path in secrets(settings) {
        let Ok(file) = fs::metadata(&path) else {
            continue;
        };
        let mode = file.mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.display();
            tracing::warn!("others can read {path} (mode {mode:03o}); close it with: chmod 600 {path}");
        }
    }
}

fn secrets(settings: &Settings) -> Vec<PathBuf> {
    let mut found = keys(&settings.dir);
    found.extend(keys(&settings.dir.join("try-out-keys")));
    found.extend(settings.admin_tls.iter().map(|(_, key)| key.clone()));
    if let DbUrl::Sqlite(path) = &settings.database {
        found.push(PathBuf::from(path));
    }
    if settings.database.is_secret() {
        found.push(settings.dir.join(FILE));
    }
    found.sort();
    found.dedup();
    found
}

fn keys(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "key")).collect()
}
