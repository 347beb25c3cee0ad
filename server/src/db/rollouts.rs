//! Rollouts. How they stand is in their phases.

use callboard_policy::rollout::RolloutState;
use callboard_proto::{
    admin::RolloutSpec,
    digest::Digest,
    ids::{RolloutId, RolloutName},
    time::Timestamp,
};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};
use roaring::RoaringBitmap;

use super::{
    conn::{DbConn, execute, find, load},
    counts,
    phases::{self, Phase},
    schema::rollouts,
    types::{Ms, Sha, Uid, at_place, from_json, from_set, place, to_i64, to_json, to_set},
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

impl Row {
    fn into_record(self, phases: Vec<Phase>) -> QueryResult<Record> {
        Ok(Record {
            id: self.id.id(),
            release: self.release.0,
            spec: from_json(&self.spec)?,
            state: at_place(&RolloutState::ALL, self.state, "rollout state")?,
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

fn column(state: RolloutState) -> i16 {
    place(&RolloutState::ALL, &state)
}

fn with_phases(conn: &mut DbConn, rows: Vec<Row>) -> QueryResult<Vec<Record>> {
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let phases = phases::load_all(conn, row.id, true)?;
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
    let phases = phases::load_all(conn, id, false)?;
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
pub(crate) fn by_name(conn: &mut DbConn, name: &RolloutName) -> QueryResult<Option<Record>> {
    let row = find(conn, rollouts::table.filter(rollouts::name.eq(name.to_string())))?;
    Ok(with_phases(conn, row.into_iter().collect())?.pop())
}

/// Running and paused rollouts, and cancelled ones that devices must still be told of.
pub(crate) fn active(conn: &mut DbConn) -> QueryResult<Vec<Record>> {
    let states = [RolloutState::Running, RolloutState::Paused].map(column).to_vec();
    let rows = load(conn, rollouts::table.filter(rollouts::state.eq_any(states)))?;
    let mut records = with_phases(conn, rows)?;
    let open = counts::rollouts_at_work(conn)?;
    for id in open.into_iter().filter(|id| !records.iter().any(|record| record.id == *id)).collect::<Vec<_>>() {
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
