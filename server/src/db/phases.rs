//! Phases of rollouts. Who is in a phase is one compressed set; how its devices stand is in [`counts`].

use callboard_policy::{gate::PhaseTimes, guard::Streak};
use callboard_proto::{admin::Counts, ids::RolloutId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};
use roaring::RoaringBitmap;

use super::{
    assignments,
    conn::{DbConn, execute, load},
    counts::{self, Activity},
    rollouts,
    schema::phases,
    types::{Ms, Uid, from_set, to_i64, to_set},
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
    pub(crate) activity: Activity,
}

/// Who approved a phase or a rollout, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) at: Timestamp,
    pub(crate) by: String,
}

impl Approval {
    pub(super) fn of(at: Option<Ms>, by: Option<String>) -> Option<Self> {
        at.zip(by).map(|(at, by)| Self { at: at.into(), by })
    }
}

impl Phase {
    /// A phase of which nobody was reached.
    pub(crate) fn new(name: String, members: RoaringBitmap, opened_at: Option<Timestamp>, counts: Counts) -> Self {
        Self {
            name,
            members,
            opened_at,
            met_at: None,
            soak_skipped_at: None,
            approval: None,
            counts,
            activity: Activity::default(),
        }
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
}

impl Row {
    fn into_phase(self, members: RoaringBitmap, (counts, activity): (Counts, Activity)) -> Phase {
        Phase {
            name: self.name,
            members,
            opened_at: self.opened_at.map(Into::into),
            met_at: self.met_at.map(Into::into),
            soak_skipped_at: self.soak_skipped_at.map(Into::into),
            approval: Approval::of(self.approved_at, self.approved_by),
            counts,
            activity,
        }
    }
}

/// The phases of one rollout, with their members if asked for.
pub(super) fn load_all(conn: &mut DbConn, id: Uid, with_members: bool) -> QueryResult<Vec<Phase>> {
    let columns = (
        phases::name,
        phases::opened_at,
        phases::met_at,
        phases::soak_skipped_at,
        phases::approved_at,
        phases::approved_by,
    );
    let query = phases::table.filter(phases::rollout_id.eq(id)).order(phases::idx);
    let rows: Vec<Row> = load(conn, query.select(columns))?;
    let members: Vec<Vec<u8>> = if with_members { load(conn, query.select(phases::members))? } else { Vec::new() };
    let mut members = members.into_iter();
    let set = |bytes: Option<Vec<u8>>| bytes.map_or_else(|| Ok(RoaringBitmap::new()), |bytes| from_set(&bytes));
    let counts = counts::of(conn, id)?;
    rows.into_iter().zip(counts).map(|(row, counts)| Ok(row.into_phase(set(members.next())?, counts))).collect()
}

/// Writes a phase with its members, all of them unreached.
pub(crate) fn insert(conn: &mut DbConn, id: RolloutId, idx: usize, phase: &Phase) -> QueryResult<()> {
    let row = (
        phases::rollout_id.eq(Uid::from(id)),
        phases::idx.eq(to_i64(idx)),
        phases::name.eq(&phase.name),
        phases::members.eq(to_set(&phase.members)?),
        phases::opened_at.eq(phase.opened_at.map(Ms::from)),
    );
    execute(conn, diesel::insert_into(phases::table).values(row))?;
    counts::insert(conn, id, idx, phase.counts.size, phase.counts.excluded)
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
    assignments::acknowledge_failures(conn, id)?;
    rollouts::set_streak(conn, id, &Streak::default())?;
    counts::acknowledge_failures(conn, id)
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
    execute(conn, phase.set(phases::members.eq(to_set(members)?)))?;
    counts::resize(conn, id, idx, members.len(), excluded)
}
