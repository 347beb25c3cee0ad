//! Phases of rollouts. Who is in a phase from the start on is one compressed set; how its devices stand is in [`counts`].

use std::collections::BTreeMap;

use callboard_policy::{
    audience::{Audience, Exclusion},
    gate::PhaseTimes,
    guard::Streak,
};
use callboard_proto::{admin::Counts, ids::RolloutId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};
use roaring::RoaringBitmap;

use super::{
    assignments,
    conn::{DbConn, execute, load},
    counts::{self, Activity},
    exclusions, rollouts,
    schema::phases,
    types::{Ms, Uid, from_set, to_i64, to_set},
};

/// A phase as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) opened_at: Option<Timestamp>,
    /// Since when its gate is met.
    pub(crate) met_at: Option<Timestamp>,
    /// When an operator ended its soak.
    pub(crate) soak_skipped_at: Option<Timestamp>,
    /// Who approved it, and when.
    pub(crate) approval: Option<Approval>,
    pub(crate) counts: Counts,
    /// How many members are excluded for which reason.
    pub(crate) excluded: BTreeMap<String, u32>,
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
    fn into_phase(self, (counts, activity): (Counts, Activity)) -> Phase {
        Phase {
            name: self.name,
            opened_at: self.opened_at.map(Into::into),
            met_at: self.met_at.map(Into::into),
            soak_skipped_at: self.soak_skipped_at.map(Into::into),
            approval: Approval::of(self.approved_at, self.approved_by),
            counts,
            excluded: BTreeMap::new(),
            activity,
        }
    }
}

/// The phases of one rollout.
pub(super) fn of(conn: &mut DbConn, id: Uid) -> QueryResult<Vec<Phase>> {
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
    let counts = counts::of(conn, id)?;
    let mut phases: Vec<Phase> = rows.into_iter().zip(counts).map(|(row, counts)| row.into_phase(counts)).collect();
    for (idx, why, devices) in exclusions::counts(conn, id)? {
        if let Some(phase) = usize::try_from(idx).ok().and_then(|idx| phases.get_mut(idx)) {
            phase.excluded.insert(why, devices);
        }
    }
    Ok(phases)
}

/// Who was in which phase of a rollout when it started.
pub(crate) fn audience(conn: &mut DbConn, id: RolloutId) -> QueryResult<Audience> {
    let query = phases::table.filter(phases::rollout_id.eq(Uid::from(id))).order(phases::idx).select(phases::members);
    let members: Vec<Vec<u8>> = load(conn, query)?;
    let phases = members.iter().map(|bytes| from_set(bytes)).collect::<QueryResult<_>>()?;
    Ok(Audience { phases, excluded: exclusions::of(conn, id)? })
}

/// What a start writes of an audience, worked out beforehand: a set of a million takes its time.
#[derive(Debug)]
pub(crate) struct Stored {
    phases: Vec<StoredPhase>,
    excluded: Vec<(Exclusion, Vec<u8>)>,
    /// Everybody, and those who do not count.
    pub(crate) devices: u64,
    pub(crate) uncounted: u64,
}

#[derive(Debug)]
struct StoredPhase {
    members: Vec<u8>,
    size: u64,
    excluded: Vec<(Exclusion, u64)>,
}

impl Stored {
    pub(crate) fn of(audience: &Audience) -> QueryResult<Self> {
        let phase = |members: &RoaringBitmap| {
            let excluded = audience.excluded.iter().map(|(why, set)| (*why, members.intersection_len(set)));
            let excluded = excluded.filter(|(_, n)| *n > 0).collect();
            Ok(StoredPhase { members: to_set(members)?, size: members.len(), excluded })
        };
        Ok(Self {
            phases: audience.phases.iter().map(phase).collect::<QueryResult<_>>()?,
            excluded: audience
                .excluded
                .iter()
                .map(|(why, set)| Ok((*why, to_set(set)?)))
                .collect::<QueryResult<_>>()?,
            devices: audience.phases.iter().map(RoaringBitmap::len).sum(),
            uncounted: audience.excluded.values().map(RoaringBitmap::len).sum(),
        })
    }
}

/// Writes the phases of a rollout that starts, the first one open and all of their members unreached.
pub(crate) fn insert<'a>(
    conn: &mut DbConn,
    id: RolloutId,
    names: impl IntoIterator<Item = &'a str>,
    stored: &Stored,
    now: Timestamp,
) -> QueryResult<()> {
    for (idx, (name, phase)) in names.into_iter().zip(&stored.phases).enumerate() {
        let row = (
            phases::rollout_id.eq(Uid::from(id)),
            phases::idx.eq(to_i64(idx)),
            phases::name.eq(name),
            phases::members.eq(phase.members.as_slice()),
            phases::opened_at.eq((idx == 0).then(|| Ms::from(now))),
        );
        execute(conn, diesel::insert_into(phases::table).values(row))?;
        let excluded = phase.excluded.iter().map(|(_, n)| *n).sum();
        counts::insert(conn, id, idx, phase.size, excluded)?;
        for (why, n) in &phase.excluded {
            exclusions::count(conn, id, idx, *why, to_i64(*n))?;
        }
    }
    for (why, members) in &stored.excluded {
        exclusions::insert(conn, id, *why, members)?;
    }
    Ok(())
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
