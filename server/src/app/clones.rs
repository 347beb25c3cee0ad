//! Copies: two machines that are one device, because a disk or an image was copied after it had enrolled.
//!
//! A device numbers its check-ins and never takes a number twice, tells of each boot by an id, and of its machine by a
//! digest. Two machines with one identity cannot keep in step with that: one of them comes back to a boot that is over,
//! or to a number below the last. Where the check-ins come from proves nothing: shops have two uplinks, and one address for
//! all their tills. A backup that was put back goes back once, under a boot that is new, and is noted and no alarm.

use std::time::Duration;

use callboard_proto::{admin::PossibleClone, check_in::CheckIn, ids::DeviceId, problem::Code, time::Timestamp};

use super::{
    Actor, App, Error, Reach, Result,
    devices::{self, Known, LastContact},
    part,
};
use crate::db::{
    self, DbConn,
    devices::{Record, Trace},
    events::NewEvent,
};

/// Strange check-ins in [`WITHIN`] that no network explains: one that was late makes two.
const STRIKES: u8 = 3;
const WITHIN: Duration = Duration::from_secs(86_400);
/// So long a device may be allowed to enrol again.
const LONGEST_ALLOWED: Duration = Duration::from_secs(31 * 86_400);

/// Something strange about a check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It came from other hardware than the one before.
    Hardware { before: String, now: String },
    /// Two machines are at work at the same time.
    TwoAtOnce,
    /// What it remembers is older than what was heard of it.
    SetBack { before: u64, now: u64 },
}

/// Goes on with what is known of a device's check-ins; says what is strange about this one.
pub(crate) fn follow(
    enrolled_at: Option<Timestamp>,
    before: &LastContact,
    body: &CheckIn,
    now: Timestamp,
) -> (Trace, Option<Sign>) {
    let hardware = body.facts.hardware_id.clone();
    let fresh = || Trace { seq: body.checkin_seq, hardware: hardware.clone(), ..Trace::default() };
    let enrolled_since = before.last_seen.is_none_or(|seen| enrolled_at.is_some_and(|at| at > seen));
    let (Some(trace), Some(boot), false) = (&before.trace, &before.boot_id, enrolled_since) else {
        return (fresh(), None);
    };
    let same_boot = *boot == body.boot_id;
    let boot_returns = !same_boot && trace.boot_before.as_ref() == Some(&body.boot_id);
    let back = body.checkin_seq < trace.seq;
    // A question that is asked again, because its answer was lost, has the number that it had.
    let strange = boot_returns || (same_boot && back);
    let recent = trace.strikes.filter(|(_, at)| now.since(*at) < WITHIN).map_or(0, |(strikes, _)| strikes);
    let strikes = recent.saturating_add(u8::from(strange));
    let next = Trace {
        seq: body.checkin_seq,
        hardware: hardware.clone().or_else(|| trace.hardware.clone()),
        boot_before: if same_boot { trace.boot_before.clone() } else { Some(boot.clone()) },
        strikes: if strange { (strikes < STRIKES).then_some((strikes, now)) } else { trace.strikes },
    };
    let sign = match (&trace.hardware, hardware) {
        (Some(before), Some(now)) if *before != now => Some(Sign::Hardware { before: before.clone(), now }),
        _ if strange && strikes >= STRIKES => Some(Sign::TwoAtOnce),
        _ if back && !strange => Some(Sign::SetBack { before: trace.seq, now: body.checkin_seq }),
        _ => None,
    };
    (next, sign)
}

/// Tells people.
pub(crate) async fn say(app: &App, known: &Known, sign: Sign, now: Timestamp) -> Result<()> {
    let (id, name) = (known.record.device.id, known.record.device.name.clone());
    let text = match &sign {
        Sign::Hardware { before, now } => format!("it runs on hardware {}, and ran on {}", short(now), short(before)),
        Sign::TwoAtOnce => "two machines check in as this device, in turn".to_owned(),
        Sign::SetBack { before, now } => {
            format!(
                "its state is older than what was heard of it (check-in {now} after {before}): a backup was put back"
            )
        }
    };
    let alarm = !matches!(sign, Sign::SetBack { .. });
    tracing::warn!(device.name = %name, "{}{text}", if alarm { "possible clone: " } else { "" });
    app.db
        .write(move |conn| {
            if !alarm {
                db::events::insert(conn, now, &NewEvent::device("device.set_back", id, text))?;
                return Ok(());
            }
            let before = db::devices::get(conn, id)?.and_then(|record| record.possible_clone);
            // Two that take turns are each other's news with every check-in: it is one question until somebody answers it.
            let news = before.is_none();
            let since = before.map_or(now, |before| before.since);
            db::devices::set_clone(conn, id, Some(PossibleClone { since, last: now, text: text.clone() }))?;
            if news {
                db::devices::touch(conn, id, now)?;
                db::events::insert(conn, now, &NewEvent::device("device.possible_clone", id, text))?;
            }
            Ok::<_, Error>(())
        })
        .await
}

/// Digests are long; these are for people to tell two of them apart.
fn short(hardware: &str) -> String {
    hardware.chars().take(8).collect()
}

/// Devices that may have copies, in the order of their numbers.
pub(crate) fn list(
    conn: &mut DbConn,
    reach: &Reach,
    place: part::Place<i64>,
    now: Timestamp,
) -> Result<part::Part<Record, i64>> {
    let keep = |_: &mut DbConn, page: &[Record]| Ok(page.iter().map(|one| reach.covers(&one.device, now)).collect());
    let read = |conn: &mut DbConn, after, rows| Ok(db::devices::doubted(conn, after, rows)?);
    part::read(conn, reach, place, |one| i64::from(one.device.number), read, keep)
}

/// An operator has looked at it: the device goes on as it is.
pub(crate) async fn keep(app: &App, actor: Actor, reference: String, reason: String) -> Result<Record> {
    if reason.trim().is_empty() {
        return Err(Error::invalid("reason is empty; say what was found"));
    }
    let (now, by) = (app.clock.now(), actor.name.clone());
    devices::change(app, actor, reference, move |conn, id| {
        doubted(conn, id)?;
        db::devices::set_clone(conn, id, None)?;
        db::devices::touch(conn, id, now)?;
        Ok(NewEvent::device("device.kept", id, format!("{reason}, by {by}")))
    })
    .await
}

fn doubted(conn: &mut DbConn, id: DeviceId) -> Result<()> {
    let record = db::devices::get(conn, id)?.filter(|record| record.possible_clone.is_none());
    record.map_or(Ok(()), |record| {
        let name = record.device.name;
        Err(Error::refused(Code::WrongState, format!("nothing says that device {name} has a copy")))
    })
}

/// Lets a device enrol again until then, or no more.
pub(crate) async fn allow_reenrolment(
    app: &App,
    actor: Actor,
    reference: String,
    until: Option<Timestamp>,
) -> Result<Record> {
    let now = app.clock.now();
    if let Some(until) = until
        && (until <= now || until.since(now) > LONGEST_ALLOWED)
    {
        let what = format!("until is {until}; a time within the next 31 days is wanted, and it is {now}");
        return Err(Error::invalid(what));
    }
    let by = actor.name.clone();
    devices::change(app, actor, reference, move |conn, id| {
        db::devices::set_reenrol_until(conn, id, until)?;
        db::devices::touch(conn, id, now)?;
        let text = match until {
            Some(until) => format!("may enrol again until {until}, by {by}"),
            None => format!("may not enrol again any more, by {by}"),
        };
        Ok(NewEvent::device("device.reenrolment", id, text))
    })
    .await
}

#[cfg(test)]
mod tests;
