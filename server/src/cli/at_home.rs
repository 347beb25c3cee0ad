//! Commands that work on the database of a data directory, whose server may be running.

use anyhow::Context as _;

use super::exit::BadInput;
use crate::{app::Error, config::Settings, db::Db};

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

/// What a use case says no to is bad input.
pub(super) fn refused(error: Error) -> anyhow::Error {
    match error {
        Error::Refused { detail, .. } => BadInput(detail).into(),
        other => other.into(),
    }
}
