//! From the rollout that was asked for to the plan that decisions are made of.

use callboard_policy::{
    guard::{Cap, Caps, Pace},
    rollout::{
        Approval, HaltKind, HaltSpec, Membership, PhaseSpec, Plan, PolicyKind, RolloutState, Spec, SpecError, Unit,
        WindowSpec,
    },
    window::{Gates, Mode},
};
use callboard_proto::{
    admin::{self, RolloutSpec},
    digest::Digest,
    problem::Code,
};

use crate::app::{Error, Result};

/// Checks what was asked for.
pub(crate) fn plan(wire: &RolloutSpec, release: Digest) -> Result<Plan> {
    faults(wire, release).map_err(|errors| refusal(&errors))
}

/// The same, with everything that is wrong.
pub(crate) fn faults(wire: &RolloutSpec, release: Digest) -> std::result::Result<Plan, Vec<SpecError>> {
    spec(wire, release).plan()
}

/// Says everything that is wrong at once.
pub(crate) fn refusal(errors: &[SpecError]) -> Error {
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let selector = errors.iter().any(|error| error.field.contains("selector"));
    Error::refused(if selector { Code::BadSelector } else { Code::Invalid }, text.join("; "))
}

fn spec(wire: &RolloutSpec, release: Digest) -> Spec {
    Spec {
        name: wire.name.clone(),
        release,
        selector: wire.selector.clone().unwrap_or_else(|| "all".to_owned()),
        audience: match wire.audience {
            admin::Audience::Live => Membership::Live,
            admin::Audience::Frozen => Membership::Frozen,
        },
        policy: match wire.policy {
            admin::Policy::Immediate => PolicyKind::Immediate,
            admin::Policy::Scheduled => PolicyKind::Scheduled,
            admin::Policy::Progressive => PolicyKind::Progressive,
            admin::Policy::OnConnect => PolicyKind::OnConnect,
        },
        start_at: wire.start_at,
        min_absence_s: wire.min_absence_s,
        windows: wire.windows.iter().map(window).collect(),
        phases: wire.phases.iter().map(phase).collect(),
        unit: match wire.unit {
            admin::Unit::Device => Unit::Device,
            admin::Unit::Site => Unit::Site,
        },
        caps: Caps { downloads: cap(wire.caps.downloads), activations: cap(wire.caps.activations) },
        pace: wire
            .pace
            .map(|admin::Pace { max_offers_per_minute, doubles_every }| Pace { max_offers_per_minute, doubles_every }),
        halt: wire.halt.iter().map(halt).collect(),
        priority: u32::from(wire.priority),
        max_attempts: wire.max_attempts,
        allow_downgrade: wire.allow_downgrade,
        security: wire.security,
        expected_install_min: wire.expected_install_min,
        during_trading: wire.during_trading,
        offline_activation: wire.offline_activation,
        activate_on: wire.activate_on,
        deadline: wire.deadline,
        ends_at: wire.ends_at,
        default_tz: wire.default_tz.clone(),
    }
}

const fn cap(wire: admin::Cap) -> Cap {
    Cap { max_in_flight: wire.max_in_flight, max_in_flight_per_site: wire.max_in_flight_per_site }
}

fn halt(wire: &admin::HaltRule) -> HaltSpec {
    HaltSpec {
        min_completed: wire.min_completed,
        failure_percent: wire.failure_percent,
        max_failures: wire.max_failures,
        consecutive_failures: wire.consecutive_failures,
        max_silent: wire.max_silent,
        action: match wire.action {
            admin::HaltAction::Pause => HaltKind::Pause,
            admin::HaltAction::Cancel => HaltKind::Cancel,
            admin::HaltAction::RollbackTo => HaltKind::RollBackTo,
        },
        rollback_to: wire.rollback_to.clone(),
    }
}

fn window(wire: &admin::Window) -> WindowSpec {
    WindowSpec {
        tz: wire.tz.clone(),
        days: wire.days.clone(),
        start: wire.start.clone(),
        cron: wire.cron.clone(),
        duration_min: wire.duration_min,
        gates: Gates {
            download: wire.gates.contains(&admin::WindowGate::Download),
            install: wire.gates.contains(&admin::WindowGate::Install),
        },
        mode: match wire.mode {
            admin::WindowMode::Hard => Mode::Hard,
            admin::WindowMode::BestEffort => Mode::BestEffort,
        },
    }
}

fn phase(wire: &admin::Phase) -> PhaseSpec {
    PhaseSpec {
        name: wire.name.clone(),
        percent: wire.percent.map(u32::from),
        selector: wire.selector.clone(),
        success_percent: u32::from(wire.success_percent),
        completed_percent: u32::from(wire.completed_percent),
        min_completed: wire.min_completed,
        max_wait_min: wire.max_wait_min,
        soak_min: wire.soak_min,
        approval: match wire.approval {
            admin::Approval::Auto => Approval::Auto,
            admin::Approval::Manual => Approval::Manual,
        },
    }
}

/// A state as operators write it.
pub(crate) const fn state_from_wire(state: admin::RolloutState) -> RolloutState {
    match state {
        admin::RolloutState::Draft => RolloutState::Draft,
        admin::RolloutState::Running => RolloutState::Running,
        admin::RolloutState::Paused => RolloutState::Paused,
        admin::RolloutState::Completed => RolloutState::Completed,
        admin::RolloutState::Cancelled => RolloutState::Cancelled,
    }
}

/// A state as operators read it.
pub(crate) const fn state_to_wire(state: RolloutState) -> admin::RolloutState {
    match state {
        RolloutState::Draft => admin::RolloutState::Draft,
        RolloutState::Running => admin::RolloutState::Running,
        RolloutState::Paused => admin::RolloutState::Paused,
        RolloutState::Completed => admin::RolloutState::Completed,
        RolloutState::Cancelled => admin::RolloutState::Cancelled,
    }
}
