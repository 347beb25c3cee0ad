//! `callboard online-key`: the server gets another key for instructions, without an interruption.
//!
//! The next key lies beside the one in use. A root that lists both brings it into use for devices that have that root; a
//! root that lists the next alone ends the earlier one. The running server takes each step up when the root is published.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use callboard_proto::{digest::Digest, root::Root, signed::key_id};
use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    at_home::{in_database, note},
    exit::{self, BadInput},
    key, serve, show,
};
use crate::{
    clock::Clock,
    config::Fragment,
    db::{self, DbError, events::NewEvent},
    durable::{self, Access},
    sign::{NEXT_ONLINE_KEY, ONLINE_KEY},
};

/// What to do with the key.
#[derive(clap::Subcommand)]
pub(crate) enum OnlineKeyCommand {
    /// Make the next key beside the one in use
    ///
    /// Works on the data directory, also while its server runs. Then publish a root that lists both (`root rotate
    /// --add-online-key`), and when devices have it, one that lists the next alone (`--drop-online-key`).
    New {
        /// The data directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Put the next key in the place of the earlier one, which the root must not list any more
    ///
    /// Works on the data directory, also while its server runs. The earlier key is deleted.
    Finish {
        /// The data directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Serialize)]
struct Done {
    key_id: Digest,
    public: PathBuf,
    next: &'static str,
}

/// Runs a command.
pub(crate) fn run(command: &OnlineKeyCommand, context: &Context) -> anyhow::Result<()> {
    let (OnlineKeyCommand::New { dir } | OnlineKeyCommand::Finish { dir }) = command;
    let (done, kind, what) = match command {
        OnlineKeyCommand::New { .. } => (new(dir)?, "online_key.made", "is made"),
        OnlineKeyCommand::Finish { .. } => (finish(dir)?, "online_key.switched", "is in use alone"),
    };
    let event = NewEvent::general(kind, format!("online key {} {what}", done.key_id.short()));
    note(dir, event, json!({ "key_id": done.key_id }), Clock::system().now())?;
    show::value(context.format, &done, |done| {
        format!("key {} ({})\nnext: {}", done.key_id, done.public.display(), done.next)
    })
}

fn new(dir: &Path) -> anyhow::Result<Done> {
    // Says so if it is none.
    serve::settings(dir, Fragment::default())?;
    let path = dir.join(NEXT_ONLINE_KEY);
    if path.exists() {
        let hint = "finish that rotation first, or delete it";
        return Err(BadInput(format!("{} is there already: {hint}", path.display())).into());
    }
    let key = key::create(&path)?;
    let public = key::public_path(&path);
    let like = fs::metadata(dir.join(ONLINE_KEY)).with_context(|| format!("cannot look at {ONLINE_KEY}"))?;
    for made in [&path, &public] {
        own(made, &like).with_context(|| format!("cannot give {} to the server's user", made.display()))?;
    }
    let next = "callboard root rotate ROOT --add-online-key with this public key; sign it, and callboard root publish";
    Ok(Done { key_id: key_id(&key), public, next })
}

/// Gives a file to whom another one belongs: the server runs as a user of its own.
pub(super) fn own(path: &Path, like: &fs::Metadata) -> io::Result<()> {
    let made = fs::metadata(path)?;
    if (made.uid(), made.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    chown(path, Some(like.uid()), Some(like.gid()))
}

fn finish(dir: &Path) -> anyhow::Result<Done> {
    let settings = serve::settings(dir, Fragment::default())?;
    let (old, next) = (dir.join(ONLINE_KEY), dir.join(NEXT_ONLINE_KEY));
    if !next.exists() {
        return Err(BadInput(format!("{} is not there: callboard online-key new makes it", next.display())).into());
    }
    let (earlier, coming) = (key::read_private(&old)?, key::read_online(&key::public_path(&next))?);
    let newest = |conn: &mut db::DbConn| Ok::<_, DbError>(db::trust::newest_root(conn)?);
    let stored = in_database(settings, async |db| Ok(db.read(newest).await?))?;
    let (version, envelope) = stored.ok_or_else(|| BadInput::new("no root is published yet"))?;
    let root = Root::open_initial(&envelope).context("cannot read the published root")?;
    let listed = |id: Digest| root.roles.online.keyids.contains(&id);
    let earlier = callboard_proto::signed::Sign::public(&earlier).id();
    if !listed(key_id(&coming)) {
        let what = format!("root {version} does not list the next key {}: publish one that does", key_id(&coming));
        return Err(BadInput(what).into());
    }
    if listed(earlier) {
        let what = format!("root {version} still lists the earlier key {earlier}: publish one that does not");
        return Err(BadInput(what).into());
    }
    // The public half first: whoever is cut short in between repeats it.
    let pem = fs::read(key::public_path(&next))?;
    durable::replace(&key::public_path(&old), &pem, Access::Everyone)
        .map_err(exit::unusable("write", &key::public_path(&old)))?;
    fs::rename(&next, &old).map_err(exit::unusable("put in place", &next))?;
    durable::sync_dir(dir)?;
    fs::remove_file(key::public_path(&next)).map_err(exit::unusable("remove", &key::public_path(&next)))?;
    let hint = "nothing; the running server has it already";
    Ok(Done { key_id: key_id(&coming), public: key::public_path(&old), next: hint })
}
