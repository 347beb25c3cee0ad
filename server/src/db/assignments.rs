//! Assignments: one device in one rollout. Rows are made at the first grant.

use callboard_policy::device::{Assignment, Device};
use callboard_proto::{
    ids::{AssignmentId, DeviceId, RolloutId, SiteId},
    report::Failure,
    state::AssignmentState,
    time::Timestamp,
};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::{assignments, devices},
    types::{Ms, Sha, Uid, at_place, from_json, parse, place, to_i64, to_json, to_u32},
};

/// An assignment with what only the registry needs.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) assignment: Assignment,
    pub(crate) device: DeviceId,
    /// Number of the last report of this attempt.
    pub(crate) seq: u32,
    pub(crate) failure: Option<Failure>,
    pub(crate) granted: Granted,
    pub(crate) updated_at: Timestamp,
}

/// When and where an assignment was granted what it holds, or held last. The site is that of the grant, so that a device
/// that moves keeps its place where it took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) at: Timestamp,
    pub(crate) site: Option<SiteId>,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    rollout_id: Uid,
    device_id: Uid,
    release: Sha,
    phase: i64,
    state: i16,
    attempt: i64,
    seq: i64,
    not_before: Option<Ms>,
    failure: Option<String>,
    granted_at: Ms,
    granted_site: Option<String>,
    created_at: Ms,
    updated_at: Ms,
}

impl Row {
    fn into_record(self) -> QueryResult<Record> {
        Ok(Record {
            assignment: Assignment {
                id: self.id.id(),
                rollout: self.rollout_id.id(),
                release: self.release.0,
                phase: usize::try_from(self.phase).unwrap_or_default(),
                state: at_place(&AssignmentState::ALL, self.state, "assignment state")?,
                attempt: to_u32(self.attempt),
                not_before: self.not_before.map(Into::into),
                offered_at: self.created_at.into(),
            },
            device: self.device_id.id(),
            seq: to_u32(self.seq),
            failure: self.failure.as_deref().map(from_json).transpose()?,
            granted: Granted { at: self.granted_at.into(), site: self.granted_site.as_deref().map(parse).transpose()? },
            updated_at: self.updated_at.into(),
        })
    }
}

/// The number under which a state is stored: its place in [`AssignmentState::ALL`].
pub(super) fn column(state: AssignmentState) -> i16 {
    place(&AssignmentState::ALL, &state)
}

/// Reads a device's assignments into it, and the releases that rolled back on it.
pub(super) fn attach(conn: &mut DbConn, device: &mut Device) -> QueryResult<()> {
    // A device that enrolled anew begins a new life.
    let since = device.enrolled_at.unwrap_or_default();
    let query = assignments::table
        .filter(assignments::device_id.eq(Uid::from(device.id)))
        .filter(assignments::created_at.ge(Ms::from(since)))
        .order(assignments::created_at);
    for row in load::<_, Row>(conn, query)? {
        let assignment = row.into_record()?.assignment;
        if assignment.state == AssignmentState::RolledBack {
            device.bad_releases.push(assignment.release);
        }
        device.assignments.push(assignment);
    }
    Ok(())
}

/// One assignment.
pub(crate) fn get(conn: &mut DbConn, id: AssignmentId) -> QueryResult<Option<Record>> {
    find::<_, Row>(conn, assignments::table.find(Uid::from(id)))?.map(Row::into_record).transpose()
}

/// The assignment of a device in a rollout.
pub(crate) fn of(conn: &mut DbConn, rollout: RolloutId, device: DeviceId) -> QueryResult<Option<Record>> {
    let query = assignments::table
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::device_id.eq(Uid::from(device)));
    find::<_, Row>(conn, query)?.map(Row::into_record).transpose()
}

/// A page of a rollout's assignments with the names of their devices, in the order of ids.
pub(crate) fn list(
    conn: &mut DbConn,
    rollout: RolloutId,
    state: Option<AssignmentState>,
    after: AssignmentId,
    limit: i64,
) -> QueryResult<Vec<(Record, String)>> {
    let query = assignments::table
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::id.gt(Uid::from(after)))
        .order(assignments::id)
        .limit(limit)
        .select((assignments::all_columns, devices::name));
    let rows: Vec<(Row, String)> = match state {
        Some(state) => load(conn, query.filter(assignments::state.eq(column(state)))),
        None => load(conn, query),
    }?;
    rows.into_iter().map(|(row, name)| Ok((row.into_record()?, name))).collect()
}

/// The last assignments of a rollout that ended without success, with the names of their devices.
pub(crate) fn failures(conn: &mut DbConn, rollout: RolloutId, limit: i64) -> QueryResult<Vec<(Record, String)>> {
    let states = [AssignmentState::RolledBack, AssignmentState::Failed, AssignmentState::TimedOut].map(column);
    let query = assignments::table
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::state.eq_any(states.to_vec()))
        .order((assignments::updated_at.desc(), assignments::id.desc()))
        .limit(limit)
        .select((assignments::all_columns, devices::name));
    let rows: Vec<(Row, String)> = load(conn, query)?;
    rows.into_iter().map(|(row, name)| Ok((row.into_record()?, name))).collect()
}

/// Writes a new assignment, made at `site` by its first grant.
pub(crate) fn insert(
    conn: &mut DbConn,
    device: DeviceId,
    new: &Assignment,
    site: Option<&SiteId>,
    now: Timestamp,
) -> QueryResult<()> {
    let row = (
        assignments::id.eq(Uid::from(new.id)),
        assignments::rollout_id.eq(Uid::from(new.rollout)),
        assignments::device_id.eq(Uid::from(device)),
        assignments::release.eq(Sha(new.release)),
        assignments::phase.eq(to_i64(new.phase)),
        assignments::state.eq(column(new.state)),
        assignments::attempt.eq(to_i64(new.attempt)),
        assignments::seq.eq(0_i64),
        (assignments::granted_at.eq(Ms::from(now)), assignments::granted_site.eq(site.map(SiteId::as_str))),
        assignments::created_at.eq(Ms::from(new.offered_at)),
        assignments::updated_at.eq(Ms::from(now)),
    );
    execute(conn, diesel::insert_into(assignments::table).values(row)).map(drop)
}

/// Forgets an assignment of a device's former life.
pub(crate) fn delete(conn: &mut DbConn, id: AssignmentId) -> QueryResult<()> {
    execute(conn, diesel::delete(assignments::table.find(Uid::from(id)))).map(drop)
}

/// Writes what has changed of an assignment.
pub(crate) fn update(conn: &mut DbConn, record: &Record, now: Timestamp) -> QueryResult<()> {
    let failure = record.failure.as_ref().map(to_json).transpose()?;
    let values = (
        assignments::state.eq(column(record.assignment.state)),
        assignments::attempt.eq(to_i64(record.assignment.attempt)),
        assignments::seq.eq(to_i64(record.seq)),
        assignments::not_before.eq(record.assignment.not_before.map(Ms::from)),
        assignments::failure.eq(failure),
        assignments::granted_at.eq(Ms::from(record.granted.at)),
        assignments::granted_site.eq(record.granted.site.as_ref().map(SiteId::as_str)),
        assignments::updated_at.eq(Ms::from(now)),
    );
    execute(conn, diesel::update(assignments::table.find(Uid::from(record.assignment.id))).set(values)).map(drop)
}

/// Assignments of running and paused rollouts, counted by state.
pub(crate) fn count_open(conn: &mut DbConn) -> QueryResult<Vec<(AssignmentState, i64)>> {
    let mut counts = Vec::new();
    for state in AssignmentState::ALL.into_iter().filter(|state| !state.is_final()) {
        let n: Option<i64> = find(conn, assignments::table.filter(assignments::state.eq(column(state))).count())?;
        counts.push((state, n.unwrap_or_default()));
    }
    Ok(counts)
}
