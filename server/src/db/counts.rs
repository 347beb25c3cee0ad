//! How the devices of a phase stand: a row of counters that changes in the transaction that changes an assignment, so
//! that nobody counts rows.

use callboard_policy::{audience::Exclusion, device::Assignment, gate::PhaseCounts};
use callboard_proto::{
    admin::{Counts, Deferred},
    ids::RolloutId,
    time::Timestamp,
};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, load},
    exclusions, hours,
    schema::counts,
    types::{Ms, Uid, to_i64, to_u32, to_u64},
};

#[derive(Queryable)]
struct Row {
    _rollout_id: Uid,
    _idx: i64,
    size: i64,
    excluded: i64,
    queued: i64,
    downloading: i64,
    staged: i64,
    deferred_window: i64,
    deferred_trading_hours: i64,
    deferred_freeze: i64,
    deferred_inhibitor: i64,
    deferred_user: i64,
    activating: i64,
    verifying: i64,
    silent: i64,
    succeeded: i64,
    rolled_back: i64,
    failed: i64,
    timed_out: i64,
    cancelled: i64,
    acknowledged: i64,
    bytes_served: i64,
    first_at: Option<Ms>,
    last_at: Option<Ms>,
}

/// What happened in a phase beside its counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Bytes of payloads sent to devices that were downloading.
    pub(crate) bytes_served: u64,
    /// When one of its counters changed first.
    pub(crate) first_at: Option<Timestamp>,
    /// And last.
    pub(crate) last_at: Option<Timestamp>,
}

impl From<Row> for Counts {
    fn from(row: Row) -> Self {
        let counts = Self {
            size: to_u32(row.size),
            excluded: to_u32(row.excluded),
            unreached: 0,
            queued: to_u32(row.queued),
            downloading: to_u32(row.downloading),
            staged: to_u32(row.staged),
            deferred: Deferred {
                window: to_u32(row.deferred_window),
                trading_hours: to_u32(row.deferred_trading_hours),
                freeze: to_u32(row.deferred_freeze),
                inhibitor: to_u32(row.deferred_inhibitor),
                user: to_u32(row.deferred_user),
            },
            activating: to_u32(row.activating),
            verifying: to_u32(row.verifying),
            silent: to_u32(row.silent),
            succeeded: to_u32(row.succeeded),
            rolled_back: to_u32(row.rolled_back),
            failed: to_u32(row.failed),
            timed_out: to_u32(row.timed_out),
            cancelled: to_u32(row.cancelled),
            acknowledged: to_u32(row.acknowledged),
        };
        Self { unreached: counts.wanted().saturating_sub(counts.open() + counts.done()), ..counts }
    }
}

/// The counters of each phase of a rollout, and what happened in it.
pub(super) fn of(conn: &mut DbConn, id: Uid) -> QueryResult<Vec<(Counts, Activity)>> {
    let rows: Vec<Row> = load(conn, counts::table.filter(counts::rollout_id.eq(id)).order(counts::idx))?;
    let activity = |row: &Row| Activity {
        bytes_served: to_u64(row.bytes_served),
        first_at: row.first_at.map(Into::into),
        last_at: row.last_at.map(Into::into),
    };
    Ok(rows.into_iter().map(|row| (activity(&row), row.into())).map(|(activity, counts)| (counts, activity)).collect())
}

/// Counts bytes that devices were sent.
pub(crate) fn serve(conn: &mut DbConn, id: RolloutId, idx: usize, bytes: u64) -> QueryResult<()> {
    let row = diesel::update(counts::table.find((Uid::from(id), to_i64(idx))));
    execute(conn, row.set(counts::bytes_served.eq(counts::bytes_served + to_i64(bytes)))).map(drop)
}

/// Rollouts with assignments that are not final.
pub(super) fn rollouts_at_work(conn: &mut DbConn) -> QueryResult<Vec<RolloutId>> {
    let open = counts::queued + counts::downloading + counts::staged + counts::activating + counts::verifying;
    let ids: Vec<Uid> = load(conn, counts::table.filter(open.gt(0)).select(counts::rollout_id).distinct())?;
    Ok(ids.into_iter().map(Uid::id).collect())
}

/// Writes the counters of a phase of which nobody was reached.
pub(super) fn insert(conn: &mut DbConn, id: RolloutId, idx: usize, size: u64, excluded: u64) -> QueryResult<()> {
    let row = (
        (counts::rollout_id.eq(Uid::from(id)), counts::idx.eq(to_i64(idx))),
        (counts::size.eq(to_i64(size)), counts::excluded.eq(to_i64(excluded))),
        (counts::queued.eq(0_i64), counts::downloading.eq(0_i64), counts::staged.eq(0_i64)),
        (
            counts::deferred_window.eq(0_i64),
            counts::deferred_trading_hours.eq(0_i64),
            counts::deferred_freeze.eq(0_i64),
        ),
        (counts::deferred_inhibitor.eq(0_i64), counts::deferred_user.eq(0_i64)),
        (counts::activating.eq(0_i64), counts::verifying.eq(0_i64), counts::silent.eq(0_i64)),
        (counts::succeeded.eq(0_i64), counts::rolled_back.eq(0_i64), counts::failed.eq(0_i64)),
        (counts::timed_out.eq(0_i64), counts::cancelled.eq(0_i64), counts::acknowledged.eq(0_i64)),
        counts::bytes_served.eq(0_i64),
    );
    execute(conn, diesel::insert_into(counts::table).values(row)).map(drop)
}

/// Counts members that have joined a phase.
pub(crate) fn join(conn: &mut DbConn, id: RolloutId, idx: usize, more: i64) -> QueryResult<()> {
    let row = diesel::update(counts::table.find((Uid::from(id), to_i64(idx))));
    execute(conn, row.set(counts::size.eq(counts::size + more))).map(drop)
}

/// Counts a member that is excluded for another reason than before, or for none.
pub(crate) fn exclude(
    conn: &mut DbConn,
    id: RolloutId,
    idx: usize,
    was: Option<Exclusion>,
    is: Option<Exclusion>,
) -> QueryResult<()> {
    for (why, more) in [(was, -1), (is, 1)] {
        if let Some(why) = why {
            exclusions::count(conn, id, idx, why, more)?;
        }
    }
    let more = i64::from(is.is_some()) - i64::from(was.is_some());
    let row = diesel::update(counts::table.find((Uid::from(id), to_i64(idx))));
    execute(conn, row.set(counts::excluded.eq(counts::excluded + more))).map(drop)
}

/// Every failure so far was noticed by an operator.
pub(super) fn acknowledge_failures(conn: &mut DbConn, id: RolloutId) -> QueryResult<()> {
    let row = diesel::update(counts::table.filter(counts::rollout_id.eq(Uid::from(id))));
    execute(conn, row.set(counts::acknowledged.eq(counts::rolled_back + counts::failed))).map(drop)
}

/// Counts an assignment that was made, changed or forgotten: as it was, and as it is.
pub(crate) fn change(
    conn: &mut DbConn,
    was: Option<&Assignment>,
    is: Option<&Assignment>,
    now: Timestamp,
) -> QueryResult<()> {
    let Some(one) = is.or(was) else {
        return Ok(());
    };
    let counted = |one| {
        let mut counts = PhaseCounts::default();
        counts.recount(None, one);
        counts
    };
    let offered = was.is_none();
    let (was, is) = (counted(was), counted(is));
    if was == is {
        return Ok(());
    }
    let more = |count: fn(&PhaseCounts) -> u64| to_i64(count(&is)) - to_i64(count(&was));
    let called_off = |counts: &PhaseCounts| counts.cancelled + counts.expired;
    let waiting = (
        counts::queued.eq(counts::queued + more(|counts| counts.queued)),
        counts::downloading.eq(counts::downloading + more(|counts| counts.downloading)),
        counts::staged.eq(counts::staged + more(|counts| counts.staged)),
        counts::deferred_window.eq(counts::deferred_window + more(|counts| counts.deferred.window)),
        counts::deferred_trading_hours
            .eq(counts::deferred_trading_hours + more(|counts| counts.deferred.trading_hours)),
        counts::deferred_freeze.eq(counts::deferred_freeze + more(|counts| counts.deferred.freeze)),
        counts::deferred_inhibitor.eq(counts::deferred_inhibitor + more(|counts| counts.deferred.inhibitor)),
        counts::deferred_user.eq(counts::deferred_user + more(|counts| counts.deferred.user)),
    );
    let begun = (
        counts::activating.eq(counts::activating + more(|counts| counts.activating)),
        counts::verifying.eq(counts::verifying + more(|counts| counts.verifying)),
        counts::silent.eq(counts::silent + more(|counts| counts.silent)),
        counts::succeeded.eq(counts::succeeded + more(|counts| counts.succeeded)),
        counts::rolled_back.eq(counts::rolled_back + more(|counts| counts.rolled_back)),
        counts::failed.eq(counts::failed + more(|counts| counts.failed)),
        counts::timed_out.eq(counts::timed_out + more(|counts| counts.timed_out)),
        counts::cancelled.eq(counts::cancelled + more(called_off)),
        counts::acknowledged.eq(counts::acknowledged + more(|counts| counts.acknowledged)),
    );
    let row = diesel::update(counts::table.find((Uid::from(one.rollout), to_i64(one.phase))));
    let at = Some(Ms::from(now));
    execute(conn, row.set((waiting, begun, counts::last_at.eq(at))))?;
    if offered {
        // The first event of a phase is that somebody was offered something.
        let row = counts::table.find((Uid::from(one.rollout), to_i64(one.phase)));
        execute(conn, diesel::update(row.filter(counts::first_at.is_null())).set(counts::first_at.eq(at)))?;
    }
    match more(PhaseCounts::done) {
        0 => Ok(()),
        done => hours::add(conn, one.rollout, now, done),
    }
}
