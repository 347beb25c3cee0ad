//! Selectors in SQL: the second evaluator. A property test holds it equal to the one in memory.
//!
//! "The device does not have it" is NULL, which selects as little as false does. Under a `not` it would not, so there every
//! term is wrapped; elsewhere that would keep the engines from their indexes. JSON columns are looked into by functions
//! that differ between the engines; everything else is the same text. Values are bind parameters.

mod versions;
mod within;

use std::time::Duration;

use callboard_policy::{
    device::{Connectivity, online_for},
    selector::{Expr, Field, Glob, Op, Selector, Value},
};
use callboard_proto::{ids::DeviceId, time::Timestamp};
use diesel::{
    QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Binary, Text},
};

use super::{
    conn::{DbConn, count_statement},
    types::place,
};

pub(crate) use versions::{Runs, versions};
pub(crate) use within::{among, count, count_open};

/// What selectors need to know beside the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) now: Timestamp,
    pub(crate) poll_interval: Duration,
    pub(crate) abandoned_after: Duration,
}

/// Which numbers [`select`] returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    /// Only devices with a higher number.
    pub(crate) after: i64,
    pub(crate) limit: i64,
    pub(crate) whom: Whom,
}

/// Which devices are looked at at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// All that ever were.
    Everybody,
    /// Not those that were decommissioned.
    InService,
    /// Nor those of closed sites: whom rollouts are for.
    AtOpenSites,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

enum Bind {
    Text(String),
    Int(i64),
    Id(DeviceId),
}

struct Sql<'a> {
    text: String,
    binds: Vec<Bind>,
    postgres: bool,
    /// Under a `not`.
    negated: bool,
    context: &'a Context,
}

/// Numbers of the devices that `selector` selects, ascending.
pub(crate) fn select(conn: &mut DbConn, selector: &Selector, context: &Context, slice: Slice) -> QueryResult<Vec<i64>> {
    let mut sql = Sql::new(conn, context);
    sql.push("SELECT d.number FROM devices d LEFT JOIN sites s ON s.id = d.site_id WHERE d.number > ");
    sql.bind(Bind::Int(slice.after));
    sql.push(match slice.whom {
        Whom::Everybody => "",
        Whom::InService => " AND d.decommissioned_at IS NULL",
        // 2 is closed.
        Whom::AtOpenSites => " AND d.decommissioned_at IS NULL AND COALESCE(s.state, 0) <> 2",
    });
    sql.push(" AND ");
    sql.expr(selector.expr());
    sql.push(" ORDER BY d.number LIMIT ");
    sql.bind(Bind::Int(slice.limit));
    let rows = sql.run(conn)?;
    Ok(rows.into_iter().map(|row| row.number).collect())
}

/// How many devices in service are abandoned, which is derived from more than one column.
pub(crate) fn count_abandoned(conn: &mut DbConn, context: &Context) -> QueryResult<i64> {
    let mut sql = Sql::new(conn, context);
    sql.push("SELECT COUNT(*) AS number FROM devices d LEFT JOIN sites s ON s.id = d.site_id ");
    // Whoever is abandoned has been silent for so long; there is an index on it, and they are few.
    sql.push("WHERE d.decommissioned_at IS NULL AND d.last_seen <= ");
    sql.bind(Bind::Int((context.now - context.abandoned_after).millis()));
    sql.push(" AND (");
    sql.status();
    sql.push(") = 3");
    Ok(sql.run(conn)?.first().map_or(0, |row| row.number))
}

impl<'a> Sql<'a> {
    fn new(conn: &DbConn, context: &'a Context) -> Self {
        let postgres = matches!(conn, DbConn::Postgres(_));
        Self { text: String::new(), binds: Vec::new(), postgres, negated: false, context }
    }
}

impl Sql<'_> {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn bind(&mut self, bind: Bind) {
        self.binds.push(bind);
        if self.postgres {
            self.text.push_str(&format!("${}", self.binds.len()));
        } else {
            self.text.push('?');
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::All => self.push("TRUE"),
            Expr::And(parts) => self.join(parts, " AND "),
            Expr::Or(parts) => self.join(parts, " OR "),
            Expr::Not(inner) => {
                self.push("NOT ");
                let outer = std::mem::replace(&mut self.negated, true);
                self.expr(inner);
                self.negated = outer;
            }
            Expr::Exists(field) => self.term(field, |sql| {
                sql.field(field);
                sql.push(" IS NOT NULL");
            }),
            Expr::Compare { field, op, value } => self.term(field, |sql| {
                sql.field(field);
                sql.push(op_text(*op));
                sql.value(value);
            }),
            Expr::In { field, values, negated } => self.term(field, |sql| {
                sql.field(field);
                sql.push(if *negated { " NOT IN (" } else { " IN (" });
                for (n, value) in values.iter().enumerate() {
                    sql.push(if n > 0 { ", " } else { "" });
                    sql.value(value);
                }
                sql.push(")");
            }),
            Expr::Like { field, glob } => self.term(field, |sql| sql.like(field, glob)),
        }
    }

    fn join(&mut self, parts: &[Expr], between: &str) {
        self.push("(");
        for (n, part) in parts.iter().enumerate() {
            self.push(if n > 0 { between } else { "" });
            self.expr(part);
        }
        self.push(")");
    }

    /// A comparison of a field. What a device runs has a row for each product; everything else has a column.
    fn term(&mut self, field: &Field, inner: impl FnOnce(&mut Self)) {
        let (before, after) = match field {
            Field::Version(product) => {
                self.push("d.number IN (SELECT v.number FROM installed_versions v WHERE v.product = ");
                self.bind(Bind::Text(product.to_string()));
                (" AND ", ")")
            }
            _ if self.negated => ("COALESCE(", ", FALSE)"),
            _ => ("(", ")"),
        };
        self.push(before);
        inner(self);
        self.push(after);
    }

    fn like(&mut self, field: &Field, glob: &Glob) {
        match field {
            // Globs look at versions as they were reported.
            Field::Agent => self.push("CASE WHEN d.agent_key IS NULL THEN NULL ELSE d.agent END"),
            Field::Version(_) => self.push("v.version"),
            other => self.field(other),
        }
        if self.postgres {
            self.push(" LIKE ");
            self.bind(Bind::Text(glob.to_like()));
            self.push(" ESCAPE '\\'");
        } else {
            self.push(" GLOB ");
            self.bind(Bind::Text(glob.to_sqlite_glob()));
        }
    }

    fn field(&mut self, field: &Field) {
        match field {
            Field::Id => self.push("d.id"),
            Field::Name => self.push("d.name"),
            Field::Site => self.push("d.site_id"),
            Field::Status => self.status(),
            Field::LastSeen => self.push("d.last_seen"),
            Field::Enrolled => self.push("d.enrolled_at"),
            Field::Hw => self.push("NULLIF(d.hw, '')"),
            Field::Arch => self.push("NULLIF(d.arch, '')"),
            Field::Tz => {
                self.push("COALESCE(s.tz, ");
                self.label("tz");
                self.push(", d.tz)");
            }
            Field::Agent => self.push("d.agent_key"),
            Field::Version(_) => self.push("v.key"),
            Field::Label(key) => self.label(key),
            Field::Attr(key) => self.json("d.attributes", key),
        }
    }

    fn label(&mut self, key: &str) {
        self.push("COALESCE(");
        self.json("d.labels", key);
        self.push(", ");
        self.json("s.labels", key);
        self.push(")");
    }

    /// A text in a JSON object; the key may be anything.
    fn json(&mut self, column: &str, key: &str) {
        if self.postgres {
            self.push(&format!("({column}::jsonb ->> "));
            self.bind(Bind::Text(key.to_owned()));
            self.push(") COLLATE \"C\"");
        } else if key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')) {
            // A path needs no table of the object; it has no way to write every key.
            self.push(&format!("json_extract({column}, "));
            self.bind(Bind::Text(format!("$.\"{key}\"")));
            self.push(")");
        } else {
            self.push(&format!("(SELECT j.value FROM json_each({column}) j WHERE j.key = "));
            self.bind(Bind::Text(key.to_owned()));
            self.push(")");
        }
    }

    /// The same derivation as [`Connectivity::of`], as its place in [`Connectivity::ALL`].
    fn status(&mut self) {
        let now = self.context.now;
        let online = now - online_for(self.context.poll_interval);
        let abandoned = now - self.context.abandoned_after;
        self.push("CASE WHEN d.last_seen IS NULL THEN 0 WHEN d.last_seen >= ");
        self.bind(Bind::Int(online.millis()));
        self.push(" THEN 1 WHEN d.last_seen + ");
        self.excused();
        self.push(" > ");
        self.bind(Bind::Int(abandoned.millis()));
        self.push(" THEN 2 ELSE 3 END");
    }

    /// How much of the silence the last suspension of the site covers: its end, or now, less its beginning, or the
    /// last sign of life.
    fn excused(&mut self) {
        let now = self.context.now.millis();
        self.push("CASE WHEN s.suspended_at IS NULL OR COALESCE(s.resumed_at, ");
        self.bind(Bind::Int(now));
        self.push(") <= d.last_seen THEN 0 ELSE COALESCE(s.resumed_at, ");
        self.bind(Bind::Int(now));
        self.push(") - CASE WHEN s.suspended_at > d.last_seen THEN s.suspended_at ELSE d.last_seen END END");
    }

    fn value(&mut self, value: &Value) {
        let bind = match value {
            Value::Id(id) => Bind::Id(*id),
            Value::Text(text) => Bind::Text(text.clone()),
            Value::Version(version) => Bind::Text(version.sort_key()),
            Value::Time(time) => Bind::Int(time.at(self.context.now).millis()),
            Value::Status(status) => Bind::Int(place(&Connectivity::ALL, status).into()),
        };
        self.bind(bind);
    }

    fn run(self, conn: &mut DbConn) -> QueryResult<Vec<Number>> {
        self.rows(conn)
    }

    fn rows<T>(self, conn: &mut DbConn) -> QueryResult<Vec<T>>
    where
        T: QueryableByName<diesel::sqlite::Sqlite> + QueryableByName<diesel::pg::Pg> + 'static,
    {
        count_statement();
        match conn {
            DbConn::Sqlite(conn) => {
                let query = sql_query(self.text).into_boxed::<diesel::sqlite::Sqlite>();
                let bound = self.binds.into_iter().fold(query, |query, bind| match bind {
                    Bind::Text(text) => query.bind::<Text, _>(text),
                    Bind::Int(n) => query.bind::<BigInt, _>(n),
                    Bind::Id(id) => query.bind::<Binary, _>(id.as_bytes().to_vec()),
                });
                bound.load(conn)
            }
            DbConn::Postgres(conn) => {
                let query = sql_query(self.text).into_boxed::<diesel::pg::Pg>();
                let bound = self.binds.into_iter().fold(query, |query, bind| match bind {
                    Bind::Text(text) => query.bind::<Text, _>(text),
                    Bind::Int(n) => query.bind::<BigInt, _>(n),
                    Bind::Id(id) => query.bind::<Binary, _>(id.as_bytes().to_vec()),
                });
                bound.load(conn)
            }
        }
    }
}

const fn op_text(op: Op) -> &'static str {
    match op {
        Op::Eq => " = ",
        Op::Ne => " <> ",
        Op::Lt => " < ",
        Op::Le => " <= ",
        Op::Gt => " > ",
        Op::Ge => " >= ",
    }
}
