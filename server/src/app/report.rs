//! Reports: what became of assignments. Many reports are committed together; each is answered when it is durable.

use callboard_policy::assignment::{self, Event, Terms, Unheard, hear};
use callboard_proto::{
    ids::{DeviceId, SiteId},
    problem::Code,
    report::{Event as Reported, Receipt, RefusedReport, Report},
    time::Timestamp,
};

use super::{
    App, Error, Result,
    assignments::{self, unexpected},
    devices::{self, Known},
    rollouts::advance::advance,
};
use crate::db::{self, DbConn};

/// Takes the reports of one device, oldest first.
pub(crate) async fn reports(app: &App, known: &Known, reports: Vec<Report>) -> Result<Receipt> {
    let (device, now) = (known.record.device.id, app.clock.now());
    let site = known.record.device.site.clone();
    let (receipt, changes) = app
        .db
        .write(move |conn| {
            let mut receipt = Receipt { accepted: Vec::new(), refused: Vec::new() };
            let mut changes = Vec::new();
            for report in reports {
                let key = report.key();
                match one(conn, device, site.as_ref(), report, now)? {
                    Ok(change) => {
                        changes.push(change);
                        receipt.accepted.push(key);
                    }
                    Err((code, detail)) => {
                        receipt.refused.push(RefusedReport { report: key, code: code.as_str().to_owned(), detail });
                    }
                }
            }
            if changes.iter().any(Change::is_one) {
                db::devices::touch(conn, device, now)?;
            }
            Ok::<_, Error>((receipt, changes))
        })
        .await?;
    receipt.refused.iter().for_each(|refused| app.metrics.report_refused(device, refused));
    changes.iter().for_each(|change| app.metrics.report(change.is_one()));
    // What was taken before was not answered: the line was cut, and with it whatever was to be done after the commit.
    let again = changes.contains(&Change::Again)
        || receipt.refused.iter().any(|refused| refused.code == Code::StaleAttempt.as_str());
    if again || changes.iter().any(Change::is_one) {
        devices::reread(app, known).await?;
        app.waiting.ring(device);
    }
    if changes.contains(&Change::Catalog) {
        app.reload_catalog().await?;
    } else if again {
        app.refresh_catalog().await?;
    }
    Ok(receipt)
}

/// What a report that was taken has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    /// Nothing, as it was taken before.
    Again,
    Assignment,
    /// The assignment, and rollouts or phases by it.
    Catalog,
}

impl Change {
    const fn is_one(&self) -> bool {
        matches!(self, Self::Assignment | Self::Catalog)
    }
}

/// Takes one report, or says why it will never be taken. One that changes nothing leaves no event: a device could send
/// any number of them.
fn one(
    conn: &mut DbConn,
    device: DeviceId,
    site: Option<&SiteId>,
    report: Report,
    now: Timestamp,
) -> Result<std::result::Result<Change, (Code, String)>> {
    let found = db::assignments::get(conn, report.assignment_id)?;
    let Some(mut record) = found.filter(|record| record.device == device) else {
        return Ok(Err((Code::NotYourAssignment, format!("assignment {} is not this device's", report.assignment_id))));
    };
    let terms = db::rollouts::get(conn, record.assignment.rollout)?.map_or(
        Terms { max_attempts: 1, offline_activation: false },
        |rollout| Terms {
            max_attempts: rollout.spec.max_attempts,
            offline_activation: rollout.spec.offline_activation,
        },
    );
    let heard = match hear(&record.assignment, record.seq, &report, terms) {
        Ok(Some(heard)) => heard,
        Ok(None) => return Ok(Ok(Change::Again)),
        Err(unheard) => return Ok(Err((code(unheard), unheard.to_string()))),
    };
    let was = record.assignment.clone();
    record.seq = report.seq;
    record.failure = report.failure.clone().or(record.failure);
    if heard.alone {
        // From now on it is as if it had been granted.
        assignment::happen(&mut record.assignment, device, Event::ActivatedAlone, now).map_err(unexpected)?;
        record.granted_site = site.cloned();
        let text = "it could not ask, and activated as it had been allowed to before";
        assignments::log(conn, &record, "assignment.alone", text, now)?;
    }
    assignment::happen(&mut record.assignment, device, heard.event, now).map_err(unexpected)?;
    record.assignment.deferred = heard.deferral.or(record.assignment.deferred);
    let joined = assignments::save(conn, &mut record, &was, now)?;
    let is = &record.assignment;
    if *is == was {
        return Ok(Ok(Change::Nothing));
    }
    if (is.state, is.attempt, is.deferred) == (was.state, was.attempt, was.deferred) {
        // A sign of life and no more.
        return Ok(Ok(Change::Assignment));
    }
    assignments::log(conn, &record, "assignment.reported", in_words(&report), now)?;
    let advanced = advance(conn, record.assignment.rollout, now)?;
    Ok(Ok(if joined || advanced { Change::Catalog } else { Change::Assignment }))
}

fn code(unheard: Unheard) -> Code {
    match unheard {
        Unheard::OtherRelease(_) => Code::NotYourAssignment,
        Unheard::OtherAttempt { .. } => Code::StaleAttempt,
        Unheard::Illegal(_) => Code::IllegalTransition,
    }
}

fn in_words(report: &Report) -> String {
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
    let text = format!("attempt {}: {what}", report.attempt);
    let Some(failure) = &report.failure else {
        return text;
    };
    // The end of a long output is where the reason stands; all of it is with the assignment.
    let tail: Vec<char> = failure.text.chars().rev().take(500).collect();
    let tail: String = tail.into_iter().rev().collect();
    format!("{text} ({}: {tail})", failure.code)
}
