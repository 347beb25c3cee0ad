//! Looking into the database past the server, and interfering with it.

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection as _,
    sql_types::{BigInt, Nullable},
};

use super::{Engine, TestServer};

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
}

impl TestServer {
    /// Runs statements over a connection of their own.
    pub fn run_sql(&self, sql: &str) {
        match self.engine {
            Engine::Sqlite => self.sqlite().batch_execute(sql).unwrap(),
            Engine::Postgres => self.postgres().batch_execute(sql).unwrap(),
        }
    }

    /// The column `number` of the one row that a query gives: what is committed, and nothing else.
    pub fn sql_number(&self, query: &str) -> Option<i64> {
        let query = diesel::sql_query(query);
        let row: Number = match self.engine {
            Engine::Sqlite => query.get_result(&mut self.sqlite()).unwrap(),
            Engine::Postgres => query.get_result(&mut self.postgres()).unwrap(),
        };
        row.number
    }

    /// PostgreSQL ends every connection of the server, as it does when it is restarted.
    pub fn end_sessions(&self) {
        self.run_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }

    pub(super) fn sqlite(&self) -> SqliteConnection {
        let url = self.database_url();
        SqliteConnection::establish(url.strip_prefix("sqlite:").unwrap()).unwrap()
    }

    pub(super) fn postgres(&self) -> PgConnection {
        PgConnection::establish(&self.database_url()).unwrap()
    }
}
