//! Assignments: one device in one rollout. Rows are made at the first grant.

use std::collections::{HashMap, HashSet};

use callboard_policy::{
    assignment::is_failure,
    device::{Assignment, Deferral, Device},
    rhythm::Rhythm,
    timer,
};
use callboard_proto::{
    ids::{AssignmentId, DeviceId, RolloutId, SiteId},
    report::Failure,
    state::AssignmentState,
    time::Timestamp,
};
use diesel::{
    AsChangeset, ExpressionMethods, Insertable, NullableExpressionMethods as _, QueryDsl, QueryResult, Queryable,
};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::{
    conn::{DbConn, execute, find, load},
    life, penalties,
    schema::{assignments, devices, releases, rollouts},
    types::{Ms, Sha, Uid, at_place, from_json, parse, place, to_i64, to_json, to_u32, to_u64},
};

/// What of its release an assignment is read with.
const OF_RELEASE: (releases::product, releases::epoch, releases::counter) =
    (releases::product, releases::epoch, releases::counter);

/// Devices that one statement asks for: every one is a bind parameter.
const AT_A_TIME: usize = 1000;

/// An assignment with what only the registry needs.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) assignment: Assignment,
    pub(crate) device: DeviceId,
    /// Number of the last report of this attempt.
    pub(crate) seq: u32,
    pub(crate) failure: Option<Failure>,
    /// Where the device stood when it was granted what it holds, or held last: one that moves keeps its place there.
    pub(crate) granted_site: Option<SiteId>,
    /// It was cancelled because the device left, not because anybody wanted it.
    pub(crate) departed: bool,
    pub(crate) updated_at: Timestamp,
    /// When the device is usually there, as far as its timers ask: any time, until one has gone off.
    pub(crate) rhythm: Rhythm,
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
    failures: i64,
    seq: i64,
    not_before: Option<Ms>,
    failure: Option<String>,
    granted_at: Ms,
    granted_site: Option<String>,
    heard_at: Ms,
    begun: i16,
    lapsed: i16,
    silent: i16,
    departed: i16,
    deferred: Option<i16>,
    attention_since: Option<Ms>,
    _timer_at: Option<Ms>,
    created_at: Ms,
    updated_at: Ms,
}

/// What of its release a row is read with: product, epoch, counter.
type Joined = (Row, (String, i64, i64));

impl Row {
    fn into_record(self, (product, epoch, counter): (String, i64, i64)) -> QueryResult<Record> {
        let deferred = self.deferred.map(|place| at_place(&Deferral::ALL, place, "deferral"));
        let assignment = Assignment {
            id: self.id.id(),
            rollout: self.rollout_id.id(),
            release: self.release.0,
            product: parse(&product)?,
            order: (to_u32(epoch), to_u64(counter)),
            phase: usize::try_from(self.phase).unwrap_or_default(),
            state: at_place(&AssignmentState::ALL, self.state, "assignment state")?,
            attempt: to_u32(self.attempt),
            failures: to_u32(self.failures),
            not_before: self.not_before.map(Into::into),
            offered_at: self.created_at.into(),
            granted_at: self.granted_at.into(),
            heard_at: self.heard_at.into(),
            begun: self.begun != 0,
            lapsed: self.lapsed != 0,
            silent: self.silent != 0,
            deferred: deferred.transpose()?,
            attention_since: self.attention_since.map(Into::into),
        };
        Ok(Record {
            assignment,
            device: self.device_id.id(),
            seq: to_u32(self.seq),
            failure: self.failure.as_deref().map(from_json).transpose()?,
            granted_site: self.granted_site.as_deref().map(parse).transpose()?,
            departed: self.departed != 0,
            updated_at: self.updated_at.into(),
            rhythm: Rhythm::ALWAYS,
        })
    }
}

/// The number under which a state is stored: its place in [`AssignmentState::ALL`].
pub(super) fn column(state: AssignmentState) -> i16 {
    place(&AssignmentState::ALL, &state)
}

/// Reads a device's assignments into it, and the releases that rolled back on it. A device that was imaged anew, or has
/// enrolled anew, has begun a new life.
pub(super) fn attach(conn: &mut DbConn, device: &mut Device, imaged_at: Option<Timestamp>) -> QueryResult<()> {
    let since = life::since(device.enrolled_at, imaged_at);
    let query = assignments::table
        .inner_join(releases::table)
        .filter(assignments::device_id.eq(Uid::from(device.id)))
        .filter(assignments::created_at.ge(Ms::from(since)))
        .order((assignments::created_at, assignments::id))
        .select((assignments::all_columns, OF_RELEASE));
    device.assignments = records(load(conn, query)?)?.into_iter().map(|record| record.assignment).collect();
    device.bad_releases = penalties::of(conn, device.id, since)?;
    Ok(())
}

fn records(rows: Vec<Joined>) -> QueryResult<Vec<Record>> {
    rows.into_iter().map(|(row, release)| row.into_record(release)).collect()
}

/// One assignment.
pub(crate) fn get(conn: &mut DbConn, id: AssignmentId) -> QueryResult<Option<Record>> {
    let query = assignments::table.inner_join(releases::table).filter(assignments::id.eq(Uid::from(id)));
    Ok(records(load(conn, query.select((assignments::all_columns, OF_RELEASE)))?)?.pop())
}

/// The assignment of a device in a rollout.
pub(crate) fn of(conn: &mut DbConn, rollout: RolloutId, device: DeviceId) -> QueryResult<Option<Record>> {
    let query = assignments::table
        .inner_join(releases::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::device_id.eq(Uid::from(device)));
    Ok(records(load(conn, query.select((assignments::all_columns, OF_RELEASE)))?)?.pop())
}

/// What is unfinished on a device or has failed there, of whichever life: it may still hold something, or count.
pub(crate) fn unsettled(conn: &mut DbConn, device: DeviceId) -> QueryResult<Vec<Record>> {
    let unsettled = AssignmentState::ALL.into_iter().filter(|state| !state.is_final() || is_failure(*state));
    let query = assignments::table
        .inner_join(releases::table)
        .filter(assignments::device_id.eq(Uid::from(device)))
        .filter(assignments::state.eq_any(unsettled.map(column).collect::<Vec<_>>()));
    records(load(conn, query.select((assignments::all_columns, OF_RELEASE)))?)
}

/// What a device that is in service was in when it left.
pub(crate) fn departed(conn: &mut DbConn, device: DeviceId) -> QueryResult<Vec<Record>> {
    let query = assignments::table
        .inner_join(releases::table)
        .inner_join(devices::table)
        .filter(devices::decommissioned_at.is_null())
        .filter(assignments::device_id.eq(Uid::from(device)))
        .filter(assignments::departed.eq(1));
    records(load(conn, query.select((assignments::all_columns, OF_RELEASE)))?)
}

/// An assignment whose timer went off.
pub(crate) struct Rung {
    pub(crate) record: Record,
    /// The last check-in at which the device was at work on it.
    pub(crate) busy_at: Option<Timestamp>,
}

/// Assignments whose timers have gone off by `now`, the longest overdue first.
pub(crate) fn rung(conn: &mut DbConn, now: Timestamp, limit: i64) -> QueryResult<Vec<Rung>> {
    type OfDevice = (Option<Ms>, Option<Uid>, Option<Vec<u8>>);
    let query = assignments::table
        .inner_join(releases::table)
        .inner_join(devices::table)
        .filter(assignments::timer_at.le(Some(Ms::from(now))))
        .order(assignments::timer_at.assume_not_null())
        .limit(limit)
        .select((assignments::all_columns, OF_RELEASE, (devices::busy_at, devices::busy_on, devices::rhythm)));
    let rows: Vec<(Row, (String, i64, i64), OfDevice)> = load(conn, query)?;
    let rung = |(row, release, (at, on, rhythm)): (Row, _, OfDevice)| {
        let mut record = row.into_record(release)?;
        record.rhythm = rhythm.as_deref().and_then(Rhythm::from_slice).unwrap_or_default();
        let own = on.map(Uid::id) == Some(record.assignment.id);
        Ok(Rung { record, busy_at: at.filter(|_| own).map(Into::into) })
    };
    rows.into_iter().map(rung).collect()
}

/// Whether a timer has gone off by `now`.
pub(crate) fn rings(conn: &mut DbConn, now: Timestamp) -> QueryResult<bool> {
    let query = assignments::table.filter(assignments::timer_at.le(Some(Ms::from(now))));
    let first: Option<Uid> = find(conn, query.select(assignments::id).limit(1))?;
    Ok(first.is_some())
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
        .inner_join(releases::table)
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::id.gt(Uid::from(after)))
        .order(assignments::id)
        .limit(limit)
        .select((assignments::all_columns, OF_RELEASE, devices::name));
    let rows: Vec<(Row, (String, i64, i64), String)> = match state {
        Some(state) => load(conn, query.filter(assignments::state.eq(column(state)))),
        None => load(conn, query),
    }?;
    rows.into_iter().map(|(row, release, name)| Ok((row.into_record(release)?, name))).collect()
}

/// The last assignments of a rollout that ended without success, with the names of their devices.
pub(crate) fn failures(conn: &mut DbConn, rollout: RolloutId, limit: i64) -> QueryResult<Vec<(Record, String)>> {
    let states = [AssignmentState::RolledBack, AssignmentState::Failed, AssignmentState::TimedOut].map(column);
    let query = assignments::table
        .inner_join(releases::table)
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::state.eq_any(states.to_vec()))
        .filter(life::own_assignment().assume_not_null())
        .order((assignments::updated_at.desc(), assignments::id.desc()))
        .limit(limit)
        .select((assignments::all_columns, OF_RELEASE, devices::name));
    let rows: Vec<(Row, _, String)> = load(conn, query)?;
    rows.into_iter().map(|(row, release, name)| Ok((row.into_record(release)?, name))).collect()
}

/// Numbers of the devices on which a rollout has succeeded, in the life that they lead now.
pub(crate) fn got(conn: &mut DbConn, rollout: RolloutId) -> QueryResult<RoaringBitmap> {
    let query = assignments::table
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::state.eq(column(AssignmentState::Succeeded)))
        .filter(devices::decommissioned_at.is_null())
        .filter(life::own_assignment().assume_not_null())
        .select(devices::number);
    let numbers: Vec<i64> = load(conn, query)?;
    Ok(numbers.into_iter().map(to_u32).collect())
}

/// A page of a rollout's assignments in some states, in the order of ids.
pub(crate) fn in_states(
    conn: &mut DbConn,
    rollout: RolloutId,
    states: &[AssignmentState],
    after: AssignmentId,
    limit: i64,
) -> QueryResult<Vec<Record>> {
    let states: Vec<i16> = states.iter().copied().map(column).collect();
    let query = assignments::table
        .inner_join(releases::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::state.eq_any(states))
        .filter(assignments::id.gt(Uid::from(after)))
        .order(assignments::id)
        .limit(limit);
    records(load(conn, query.select((assignments::all_columns, OF_RELEASE)))?)
}

/// Assignments that are read at a time.
const PAGE: i64 = 5000;

/// Hands over a rollout's assignments that are their devices' own, page by page in the order of ids.
pub(crate) fn each_own<E: From<diesel::result::Error>>(
    conn: &mut DbConn,
    rollout: RolloutId,
    mut take: impl FnMut(Vec<Record>) -> Result<(), E>,
) -> Result<(), E> {
    let mut after = Uid::from(AssignmentId::from_uuid(Uuid::nil()));
    loop {
        let query = assignments::table
            .inner_join(releases::table)
            .inner_join(devices::table)
            .filter(assignments::rollout_id.eq(Uid::from(rollout)))
            .filter(life::own_assignment().assume_not_null())
            .filter(assignments::id.gt(after))
            .order(assignments::id)
            .limit(PAGE);
        let page = records(load(conn, query.select((assignments::all_columns, OF_RELEASE)))?)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.assignment.id.into();
        take(page)?;
    }
}

/// How far a device is with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: AssignmentState,
    /// It was cancelled because the device left.
    pub(crate) departed: bool,
}

/// How far those of the devices are with a rollout that have begun with it in the life that they lead now.
pub(crate) fn standings(conn: &mut DbConn, rollout: RolloutId, numbers: &[u32]) -> QueryResult<HashMap<u32, Standing>> {
    let mut all = HashMap::new();
    for numbers in numbers.chunks(AT_A_TIME) {
        let query = assignments::table
            .inner_join(devices::table)
            .filter(assignments::rollout_id.eq(Uid::from(rollout)))
            .filter(devices::number.eq_any(numbers.iter().copied().map(i64::from).collect::<Vec<_>>()))
            .filter(life::own_assignment().assume_not_null())
            .select((devices::number, assignments::state, assignments::departed));
        let rows: Vec<(i64, i16, i16)> = load(conn, query)?;
        for (number, state, departed) in rows {
            let state = at_place(&AssignmentState::ALL, state, "assignment state")?;
            all.insert(to_u32(number), Standing { state, departed: departed != 0 });
        }
    }
    Ok(all)
}

/// Numbers of devices whose assignment in a rollout is in one of some states.
pub(crate) fn numbers(
    conn: &mut DbConn,
    rollout: RolloutId,
    states: &[AssignmentState],
    limit: usize,
) -> QueryResult<Vec<i64>> {
    let states: Vec<i16> = states.iter().copied().map(column).collect();
    let query = assignments::table
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::state.eq_any(states))
        .limit(to_i64(limit));
    load(conn, query.select(devices::number))
}

/// Those of the devices that have no assignment in a rollout.
pub(crate) fn without(conn: &mut DbConn, rollout: RolloutId, numbers: Vec<i64>) -> QueryResult<Vec<i64>> {
    let query = assignments::table
        .inner_join(devices::table)
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(devices::number.eq_any(numbers.clone()));
    let with: HashSet<i64> = load(conn, query.select(devices::number))?.into_iter().collect();
    Ok(numbers.into_iter().filter(|number| !with.contains(number)).collect())
}

/// A failure that waits for an operator.
pub(crate) struct Failing {
    pub(crate) record: Record,
    pub(crate) rollout: String,
    pub(crate) device: String,
    pub(crate) number: i64,
    pub(crate) site: Option<String>,
    pub(crate) version: String,
}

/// A page of failures that wait for an operator, of one rollout or of all, in the order of ids.
pub(crate) fn failing(
    conn: &mut DbConn,
    rollout: Option<RolloutId>,
    after: AssignmentId,
    limit: i64,
) -> QueryResult<Vec<Failing>> {
    type Names = (String, String, i64, Option<String>, String);
    let query = assignments::table
        .inner_join(releases::table)
        .inner_join(devices::table)
        .inner_join(rollouts::table)
        .filter(assignments::attention_since.is_not_null())
        .filter(life::own_assignment().assume_not_null())
        .filter(assignments::id.gt(Uid::from(after)))
        .order(assignments::id)
        .limit(limit)
        .select((
            assignments::all_columns,
            OF_RELEASE,
            (rollouts::name, devices::name, devices::number, devices::site_id, releases::version),
        ));
    let rows: Vec<(Row, (String, i64, i64), Names)> = match rollout {
        Some(rollout) => load(conn, query.filter(assignments::rollout_id.eq(Uid::from(rollout)))),
        None => load(conn, query),
    }?;
    let failing = |(row, release, (rollout, device, number, site, version)): (Row, _, Names)| {
        Ok(Failing { record: row.into_record(release)?, rollout, device, number, site, version })
    };
    rows.into_iter().map(failing).collect()
}

/// Writes a new assignment.
pub(crate) fn insert(conn: &mut DbConn, new: &Record, now: Timestamp) -> QueryResult<()> {
    let one = &new.assignment;
    let fixed = (
        assignments::id.eq(Uid::from(one.id)),
        assignments::rollout_id.eq(Uid::from(one.rollout)),
        assignments::device_id.eq(Uid::from(new.device)),
        assignments::release.eq(Sha(one.release)),
        assignments::phase.eq(to_i64(one.phase)),
        assignments::created_at.eq(Ms::from(one.offered_at)),
    );
    execute(conn, diesel::insert_into(assignments::table).values((fixed, Values::of(new, now)?))).map(drop)
}

/// Forgets an assignment of a device's former life.
pub(crate) fn delete(conn: &mut DbConn, id: AssignmentId) -> QueryResult<()> {
    execute(conn, diesel::delete(assignments::table.find(Uid::from(id)))).map(drop)
}

/// Writes what has changed of an assignment.
pub(crate) fn update(conn: &mut DbConn, record: &Record, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(assignments::table.find(Uid::from(record.assignment.id)));
    execute(conn, row.set(Values::of(record, now)?)).map(drop)
}

/// Takes the failures of a rollout off the list of those that need attention.
pub(super) fn acknowledge_failures(conn: &mut DbConn, rollout: RolloutId) -> QueryResult<()> {
    let noticed = [AssignmentState::RolledBack, AssignmentState::Failed].map(column).to_vec();
    let rows = assignments::table
        .filter(assignments::rollout_id.eq(Uid::from(rollout)))
        .filter(assignments::state.eq_any(noticed));
    execute(conn, diesel::update(rows).set(assignments::attention_since.eq(None::<Ms>))).map(drop)
}

/// Everything of an assignment that changes.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = assignments, treat_none_as_null = true)]
struct Values {
    state: i16,
    attempt: i64,
    failures: i64,
    seq: i64,
    not_before: Option<Ms>,
    failure: Option<String>,
    granted_at: Ms,
    granted_site: Option<String>,
    heard_at: Ms,
    begun: i16,
    lapsed: i16,
    silent: i16,
    departed: i16,
    deferred: Option<i16>,
    attention_since: Option<Ms>,
    timer_at: Option<Ms>,
    updated_at: Ms,
}

impl Values {
    fn of(record: &Record, now: Timestamp) -> QueryResult<Self> {
        let one = &record.assignment;
        Ok(Self {
            state: column(one.state),
            attempt: to_i64(one.attempt),
            failures: to_i64(one.failures),
            seq: to_i64(record.seq),
            not_before: one.not_before.map(Ms::from),
            failure: record.failure.as_ref().map(to_json).transpose()?,
            granted_at: one.granted_at.into(),
            granted_site: record.granted_site.as_ref().map(ToString::to_string),
            heard_at: one.heard_at.into(),
            begun: one.begun.into(),
            lapsed: one.lapsed.into(),
            silent: one.silent.into(),
            departed: (record.departed && one.state == AssignmentState::Cancelled).into(),
            deferred: one.deferred.map(|why| place(&Deferral::ALL, &why)),
            attention_since: one.attention_since.map(Ms::from),
            // Whoever changes an assignment sets its timer with it.
            timer_at: timer::next(one, one.heard_at, &record.rhythm).map(|(at, _)| at.into()),
            updated_at: now.into(),
        })
    }
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
