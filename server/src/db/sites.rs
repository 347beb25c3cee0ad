//! Sites.

use std::collections::BTreeMap;

use callboard_policy::{
    bandwidth::{Bandwidth, LimitSpec},
    device::Hold,
    site::{SiteRules, SiteState, Suspension},
    trading::{HoursSpec, TradingHours},
};
use callboard_proto::{admin, ids::SiteId};
use chrono_tz::Tz;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::sites,
    types::{Ms, at_place, from_json, parse, place, to_json},
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
    /// The same.
    pub(crate) bandwidth: Vec<admin::BandwidthLimit>,
    pub(crate) state: SiteState,
    pub(crate) state_reason: String,
    pub(crate) suspension: Option<Suspension>,
    pub(crate) held: Option<Hold>,
}

#[derive(Queryable)]
pub(super) struct Row {
    id: String,
    name: String,
    tz: String,
    labels: String,
    trading: String,
    bandwidth: String,
    state: i16,
    state_reason: String,
    suspended_at: Option<Ms>,
    resumed_at: Option<Ms>,
    hold_reason: Option<String>,
    hold_until: Option<Ms>,
}

impl Row {
    pub(super) fn into_site(self) -> QueryResult<Site> {
        let suspension = |from: Ms| Suspension { from: from.into(), until: self.resumed_at.map(Into::into) };
        Ok(Site {
            id: parse(&self.id)?,
            name: self.name,
            tz: parse(&self.tz)?,
            labels: from_json(&self.labels)?,
            trading: from_json(&self.trading)?,
            bandwidth: from_json(&self.bandwidth)?,
            state: at_place(&SiteState::ALL, self.state, "site state")?,
            state_reason: self.state_reason,
            suspension: self.suspended_at.map(suspension),
            held: self.hold_reason.map(|reason| Hold { reason, until: self.hold_until.map(Into::into) }),
        })
    }
}

impl Site {
    /// A site that nothing special is known of.
    pub(crate) fn new(id: SiteId, name: String, tz: Tz, labels: BTreeMap<String, String>) -> Self {
        Self {
            id,
            name,
            tz,
            labels,
            trading: Vec::new(),
            bandwidth: Vec::new(),
            state: SiteState::Active,
            state_reason: String::new(),
            suspension: None,
            held: None,
        }
    }

    /// What it imposes on its devices.
    pub(crate) fn rules(&self) -> Result<SiteRules, String> {
        Ok(SiteRules {
            trading: hours(&self.trading)?,
            bandwidth: limits(&self.bandwidth)?,
            state: self.state,
            state_reason: self.state_reason.clone(),
            suspension: self.suspension,
            held: self.held.clone(),
        })
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

/// Understands limits of bandwidth.
pub(crate) fn limits(typed: &[admin::BandwidthLimit]) -> Result<Bandwidth, String> {
    let spec = |one: &admin::BandwidthLimit| LimitSpec {
        days: one.days.clone(),
        from: one.from.clone(),
        to: one.to.clone(),
        bytes_per_s: one.bytes_per_s,
    };
    Bandwidth::read(&typed.iter().map(spec).collect::<Vec<_>>())
}

/// One site.
pub(crate) fn get(conn: &mut DbConn, id: &SiteId) -> QueryResult<Option<Site>> {
    find::<_, Row>(conn, sites::table.find(id.to_string()))?.map(Row::into_site).transpose()
}

/// A page of sites by id.
pub(crate) fn list(conn: &mut DbConn, after: Option<&SiteId>, limit: i64) -> QueryResult<Vec<Site>> {
    let after = after.map(SiteId::to_string).unwrap_or_default();
    let rows: Vec<Row> = load(conn, sites::table.filter(sites::id.gt(after)).order(sites::id).limit(limit))?;
    rows.into_iter().map(Row::into_site).collect()
}

/// Writes a site, new or changed.
pub(crate) fn put(conn: &mut DbConn, site: &Site) -> QueryResult<()> {
    let (labels, trading, bandwidth) = (to_json(&site.labels)?, to_json(&site.trading)?, to_json(&site.bandwidth)?);
    let (id, tz) = (site.id.to_string(), site.tz.name());
    let held = site.held.as_ref();
    let values = (
        sites::name.eq(&site.name),
        sites::tz.eq(tz),
        sites::labels.eq(&labels),
        sites::trading.eq(&trading),
        sites::bandwidth.eq(&bandwidth),
        sites::state.eq(place(&SiteState::ALL, &site.state)),
        sites::state_reason.eq(&site.state_reason),
        sites::suspended_at.eq(site.suspension.map(|last| Ms::from(last.from))),
        sites::resumed_at.eq(site.suspension.and_then(|last| last.until).map(Ms::from)),
        sites::hold_reason.eq(held.map(|hold| hold.reason.as_str())),
        sites::hold_until.eq(held.and_then(|hold| hold.until).map(Ms::from)),
    );
    let row = (sites::id.eq(id), values);
    execute(conn, diesel::insert_into(sites::table).values(row).on_conflict(sites::id).do_update().set(values))
        .map(drop)
}
