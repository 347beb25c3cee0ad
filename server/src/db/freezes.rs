//! Freezes. Dates are text as in `2026-11-26`, which sorts as dates do.

use callboard_policy::freeze::{FreezeSpec, MAX_FREEZES};
use callboard_proto::{ids::FreezeName, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::freezes,
    types::{Ms, parse, to_i64},
};

/// A freeze and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// As it was typed, and checked before it was written.
    pub(crate) spec: FreezeSpec,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
}

#[derive(Queryable)]
struct Row {
    name: String,
    reason: String,
    first_day: String,
    last_day: String,
    selector: Option<String>,
    created_by: String,
    created_at: Ms,
}

impl Row {
    fn into_record(self) -> QueryResult<Record> {
        let spec = FreezeSpec {
            name: parse(&self.name)?,
            reason: self.reason,
            from: self.first_day,
            to: self.last_day,
            selector: self.selector,
        };
        Ok(Record { spec, created_by: self.created_by, created_at: self.created_at.into() })
    }
}

/// One freeze.
pub(crate) fn get(conn: &mut DbConn, name: &FreezeName) -> QueryResult<Option<Record>> {
    find::<_, Row>(conn, freezes::table.find(name.to_string()))?.map(Row::into_record).transpose()
}

/// A page of freezes by name.
pub(crate) fn list(conn: &mut DbConn, after: Option<&FreezeName>, limit: i64) -> QueryResult<Vec<Record>> {
    let after = after.map(FreezeName::to_string).unwrap_or_default();
    let rows: Vec<Row> = load(conn, freezes::table.filter(freezes::name.gt(after)).order(freezes::name).limit(limit))?;
    rows.into_iter().map(Row::into_record).collect()
}

/// The freezes that end last: all that are not over are among them.
pub(crate) fn latest(conn: &mut DbConn) -> QueryResult<Vec<Record>> {
    let order = (freezes::last_day.desc(), freezes::name);
    let rows: Vec<Row> = load(conn, freezes::table.order(order).limit(to_i64(MAX_FREEZES)))?;
    rows.into_iter().map(Row::into_record).collect()
}

/// How many freezes last until `day` or longer.
pub(crate) fn count_since(conn: &mut DbConn, day: &str) -> QueryResult<i64> {
    Ok(find(conn, freezes::table.filter(freezes::last_day.ge(day.to_owned())).count())?.unwrap_or_default())
}

/// Writes a new freeze.
pub(crate) fn insert(conn: &mut DbConn, record: &Record) -> QueryResult<()> {
    let spec = &record.spec;
    let row = (
        freezes::name.eq(spec.name.as_str()),
        freezes::reason.eq(&spec.reason),
        freezes::first_day.eq(&spec.from),
        freezes::last_day.eq(&spec.to),
        freezes::selector.eq(spec.selector.as_deref()),
        freezes::created_by.eq(&record.created_by),
        freezes::created_at.eq(Ms::from(record.created_at)),
    );
    execute(conn, diesel::insert_into(freezes::table).values(row)).map(drop)
}

/// Removes a freeze.
pub(crate) fn delete(conn: &mut DbConn, name: &FreezeName) -> QueryResult<()> {
    execute(conn, diesel::delete(freezes::table.find(name.to_string()))).map(drop)
}
