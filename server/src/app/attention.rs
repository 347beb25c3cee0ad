//! Needs attention: failures that no rollout tries again by itself, and what operators do about them.
//!
//! *Retry* begins anew, whatever failed before, and takes the penalty off a release that rolled back; a frozen rollout
//! that has completed runs again. *Skip* takes note: gates and this list look past the failure. *Cancel* ends the
//! device's part in the rollout, so that it does not count at all.

use std::sync::Arc;

use callboard_policy::{
    assignment::{self, Event, IllegalTransition},
    audience::Audience,
    device::Member,
    rollout::{Membership, RolloutState},
    selector::Selector,
};
use callboard_proto::{
    admin::{Dealt, DevicesOfRollout, MAX_NAMED, NotDealt},
    ids::{AssignmentId, DeviceId, RolloutId},
    problem::Code,
    state::AssignmentState as S,
    time::Timestamp,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    App, Because, Error, Result, assignments, catalog, devices, presence, releases,
    rollouts::{self, advance::advance, spec},
    trust::PublishedRoot,
};
use crate::db::{self, DbConn, assignments::Record as Assigned, devices::Record, events::NewEvent, selector::Context};

/// Devices in one transaction, so that no request waits long behind it.
const BATCH: usize = 200;

/// What is to be done about a device's part in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Retry,
    Skip,
    Cancel,
}

impl Deed {
    const fn event(self) -> Event {
        match self {
            Self::Retry => Event::Retried,
            Self::Skip => Event::Skipped,
            Self::Cancel => Event::Cancelled,
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Retry => "assignment.retried",
            Self::Skip => "assignment.skipped",
            Self::Cancel => "assignment.cancelled",
        }
    }

    /// Assignments that a selector may be about. What was cancelled comes back by name only.
    const fn states(self) -> &'static [S] {
        match self {
            Self::Retry | Self::Skip => &[S::RolledBack, S::Failed, S::TimedOut],
            Self::Cancel => &[S::Queued, S::Downloading, S::Staged, S::RolledBack, S::Failed, S::TimedOut],
        }
    }
}

/// Which devices.
pub(crate) enum Whom {
    Named(Vec<String>),
    Selected(Box<Selector>),
}

/// What was asked for, and by whom.
#[derive(Clone)]
struct Task {
    rollout: String,
    deed: Deed,
    because: Because,
    root: Arc<PublishedRoot>,
    now: Timestamp,
}

/// What one transaction did.
#[derive(Default)]
struct Done {
    dealt: Dealt,
    changed: Vec<DeviceId>,
    /// Where to go on.
    after: Option<After>,
    /// Who was in the rollout when it started, once somebody has asked.
    members: Option<Arc<Audience>>,
}

/// Where a selector has got to: it goes through a rollout's assignments, and to try again through the devices besides on
/// which its release rolled back in another one.
#[derive(Clone, Copy)]
enum After {
    Assignment(AssignmentId),
    Penalty(DeviceId),
}

/// Does it for every device that is meant.
pub(crate) async fn act(
    app: &App,
    rollout: String,
    deed: Deed,
    wanted: DevicesOfRollout,
    because: Because,
) -> Result<Dealt> {
    because.required()?;
    let root = app.newest_root().ok_or_else(|| Error::not_found("rollout", &rollout))?;
    let task = Task { rollout, deed, because, root, now: app.clock.now() };
    let (whom, named) = (Whom::of(wanted.devices.clone(), wanted.selector)?, wanted.devices);
    let asked = task.clone();
    match deal(app, task, whom).await {
        Ok(dealt) if dealt.total > 0 => Ok(dealt),
        other => {
            app.db.read(move |conn| is_told(conn, &asked, &named)).await?;
            other
        }
    }
}

/// Answers who does not see a rollout, and has no device in it, as if there was none.
fn is_told(conn: &mut DbConn, task: &Task, named: &[String]) -> Result<()> {
    let (by, record) = (&task.because.by, rollouts::resolve(conn, &task.rollout)?);
    if rollouts::is_within(conn, &by.sees, &record)? {
        return Ok(());
    }
    for name in named {
        match devices::resolve_for(conn, by, name, task.now) {
            Ok(device) if db::assignments::of(conn, record.id, device.device.id)?.is_some() => return Ok(()),
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::not_found("rollout", &task.rollout))
}

async fn deal(app: &App, task: Task, whom: Whom) -> Result<Dealt> {
    let mut dealt = Dealt::default();
    match whom {
        Whom::Named(names) => {
            for names in names.chunks(BATCH) {
                let (task, names) = (task.clone(), names.to_vec());
                let done = app.db.write(move |conn| named(conn, &task, names)).await?;
                add(app, &mut dealt, done).await?;
            }
        }
        Whom::Selected(selector) => {
            // Selectors may ask for presence.
            presence::flush(app).await?;
            let context = app.selector_context();
            let selector = Box::new(task.because.by.may.narrow(*selector));
            let mut after = Some(After::Assignment(AssignmentId::from_uuid(Uuid::nil())));
            while let Some(from) = after {
                let (task, selector) = (task.clone(), selector.clone());
                let done = app
                    .db
                    .write(move |conn| match from {
                        After::Assignment(id) => selected(conn, &task, &selector, &context, id),
                        After::Penalty(id) => penalised(conn, &task, &selector, &context, id),
                    })
                    .await?;
                after = done.after;
                add(app, &mut dealt, done).await?;
            }
        }
    }
    Ok(dealt)
}

impl Whom {
    /// Those that are named, or those that are selected.
    pub(crate) fn of(named: Vec<String>, selector: Option<String>) -> Result<Self> {
        let selector = selector.filter(|text| !text.trim().is_empty());
        match (named.is_empty(), selector) {
            (true, Some(text)) => Ok(Self::Selected(Box::new(devices::parse_selector(Some(&text))?))),
            (false, None) if named.len() > MAX_NAMED => {
                Err(Error::invalid(format!("{} devices; at most {MAX_NAMED} at a time", named.len())))
            }
            (false, None) => Ok(Self::Named(named)),
            (true, None) => Err(Error::invalid("neither devices nor a selector is given; say which devices")),
            (false, Some(_)) => Err(Error::invalid("devices and a selector are given; give one of them")),
        }
    }
}

async fn add(app: &App, dealt: &mut Dealt, done: Done) -> Result<()> {
    done.changed.iter().for_each(|device| app.forget_device(*device));
    if !done.changed.is_empty() {
        app.refresh_catalog().await?;
    }
    dealt.total += done.dealt.total;
    dealt.reopened |= done.dealt.reopened;
    dealt.refused.extend(done.dealt.refused);
    let room = MAX_NAMED.saturating_sub(dealt.devices.len());
    dealt.devices.extend(done.dealt.devices.into_iter().take(room));
    Ok(())
}

fn named(conn: &mut DbConn, task: &Task, names: Vec<String>) -> Result<Done> {
    let rollout = open(conn, task)?;
    let mut done = Done::default();
    for name in names {
        let outcome = match devices::resolve_for(conn, &task.because.by, &name, task.now) {
            Ok(device) => one(conn, task, &rollout, &device, &mut done)?,
            Err(Error::Refused { detail, .. }) => Err(detail),
            Err(error) => return Err(error),
        };
        if let Err(reason) = outcome {
            done.dealt.refused.push(NotDealt { device: name, reason });
        }
    }
    finish(conn, task, rollout.id, done)
}

fn selected(
    conn: &mut DbConn,
    task: &Task,
    selector: &Selector,
    context: &Context,
    after: AssignmentId,
) -> Result<Done> {
    let rollout = open(conn, task)?;
    let mut done = Done::default();
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let page = db::assignments::in_states(conn, rollout.id, task.deed.states(), after, limit)?;
    let begins = || After::Penalty(DeviceId::from_uuid(Uuid::nil()));
    done.after = match page.last().filter(|_| page.len() == BATCH) {
        Some(last) => Some(After::Assignment(last.assignment.id)),
        None => (task.deed == Deed::Retry).then(begins),
    };
    for found in page {
        let Some(device) = db::devices::get(conn, found.device)? else {
            continue;
        };
        if selector.matches(&device.device, &rollouts::seen(&device, context)) {
            // What cannot be done for a device that was not named is nobody's question.
            let _ = one(conn, task, &rollout, &device, &mut done)?;
        }
    }
    finish(conn, task, rollout.id, done)
}

/// The devices of the rollout that are kept from it because the release rolled back on them before it came.
fn penalised(conn: &mut DbConn, task: &Task, selector: &Selector, context: &Context, after: DeviceId) -> Result<Done> {
    let rollout = open(conn, task)?;
    let plan = spec::plan(&rollout.spec, rollout.release)?;
    let mut done = Done::default();
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let page = db::penalties::on(conn, rollout.release, after, limit)?;
    done.after = page.last().filter(|_| page.len() == BATCH).map(|last| After::Penalty(*last));
    for id in page {
        let Some(device) = db::devices::get(conn, id)?.filter(|one| one.device.assignment(rollout.id).is_none()) else {
            continue;
        };
        let seen = rollouts::seen(&device, context);
        let live = plan.audience == Membership::Live && plan.selector.matches(&device.device, &seen);
        let member = live || member(conn, &rollout, &device, &mut done)?.is_some();
        if member && selector.matches(&device.device, &seen) {
            let _ = one(conn, task, &rollout, &device, &mut done)?;
        }
    }
    finish(conn, task, rollout.id, done)
}

fn finish(conn: &mut DbConn, task: &Task, rollout: RolloutId, mut done: Done) -> Result<Done> {
    if done.changed.is_empty() {
        return Ok(done);
    }
    if task.deed == Deed::Retry {
        done.dealt.reopened = reopen(conn, task, rollout)?;
    }
    advance(conn, rollout, task.now)?;
    Ok(done)
}

/// The rollout, if something can be done about its devices.
fn open(conn: &mut DbConn, task: &Task) -> Result<db::rollouts::Record> {
    let record = rollouts::resolve(conn, &task.rollout)?;
    rollouts::check_edition(&task.because.by, &record)?;
    let name = &record.spec.name;
    let wrong = |detail: String| Err(Error::refused(Code::WrongState, detail));
    match record.state {
        RolloutState::Draft => wrong(format!("rollout {name} is a draft; none of its devices has failed")),
        RolloutState::Cancelled if task.deed == Deed::Retry => {
            wrong(format!("rollout {name} was cancelled; make another rollout of {}", record.spec.release))
        }
        _ if task.deed == Deed::Retry && record.spec.ends_at.is_some_and(|end| end <= task.now) => {
            wrong(format!("the end of rollout {name} has passed; make another rollout of {}", record.spec.release))
        }
        _ => Ok(record),
    }
}

/// Does it for one device; or says why not.
fn one(
    conn: &mut DbConn,
    task: &Task,
    rollout: &db::rollouts::Record,
    device: &Record,
    done: &mut Done,
) -> Result<std::result::Result<(), String>> {
    let id = device.device.id;
    if device.device.decommissioned {
        return Ok(Err("it is out of service".to_owned()));
    }
    let penalised = task.deed == Deed::Retry && db::penalties::lift(conn, id, rollout.release)?;
    // What it was in before it enrolled anew is over.
    let own = device.device.assignment(rollout.id).is_some();
    let found = if own { db::assignments::of(conn, rollout.id, id)? } else { None };
    let outcome = match found {
        Some(mut record) => existing(conn, task, &mut record)?
            .map_err(|illegal| format!("it is {}: {}", illegal.state.as_str(), illegal.refusal)),
        None if penalised => Ok(()),
        None if task.deed == Deed::Cancel => never(conn, task, rollout, device, done)?,
        None => Err(format!("rollout {} has not tried it", rollout.spec.name)),
    };
    if outcome.is_ok() {
        db::devices::touch(conn, id, task.now)?;
        let text = task.because.to_string();
        let event = NewEvent { rollout: Some(rollout.id), ..NewEvent::device(task.deed.kind(), id, text) };
        let after = json!({ "rollout": rollout.spec.name, "device": device.device.name });
        db::events::insert(conn, task.now, &task.because.by.did(event, &Value::Null, &after))?;
        done.changed.push(id);
        done.dealt.total += 1;
        done.dealt.devices.push(device.device.name.clone());
    }
    Ok(outcome)
}

fn existing(
    conn: &mut DbConn,
    task: &Task,
    record: &mut Assigned,
) -> Result<std::result::Result<(), IllegalTransition>> {
    let was = record.assignment.clone();
    if let Err(illegal) = assignment::happen(&mut record.assignment, record.device, task.deed.event(), task.now) {
        return Ok(Err(illegal));
    }
    assignments::save(conn, record, &was, task.now)?;
    Ok(Ok(()))
}

/// Keeps a rollout away from a member that it has not reached.
fn never(
    conn: &mut DbConn,
    task: &Task,
    rollout: &db::rollouts::Record,
    device: &Record,
    done: &mut Done,
) -> Result<std::result::Result<(), String>> {
    let member = member(conn, rollout, device, done)?;
    let Some(Member { phase, .. }) = member.filter(|member| member.excluded.is_none()) else {
        return Ok(Err(format!("rollout {} brings it nothing", rollout.spec.name)));
    };
    if let Some(former) = db::assignments::of(conn, rollout.id, device.device.id)? {
        assignments::forget(conn, &former, task.now)?;
    }
    let published =
        db::releases::get(conn, rollout.release)?.ok_or_else(|| Error::not_found("release", rollout.release))?;
    let release = releases::for_policy(&releases::open(&task.root, &published)?);
    let mut new = assignments::granted(rollout.id, &release, phase, &device.device, task.now);
    assignment::happen(&mut new.assignment, new.device, Event::Cancelled, task.now).map_err(assignments::unexpected)?;
    assignments::insert(conn, &new, task.now)?;
    Ok(Ok(()))
}

/// The device's place in the rollout.
fn member(
    conn: &mut DbConn,
    rollout: &db::rollouts::Record,
    device: &Record,
    done: &mut Done,
) -> Result<Option<Member>> {
    let members = match &done.members {
        Some(members) => members.clone(),
        None => done.members.insert(Arc::new(db::phases::audience(conn, rollout.id)?)).clone(),
    };
    Ok(catalog::active(rollout.clone(), members)?.member(&device.device))
}

/// A frozen rollout had completed because nothing was left to be done; now there is.
fn reopen(conn: &mut DbConn, task: &Task, id: RolloutId) -> Result<bool> {
    let Some(mut record) = db::rollouts::get(conn, id)?.filter(|record| record.state == RolloutState::Completed) else {
        return Ok(false);
    };
    // A live one ends at its end, which `open` has looked at.
    let frozen = spec::plan(&record.spec, record.release)?.audience == Membership::Frozen;
    if !frozen {
        return Ok(false);
    }
    record.state = RolloutState::Running;
    record.ended_at = None;
    db::rollouts::update(conn, &record)?;
    db::counters::bump_generation(conn)?;
    let text = format!("it had completed, and runs again for what is retried {}", task.because);
    let (before, after) = (json!({ "state": "completed" }), json!({ "state": "running" }));
    let event = task.because.by.did(NewEvent::rollout("rollout.reopened", id, text), &before, &after);
    db::events::insert(conn, task.now, &event)?;
    Ok(true)
}
