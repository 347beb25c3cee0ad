//! What an operator asks for, and the check that makes a plan of it.

mod phases;
mod windows;

use std::time::Duration;

use callboard_proto::{digest::Digest, ids::RolloutName, time::Timestamp};
use chrono_tz::Tz;

use super::{MAX_PRIORITY, Membership, Plan, Policy, Unit};
use crate::{
    selector::Selector,
    window::{Gates, Mode},
};

/// Phases and windows of one rollout at most; more is a mistake.
const MAX_PARTS: usize = 32;
/// More attempts than this hide a fault rather than ride it out.
const MAX_ATTEMPTS: u32 = 20;
/// Longest name of a phase.
const MAX_PHASE_NAME: usize = 64;

/// What an operator asks for. Texts are as they were typed; [`Spec::plan`] reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// For people.
    pub name: RolloutName,
    /// What it brings.
    pub release: Digest,
    /// In the selector language.
    pub selector: String,
    /// When membership is decided.
    pub audience: Membership,
    /// When it offers.
    pub policy: PolicySpec,
    /// May be empty.
    pub windows: Vec<WindowSpec>,
    /// For [`PolicySpec::Progressive`] at least one, else none.
    pub phases: Vec<PhaseSpec>,
    /// What is ranked and moves together.
    pub unit: Unit,
    /// 0 to 1000.
    pub priority: u32,
    /// 1 to 20.
    pub max_attempts: u32,
    /// Whether something older than what is installed is meant.
    pub allow_downgrade: bool,
    /// Minutes that must be left in a window for an install to begin.
    pub expected_install_min: u32,
    /// From then on windows are ignored.
    pub deadline: Option<Timestamp>,
    /// From then on nothing is offered.
    pub ends_at: Option<Timestamp>,
    /// An IANA name; UTC if there is none.
    pub default_tz: Option<String>,
}

/// When a rollout offers, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicySpec {
    /// At the next check-in.
    Immediate,
    /// From then on.
    Scheduled {
        /// When.
        start_at: Timestamp,
    },
    /// To the devices of open phases.
    Progressive,
    /// At the first check-in of a connection.
    OnConnect {
        /// Minutes of absence that make a check-in the first of a connection.
        min_absence_min: u32,
    },
}

/// A window, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowSpec {
    /// `site`, or an IANA name.
    pub tz: String,
    /// When it opens.
    pub start: StartSpec,
    /// 1 minute to a week.
    pub duration_min: u32,
    /// What it restricts; at least one.
    pub gates: Gates,
    /// What becomes of devices that sleep through it.
    pub mode: Mode,
}

/// When a window opens, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartSpec {
    /// On days of the week at a time.
    Weekly {
        /// `mon` to `sun`; none means every day.
        days: Vec<String>,
        /// `HH:MM`.
        at: String,
    },
    /// Five fields.
    Cron(String),
}

/// A phase, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseSpec {
    /// For people, unique.
    pub name: String,
    /// 1 to 100, ascending, the last one 100. This or `selector`.
    pub percent: Option<u32>,
    /// In the selector language. This or `percent`.
    pub selector: Option<String>,
    /// 0 to 100.
    pub success_percent: u32,
    /// 0 to 100; 80 if there is none.
    pub completed_percent: Option<u32>,
    /// 1 if there is none.
    pub min_completed: Option<u32>,
    /// Minutes.
    pub max_wait_min: Option<u32>,
}

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// Where, as a path (`phases[1].percent`).
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Spec {
    /// Checks everything that can be checked without the time, the release and the fleet, and reports all that is
    /// wrong at once.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the fields.
    pub fn plan(&self) -> Result<Plan, Vec<SpecError>> {
        let mut errors = Errors::default();
        let selector = self.read_selector(&mut errors);
        let policy = self.read_policy(&mut errors);
        let windows = windows::read(&self.windows, &mut errors);
        let phases = phases::read(self, &mut errors);
        let default_tz = match &self.default_tz {
            Some(name) => errors.keep("default_tz", windows::zone(name)),
            None => Some(Tz::UTC),
        };
        self.check_numbers(&mut errors);
        self.check_times(&mut errors);
        let expected_install = minutes(self.expected_install_min);
        windows::check_lengths(&windows, expected_install, &mut errors);
        match (selector, default_tz, errors.0.is_empty()) {
            (Some(selector), Some(default_tz), true) => Ok(Plan {
                name: self.name.clone(),
                release: self.release,
                selector,
                audience: self.audience,
                policy,
                windows,
                phases,
                unit: self.unit,
                priority: self.priority,
                max_attempts: self.max_attempts,
                allow_downgrade: self.allow_downgrade,
                expected_install,
                deadline: self.deadline,
                ends_at: self.ends_at,
                default_tz,
            }),
            _ => Err(errors.0),
        }
    }

    fn read_selector(&self, errors: &mut Errors) -> Option<Selector> {
        let selector = errors.keep("selector", Selector::parse(&self.selector).map_err(|error| error.to_string()))?;
        if self.audience == Membership::Live
            && let Some(field) = selector.frozen_only()
        {
            let message = format!("{field} changes with every check-in, so it is allowed only with a frozen audience");
            errors.add("selector", message);
        }
        Some(selector)
    }

    fn read_policy(&self, errors: &mut Errors) -> Policy {
        match self.policy {
            PolicySpec::Immediate => Policy::Immediate,
            PolicySpec::Scheduled { start_at } => Policy::Scheduled { start_at },
            PolicySpec::Progressive => Policy::Progressive,
            PolicySpec::OnConnect { min_absence_min } => {
                if min_absence_min == 0 {
                    errors.add(
                        "policy.min_absence_min",
                        "must be at least 1: with 0 every check-in would be a connection",
                    );
                }
                Policy::OnConnect { min_absence: minutes(min_absence_min) }
            }
        }
    }

    fn check_numbers(&self, errors: &mut Errors) {
        if self.priority > MAX_PRIORITY {
            errors.add("priority", format!("is {}; 0 to {MAX_PRIORITY} is allowed", self.priority));
        }
        if !(1..=MAX_ATTEMPTS).contains(&self.max_attempts) {
            errors.add("max_attempts", format!("is {}; 1 to {MAX_ATTEMPTS} is allowed", self.max_attempts));
        }
    }

    fn check_times(&self, errors: &mut Errors) {
        if let (PolicySpec::Scheduled { start_at }, Some(end)) = (self.policy, self.ends_at)
            && start_at >= end
        {
            errors.add("policy.start_at", format!("{start_at} is not before the end of the rollout ({end})"));
        }
        if let (PolicySpec::Scheduled { start_at }, Some(deadline)) = (self.policy, self.deadline)
            && start_at >= deadline
        {
            errors.add("policy.start_at", format!("{start_at} is not before the deadline ({deadline})"));
        }
        if let (Some(deadline), Some(end)) = (self.deadline, self.ends_at)
            && deadline >= end
        {
            errors.add("deadline", format!("{deadline} is not before the end of the rollout ({end})"));
        }
        if self.deadline.is_some() && self.windows.is_empty() {
            errors.add("deadline", "only means something with windows: from then on they are ignored");
        }
    }
}

impl Plan {
    /// What has become impossible by `now`, to be checked when a rollout is created or started.
    pub fn too_late(&self, now: Timestamp) -> Vec<SpecError> {
        let mut errors = Errors::default();
        for (field, at) in [("deadline", self.deadline), ("ends_at", self.ends_at)] {
            if let Some(at) = at.filter(|at| *at <= now) {
                errors.add(field, format!("{at} has passed; it is {now}"));
            }
        }
        errors.0
    }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(u64::from(minutes) * 60)
}

#[derive(Default)]
struct Errors(Vec<SpecError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(SpecError { field: field.into(), message: message.into() });
    }

    fn keep<T>(&mut self, field: impl Into<String>, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(message) => {
                self.add(field, message);
                None
            }
        }
    }
}
