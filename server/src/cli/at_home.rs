//! Commands that work on the database of a data directory, whose server may be running.

use std::path::Path;

use anyhow::Context as _;
use callboard_proto::time::Timestamp;
use serde_json::Value;

use super::{exit::BadInput, serve};
use crate::{
    app::{self, Error},
    config::{Fragment, Settings},
    db::{Db, events::NewEvent},
};

/// Does something in the database.
pub(super) fn in_database<T>(
    settings: Settings,
    work: impl AsyncFnOnce(&Db) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let db = Db::open(settings.database).context("cannot open the database")?;
    let done = runtime.block_on(work(&db));
    db.close();
    done
}

/// Writes into the audit what was done to the files of a data directory.
pub(super) fn note(dir: &Path, event: NewEvent, after: Value, now: Timestamp) -> anyhow::Result<()> {
    let noted = serve::settings(dir, Fragment::default()).and_then(|settings| {
        in_database(settings, async |db| {
            let noted = db.write(move |conn| app::note_at_home(conn, event, &after, now)).await;
            noted.map_err(anyhow::Error::from)
        })
    });
    noted.context("it is done, and cannot be written into the audit")
}

/// What a use case says no to is bad input.
pub(super) fn refused(error: Error) -> anyhow::Error {
    match error {
        Error::Refused { detail, .. } => BadInput(detail).into(),
        other => other.into(),
    }
}
