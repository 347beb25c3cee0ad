//! Where the devices of a rollout stand, site by site.

use std::collections::BTreeMap;

use callboard_proto::{
    ids::{RolloutId, SiteId},
    state::AssignmentState,
};
use diesel::{ExpressionMethods, NullableExpressionMethods as _, QueryDsl, QueryResult, dsl::count_star};

use super::{
    conn::{DbConn, load},
    schema::{assignments, devices, sites},
    types::{Uid, at_place, parse, to_u32},
};

/// A site, and its devices in the rollout by state.
pub(crate) struct OfSite {
    pub(crate) site: SiteId,
    pub(crate) states: Vec<(AssignmentState, u32)>,
}

/// Devices at some sites, by their numbers.
pub(crate) fn devices_at(conn: &mut DbConn, wanted: &[SiteId]) -> QueryResult<Vec<(i64, SiteId)>> {
    let wanted: Vec<Option<String>> = wanted.iter().map(|site| Some(site.to_string())).collect();
    let query = devices::table
        .filter(devices::site_id.eq_any(wanted))
        .filter(devices::decommissioned_at.is_null())
        .select((devices::number, devices::site_id.assume_not_null()));
    let rows: Vec<(i64, String)> = load(conn, query)?;
    rows.into_iter().map(|(number, site)| Ok((number, parse(&site)?))).collect()
}

diesel::allow_columns_to_appear_in_same_group_by_clause!(devices::site_id, assignments::state);

/// Sites after one, in the order of their ids, with what they have of the rollout, which may be nothing.
pub(crate) fn by_site(
    conn: &mut DbConn,
    rollout: RolloutId,
    after: Option<&SiteId>,
    limit: i64,
) -> QueryResult<Vec<OfSite>> {
    let after = after.map(|site| site.as_str().to_owned()).unwrap_or_default();
    let ids = sites::table.filter(sites::id.gt(after)).order(sites::id).limit(limit).select(sites::id);
    let ids: Vec<String> = load(conn, ids)?;
    let rows = assignments::table
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(devices::site_id.eq_any(ids.iter().cloned().map(Some).collect::<Vec<_>>()))
        .group_by((devices::site_id, assignments::state))
        .select((devices::site_id, assignments::state, count_star()));
    let rows: Vec<(Option<String>, i16, i64)> = load(conn, rows)?;
    let mut found: BTreeMap<String, Vec<(AssignmentState, u32)>> = ids.into_iter().map(|id| (id, Vec::new())).collect();
    for (site, state, n) in rows {
        let state = (at_place(&AssignmentState::ALL, state, "assignment state")?, to_u32(n));
        if let Some(states) = site.and_then(|site| found.get_mut(&site)) {
            states.push(state);
        }
    }
    let of_site = |(site, states): (String, Vec<_>)| Ok(OfSite { site: parse(&site)?, states });
    found.into_iter().map(of_site).collect()
}
