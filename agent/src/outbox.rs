//! Reports on their way: one file each, kept until the server has acknowledged them.
//!
//! At most 32; the oldest progress is dropped first. Final results are kept beyond that, until there are more than an
//! honest server can ever have caused. What is removed is not synced: a report that comes back after a crash is the
//! same report to the server.

use std::{ffi::OsString, io};

use callboard_proto::{
    ids::AssignmentId,
    report::{Event, MAX_BYTES, MAX_REPORTS, Receipt, Report, ReportKey, Reports},
};

use crate::{
    fs::{self, Fs},
    journal::Attempt,
    layout::StateDir,
};

/// A report with its longest text, escaped.
const MAX_FILE_BYTES: usize = 256 * 1024;
/// Results come of orders, and orders of a server that could take the results: so many are owed by none that can.
const MAX_RESULTS: usize = 256;

/// Every unacknowledged report, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    reports: Vec<Report>,
}

/// The number of a report within its attempt. Fixed by the event, so that a report repeated after a crash is the
/// same one.
pub(crate) const fn seq(event: Event) -> u32 {
    match event {
        Event::Downloading => 1,
        Event::Staged => 2,
        // What is staged is put off, and may be again and again.
        Event::Deferred => 3,
        Event::Activating => 1_000_000,
        Event::Verifying => 1_000_001,
        Event::Succeeded | Event::RolledBack | Event::Failed | Event::Cancelled => 1_000_002,
    }
}

/// The number of the report that says for the `times`th time, from 1, that the switch is put off.
pub(crate) fn seq_of_deferral(times: u32) -> u32 {
    (seq(Event::Deferred) + times.saturating_sub(1)).min(seq(Event::Activating) - 1)
}

/// Whether nothing follows after this event.
pub(crate) const fn is_final(event: Event) -> bool {
    matches!(event, Event::Succeeded | Event::RolledBack | Event::Failed | Event::Cancelled)
}

/// Assignment ids rise with time, so this is the order of events.
fn order(report: &Report) -> (AssignmentId, u32, u32) {
    (report.assignment_id, report.attempt, report.seq)
}

fn file_name(key: ReportKey) -> String {
    format!("{}-{:010}-{:02}.json", key.assignment_id, key.attempt, key.seq)
}

impl Outbox {
    /// Reads what is there. Damaged files are left out and removed: they can never be sent.
    pub(crate) fn open(fs: &dyn Fs, state_dir: &StateDir) -> io::Result<Self> {
        let mut reports = Vec::new();
        for name in fs.list(&state_dir.outbox())? {
            match read(fs, state_dir, &name) {
                Some(report) => reports.push(report),
                None => {
                    tracing::warn!(file = ?name, "removing a damaged report");
                    fs::remove_tree(fs, &state_dir.outbox().join(&name))?;
                }
            }
        }
        reports.sort_by_key(order);
        Ok(Self { reports })
    }

    /// Adds a report, durably. One with the same number is the same report and stays.
    pub(crate) fn put(&mut self, fs: &dyn Fs, state_dir: &StateDir, report: Report) -> io::Result<()> {
        let key = report.key();
        if self.reports.iter().any(|other| other.key() == key) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&report)?;
        self.reports.push(report);
        self.reports.sort_by_key(order);
        let written = fs::replace(fs, &state_dir.outbox().join(file_name(key)), &bytes);
        self.drop_surplus(fs, state_dir);
        written
    }

    /// What to send now: as many as one body may hold, oldest first.
    pub(crate) fn batch(&self) -> Option<Reports> {
        let (mut reports, mut size) = (Vec::new(), 0);
        for report in self.reports.iter().take(MAX_REPORTS) {
            size += serde_json::to_vec(report).map_or(0, |bytes| bytes.len() + 1);
            if size > MAX_BYTES - 1024 {
                break;
            }
            reports.push(report.clone());
        }
        (!reports.is_empty()).then_some(Reports { crit: Vec::new(), reports })
    }

    /// Removes what the server has, or will never take; says whether anything was.
    pub(crate) fn acknowledge(&mut self, fs: &dyn Fs, state_dir: &StateDir, receipt: &Receipt) -> bool {
        let before = self.reports.len();
        for refused in &receipt.refused {
            tracing::warn!(code = %crate::client::plain(&refused.code, 64), detail = %crate::client::plain(&refused.detail, 200),
                assignment.id = %refused.report.assignment_id, "the server refused a report");
        }
        let refused = receipt.refused.iter().map(|refused| refused.report);
        for key in receipt.accepted.iter().copied().chain(refused) {
            self.remove(fs, state_dir, key);
        }
        self.reports.len() < before
    }

    /// Whether the final report of `attempt` is still to be acknowledged.
    pub(crate) fn awaits(&self, attempt: Attempt) -> bool {
        self.reports.iter().any(|report| {
            (report.assignment_id, report.attempt) == (attempt.assignment_id, attempt.attempt) && is_final(report.event)
        })
    }

    fn remove(&mut self, fs: &dyn Fs, state_dir: &StateDir, key: ReportKey) {
        let before = self.reports.len();
        self.reports.retain(|report| report.key() != key);
        if self.reports.len() < before
            && let Err(error) = fs.remove_file(&state_dir.outbox().join(file_name(key)))
        {
            tracing::warn!(%error, "could not remove an acknowledged report; it will be sent again");
        }
    }

    fn drop_surplus(&mut self, fs: &dyn Fs, state_dir: &StateDir) {
        while self.reports.len() > MAX_REPORTS {
            let progress = self.reports.iter().find(|report| !is_final(report.event));
            let too_many = self.reports.first().filter(|_| self.reports.len() > MAX_RESULTS);
            let Some(oldest) = progress.or(too_many) else { return };
            self.remove(fs, state_dir, oldest.key());
        }
    }
}

fn read(fs: &dyn Fs, state_dir: &StateDir, name: &OsString) -> Option<Report> {
    let bytes = fs.read(&state_dir.outbox().join(name), MAX_FILE_BYTES).ok()?;
    let report: Report = serde_json::from_slice(&bytes).ok()?;
    (file_name(report.key()).as_str() == name.to_str()?).then_some(report)
}

#[cfg(test)]
mod tests {
    use callboard_proto::{digest::Digest, report::RefusedReport, time::Timestamp};

    use super::*;
    use crate::{fs::Disk, testing};

    fn report(attempt: u32, event: Event) -> Report {
        Report {
            assignment_id: testing::order(1, 1).attempt.assignment_id,
            attempt,
            seq: seq(event),
            event,
            at: Timestamp::from_millis(0),
            release_sha256: Digest::of(b"release"),
            failure: None,
        }
    }

    fn state_dir() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = StateDir::new(dir.path());
        std::fs::create_dir(state_dir.outbox()).expect("made");
        (dir, state_dir)
    }

    #[test]
    fn reports_survive_a_restart_in_order_and_until_they_are_acknowledged() {
        let (_dir, state_dir) = state_dir();
        let mut outbox = Outbox::open(&Disk, &state_dir).expect("empty");
        for (attempt, event) in [(2, Event::Downloading), (1, Event::Failed), (1, Event::Downloading)] {
            outbox.put(&Disk, &state_dir, report(attempt, event)).expect("written");
        }
        let mut outbox = Outbox::open(&Disk, &state_dir).expect("readable");
        let batch = outbox.batch().expect("reports").reports;
        let sent: Vec<_> = batch.iter().map(|report| (report.attempt, report.event)).collect();
        assert_eq!(sent, [(1, Event::Downloading), (1, Event::Failed), (2, Event::Downloading)]);
        let receipt = Receipt {
            accepted: vec![batch[0].key()],
            refused: vec![RefusedReport { report: batch[1].key(), code: "stale_attempt".into(), detail: "".into() }],
        };
        outbox.acknowledge(&Disk, &state_dir, &receipt);
        assert_eq!(Outbox::open(&Disk, &state_dir).expect("readable").batch().expect("one left").reports.len(), 1);
    }

    #[test]
    fn the_same_report_put_twice_is_one() {
        let (_dir, state_dir) = state_dir();
        let mut outbox = Outbox::default();
        outbox.put(&Disk, &state_dir, report(1, Event::Staged)).expect("written");
        outbox.put(&Disk, &state_dir, report(1, Event::Staged)).expect("written");
        assert_eq!(outbox.batch().expect("one").reports.len(), 1);
    }

    #[test]
    fn the_oldest_progress_is_dropped_first_and_a_result_never() {
        let (_dir, state_dir) = state_dir();
        let mut outbox = Outbox::default();
        for attempt in 1..=20 {
            outbox.put(&Disk, &state_dir, report(attempt, Event::Downloading)).expect("written");
            outbox.put(&Disk, &state_dir, report(attempt, Event::Failed)).expect("written");
        }
        let outbox = Outbox::open(&Disk, &state_dir).expect("readable");
        let results = outbox.reports.iter().filter(|report| is_final(report.event)).count();
        assert_eq!((outbox.reports.len(), results), (MAX_REPORTS, 20));
        assert!(outbox.reports.iter().all(|report| is_final(report.event) || report.attempt > 8));
    }

    #[test]
    fn results_that_nobody_takes_do_not_fill_the_disk() {
        let (_dir, state_dir) = state_dir();
        let mut outbox = Outbox::default();
        for attempt in 1..=300 {
            outbox.put(&Disk, &state_dir, report(attempt, Event::Failed)).expect("written");
        }
        let outbox = Outbox::open(&Disk, &state_dir).expect("readable");
        assert_eq!((outbox.reports.len(), outbox.reports[0].attempt), (MAX_RESULTS, 45));
    }

    #[test]
    fn a_damaged_report_does_not_stop_the_others() {
        let (_dir, state_dir) = state_dir();
        Outbox::default().put(&Disk, &state_dir, report(1, Event::Failed)).expect("written");
        std::fs::write(state_dir.outbox().join("junk.json"), b"{").expect("written");
        let outbox = Outbox::open(&Disk, &state_dir).expect("readable");
        assert_eq!(outbox.batch().expect("one").reports.len(), 1);
        assert!(!state_dir.outbox().join("junk.json").exists());
    }
}
