//! Who holds grants of a rollout, and how many it has made lately: what its limits are compared with.
//!
//! The sum over a rollout is its phases' counters. Holders at a site are counted by an index: they are few, and a count
//! of rows cannot drift from them, whatever frees a place. Writers follow one another, also those of several servers, so
//! what a transaction counts here stays true until it ends.

use callboard_policy::guard::{Cap, Grant, Holders, InFlight, Offers};
use callboard_proto::{
    ids::{RolloutId, SiteId},
    time::Timestamp,
};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult,
    dsl::{count_star, min},
};

use super::{
    assignments::column,
    conn::{DbConn, find, load},
    schema::{assignments, counts, rollouts},
    types::{Ms, Uid, to_u64},
};

/// Who holds `grant` in a rollout, overall and among those who were granted it at `site`, as far as `cap` asks.
pub(crate) fn in_flight(
    conn: &mut DbConn,
    rollout: RolloutId,
    grant: Grant,
    cap: Cap,
    site: Option<&SiteId>,
) -> QueryResult<InFlight> {
    let overall = match cap.max_in_flight {
        Some(_) => overall(conn, rollout, grant)?,
        None => Holders::default(),
    };
    let at_site = match (cap.max_in_flight_per_site, site) {
        (Some(_), Some(site)) => at_site(conn, rollout, grant, site)?,
        // A device without a site is a site of its own, and one that asks holds nothing.
        _ => Holders::default(),
    };
    Ok(InFlight { overall, at_site })
}

/// How many devices download at `site`, in any of these rollouts.
pub(crate) fn downloads_at(conn: &mut DbConn, rollouts: &[RolloutId], site: &SiteId) -> QueryResult<u64> {
    let mut sum = 0;
    for rollout in rollouts {
        sum += at_site(conn, *rollout, Grant::Download, site)?.count;
    }
    Ok(sum)
}

fn overall(conn: &mut DbConn, rollout: RolloutId, grant: Grant) -> QueryResult<Holders> {
    let of_rollout = counts::table.filter(counts::rollout_id.eq(Uid::from(rollout)));
    let counts: Vec<i64> = match grant {
        Grant::Download => load(conn, of_rollout.select(counts::downloading))?,
        Grant::Activation => load(conn, of_rollout.select(counts::activating + counts::verifying))?,
    };
    let count = to_u64(counts.into_iter().sum());
    Ok(Holders { count, oldest: if count == 0 { None } else { oldest(conn, rollout, grant)? } })
}

fn oldest(conn: &mut DbConn, rollout: RolloutId, grant: Grant) -> QueryResult<Option<Timestamp>> {
    let mut oldest: Option<Timestamp> = None;
    // One state after the other: then each is the first entry of the index.
    for state in grant.states() {
        let query = assignments::table
            .filter(assignments::rollout_id.eq(Uid::from(rollout)).and(assignments::state.eq(column(*state))))
            .order(assignments::granted_at)
            .limit(1);
        let first: Option<Ms> = find(conn, query.select(assignments::granted_at))?;
        let first = first.map(Timestamp::from);
        oldest = [oldest, first].into_iter().flatten().min();
    }
    Ok(oldest)
}

fn at_site(conn: &mut DbConn, rollout: RolloutId, grant: Grant, site: &SiteId) -> QueryResult<Holders> {
    let states: Vec<i16> = grant.states().iter().map(|state| column(*state)).collect();
    let query = assignments::table
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::granted_site.eq(site.as_str().to_owned()))
        .filter(assignments::state.eq_any(states))
        .select((count_star(), min(assignments::granted_at)));
    let (count, oldest): (i64, Option<Ms>) = find(conn, query)?.unwrap_or_default();
    Ok(Holders { count: to_u64(count), oldest: oldest.map(Into::into) })
}

/// What a rollout has offered lately, and on how many devices it has succeeded.
pub(crate) fn offers(conn: &mut DbConn, rollout: RolloutId) -> QueryResult<(Offers, u64)> {
    let row = rollouts::table.find(Uid::from(rollout)).select((rollouts::offer_minute, rollouts::offers));
    let (minute, made): (i64, i64) = find(conn, row)?.unwrap_or_default();
    let of_rollout = counts::table.filter(counts::rollout_id.eq(Uid::from(rollout)));
    let succeeded: Vec<i64> = load(conn, of_rollout.select(counts::succeeded))?;
    Ok((Offers { minute, made: to_u64(made) }, to_u64(succeeded.into_iter().sum())))
}
