//! Phases of rollouts. Who is in a phase is one compressed set; how its devices stand is a row of counters that changes
//! in the transaction that changes an assignment.

use callboard_policy::gate::PhaseTimes;
use callboard_proto::{admin::Counts, ids::RolloutId, state::AssignmentState, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};
use roaring::RoaringBitmap;

use super::{
    conn::{DbConn, execute, load},
    schema::phases,
    types::{Ms, Uid, from_set, to_i64, to_set, to_u32},
};

/// A phase as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) members: RoaringBitmap,
    pub(crate) opened_at: Option<Timestamp>,
    /// Since when its gate is met.
    pub(crate) met_at: Option<Timestamp>,
    /// When an operator ended its soak.
    pub(crate) soak_skipped_at: Option<Timestamp>,
    /// Who approved it, and when.
    pub(crate) approval: Option<Approval>,
    pub(crate) counts: Counts,
}

/// Who approved a phase, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) at: Timestamp,
    pub(crate) by: String,
}

impl Phase {
    /// A phase of which nobody was reached.
    pub(crate) fn new(name: String, members: RoaringBitmap, opened_at: Option<Timestamp>, counts: Counts) -> Self {
        Self { name, members, opened_at, met_at: None, soak_skipped_at: None, approval: None, counts }
    }

    /// As gates look at it.
    pub(crate) fn times(&self) -> PhaseTimes {
        PhaseTimes {
            opened_at: self.opened_at.unwrap_or_default(),
            met_at: self.met_at,
            soak_skipped: self.soak_skipped_at.is_some(),
            approved: self.approval.is_some(),
        }
    }
}

#[derive(Queryable)]
struct Row {
    name: String,
    opened_at: Option<Ms>,
    met_at: Option<Ms>,
    soak_skipped_at: Option<Ms>,
    approved_at: Option<Ms>,
    approved_by: Option<String>,
    counts: CountsRow,
}

#[derive(Queryable)]
struct CountsRow {
    size: i64,
    excluded: i64,
    queued: i64,
    downloading: i64,
    staged: i64,
    activating: i64,
    verifying: i64,
    succeeded: i64,
    rolled_back: i64,
    failed: i64,
    timed_out: i64,
    cancelled: i64,
    acknowledged: i64,
}

impl Row {
    fn into_phase(self, members: RoaringBitmap) -> Phase {
        let c = self.counts;
        let mut counts = Counts {
            size: to_u32(c.size),
            excluded: to_u32(c.excluded),
            queued: to_u32(c.queued),
            downloading: to_u32(c.downloading),
            staged: to_u32(c.staged),
            activating: to_u32(c.activating),
            verifying: to_u32(c.verifying),
            succeeded: to_u32(c.succeeded),
            rolled_back: to_u32(c.rolled_back),
            failed: to_u32(c.failed),
            timed_out: to_u32(c.timed_out),
            cancelled: to_u32(c.cancelled),
            acknowledged: to_u32(c.acknowledged),
            unreached: 0,
        };
        let assigned: i64 = [
            c.queued,
            c.downloading,
            c.staged,
            c.activating,
            c.verifying,
            c.succeeded,
            c.rolled_back,
            c.failed,
            c.timed_out,
            c.cancelled,
        ]
        .iter()
        .sum();
        counts.unreached = to_u32((c.size - c.excluded - assigned).max(0));
        Phase {
            name: self.name,
            members,
            opened_at: self.opened_at.map(Into::into),
            met_at: self.met_at.map(Into::into),
            soak_skipped_at: self.soak_skipped_at.map(Into::into),
            approval: self.approved_at.zip(self.approved_by).map(|(at, by)| Approval { at: at.into(), by }),
            counts,
        }
    }
}

/// The phases of one rollout, with their members if asked for.
pub(super) fn load_all(conn: &mut DbConn, id: Uid, with_members: bool) -> QueryResult<Vec<Phase>> {
    let counts = (
        phases::size,
        phases::excluded,
        phases::queued,
        phases::downloading,
        phases::staged,
        phases::activating,
        phases::verifying,
        phases::succeeded,
        phases::rolled_back,
        phases::failed,
        phases::timed_out,
        phases::cancelled,
        phases::acknowledged,
    );
    let columns = (
        phases::name,
        phases::opened_at,
        phases::met_at,
        phases::soak_skipped_at,
        phases::approved_at,
        phases::approved_by,
        counts,
    );
    let query = phases::table.filter(phases::rollout_id.eq(id)).order(phases::idx);
    let rows: Vec<Row> = load(conn, query.select(columns))?;
    let members: Vec<Vec<u8>> = if with_members { load(conn, query.select(phases::members))? } else { Vec::new() };
    let mut members = members.into_iter();
    let set = |bytes: Option<Vec<u8>>| bytes.map_or_else(|| Ok(RoaringBitmap::new()), |bytes| from_set(&bytes));
    rows.into_iter().map(|row| Ok(row.into_phase(set(members.next())?))).collect()
}

/// Rollouts with assignments that are not final.
pub(super) fn rollouts_at_work(conn: &mut DbConn) -> QueryResult<Vec<RolloutId>> {
    let open = phases::queued + phases::downloading + phases::staged + phases::activating + phases::verifying;
    let ids: Vec<Uid> = load(conn, phases::table.filter(open.gt(0)).select(phases::rollout_id).distinct())?;
    Ok(ids.into_iter().map(Uid::id).collect())
}

/// Writes a phase with its members, all of them unreached.
pub(crate) fn insert(conn: &mut DbConn, id: RolloutId, idx: usize, phase: &Phase) -> QueryResult<()> {
    let row = (
        phases::rollout_id.eq(Uid::from(id)),
        phases::idx.eq(to_i64(idx)),
        phases::name.eq(&phase.name),
        phases::members.eq(to_set(&phase.members)?),
        phases::opened_at.eq(phase.opened_at.map(Ms::from)),
        (phases::size.eq(to_i64(phase.counts.size)), phases::excluded.eq(to_i64(phase.counts.excluded))),
        (phases::queued.eq(0_i64), phases::downloading.eq(0_i64), phases::staged.eq(0_i64)),
        (phases::activating.eq(0_i64), phases::verifying.eq(0_i64), phases::succeeded.eq(0_i64)),
        (phases::rolled_back.eq(0_i64), phases::failed.eq(0_i64), phases::timed_out.eq(0_i64)),
        (phases::cancelled.eq(0_i64), phases::acknowledged.eq(0_i64)),
    );
    execute(conn, diesel::insert_into(phases::table).values(row)).map(drop)
}

/// Opens a phase.
pub(crate) fn open(conn: &mut DbConn, id: RolloutId, idx: usize, now: Timestamp) -> QueryResult<()> {
    let phase = diesel::update(phases::table.find((Uid::from(id), to_i64(idx))));
    execute(conn, phase.set(phases::opened_at.eq(Some(Ms::from(now))))).map(drop)
}

/// Writes since when the gate of a phase is met, that its soak was ended, and who approved it.
pub(crate) fn set_times(conn: &mut DbConn, id: RolloutId, idx: usize, phase: &Phase) -> QueryResult<()> {
    let row = diesel::update(phases::table.find((Uid::from(id), to_i64(idx))));
    let values = (
        phases::met_at.eq(phase.met_at.map(Ms::from)),
        phases::soak_skipped_at.eq(phase.soak_skipped_at.map(Ms::from)),
        phases::approved_at.eq(phase.approval.as_ref().map(|approval| Ms::from(approval.at))),
        phases::approved_by.eq(phase.approval.as_ref().map(|approval| approval.by.as_str())),
    );
    execute(conn, row.set(values)).map(drop)
}

/// Lets gates look past the failures so far.
pub(crate) fn acknowledge_failures(conn: &mut DbConn, id: RolloutId) -> QueryResult<()> {
    let row = diesel::update(phases::table.filter(phases::rollout_id.eq(Uid::from(id))));
    execute(conn, row.set(phases::acknowledged.eq(phases::rolled_back + phases::failed))).map(drop)
}

/// Writes the members of a phase after somebody joined late, or left.
pub(crate) fn set_members(
    conn: &mut DbConn,
    id: RolloutId,
    idx: usize,
    members: &RoaringBitmap,
    excluded: u32,
) -> QueryResult<()> {
    let phase = diesel::update(phases::table.find((Uid::from(id), to_i64(idx))));
    let values = (
        phases::members.eq(to_set(members)?),
        phases::size.eq(to_i64(members.len())),
        phases::excluded.eq(to_i64(excluded)),
    );
    execute(conn, phase.set(values)).map(drop)
}

/// Moves one device of a phase from one counter to another; `None` is "without an assignment".
pub(crate) fn count(
    conn: &mut DbConn,
    id: RolloutId,
    idx: usize,
    from: Option<AssignmentState>,
    to: Option<AssignmentState>,
) -> QueryResult<()> {
    if from == to {
        return Ok(());
    }
    let delta = |states: &[AssignmentState]| {
        let has = |state: Option<AssignmentState>| i64::from(state.is_some_and(|state| states.contains(&state)));
        has(to) - has(from)
    };
    use AssignmentState as S;
    let values = (
        phases::queued.eq(phases::queued + delta(&[S::Queued])),
        phases::downloading.eq(phases::downloading + delta(&[S::Downloading])),
        phases::staged.eq(phases::staged + delta(&[S::Staged])),
        phases::activating.eq(phases::activating + delta(&[S::Activating])),
        phases::verifying.eq(phases::verifying + delta(&[S::Verifying])),
        phases::succeeded.eq(phases::succeeded + delta(&[S::Succeeded])),
        phases::rolled_back.eq(phases::rolled_back + delta(&[S::RolledBack])),
        phases::failed.eq(phases::failed + delta(&[S::Failed])),
        phases::timed_out.eq(phases::timed_out + delta(&[S::TimedOut])),
        phases::cancelled.eq(phases::cancelled + delta(&[S::Cancelled, S::Expired])),
    );
    execute(conn, diesel::update(phases::table.find((Uid::from(id), to_i64(idx)))).set(values)).map(drop)
}
