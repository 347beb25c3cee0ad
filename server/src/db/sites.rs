//! Sites.

use std::collections::BTreeMap;

use callboard_proto::ids::SiteId;
use chrono_tz::Tz;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::sites,
    types::{from_json, parse, to_json},
};

/// A place where devices stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) id: SiteId,
    pub(crate) name: String,
    pub(crate) tz: Tz,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Queryable)]
struct Row {
    id: String,
    name: String,
    tz: String,
    labels: String,
}

impl Row {
    fn into_site(self) -> QueryResult<Site> {
        Ok(Site { id: parse(&self.id)?, name: self.name, tz: parse(&self.tz)?, labels: from_json(&self.labels)? })
    }
}

/// One site.
pub(crate) fn get(conn: &mut DbConn, id: &SiteId) -> QueryResult<Option<Site>> {
    find::<_, Row>(conn, sites::table.find(id.to_string()))?.map(Row::into_site).transpose()
}

/// A page of sites by id.
pub(crate) fn list(conn: &mut DbConn, after: &str, limit: i64) -> QueryResult<Vec<Site>> {
    let rows: Vec<Row> = load(conn, sites::table.filter(sites::id.gt(after.to_owned())).order(sites::id).limit(limit))?;
    rows.into_iter().map(Row::into_site).collect()
}

/// Writes a site, new or changed.
pub(crate) fn put(conn: &mut DbConn, site: &Site) -> QueryResult<()> {
    let labels = to_json(&site.labels)?;
    let (id, tz) = (site.id.to_string(), site.tz.name());
    let values = (sites::name.eq(&site.name), sites::tz.eq(tz), sites::labels.eq(&labels));
    let row = (sites::id.eq(id), values);
    execute(conn, diesel::insert_into(sites::table).values(row).on_conflict(sites::id).do_update().set(values))
        .map(drop)
}
