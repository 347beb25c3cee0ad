//! Rollouts. How they stand is in their phases. Sets of devices, which are large in large fleets, are read by
//! [`phases::audience`] alone.

use std::collections::BTreeMap;

use callboard_policy::{
    assignment::is_failure,
    guard::{Offers, Streak},
    rollout::RolloutState,
};
use callboard_proto::{
    admin::RolloutSpec,
    digest::Digest,
    ids::{RolloutId, RolloutName, SiteId},
    state::AssignmentState,
    time::Timestamp,
};
use diesel::{ExpressionMethods, NullableExpressionMethods as _, QueryDsl, QueryResult, Queryable, dsl};

use super::{
    assignments::column as column_of,
    conn::{DbConn, execute, find, load},
    counts, life,
    phases::{self, Approval, Phase},
    schema::{assignments, devices, rollouts},
    types::{Ms, Sha, Uid, at_place, from_json, parse, place, to_i64, to_json},
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
    /// The failures since the last success.
    pub(crate) streak: Streak,
    /// The rollout whose release it takes back.
    pub(crate) takes_back: Option<RolloutName>,
    /// Who made it, and who changed it last.
    pub(crate) created_by: String,
    pub(crate) edited_by: Option<String>,
    /// The second person who approved it as it is.
    pub(crate) countersigned: Option<Approval>,
    pub(crate) phases: Vec<Phase>,
}

impl Record {
    /// Its devices, the excluded ones among them.
    pub(crate) fn size(&self) -> u64 {
        self.phases.iter().map(|phase| u64::from(phase.counts.size)).sum()
    }
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    release: Sha,
    spec: String,
    state: i16,
    state_reason: Option<String>,
    created_at: Ms,
    started_at: Option<Ms>,
    ended_at: Option<Ms>,
    open_phase: i64,
    streak: String,
    undoes: Option<String>,
    created_by: String,
    edited_by: Option<String>,
    countersigned_by: Option<String>,
    countersigned_at: Option<Ms>,
}

/// The columns of a [`Row`].
#[diesel::dsl::auto_type(no_type_alias)]
fn columns() -> _ {
    (
        rollouts::id,
        rollouts::release,
        rollouts::spec,
        rollouts::state,
        rollouts::state_reason,
        rollouts::created_at,
        rollouts::started_at,
        rollouts::ended_at,
        rollouts::open_phase,
        rollouts::streak,
        rollouts::undoes,
        rollouts::created_by,
        rollouts::edited_by,
        rollouts::countersigned_by,
        rollouts::countersigned_at,
    )
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
            streak: Streak(from_json(&self.streak)?),
            takes_back: self.undoes.as_deref().map(parse).transpose()?,
            created_by: self.created_by,
            edited_by: self.edited_by,
            countersigned: Approval::of(self.countersigned_at, self.countersigned_by),
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
        let phases = phases::of(conn, row.id)?;
        records.push(row.into_record(phases)?);
    }
    Ok(records)
}

/// One rollout.
pub(crate) fn get(conn: &mut DbConn, id: RolloutId) -> QueryResult<Option<Record>> {
    let row = find(conn, rollouts::table.find(Uid::from(id)).select(columns()))?;
    Ok(with_phases(conn, row.into_iter().collect())?.pop())
}

/// One rollout by its name.
pub(crate) fn by_name(conn: &mut DbConn, name: &RolloutName) -> QueryResult<Option<Record>> {
    let row = find(conn, rollouts::table.filter(rollouts::name.eq(name.to_string())).select(columns()))?;
    Ok(with_phases(conn, row.into_iter().collect())?.pop())
}

/// Whether there is a rollout of that name.
pub(crate) fn exists(conn: &mut DbConn, name: &RolloutName) -> QueryResult<bool> {
    let found: Option<Uid> =
        find(conn, rollouts::table.filter(rollouts::name.eq(name.to_string())).select(rollouts::id))?;
    Ok(found.is_some())
}

/// Running and paused rollouts, and cancelled ones that devices must still be told of.
pub(crate) fn active(conn: &mut DbConn) -> QueryResult<Vec<Record>> {
    let states = [RolloutState::Running, RolloutState::Paused].map(column).to_vec();
    let rows = load(conn, rollouts::table.filter(rollouts::state.eq_any(states)).select(columns()))?;
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
    let query = query.select(columns());
    let rows = match state {
        Some(state) => load(conn, query.filter(rollouts::state.eq(column(state))))?,
        None => load(conn, query)?,
    };
    with_phases(conn, rows)
}

/// The rollouts of a release, newest first.
pub(crate) fn of_release(conn: &mut DbConn, release: Digest, limit: i64) -> QueryResult<Vec<Record>> {
    let query = rollouts::table.filter(rollouts::release.eq(Sha(release))).order(rollouts::id.desc()).limit(limit);
    let rows = load(conn, query.select(columns()))?;
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
        rollouts::streak.eq(to_json(&record.streak.0)?),
        (rollouts::offer_minute.eq(0_i64), rollouts::offers.eq(0_i64)),
        rollouts::undoes.eq(record.takes_back.as_ref().map(RolloutName::as_str)),
        rollouts::created_by.eq(record.created_by.as_str()),
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
        rollouts::countersigned_by.eq(record.countersigned.as_ref().map(|approval| approval.by.as_str())),
        rollouts::countersigned_at.eq(record.countersigned.as_ref().map(|approval| Ms::from(approval.at))),
    );
    execute(conn, diesel::update(rollouts::table.find(Uid::from(record.id))).set(values)).map(drop)
}

/// Writes what a rollout is to do, and who said so last.
pub(crate) fn rewrite(conn: &mut DbConn, record: &Record) -> QueryResult<()> {
    let values = (
        rollouts::spec.eq(to_json(&record.spec)?),
        rollouts::release.eq(Sha(record.release)),
        rollouts::edited_by.eq(record.edited_by.as_deref()),
    );
    execute(conn, diesel::update(rollouts::table.find(Uid::from(record.id))).set(values))?;
    update(conn, record)
}

/// The phase of each site, where whole sites move.
pub(crate) fn sites(conn: &mut DbConn, id: RolloutId) -> QueryResult<BTreeMap<SiteId, usize>> {
    let found: Option<Option<String>> = find(conn, rollouts::table.find(Uid::from(id)).select(rollouts::sites))?;
    found.flatten().map_or_else(|| Ok(BTreeMap::new()), |text| from_json(&text))
}

/// Writes the phase of each site.
pub(crate) fn set_sites(conn: &mut DbConn, id: RolloutId, sites: &BTreeMap<SiteId, usize>) -> QueryResult<()> {
    let row = diesel::update(rollouts::table.find(Uid::from(id)));
    execute(conn, row.set(rollouts::sites.eq(Some(to_json(sites)?)))).map(drop)
}

/// The failures since the last success of a rollout, and its name.
pub(crate) fn streak(conn: &mut DbConn, id: RolloutId) -> QueryResult<Option<(RolloutName, Streak)>> {
    let found: Option<(String, String)> =
        find(conn, rollouts::table.find(Uid::from(id)).select((rollouts::name, rollouts::streak)))?;
    found.map(|(name, streak)| Ok((parse(&name)?, Streak(from_json(&streak)?)))).transpose()
}

/// Writes the failures since the last success.
pub(crate) fn set_streak(conn: &mut DbConn, id: RolloutId, streak: &Streak) -> QueryResult<()> {
    let row = diesel::update(rollouts::table.find(Uid::from(id)));
    execute(conn, row.set(rollouts::streak.eq(to_json(&streak.0)?))).map(drop)
}

/// Names of rollouts with failures that wait for an operator, the newest first.
pub(crate) fn failing(conn: &mut DbConn, limit: i64) -> QueryResult<Vec<String>> {
    let failures: Vec<i16> =
        AssignmentState::ALL.into_iter().filter(|state| is_failure(*state)).map(column_of).collect();
    // The states narrow it down to what an index has, and of each rollout one row is enough.
    let waiting = assignments::table
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(rollouts::id))
        .filter(assignments::state.eq_any(failures))
        .filter(assignments::attention_since.is_not_null())
        .filter(life::own_assignment().assume_not_null());
    let found = rollouts::table.filter(dsl::exists(waiting)).order(rollouts::id.desc());
    load(conn, found.limit(limit).select(rollouts::name))
}

/// The rollout that takes back the release of the one called `name`.
pub(crate) fn taking_back(conn: &mut DbConn, name: &RolloutName) -> QueryResult<Option<RolloutId>> {
    let query = rollouts::table.filter(rollouts::undoes.eq(Some(name.to_string()))).select(rollouts::id);
    let found: Option<Uid> = find(conn, query)?;
    Ok(found.map(Uid::id))
}

/// Writes what a rollout has offered lately.
pub(crate) fn set_offers(conn: &mut DbConn, id: RolloutId, offers: Offers) -> QueryResult<()> {
    let row = diesel::update(rollouts::table.find(Uid::from(id)));
    let values = (rollouts::offer_minute.eq(offers.minute), rollouts::offers.eq(to_i64(offers.made)));
    execute(conn, row.set(values)).map(drop)
}
