//! The check-in: a device says what it runs and is told what to do.
//!
//! Nothing here touches the database unless something changes: the device and the catalog are in memory, last-seen is
//! written behind. What is granted is committed before the answer leaves. A device that wants to wait for something new is
//! decided about again whenever there may be something; [`wait`] says what would be new to it.

mod wait;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use callboard_policy::{
    catalog::Catalog,
    decide::{Decision, Step, decide},
    device::{self, Absence, Contact, Device},
    guard::Loads,
    rhythm::Rhythm,
    window::Clock,
};
use callboard_proto::{
    check_in::{CheckIn, Facts},
    ids::AssignmentId,
    instruction::{Action, Instruction},
    problem::Code,
    state::AssignmentState,
    time::Timestamp,
};

use super::{
    App, Error, Result, assignments, attacks, bandwidth,
    clones::{self, Sign},
    devices::{self, Known, LastContact},
    grants::{self, Basis, Outcome},
    loads::{self, Wanted},
};
use crate::db::{
    self,
    devices::{Record, Seen},
    events::NewEvent,
};
pub(crate) use wait::{Arrival, Question, Reply, Told};

/// Decisions in a row that were overtaken by something else before the device is asked to come again.
const TRIES: usize = 4;
/// Steps of one check-in: each rollout may want something written down, and that many are never active at once.
const MAX_STEPS: usize = 256;

/// Answers a check-in with a signed instruction, or says that it may wait.
pub(crate) async fn answer(app: &App, known: Arc<Known>, question: &mut Question) -> Result<Reply> {
    question.check()?;
    let began = Instant::now();
    let now = app.clock.now();
    let body = &question.body;
    let before = devices::last_contact(app, &known, &body.boot_id, now).await?;
    let contact = Contact {
        last_seen: before.last_seen,
        absence: Absence::at(now, before.last_seen, app.poll_interval, before.absence),
        boot_changed: before.boot_id.as_ref().is_some_and(|boot| *boot != body.boot_id),
        owed: before.owed,
        poll_interval: app.poll_interval,
        works_on: works_on(&known.record.device, body),
        free_bytes: body.free_bytes,
    };
    let known = if question.noted || same_facts(&known.record, &body.facts) {
        known
    } else {
        learn(app, &known, body.facts.clone(), now).await?
    };
    if let Some(tz) = Clock::of(&known.record.device, now).own() {
        app.foresee(tz);
    }
    let (known, mut decision) = settle(app, known, &contact, now).await?;
    let rate = bandwidth::allot(app, &app.catalog().catalog, &known.record.device, &mut decision, true, now).await?;
    // Only now: a check-in that was not answered has not used up the offer of a new connection. Only once: after a wait
    // the device may be gone.
    let owed = decision.owes_offer.then(|| contact.owed_after(now));
    if question.noted {
        known.owe(owed);
    } else {
        let sign = note(app, &known, question, &before, &Contact { owed, ..contact }, now);
        question.noted = true;
        if let Some(sign) = sign {
            clones::say(app, &known, sign, now).await?;
        }
    }
    let mut instruction = instruct(app, &known.record.device, &decision, question, now);
    instruction.max_bytes_per_s = rate;
    instruction.next_checkin_s = question.next_checkin_s(&instruction);
    if let Some(until) = question.waits(&instruction, decision.next_check_in) {
        return Ok(Reply::Later(until));
    }
    let asks_again = now + Duration::from_secs(instruction.next_checkin_s.into());
    known.set_told(Told::of(&instruction), asks_again);
    app.metrics.check_in(instruction.action, began.elapsed());
    app.fleet.checked_in(now);
    let snapshot = app.snapshot.load();
    let online = |version| snapshot.root.as_ref().map_or(&[][..], |root| root.online_of(version));
    let signed = app.signer.sign(&instruction, online(question.body.root_version), online(instruction.root_version));
    signed.map(Reply::Signed).map_err(|source| Error::Unexpected(format!("answer a check-in: {source}")))
}

/// Keeps what a check-in says of the device, and what is owed to it after that. Says what is strange about it.
fn note(
    app: &App,
    known: &Known,
    question: &Question,
    before: &LastContact,
    contact: &Contact,
    now: Timestamp,
) -> Option<Sign> {
    let body = &question.body;
    let attacks = attacks::told(&body.attacks);
    if before.attacks.as_ref().map_or(!attacks.is_empty(), |told| *told != attacks) {
        app.attacks.note(known.record.device.id, attacks.clone());
    }
    let rhythm = rhythm(app, &known.record.device, before, now);
    let busy = contact.works_on.map(|id| (now, id));
    let enrolled_at = known.record.device.enrolled_at;
    let (trace, sign) = clones::follow(enrolled_at, before, body, now);
    app.presence.note(
        known.record.device.id,
        Seen {
            at: now,
            boot_id: body.boot_id.clone(),
            absence: contact.absence,
            owed: contact.owed,
            busy,
            rhythm,
            address: question.arrival.address.clone(),
            root: body.root_version,
            ca: question.arrival.issuer,
            trace: trace.clone(),
        },
    );
    known.set_contact(LastContact {
        last_seen: Some(now),
        absence: contact.absence,
        owed: contact.owed,
        boot_id: Some(body.boot_id.clone()),
        state: Some(body.state),
        progress: body.progress.clone(),
        last_error: body.last_error.clone(),
        works_on: contact.works_on,
        free_bytes: contact.free_bytes,
        told: before.told,
        asks_again: before.asks_again,
        rhythm: Some(rhythm),
        attacks: Some(attacks),
        trace: Some(trace),
    });
    sign
}

/// When the device is usually there, as this check-in shows it.
fn rhythm(app: &App, device: &Device, before: &LastContact, now: Timestamp) -> Rhythm {
    let online_for = device::online_for(app.poll_interval);
    before.rhythm.unwrap_or_else(|| Rhythm::guess(device, now)).seen(before.last_seen, now, online_for)
}

/// What the agent says that it is at; one that says no more than that it is at something can mean one thing only, if it
/// has only one.
fn works_on(device: &Device, body: &CheckIn) -> Option<AssignmentId> {
    body.state.assignment_state()?;
    let mut open =
        device.assignments.iter().filter(|one| !one.state.is_final() || one.state == AssignmentState::TimedOut);
    match &body.progress {
        Some(progress) => Some(progress.assignment_id),
        None => open.next().filter(|_| open.next().is_none()).map(|one| one.id),
    }
}

/// Decides, and takes the steps that write, until there is an answer.
async fn settle(app: &App, mut known: Arc<Known>, contact: &Contact, now: Timestamp) -> Result<(Arc<Known>, Decision)> {
    let mut denied = Loads::new();
    let (mut overtaken, mut steps) = (0, 0);
    while overtaken < TRIES && steps < MAX_STEPS {
        steps += 1;
        let snapshot = app.catalog();
        let device = &known.record.device;
        let decision = propose(app, &snapshot.catalog, device, contact, now, denied.clone()).await?;
        if let Step::Nothing
        | Step::Hold { .. }
        | Step::ContinueDownload { .. }
        | Step::ContinueActivation { .. }
        | Step::Recall { .. } = decision.step
        {
            return Ok((known, decision));
        }
        let basis = Basis {
            generation: snapshot.catalog.generation,
            revision: known.record.revision,
            device: device.clone(),
            now,
        };
        let wanted = loads::wanted(&snapshot.catalog, device, decision.step);
        let outcome = grants::take(app, basis, decision.step, wanted).await?;
        known = devices::reread(app, &known).await?;
        match outcome {
            Outcome::Done { catalog_changed } => {
                if catalog_changed {
                    app.reload_catalog().await?;
                }
                // After an offer, an activation or a cancellation there is an answer; else look on.
                if decision.step.is_answer() {
                    return Ok((known, decision));
                }
            }
            Outcome::Stale => {
                overtaken += 1;
                app.refresh_catalog().await?;
            }
            Outcome::Denied(rollout, load) => {
                overtaken += 1;
                denied.insert(rollout, load);
            }
        }
    }
    Err(Error::refused(Code::Unavailable, "rollouts are changing too fast; check in again"))
}

/// Decides, with the loads of the rollouts whose limits stand in the way. `loads` are those known so far.
async fn propose(
    app: &App,
    catalog: &Catalog,
    device: &Device,
    contact: &Contact,
    now: Timestamp,
    mut loads: Loads,
) -> Result<Decision> {
    loop {
        let decision = decide(now, catalog, device, contact, &loads);
        match loads::wanted(catalog, device, decision.step) {
            Some(Wanted { rollout, grant, .. })
                if rollout.plan.limits.concern(grant) && !loads.contains_key(&rollout.id) =>
            {
                loads.insert(rollout.id, loads::read(app, rollout, device.site.as_ref()).await?);
            }
            _ => return Ok(decision),
        }
    }
}

/// What the decision means for the device.
fn instruct(app: &App, device: &Device, decision: &Decision, question: &Question, now: Timestamp) -> Instruction {
    let body = &question.body;
    let (action, assignment, granted_until) = match decision.step {
        Step::GrantDownload { rollout, .. } => (Action::Download, device.assignment(rollout).map(|one| one.id), None),
        Step::ContinueDownload { assignment } => (Action::Download, Some(assignment), None),
        Step::GrantActivation { assignment, not_after } | Step::ContinueActivation { assignment, not_after } => {
            (Action::Install, Some(assignment), not_after)
        }
        Step::Cancel { assignment, .. } | Step::Recall { assignment } => (Action::Cancel, Some(assignment), None),
        Step::Hold { assignment } => (Action::Hold, assignment, None),
        // All but the first are followed by another decision.
        Step::Nothing
        | Step::CloseAsInstalled { .. }
        | Step::Regress { .. }
        | Step::TryAgain { .. }
        | Step::Hear { .. }
        | Step::Defer { .. }
        | Step::Exclude { .. } => (Action::None, None, None),
    };
    let assignment = assignment.and_then(|id: AssignmentId| device.assignments.iter().find(|one| one.id == id));
    let snapshot = app.snapshot.load();
    let allow_downgrade = assignment
        .and_then(|one| snapshot.catalog.rollout(one.rollout))
        .is_some_and(|rollout| rollout.plan.allow_downgrade);
    let next = decision.next_check_in.min(app.poll_interval);
    Instruction {
        v: 1,
        issued_at: now,
        crit: Vec::new(),
        device_id: device.id,
        nonce: body.nonce,
        request_sha256: question.arrival.request,
        server_time: now,
        action,
        reason: decision.reason.clone(),
        release_sha256: assignment.map(|one| one.release),
        assignment_id: assignment.map(|one| one.id),
        // A cancelled or requeued assignment has begun its next attempt already; the device knows the one before.
        attempt: assignment.map(|one| match (action, &body.progress) {
            (Action::Cancel, Some(progress)) if progress.assignment_id == one.id => progress.attempt,
            _ => one.attempt,
        }),
        not_before: decision.right.map(|right| right.not_before),
        not_after: decision.right.map(|right| right.not_after).or(granted_until),
        offline_activation: decision.right.is_some(),
        activate_on: decision.right.map(|right| right.on).unwrap_or_default(),
        allow_downgrade,
        max_bytes_per_s: None,
        next_checkin_s: u32::try_from(next.as_secs()).unwrap_or(u32::MAX).max(1),
        root_version: snapshot.root.as_ref().map_or(0, |root| root.root.version),
        head_serial: snapshot.root.as_ref().and_then(|root| Some(root.head.as_ref()?.head.serial)),
        want: Vec::new(),
    }
}

/// A device begins anew at most so often: one that tells of another image again and again would have every failure
/// forgotten, and every offer made to it.
const BETWEEN_IMAGES: Duration = Duration::from_secs(86_400);

/// Writes down what a device reports about itself. A system that was installed anew is a new beginning.
async fn learn(app: &App, known: &Known, facts: Facts, now: Timestamp) -> Result<Arc<Known>> {
    let id = known.record.device.id;
    let imaged = begins_anew(&known.record, &facts, now);
    app.db
        .write(move |conn| {
            if imaged {
                assignments::begin_anew(conn, id, now)?;
                db::devices::set_imaged(conn, id, now)?;
                let text = "its system was installed anew; it begins anew";
                db::events::insert(conn, now, &NewEvent::device("device.imaged", id, text))?;
            }
            Ok::<_, Error>(db::devices::set_facts(conn, id, &facts, now)?)
        })
        .await?;
    if imaged {
        app.refresh_catalog().await?;
    }
    devices::reread(app, known).await
}

/// Whether the device tells of another installation than before. The first one that it tells of is none.
fn begins_anew(record: &Record, facts: &Facts, now: Timestamp) -> bool {
    let another = record.image_id.as_ref().zip(facts.image_id.as_ref()).is_some_and(|(before, now)| before != now);
    another && record.imaged_at.is_none_or(|last| last + BETWEEN_IMAGES <= now)
}

/// Whether the registry has these facts already.
fn same_facts(record: &Record, facts: &Facts) -> bool {
    let device = &record.device;
    // The registry keeps them in the order of the products, of which each stands once.
    let installed = device.installed.len() == facts.installed.len()
        && facts.installed.iter().all(|one| device.installed.contains(one));
    device.hw == facts.hw
        && device.arch == facts.arch
        && device.agent == facts.agent
        && device.tz.map(|tz| tz.name()) == db::devices::known_zone(facts.tz.as_deref())
        && device.channels == facts.channels
        && device.attributes == facts.attributes
        && (facts.image_id.is_none() || record.image_id == facts.image_id)
        && installed
}
