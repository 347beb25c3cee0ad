//! Sites.

use std::collections::BTreeMap;

use callboard_policy::{
    device::SiteRules,
    trading::{HoursSpec, TradingHours},
};
use callboard_proto::{admin, ids::SiteId};
use chrono_tz::Tz;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable, result::Error};

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
    /// As they were typed, and checked before they were written.
    pub(crate) trading: Vec<admin::TradingHours>,
}

#[derive(Queryable)]
struct Row {
    id: String,
    name: String,
    tz: String,
    labels: String,
    trading: String,
}

impl Row {
    fn into_site(self) -> QueryResult<Site> {
        Ok(Site {
            id: parse(&self.id)?,
            name: self.name,
            tz: parse(&self.tz)?,
            labels: from_json(&self.labels)?,
            trading: from_json(&self.trading)?,
        })
    }
}

impl Site {
    /// What it imposes on its devices.
    pub(crate) fn rules(&self) -> Result<SiteRules, String> {
        Ok(SiteRules { trading: hours(&self.trading)? })
    }
}

/// Understands trading hours.
pub(crate) fn hours(typed: &[admin::TradingHours]) -> Result<TradingHours, String> {
    let spec = |one: &admin::TradingHours| HoursSpec {
        days: one.days.clone(),
        opens: one.opens.clone(),
        closes: one.closes.clone(),
    };
    TradingHours::read(&typed.iter().map(spec).collect::<Vec<_>>())
}

/// Reads what a site imposes on its devices from its columns.
pub(super) fn rules(trading: &str) -> QueryResult<SiteRules> {
    let trading = hours(&from_json::<Vec<_>>(trading)?).map_err(|what| Error::DeserializationError(what.into()))?;
    Ok(SiteRules { trading })
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
    let (labels, trading) = (to_json(&site.labels)?, to_json(&site.trading)?);
    let (id, tz) = (site.id.to_string(), site.tz.name());
    let values = (sites::name.eq(&site.name), sites::tz.eq(tz), sites::labels.eq(&labels), sites::trading.eq(&trading));
    let row = (sites::id.eq(id), values);
    execute(conn, diesel::insert_into(sites::table).values(row).on_conflict(sites::id).do_update().set(values))
        .map(drop)
}
