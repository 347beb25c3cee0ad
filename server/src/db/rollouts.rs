//! Rollouts and their phases. Who is in a phase is one compressed set; how its devices stand is a row of counters
//! that changes in the transaction that changes an assignment.

use callboard_policy::rollout::RolloutState;
use callboard_proto::{
    admin::{Counts, RolloutSpec},
    digest::Digest,
    ids::RolloutId,
    state::AssignmentState,
    time::Timestamp,
};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};
use roaring::RoaringBitmap;

use super::{
    conn::{DbConn, execute, find, load},
    schema::{phases, rollouts},
    types::{Ms, Sha, Uid, from_json, from_set, to_i64, to_json, to_set, to_u32},
};

/// A rollout as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: RolloutId,
    pub(crate) release: Digest,
    pub(crate) spec: RolloutSpec,
    pub(crate) state: RolloutState,
    pub(crate) state_reason: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) open_phase: usize,
    pub(crate) excluded: RoaringBitmap,
    pub(crate) phases: Vec<Phase>,
}

/// A phase as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) members: RoaringBitmap,
    pub(crate) opened_at: Option<Timestamp>,
    pub(crate) counts: Counts,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    _name: String,
    release: Sha,
    spec: String,
    state: i16,
    state_reason: Option<String>,
    created_at: Ms,
    started_at: Option<Ms>,
    ended_at: Option<Ms>,
    open_phase: i64,
    excluded: Vec<u8>,
}

#[derive(Queryable)]
struct PhaseRow {
    name: String,
    opened_at: Option<Ms>,
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
    fn into_record(self, phases: Vec<Phase>) -> QueryResult<Record> {
        let state = usize::try_from(self.state).ok().and_then(|n| RolloutState::ALL.get(n).copied());
        Ok(Record {
            id: self.id.id(),
            release: self.release.0,
            spec: from_json(&self.spec)?,
            state: state.ok_or_else(|| diesel::result::Error::DeserializationError("rollout state".into()))?,
            state_reason: self.state_reason,
            created_at: self.created_at.into(),
            started_at: self.started_at.map(Into::into),
            ended_at: self.ended_at.map(Into::into),
            open_phase: usize::try_from(self.open_phase).unwrap_or_default(),
            excluded: from_set(&self.excluded)?,
            phases,
        })
    }
}

impl PhaseRow {
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
        Phase { name: self.name, members, opened_at: self.opened_at.map(Into::into), counts }
    }
}

fn column(state: RolloutState) -> i16 {
    let place = RolloutState::ALL.iter().position(|one| *one == state);
    place.and_then(|n| i16::try_from(n).ok()).unwrap_or_default()
}

fn load_phases(conn: &mut DbConn, id: Uid, with_members: bool) -> QueryResult<Vec<Phase>> {
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
    let columns = (phases::name, phases::opened_at, counts);
    let query = phases::table.filter(phases::rollout_id.eq(id)).order(phases::idx);
    let rows: Vec<PhaseRow> = load(conn, query.select(columns))?;
    let members: Vec<Vec<u8>> = if with_members { load(conn, query.select(phases::members))? } else { Vec::new() };
    let mut members = members.into_iter();
    let set = |bytes: Option<Vec<u8>>| bytes.map_or_else(|| Ok(RoaringBitmap::new()), |bytes| from_set(&bytes));
    rows.into_iter().map(|row| Ok(row.into_phase(set(members.next())?))).collect()
}

fn with_phases(conn: &mut DbConn, rows: Vec<Row>) -> QueryResult<Vec<Record>> {
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let phases = load_phases(conn, row.id, true)?;
        records.push(row.into_record(phases)?);
    }
    Ok(records)
}

/// One rollout.
pub(crate) fn get(conn: &mut DbConn, id: RolloutId) -> QueryResult<Option<Record>> {
    let row = find(conn, rollouts::table.find(Uid::from(id)))?;
    Ok(with_phases(conn, row.into_iter().collect())?.pop())
}

/// One rollout with its counters but without its sets, which are large in large fleets.
pub(crate) fn lean(conn: &mut DbConn, id: RolloutId) -> QueryResult<Option<Record>> {
    // An empty set, as it is stored.
    let empty = to_set(&RoaringBitmap::new())?;
    let columns = (
        (rollouts::id, rollouts::name, rollouts::release, rollouts::spec, rollouts::state, rollouts::state_reason),
        (rollouts::created_at, rollouts::started_at, rollouts::ended_at, rollouts::open_phase),
    );
    type Columns = ((Uid, String, Sha, String, i16, Option<String>), (Ms, Option<Ms>, Option<Ms>, i64));
    let found: Option<Columns> = find(conn, rollouts::table.find(Uid::from(id)).select(columns))?;
    let Some(((id, name, release, spec, state, state_reason), (created_at, started_at, ended_at, open_phase))) = found
    else {
        return Ok(None);
    };
    let phases = load_phases(conn, id, false)?;
    let excluded = empty;
    let row = Row {
        id,
        _name: name,
        release,
        spec,
        state,
        state_reason,
        created_at,
        started_at,
        ended_at,
        open_phase,
        excluded,
    };
    row.into_record(phases).map(Some)
}

/// One rollout by its name.
pub(crate) fn by_name(conn: &mut DbConn, name: &str) -> QueryResult<Option<Record>> {
    let row = find(conn, rollouts::table.filter(rollouts::name.eq(name.to_owned())))?;
    Ok(with_phases(conn, row.into_iter().collect())?.pop())
}

/// Running and paused rollouts, and cancelled ones that devices must still be told of.
pub(crate) fn active(conn: &mut DbConn) -> QueryResult<Vec<Record>> {
    let states = [RolloutState::Running, RolloutState::Paused].map(column).to_vec();
    let rows = load(conn, rollouts::table.filter(rollouts::state.eq_any(states)))?;
    let mut records = with_phases(conn, rows)?;
    let open = phases::queued + phases::downloading + phases::staged + phases::activating + phases::verifying;
    let ids: Vec<Uid> = load(conn, phases::table.filter(open.gt(0)).select(phases::rollout_id).distinct())?;
    for id in
        ids.into_iter().map(Uid::id).filter(|id| !records.iter().any(|record| record.id == *id)).collect::<Vec<_>>()
    {
        records.extend(get(conn, id)?);
    }
    Ok(records)
}

/// A page of rollouts, newest first.
pub(crate) fn list(
    conn: &mut DbConn,
    state: Option<RolloutState>,
    before: RolloutId,
    limit: i64,
) -> QueryResult<Vec<Record>> {
    // Ids are UUIDs of version 7, so they sort by time.
    let query = rollouts::table.filter(rollouts::id.lt(Uid::from(before))).order(rollouts::id.desc()).limit(limit);
    let rows = match state {
        Some(state) => load(conn, query.filter(rollouts::state.eq(column(state))))?,
        None => load(conn, query)?,
    };
    with_phases(conn, rows)
}

/// Writes a new rollout, without phases.
pub(crate) fn insert(conn: &mut DbConn, record: &Record) -> QueryResult<()> {
    let row = (
        rollouts::id.eq(Uid::from(record.id)),
        rollouts::name.eq(record.spec.name.as_str()),
        rollouts::release.eq(Sha(record.release)),
        rollouts::spec.eq(to_json(&record.spec)?),
        rollouts::state.eq(column(record.state)),
        rollouts::created_at.eq(Ms::from(record.created_at)),
        rollouts::open_phase.eq(0_i64),
        rollouts::excluded.eq(to_set(&record.excluded)?),
    );
    execute(conn, diesel::insert_into(rollouts::table).values(row)).map(drop)
}

/// Writes how far a rollout has come; its phases and sets have functions of their own.
pub(crate) fn update(conn: &mut DbConn, record: &Record) -> QueryResult<()> {
    let values = (
        rollouts::state.eq(column(record.state)),
        rollouts::state_reason.eq(record.state_reason.as_deref()),
        rollouts::started_at.eq(record.started_at.map(Ms::from)),
        rollouts::ended_at.eq(record.ended_at.map(Ms::from)),
        rollouts::open_phase.eq(to_i64(record.open_phase)),
    );
    execute(conn, diesel::update(rollouts::table.find(Uid::from(record.id))).set(values)).map(drop)
}

/// Writes who is excluded.
pub(crate) fn set_excluded(conn: &mut DbConn, id: RolloutId, excluded: &RoaringBitmap) -> QueryResult<()> {
    let row = diesel::update(rollouts::table.find(Uid::from(id)));
    execute(conn, row.set(rollouts::excluded.eq(to_set(excluded)?))).map(drop)
}

/// Writes a phase with its members, all of them unreached.
pub(crate) fn insert_phase(conn: &mut DbConn, id: RolloutId, idx: usize, phase: &Phase) -> QueryResult<()> {
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
pub(crate) fn open_phase(conn: &mut DbConn, id: RolloutId, idx: usize, now: Timestamp) -> QueryResult<()> {
    let phase = diesel::update(phases::table.find((Uid::from(id), to_i64(idx))));
    execute(conn, phase.set(phases::opened_at.eq(Some(Ms::from(now))))).map(drop)
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
