//! Reports: what became of assignments. Many reports are committed together; each is answered when it is durable.

use callboard_policy::assignment::{Event, activated_alone, backoff, transition};
use callboard_proto::{
    ids::DeviceId,
    problem::Code,
    report::{Event as Reported, Receipt, RefusedReport, Report, ReportKey},
    time::Timestamp,
};

use super::{
    App, Error, Result,
    devices::{self, Known},
    grants::{move_to, unexpected},
    rollouts::advance::advance,
};
use crate::db::{self, DbConn, assignments::Record, events::NewEvent};

/// Takes the reports of one device, oldest first.
pub(crate) async fn reports(app: &App, known: &Known, reports: Vec<Report>) -> Result<Receipt> {
    let (device, now, count) = (known.record.device.id, app.clock.now(), reports.len());
    let mut entropy = [0; 8];
    getrandom::fill(&mut entropy).map_err(|source| Error::Unexpected(format!("draw random bytes: {source}")))?;
    let entropy = u64::from_be_bytes(entropy);
    let (receipt, changed) = app
        .db
        .write(move |conn| {
            let mut receipt = Receipt { accepted: Vec::new(), refused: Vec::new() };
            let mut changed = false;
            for report in reports {
                let key = report.key();
                match one(conn, device, report, entropy, now)? {
                    Ok(catalog_changed) => {
                        changed |= catalog_changed;
                        receipt.accepted.push(key);
                    }
                    Err((code, detail)) => receipt.refused.push(refused(conn, device, key, code, detail, now)?),
                }
            }
            db::devices::touch(conn, device, now)?;
            Ok::<_, Error>((receipt, changed))
        })
        .await?;
    devices::reread(app, known).await?;
    app.metrics.reports(count);
    if changed {
        app.reload_catalog().await?;
    }
    Ok(receipt)
}

fn refused(
    conn: &mut DbConn,
    device: DeviceId,
    report: ReportKey,
    code: Code,
    detail: String,
    now: Timestamp,
) -> Result<RefusedReport> {
    let event = NewEvent::device("report.refused", device, format!("{}: {detail}", code.as_str()));
    db::events::insert(conn, now, &event)?;
    Ok(RefusedReport { report, code: code.as_str().to_owned(), detail })
}

/// Takes one report; says whether the catalog has changed, or why the report will never be taken.
fn one(
    conn: &mut DbConn,
    device: DeviceId,
    report: Report,
    entropy: u64,
    now: Timestamp,
) -> Result<std::result::Result<bool, (Code, String)>> {
    let found = db::assignments::get(conn, report.assignment_id)?;
    let Some(mut record) = found.filter(|record| record.device == device) else {
        return Ok(Err((Code::NotYourAssignment, format!("assignment {} is not this device's", report.assignment_id))));
    };
    if report.release_sha256 != record.assignment.release {
        return Ok(Err((Code::NotYourAssignment, "the assignment is about another release".to_owned())));
    }
    let attempt = record.assignment.attempt;
    if report.attempt == attempt && report.seq <= record.seq {
        // Taken before; the answer was lost.
        return Ok(Ok(false));
    }
    if report.attempt != attempt {
        let detail = format!("the report is of attempt {}, the assignment is in attempt {attempt}", report.attempt);
        return Ok(Err((Code::StaleAttempt, detail)));
    }
    let rollout = db::rollouts::lean(conn, record.assignment.rollout)?;
    let alone = rollout.as_ref().is_some_and(|rollout| rollout.spec.offline_activation);
    if alone && activated_alone(record.assignment.state, report.event) {
        begin_alone(conn, &mut record, now)?;
    }
    let max_attempts = rollout.map_or(1, |rollout| rollout.spec.max_attempts);
    let class = report.failure.as_ref().map(|failure| failure.class);
    let event = Event::from_report(report.event, class, attempt, max_attempts);
    let new = match transition(record.assignment.state, event) {
        Ok(new) => new,
        Err(illegal) => return Ok(Err((Code::IllegalTransition, illegal.to_string()))),
    };
    record.seq = report.seq;
    record.failure = report.failure.clone().or(record.failure);
    if event == Event::FailedForNow {
        record.assignment.not_before = Some(now + backoff(attempt + 1, entropy ^ fold(record.assignment.id)));
    }
    move_to(conn, &mut record, new, event, now)?;
    log(conn, &record, &report, now)?;
    Ok(Ok(advance(conn, record.assignment.rollout, now)?))
}

/// The device used the right that it was given beforehand; from now on it is as if it had been granted.
fn begin_alone(conn: &mut DbConn, record: &mut Record, now: Timestamp) -> Result<()> {
    let event = Event::ActivatedAlone;
    let new = transition(record.assignment.state, event).map_err(unexpected)?;
    move_to(conn, record, new, event, now)?;
    let text = "it could not ask, and activated within the time that it had been told before";
    let event = NewEvent {
        rollout: Some(record.assignment.rollout),
        ..NewEvent::device("assignment.alone", record.device, text)
    };
    Ok(db::events::insert(conn, now, &event)?)
}

/// Devices of one batch of reports shall not come back together.
fn fold(id: callboard_proto::ids::AssignmentId) -> u64 {
    id.as_bytes()
        .chunks(8)
        .fold(0, |sum, part| part.iter().fold(sum, |sum: u64, byte| sum.rotate_left(7) ^ u64::from(*byte)))
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
