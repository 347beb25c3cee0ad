//! Everything that knows SQL: connections, the one writer, and one file per noun.
//!
//! `Db::read` runs a function on a connection that cannot write; `Db::write` hands one to the writer, which commits
//! many of them at once. Functions of the noun files take a [`DbConn`] and are called from those two places only.

use std::{sync::Arc, time::Duration};

use diesel::r2d2::{ManageConnection, Pool};

pub(crate) mod answers;
pub(crate) mod api_tokens;
pub(crate) mod assignments;
pub(crate) mod audit;
pub(crate) mod conn;
pub(crate) mod counters;
pub(crate) mod counts;
pub(crate) mod devices;
pub(crate) mod enrolments;
pub(crate) mod events;
pub(crate) mod exclusions;
pub(crate) mod freezes;
pub(crate) mod hours;
mod life;
pub(crate) mod loads;
pub(crate) mod members;
pub(crate) mod notices;
pub(crate) mod payloads;
pub(crate) mod penalties;
pub(crate) mod phases;
pub(crate) mod releases;
pub(crate) mod renewals;
pub(crate) mod rollouts;
mod schema;
pub(crate) mod selector;
pub(crate) mod sessions;
pub(crate) mod sites;
pub(crate) mod standings;
pub(crate) mod tokens;
pub(crate) mod trust;
pub(crate) mod types;
pub(crate) mod url;
pub(crate) mod users;
pub(crate) mod webhooks;
mod writer;

pub(crate) use diesel::result::Error as QueryError;

pub(crate) use conn::{DbConn, Purpose, snapshot};
pub(crate) use url::DbUrl;
use writer::Writer;

/// Readers wait for the disk, not for the processor; four keep two cores busy.
const READERS: u32 = 4;

/// The database: a pool of readers and one writer.
#[derive(Clone)]
pub(crate) struct Db {
    readers: Pool<Readers>,
    writer: Arc<Writer>,
    url: Arc<DbUrl>,
}

impl Db {
    /// Connects, brings the schema up to date and starts the writer.
    pub(crate) fn open(url: DbUrl) -> Result<Self, DbError> {
        let mut conn = url.open()?;
        if !conn.takes_writes()? {
            return Err(DbError::ReadOnly);
        }
        conn.migrate()?;
        let readers = Pool::builder()
            .max_size(READERS)
            .min_idle(Some(1))
            // A PostgreSQL that was restarted has ended every connection, and the library notices only when it asks.
            .test_on_check_out(url.is_shared())
            .connection_timeout(Duration::from_secs(10))
            .build(Readers(url.clone()))
            .map_err(|source| DbError::Unavailable(source.to_string()))?;
        let writer = Arc::new(Writer::start(url.clone(), conn)?);
        Ok(Self { readers, writer, url: Arc::new(url) })
    }

    /// Whether other servers may share this database.
    pub(crate) fn is_shared(&self) -> bool {
        self.url.is_shared()
    }

    /// Runs `f` on a reader, off the async threads.
    pub(crate) async fn read<T, E, F>(&self, f: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: FnOnce(&mut DbConn) -> Result<T, E> + Send + 'static,
    {
        let readers = self.readers.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut conn = readers.get().map_err(|source| DbError::Unavailable(source.to_string()))?;
            f(&mut conn)
        });
        done.await.unwrap_or_else(|source| Err(DbError::Unavailable(source.to_string()).into()))
    }

    /// Runs `f` in the writer's next transaction; returns when that is committed. An error undoes `f` alone.
    pub(crate) async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: FnOnce(&mut DbConn) -> Result<T, E> + Send + 'static,
    {
        self.writer.run(f).await
    }

    /// Ends the writer after everything that is queued.
    pub(crate) fn close(&self) {
        self.writer.close();
    }
}

/// Makes readers for the pool.
#[derive(Debug)]
struct Readers(DbUrl);

impl ManageConnection for Readers {
    type Connection = DbConn;
    type Error = DbError;

    fn connect(&self) -> Result<DbConn, DbError> {
        self.0.open_reader()
    }

    fn is_valid(&self, conn: &mut DbConn) -> Result<(), DbError> {
        conn.batch("SELECT 1").map_err(DbError::from)
    }

    fn has_broken(&self, conn: &mut DbConn) -> bool {
        match conn {
            DbConn::Sqlite(_) => false,
            DbConn::Postgres(conn) => diesel::r2d2::R2D2Connection::is_broken(conn),
        }
    }
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    #[error("database_url is not usable: {0}")]
    Url(String),
    #[error("connect to the database: {0}")]
    Connect(String),
    #[error("the file {path} cannot be used; the server must be able to write there, with some space left: {source}")]
    File { path: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("it takes no writes: default_transaction_read_only is on, or it is a replica")]
    ReadOnly,
    #[error("run a statement: {0}")]
    Query(#[from] QueryError),
    #[error("bring the schema up to date: {0}")]
    Migrate(Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the database has migration {0}, which this version does not know; run the version that made it, or a newer one"
    )]
    NewerSchema(String),
    #[error("the database is not available: {0}")]
    Unavailable(String),
    #[error("commit: {0}")]
    Commit(Arc<str>),
    #[error("commit, and what became of it is not known: {0}")]
    Unknown(Arc<str>),
    #[error("start the writer: {0}")]
    Thread(#[from] std::io::Error),
}

/// What a failure means for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no space, or the disk takes no writes.
    Disk,
    /// Reads are answered, writes are refused.
    ReadOnly,
    /// It cannot be asked at present.
    Away,
    /// A statement is wrong, or nobody knows what was stored.
    Unexpected,
}

impl DbError {
    /// What this means for whoever asked.
    pub(crate) fn trouble(&self) -> Trouble {
        let text = self.to_string();
        let says = |known: &[&str]| known.iter().any(|known| text.contains(known));
        match self {
            Self::Unknown(_) => Trouble::Unexpected,
            _ if says(&["disk is full", "readonly database", "disk I/O error", "No space left"]) => Trouble::Disk,
            Self::ReadOnly => Trouble::ReadOnly,
            Self::Query(source) if is_connection_lost(source) => Trouble::Away,
            _ if says(&["read-only transaction"]) => Trouble::ReadOnly,
            Self::Connect(_) | Self::Unavailable(_) | Self::Commit(_) | Self::File { .. } => Trouble::Away,
            _ => Trouble::Unexpected,
        }
    }
}

/// Whether the connection broke, rather than that the statement was refused.
fn is_connection_lost(source: &QueryError) -> bool {
    use diesel::result::DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    matches!(source, QueryError::DatabaseError(ClosedConnection | UnableToSendCommand, _))
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;

    use super::*;

    #[test]
    fn failures_that_pass_are_told_from_those_that_do_not() {
        let query =
            |kind, text: &str| DbError::Query(QueryError::DatabaseError(kind, Box::new(text.to_owned()))).trouble();
        let unknown = DatabaseErrorKind::Unknown;
        assert_eq!(query(unknown, "database or disk is full"), Trouble::Disk);
        assert_eq!(query(unknown, "attempt to write a readonly database"), Trouble::Disk);
        assert_eq!(query(unknown, "could not extend file \"base/1\": No space left on device"), Trouble::Disk);
        let read_only = DatabaseErrorKind::ReadOnlyTransaction;
        assert_eq!(query(read_only, "cannot execute INSERT in a read-only transaction"), Trouble::ReadOnly);
        assert_eq!(query(DatabaseErrorKind::ClosedConnection, "terminating connection"), Trouble::Away);
        assert_eq!(query(DatabaseErrorKind::UnableToSendCommand, "no connection to the server"), Trouble::Away);
        assert_eq!(query(DatabaseErrorKind::UniqueViolation, "devices_name_key"), Trouble::Unexpected);
        assert_eq!(DbError::Commit("database or disk is full".into()).trouble(), Trouble::Disk);
        assert_eq!(DbError::Commit("server closed the connection".into()).trouble(), Trouble::Away);
        assert_eq!(DbError::Unknown("server closed the connection".into()).trouble(), Trouble::Unexpected);
        assert_eq!(DbError::Unavailable("timed out".to_owned()).trouble(), Trouble::Away);
    }
}
