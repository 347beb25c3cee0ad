//! Reports: what became of an assignment, repeated until acknowledged.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::AssignmentId,
    text::{self, Check},
    time::Timestamp,
};

/// Largest body of reports in bytes: an outbox of 32 with 64 KiB of log at the end of one.
pub const MAX_BYTES: usize = 256 * 1024;
/// Reports in one body at most.
pub const MAX_REPORTS: usize = 32;
/// Longest code of a failure in bytes.
pub const MAX_FAILURE_CODE: usize = 64;
/// Longest failure text in bytes; the end of a failed command's output.
pub const MAX_FAILURE_TEXT: usize = 64 * 1024;

/// Body of `POST /v1/reports`, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// Fields that the server must understand; it knows `reports`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
    /// At most 32.
    pub reports: Vec<Report>,
}

/// One step of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which assignment.
    pub assignment_id: AssignmentId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Rises within an attempt; a repeat with the same number is the same report.
    pub seq: u32,
    /// What happened.
    pub event: Event,
    /// When, by the device's attested clock.
    pub at: Timestamp,
    /// The release concerned.
    pub release_sha256: Digest,
    /// Why, for `failed`, `rolled_back` and `deferred`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What happened on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Order and release accepted, download begun.
    Downloading,
    /// Complete and verified on the device.
    Staged,
    /// The device cannot go on now (a sale is open, a person postponed it).
    Deferred,
    /// The switch begins.
    Activating,
    /// The new release runs on probation.
    Verifying,
    /// The new release is committed.
    Succeeded,
    /// The previous release runs again.
    RolledBack,
    /// It ended without a switch, or without a way back.
    Failed,
    /// Dropped as the server said.
    Cancelled,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Failure {
    /// Whether another try may help.
    pub class: FailureClass,
    /// A stable word of at most 64 bytes, such as `health_check`, `bad_chunk`, `no_space`.
    pub code: String,
    /// For people, at most [`MAX_FAILURE_TEXT`]: the end of the output, a system error. Control characters but the ends
    /// of lines and tabs are read as U+FFFD.
    #[serde(deserialize_with = "text::lines")]
    pub text: String,
}

/// Whether another try may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// It may.
    Transient,
    /// It would fail again.
    Permanent,
}

/// Answer to [`Reports`]: each report is in one of the two lists, and none of them is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Durable at the server.
    pub accepted: Vec<ReportKey>,
    /// Will never be accepted.
    pub refused: Vec<RefusedReport>,
}

/// What identifies a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReportKey {
    /// Which assignment.
    pub assignment_id: AssignmentId,
    /// Which attempt.
    pub attempt: u32,
    /// Which report of it.
    pub seq: u32,
}

/// A report that the server will never accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReport {
    /// Which report.
    pub report: ReportKey,
    /// A code of `errors.md`: `not_your_assignment`, `stale_attempt`, `illegal_transition`.
    pub code: String,
    /// For logs.
    pub detail: String,
}

impl Report {
    /// What identifies it.
    pub const fn key(&self) -> ReportKey {
        ReportKey { assignment_id: self.assignment_id, attempt: self.attempt, seq: self.seq }
    }
}

impl Check for Reports {
    fn check(&self) -> Result<(), String> {
        text::critical(&self.crit, &["reports"])?;
        if self.reports.len() > MAX_REPORTS {
            return Err(format!("{} reports; at most {MAX_REPORTS} at a time", self.reports.len()));
        }
        for (n, report) in self.reports.iter().enumerate() {
            let Some(failure) = &report.failure else { continue };
            text::field(format_args!("reports[{n}].failure.code"), &failure.code, MAX_FAILURE_CODE)?;
            text::long(format_args!("reports[{n}].failure.text"), &failure.text, MAX_FAILURE_TEXT)?;
        }
        Ok(())
    }
}
