//! One connection to either engine, and the two ways to run a statement on it.
//!
//! diesel's query values implement both engines' traits at once, so every statement is written once. What really
//! differs (locks, pragmas) is a visible `match` here and in the noun files.

use std::{
    cell::Cell,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use diesel::{
    Connection, PgConnection, QueryResult, RunQueryDsl, SqliteConnection,
    connection::SimpleConnection,
    dsl::sql,
    query_dsl::methods::{ExecuteDsl, LoadQuery},
    sql_types::{Bool, Text},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{DbError, DbUrl};

/// Migrations for SQLite; a test compares them with the files.
pub(crate) const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
/// Migrations for PostgreSQL; a test compares them with the files.
pub(crate) const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

/// Statements run since the process began, by purpose, so that it can be shown that an idle check-in runs none.
static STATEMENTS: [AtomicU64; Purpose::ALL.len()] = [const { AtomicU64::new(0) }; Purpose::ALL.len()];

thread_local! {
    static PURPOSE: Cell<Purpose> = const { Cell::new(Purpose::Requests) };
}

/// What statements are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Devices and operators.
    Requests,
    /// Writing last-seen behind.
    LastSeen,
    /// Following other servers, looking at gates, dropping old history.
    Jobs,
    /// Counting for `/metrics` and the overview.
    Metrics,
    /// Writing behind what devices tell of attacks.
    Attacks,
}

impl Purpose {
    pub(crate) const ALL: [Self; 5] = [Self::Requests, Self::LastSeen, Self::Jobs, Self::Metrics, Self::Attacks];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::LastSeen => "last_seen",
            Self::Jobs => "jobs",
            Self::Metrics => "metrics",
            Self::Attacks => "attacks",
        }
    }

    const fn counter(self) -> &'static AtomicU64 {
        let [requests, last_seen, jobs, metrics, attacks] = &STATEMENTS;
        match self {
            Self::Requests => requests,
            Self::LastSeen => last_seen,
            Self::Jobs => jobs,
            Self::Metrics => metrics,
            Self::Attacks => attacks,
        }
    }

    /// Statements run for this since the process began.
    pub(crate) fn statements(self) -> u64 {
        self.counter().load(Ordering::Relaxed)
    }

    /// Counts the statements that `f` runs as run for this.
    pub(crate) fn of<T>(self, f: impl FnOnce() -> T) -> T {
        let before = PURPOSE.replace(self);
        let result = f();
        PURPOSE.set(before);
        result
    }
}

/// Serialises the writers of all servers on one PostgreSQL: transactions there hold it until they end.
const WRITER_LOCK: i64 = 0x0ca1_1b0a_2d01;
/// Serialises migrations.
const MIGRATION_LOCK: i64 = 0x0ca1_1b0a_2d02;

/// A connection to either engine.
pub(crate) enum DbConn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl DbUrl {
    /// Opens a connection that only reads.
    pub(crate) fn open_reader(&self) -> Result<DbConn, DbError> {
        let mut conn = self.open()?;
        if let DbConn::Sqlite(conn) = &mut conn {
            conn.batch_execute("PRAGMA query_only = ON")?;
        }
        Ok(conn)
    }

    /// Opens a connection.
    pub(crate) fn open(&self) -> Result<DbConn, DbError> {
        Ok(match self {
            Self::Sqlite(path) => {
                DbConn::Sqlite(open_file(path).map_err(|source| DbError::File { path: path.clone(), source })?)
            }
            Self::Postgres(url) => {
                let mut conn = PgConnection::establish(url.expose())
                    .map_err(|source| DbError::Connect(url.redact(&source.to_string())))?;
                conn.batch_execute("SET application_name = 'callboard'; SET client_min_messages = warning;")?;
                DbConn::Postgres(conn)
            }
        })
    }
}

fn open_file(path: &str) -> Result<SqliteConnection, Box<dyn std::error::Error + Send + Sync>> {
    // What it may not write SQLite would read, and leave files beside it that nobody may write either.
    if let Err(source) = std::fs::File::options().write(true).open(path)
        && source.kind() != std::io::ErrorKind::NotFound
    {
        return Err(source.into());
    }
    let mut conn = SqliteConnection::establish(path)?;
    // FULL: what was acknowledged survives a power cut.
    conn.batch_execute(
        "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    )?;
    Ok(conn)
}

/// Copies the SQLite database at `path` as it is at one moment, whoever else writes to it. `to` must not exist.
pub(crate) fn snapshot(path: &str, to: &Path) -> Result<(), DbError> {
    let failed = |source| DbError::File { path: path.to_owned(), source };
    let to = to.to_str().ok_or_else(|| failed("the target's name is not text".into()))?;
    if !Path::new(path).exists() {
        return Err(failed("it does not exist".into()));
    }
    let mut conn = open_file(path).map_err(failed)?;
    diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(to).execute(&mut conn)?;
    Ok(())
}

impl DbConn {
    /// Whether this session may write. PostgreSQL can be told to refuse; and a replica always does.
    pub(super) fn takes_writes(&mut self) -> QueryResult<bool> {
        match self {
            // It was opened for that, or not at all.
            Self::Sqlite(_) => Ok(true),
            Self::Postgres(conn) => {
                diesel::select(sql::<Bool>("current_setting('transaction_read_only') = 'off'")).get_result(conn)
            }
        }
    }

    /// Brings the schema up to date; refuses one that is newer than this program.
    pub(crate) fn migrate(&mut self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(conn) => {
                refuse_newer(conn, SQLITE_MIGRATIONS)?;
                conn.run_pending_migrations(SQLITE_MIGRATIONS).map_err(DbError::Migrate)?;
            }
            Self::Postgres(conn) => {
                conn.batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))?;
                let done = refuse_newer(conn, POSTGRES_MIGRATIONS).and_then(|()| {
                    conn.run_pending_migrations(POSTGRES_MIGRATIONS).map_err(DbError::Migrate).map(drop)
                });
                conn.batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})"))?;
                done?;
            }
        }
        Ok(())
    }

    /// Begins a writing transaction; at most one runs at a time, over all servers.
    pub(super) fn begin(&mut self) -> QueryResult<()> {
        match self {
            // A deferred transaction that reads first fails when another one wrote in between.
            Self::Sqlite(conn) => conn.batch_execute("BEGIN IMMEDIATE"),
            Self::Postgres(conn) => conn.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})")),
        }
    }

    /// Runs statements that return nothing, such as `COMMIT`.
    pub(super) fn batch(&mut self, sql: &str) -> QueryResult<()> {
        match self {
            Self::Sqlite(conn) => conn.batch_execute(sql),
            Self::Postgres(conn) => conn.batch_execute(sql),
        }
    }
}

fn refuse_newer<C>(conn: &mut C, known: EmbeddedMigrations) -> Result<(), DbError>
where
    C: MigrationHarness<<C as Connection>::Backend> + Connection,
    EmbeddedMigrations: diesel::migration::MigrationSource<C::Backend>,
{
    use diesel::migration::MigrationSource;
    let applied = conn.applied_migrations().map_err(DbError::Migrate)?;
    let known: Vec<String> = MigrationSource::<C::Backend>::migrations(&known)
        .map_err(DbError::Migrate)?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    match applied.iter().map(ToString::to_string).find(|version| !known.contains(version)) {
        Some(version) => Err(DbError::NewerSchema(version)),
        None => Ok(()),
    }
}

/// Counts a statement that did not go through [`execute`] or [`load`].
pub(super) fn count_statement() {
    PURPOSE.get().counter().fetch_add(1, Ordering::Relaxed);
}

/// Runs a statement; returns the number of rows it changed.
pub(super) fn execute<Q>(conn: &mut DbConn, query: Q) -> QueryResult<usize>
where
    Q: ExecuteDsl<SqliteConnection>
        + ExecuteDsl<PgConnection>
        + RunQueryDsl<SqliteConnection>
        + RunQueryDsl<PgConnection>,
{
    count_statement();
    match conn {
        DbConn::Sqlite(conn) => <Q as ExecuteDsl<SqliteConnection>>::execute(query, conn),
        DbConn::Postgres(conn) => <Q as ExecuteDsl<PgConnection>>::execute(query, conn),
    }
}

/// Runs a query; returns its rows.
pub(super) fn load<Q, U>(conn: &mut DbConn, query: Q) -> QueryResult<Vec<U>>
where
    Q: for<'a> LoadQuery<'a, SqliteConnection, U> + for<'a> LoadQuery<'a, PgConnection, U>,
{
    count_statement();
    match conn {
        DbConn::Sqlite(conn) => query.internal_load(conn)?.collect(),
        DbConn::Postgres(conn) => query.internal_load(conn)?.collect(),
    }
}

/// Runs a query for at most one row.
pub(super) fn find<Q, U>(conn: &mut DbConn, query: Q) -> QueryResult<Option<U>>
where
    Q: for<'a> LoadQuery<'a, SqliteConnection, U> + for<'a> LoadQuery<'a, PgConnection, U>,
{
    Ok(load(conn, query)?.into_iter().next())
}
