//! Reports: what became of assignments. Many reports are committed together; each is answered when it is durable.

use callboard_policy::assignment::{Event, Terms, Unheard, hear};
use callboard_proto::{
    ids::DeviceId,
    problem::Code,
    report::{Event as Reported, Receipt, RefusedReport, Report},
    time::Timestamp,
};

use super::{
    App, Error, Result,
    devices::{self, Known},
    grants::happen,
    rollouts::advance::advance,
};
use crate::db::{self, DbConn, assignments::Record, events::NewEvent};

/// Takes the reports of one device, oldest first.
pub(crate) async fn reports(app: &App, known: &Known, reports: Vec<Report>) -> Result<Receipt> {
    let (device, now) = (known.record.device.id, app.clock.now());
    let (receipt, changes) = app
        .db
        .write(move |conn| {
            let mut receipt = Receipt { accepted: Vec::new(), refused: Vec::new() };
            let mut changes = Vec::new();
            for report in reports {
                let key = report.key();
                match one(conn, device, report, now)? {
                    Ok(change) => {
                        changes.push(change);
                        receipt.accepted.push(key);
                    }
                    Err((code, detail)) => {
                        receipt.refused.push(RefusedReport { report: key, code: code.as_str().to_owned(), detail });
                    }
                }
            }
            if changes.iter().any(|change| *change != Change::Nothing) {
                db::devices::touch(conn, device, now)?;
            }
            Ok::<_, Error>((receipt, changes))
        })
        .await?;
    receipt.refused.iter().for_each(|refused| app.metrics.report_refused(device, refused));
    changes.iter().for_each(|change| app.metrics.report(*change != Change::Nothing));
    if changes.iter().any(|change| *change != Change::Nothing) {
        devices::reread(app, known).await?;
    }
    if changes.contains(&Change::Catalog) {
        app.reload_catalog().await?;
    }
    Ok(receipt)
}

/// What a report that was taken has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Assignment,
    /// The assignment, and rollouts or phases by it.
    Catalog,
}

/// Takes one report, or says why it will never be taken. One that changes nothing leaves no event: a device could send
/// any number of them.
fn one(
    conn: &mut DbConn,
    device: DeviceId,
    report: Report,
    now: Timestamp,
) -> Result<std::result::Result<Change, (Code, String)>> {
    let found = db::assignments::get(conn, report.assignment_id)?;
    let Some(mut record) = found.filter(|record| record.device == device) else {
        return Ok(Err((Code::NotYourAssignment, format!("assignment {} is not this device's", report.assignment_id))));
    };
    let terms = db::rollouts::lean(conn, record.assignment.rollout)?.map_or(
        Terms { max_attempts: 1, offline_activation: false },
        |rollout| Terms {
            max_attempts: rollout.spec.max_attempts,
            offline_activation: rollout.spec.offline_activation,
        },
    );
    let heard = match hear(&record.assignment, record.seq, &report, terms) {
        Ok(Some(heard)) => heard,
        // Taken before; the answer was lost.
        Ok(None) => return Ok(Ok(Change::Nothing)),
        Err(unheard) => return Ok(Err((code(unheard), unheard.to_string()))),
    };
    let before = (record.assignment.state, record.assignment.attempt);
    if heard.alone {
        begin_alone(conn, &mut record, now)?;
    }
    record.seq = report.seq;
    record.failure = report.failure.clone().or(record.failure);
    happen(conn, &mut record, heard.event, now)?;
    if (record.assignment.state, record.assignment.attempt) == before {
        return Ok(Ok(Change::Nothing));
    }
    log(conn, &record, &report, now)?;
    Ok(Ok(if advance(conn, record.assignment.rollout, now)? { Change::Catalog } else { Change::Assignment }))
}

fn code(unheard: Unheard) -> Code {
    match unheard {
        Unheard::OtherRelease(_) => Code::NotYourAssignment,
        Unheard::OtherAttempt { .. } => Code::StaleAttempt,
        Unheard::Illegal(_) => Code::IllegalTransition,
    }
}

/// The device used the right that it was given beforehand; from now on it is as if it had been granted.
fn begin_alone(conn: &mut DbConn, record: &mut Record, now: Timestamp) -> Result<()> {
    happen(conn, record, Event::ActivatedAlone, now)?;
    let text = "it could not ask, and activated within the time that it had been told before";
    let event = NewEvent {
        rollout: Some(record.assignment.rollout),
        ..NewEvent::device("assignment.alone", record.device, text)
    };
    Ok(db::events::insert(conn, now, &event)?)
}

fn log(conn: &mut DbConn, record: &Record, report: &Report, now: Timestamp) -> Result<()> {
    let what = match report.event {
        Reported::Downloading => "is downloading",
        Reported::Staged => "has it staged",
        Reported::Deferred => "puts it off",
        Reported::Activating => "is switching",
        Reported::Verifying => "runs it on probation",
        Reported::Succeeded => "runs it",
        Reported::RolledBack => "rolled back",
        Reported::Failed => "failed",
        Reported::Cancelled => "dropped it",
    };
    let mut text = format!("attempt {}: {what}", report.attempt);
    if let Some(failure) = &report.failure {
        // The end of a long output is where the reason stands; all of it is with the assignment.
        let tail: Vec<char> = failure.text.chars().rev().take(500).collect();
        let tail: String = tail.into_iter().rev().collect();
        text = format!("{text} ({}: {tail})", failure.code);
    }
    let event = NewEvent {
        rollout: Some(record.assignment.rollout),
        ..NewEvent::device("assignment.reported", record.device, text)
    };
    Ok(db::events::insert(conn, now, &event)?)
}
