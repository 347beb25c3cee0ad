//! Rollouts and assignments as operators see them.

use callboard_policy::{
    gate::{self, PhaseCounts},
    rollout::Plan,
};
use callboard_proto::{
    admin::{self, Counts},
    instruction::Reason,
    time::Timestamp,
};

use super::spec;
use crate::{
    app::App,
    db::{
        self,
        phases::{Approval, Phase},
        rollouts::Record,
    },
};

/// The counters of a phase as gates read them.
fn gate_counts(counts: &Counts) -> PhaseCounts {
    PhaseCounts {
        size: u64::from(counts.size.saturating_sub(counts.excluded)),
        queued: counts.queued.into(),
        downloading: counts.downloading.into(),
        staged: counts.staged.into(),
        activating: counts.activating.into(),
        verifying: counts.verifying.into(),
        succeeded: counts.succeeded.into(),
        rolled_back: counts.rolled_back.into(),
        failed: counts.failed.into(),
        timed_out: counts.timed_out.into(),
        cancelled: counts.cancelled.into(),
        deferred: gate::Deferrals {
            window: counts.deferred.window.into(),
            trading_hours: counts.deferred.trading_hours.into(),
            freeze: counts.deferred.freeze.into(),
            inhibitor: counts.deferred.inhibitor.into(),
            user: counts.deferred.user.into(),
        },
        silent: counts.silent.into(),
        acknowledged: counts.acknowledged.into(),
        ..PhaseCounts::default()
    }
}

/// The counters of every phase of a rollout as gates read them.
pub(crate) fn all_counts(record: &Record) -> Vec<PhaseCounts> {
    record.phases.iter().map(|phase| gate_counts(&phase.counts)).collect()
}

/// A rollout as operators see it.
pub(crate) fn show(app: &App, record: Record) -> admin::Rollout {
    let now = app.clock.now();
    let waits_for = waits_for(&record, now);
    let open = record.open_phase;
    let show_phase = |(idx, phase): (usize, Phase)| admin::PhaseProgress {
        name: phase.name,
        opened_at: phase.opened_at,
        gate: waits_for.clone().filter(|_| idx == open),
        gate_met_at: phase.met_at,
        soak_skipped_at: phase.soak_skipped_at,
        approved: phase.approval.map(approved),
        counts: phase.counts,
        excluded: phase.excluded,
        bytes_served: phase.activity.bytes_served,
        first_event_at: phase.activity.first_at,
        last_event_at: phase.activity.last_at,
    };
    let phases = record.phases.into_iter().enumerate().map(show_phase).collect();
    admin::Rollout {
        id: record.id,
        spec: record.spec,
        release: record.release,
        state: spec::state_to_wire(record.state),
        state_reason: record.state_reason,
        created_by: record.created_by,
        edited_by: record.edited_by,
        countersigned: record.countersigned.map(approved),
        takes_back: record.takes_back,
        created_at: record.created_at,
        started_at: record.started_at,
        ended_at: record.ended_at,
        phases,
        warnings: Vec::new(),
    }
}

fn approved(approval: Approval) -> admin::Approved {
    admin::Approved { by: approval.by, at: approval.at }
}

/// What the next phase, or the end of the rollout, waits for.
pub(crate) fn waits_for(record: &Record, now: Timestamp) -> Option<Reason> {
    let plan: Plan = spec::plan(&record.spec, record.release).ok()?;
    let times = record.phases.get(record.open_phase)?.times();
    let counts = all_counts(record);
    let last = record.open_phase + 1 >= plan.phases.len();
    let soaks = plan.phases.get(record.open_phase).is_some_and(|phase| !phase.soak.is_zero());
    if !record.state.is_active() || (last && !soaks) {
        return None;
    }
    let verdict = gate::evaluate(&plan, record.open_phase, &counts, times, now);
    verdict.map(gate::GateVerdict::into_reason)
}

/// An assignment as operators see it.
pub(crate) fn show_assignment(record: db::assignments::Record, device: &str) -> Option<admin::Assignment> {
    Some(admin::Assignment {
        id: record.assignment.id,
        // Names were checked when they were written.
        device: device.parse().ok()?,
        phase: u32::try_from(record.assignment.phase).unwrap_or(u32::MAX),
        state: record.assignment.state,
        attempt: record.assignment.attempt,
        failure: record.failure,
        updated_at: record.updated_at,
    })
}
