//! `callboard backup`: a copy of a data directory that is one itself, taken while the server runs.
//!
//! The database comes first and payloads after it: whatever it names was there before. PostgreSQL is a server with
//! backups of its own; of it nothing is copied.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    Context,
    exit::{BadInput, unusable},
    serve, show,
};
use crate::{
    config::{Fragment, Settings},
    db::{self, DbUrl},
    durable, restored, store,
};

/// Name of the database in a data directory, and in every backup.
const DATABASE: &str = "callboard.db";
/// Where payloads lie in a data directory.
const PAYLOADS: &str = "payloads";

/// What to copy where.
#[derive(clap::Args)]
pub(crate) struct BackupArgs {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// A directory that does not exist yet; as long as it is not complete it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Leave payloads out, to copy them by other means afterwards
    #[arg(long)]
    no_payloads: bool,
}

/// What was copied.
#[derive(Debug, Serialize)]
struct Backup {
    to: PathBuf,
    /// Whether the database is among it.
    database: bool,
    payloads: u64,
    payload_bytes: u64,
    /// What a restore needs beside it.
    note: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &BackupArgs, context: &Context) -> anyhow::Result<()> {
    durable::keep_to_oneself();
    let settings = serve::settings(&args.dir, Fragment::default())?;
    if args.to.symlink_metadata().is_ok() {
        return Err(BadInput(format!("{} exists; name a directory that does not", args.to.display())).into());
    }
    let parent = args.to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let growing = tempfile::Builder::new().prefix(".callboard-backup-").tempdir_in(parent);
    let growing = growing.map_err(unusable("write in", parent))?;
    let mut backup = copy(args, &settings, growing.path())?;
    sync(growing.path()).context("cannot write the backup to the disk")?;
    fs::rename(growing.path(), &args.to).with_context(|| format!("cannot make {}", args.to.display()))?;
    durable::sync_dir(parent).context("cannot write the backup to the disk")?;
    backup.to.clone_from(&args.to);
    show::value(context.format, &backup, sentences)
}

fn copy(args: &BackupArgs, settings: &Settings, to: &Path) -> anyhow::Result<Backup> {
    let (dir, own) = (&args.dir, args.dir.join(DATABASE));
    let note = match &settings.database {
        DbUrl::Sqlite(path) => {
            db::snapshot(path, &to.join(DATABASE)).context("cannot copy the database")?;
            (Path::new(path) != own).then(|| format!("a restore puts {DATABASE} where database_url says: {path}"))
        }
        DbUrl::Postgres(url) => Some(format!("the database {url} is not in it: run pg_dump before every backup")),
    };
    let mut payloads = Copied::default();
    if !args.no_payloads {
        let uploads = dir.join(PAYLOADS).join(store::UPLOADS);
        tree(&dir.join(PAYLOADS), &to.join(PAYLOADS), &|path| path != uploads, &mut payloads)?;
    }
    let another = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name != PAYLOADS && name != "run" && !name.starts_with(DATABASE) && !name.starts_with(".new-")
    };
    tree(dir, to, &another, &mut Copied::default())?;
    restored::mark(to).context("cannot mark the copy as a backup")?;
    let database = matches!(settings.database, DbUrl::Sqlite(_));
    Ok(Backup { to: to.to_owned(), database, payloads: payloads.files, payload_bytes: payloads.bytes, note })
}

#[derive(Default)]
struct Copied {
    files: u64,
    bytes: u64,
}

/// Copies a directory with everything in it that is `wanted`; a directory that is not there is an empty one.
fn tree(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool, copied: &mut Copied) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot copy {}", path.display());
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| cannot(from))?,
    };
    fs::create_dir_all(to).with_context(|| cannot(from))?;
    for entry in entries {
        let path = entry.with_context(|| cannot(from))?.path();
        if !wanted(&path) {
            continue;
        }
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            tree(&path, &target, &|_| true, copied)?;
        } else {
            copied.bytes += fs::copy(&path, &target).with_context(|| cannot(&path))?;
            copied.files += 1;
        }
    }
    Ok(())
}

/// Everything of the backup, in one go.
fn sync(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

fn sentences(backup: &Backup) -> String {
    let (to, n) = (backup.to.display(), backup.payloads);
    let what = if backup.database { "database, keys, settings" } else { "keys, settings" };
    let mut lines = vec![format!("{to} is a complete data directory now: {what} and {n} payload files")];
    if n == 0 {
        lines = vec![format!("{to} holds {what}, and no payloads")];
    }
    lines.extend(backup.note.clone());
    lines.join("\n")
}
