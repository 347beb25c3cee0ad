//! What an operator asks for, and the check that makes a plan of it.

mod guards;
mod phases;
mod windows;

pub(super) use phases::everyone;

use std::time::Duration;

use callboard_proto::{digest::Digest, ids::RolloutName, instruction::ActivateOn, time::Timestamp};
use chrono_tz::Tz;

use super::{Approval, DEFAULT_MIN_ABSENCE, MAX_PRIORITY, Membership, Plan, Policy, Unit};
use crate::{
    guard::{Cap, Caps, Limits, Pace},
    selector::Selector,
    window::{Gates, Mode},
};

/// Phases and windows of one rollout at most; more is a mistake.
const MAX_PARTS: usize = 32;
/// More attempts than this hide a fault rather than ride it out.
const MAX_ATTEMPTS: u32 = 10;
/// Minutes that an install may take; more is a mistake in the unit.
const MAX_INSTALL_MIN: u32 = 24 * 60;
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
    pub policy: PolicyKind,
    /// For [`PolicyKind::Scheduled`]: not before. It needs this, windows, or both.
    pub start_at: Option<Timestamp>,
    /// For [`PolicyKind::OnConnect`]: seconds of absence that make a check-in the first of a connection; an hour if
    /// there are none.
    pub min_absence_s: Option<u32>,
    /// May be empty.
    pub windows: Vec<WindowSpec>,
    /// For [`PolicyKind::Progressive`] at least one, else none.
    pub phases: Vec<PhaseSpec>,
    /// What is ranked and moves together; [`Unit::Site`] only with [`PolicyKind::Progressive`].
    pub unit: Unit,
    /// How many devices may download, and how many may activate, at the same time: 1 or more.
    pub caps: Caps,
    /// How many devices get an offer in a minute.
    pub pace: Option<Pace>,
    /// When it stops by itself.
    pub halt: Vec<HaltSpec>,
    /// 0 to 1000.
    pub priority: u32,
    /// 1 to 10.
    pub max_attempts: u32,
    /// Whether something older than what is installed is meant.
    pub allow_downgrade: bool,
    /// Whether freezes let it pass once a second person has approved it.
    pub security: bool,
    /// Minutes that must be left in a window, or before the site trades, for an install to begin: a day at most.
    pub expected_install_min: u32,
    /// Whether installs may begin while the site trades.
    pub during_trading: bool,
    /// Whether devices may activate by themselves within times that they are told beforehand.
    pub offline_activation: bool,
    /// When they do.
    pub activate_on: ActivateOn,
    /// From then on windows are ignored.
    pub deadline: Option<Timestamp>,
    /// From then on nothing is offered.
    pub ends_at: Option<Timestamp>,
    /// An IANA name; UTC if there is none.
    pub default_tz: Option<String>,
}

/// When a rollout offers, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// At the next check-in.
    Immediate,
    /// From a time on.
    Scheduled,
    /// To the devices of open phases.
    Progressive,
    /// At the first check-in of a connection.
    OnConnect,
}

/// A window, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowSpec {
    /// `site`, or an IANA name.
    pub tz: String,
    /// With `start`: `mon` to `sun`; none means every day.
    pub days: Vec<String>,
    /// Local time of day, `HH:MM`. This or `cron`.
    pub start: Option<String>,
    /// Five fields. This or `start`.
    pub cron: Option<String>,
    /// 1 minute to a week.
    pub duration_min: u32,
    /// What it restricts; at least one.
    pub gates: Gates,
    /// What becomes of devices that sleep through it.
    pub mode: Mode,
}

/// A halt rule, unchecked. It needs at least one limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HaltSpec {
    /// Completed devices before which `failure_percent` says nothing; needed with it.
    pub min_completed: Option<u32>,
    /// 1 to 100.
    pub failure_percent: Option<u32>,
    /// Failures that are borne.
    pub max_failures: Option<u32>,
    /// 1 to [`crate::guard::MAX_CONSECUTIVE`].
    pub consecutive_failures: Option<u32>,
    /// Silent devices that are borne.
    pub max_silent: Option<u32>,
    /// What it does.
    pub action: HaltKind,
    /// For [`HaltKind::RollBackTo`]: a digest, or `product@version`.
    pub rollback_to: Option<String>,
}

/// What a halt rule does, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HaltKind {
    /// Pause.
    #[default]
    Pause,
    /// Cancel.
    Cancel,
    /// Cancel, and bring another release.
    RollBackTo,
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
    /// 1 to 100.
    pub success_percent: u32,
    /// 1 to 100.
    pub completed_percent: u32,
    /// Devices.
    pub min_completed: u32,
    /// Minutes.
    pub max_wait_min: Option<u32>,
    /// Minutes.
    pub soak_min: u32,
    /// Who opens the next phase.
    pub approval: Approval,
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
        guards::check_caps(&self.caps, &mut errors);
        guards::check_pace(self.pace, &mut errors);
        let halt = guards::read_halt(&self.halt, &mut errors);
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
                limits: Limits { caps: self.caps, pace: self.pace },
                halt,
                priority: self.priority,
                max_attempts: self.max_attempts,
                allow_downgrade: self.allow_downgrade,
                security: self.security,
                expected_install,
                during_trading: self.during_trading,
                offline_activation: self.offline_activation,
                activate_on: self.activate_on,
                deadline: self.deadline,
                ends_at: self.ends_at,
                default_tz,
            }),
            _ => Err(errors.0),
        }
    }

    fn read_selector(&self, errors: &mut Errors) -> Option<Selector> {
        let selector = errors.keep("selector", selector(&self.selector))?;
        if self.audience == Membership::Live
            && let Some(field) = selector.frozen_only()
        {
            let message = format!("{field} changes with every check-in, so it is allowed only with a frozen audience");
            errors.add("selector", message);
        }
        Some(selector)
    }

    fn read_policy(&self, errors: &mut Errors) -> Policy {
        if self.start_at.is_some() && self.policy != PolicyKind::Scheduled {
            errors.add("start_at", "only means something with the scheduled policy");
        }
        if self.min_absence_s.is_some() && self.policy != PolicyKind::OnConnect {
            errors.add("min_absence_s", "only means something with the on_connect policy");
        }
        if self.unit == Unit::Site && self.policy != PolicyKind::Progressive {
            errors.add(
                "unit",
                "site only means something with the progressive policy: it says who is in a phase together",
            );
        }
        match self.policy {
            PolicyKind::Immediate => Policy::Immediate,
            PolicyKind::Scheduled => {
                if self.start_at.is_none() && self.windows.is_empty() {
                    errors.add("start_at", "the scheduled policy needs a start, windows, or both");
                }
                Policy::Scheduled { start_at: self.start_at }
            }
            PolicyKind::Progressive => Policy::Progressive,
            PolicyKind::OnConnect => {
                if self.min_absence_s == Some(0) {
                    errors.add("min_absence_s", "must be at least 1: with 0 every check-in would be a new connection");
                }
                let absence = self.min_absence_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
                Policy::OnConnect { min_absence: absence.unwrap_or(DEFAULT_MIN_ABSENCE) }
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
        if self.expected_install_min > MAX_INSTALL_MIN {
            let message = format!("is {}; 0 to {MAX_INSTALL_MIN} minutes are allowed", self.expected_install_min);
            errors.add("expected_install_min", message);
        }
    }

    fn check_times(&self, errors: &mut Errors) {
        if let Some(start) = self.start_at {
            for (name, at) in [("the deadline", self.deadline), ("the end of the rollout", self.ends_at)] {
                if let Some(at) = at.filter(|at| start >= *at) {
                    errors.add("start_at", format!("{start} is not before {name} ({at})"));
                }
            }
        }
        if let (Some(deadline), Some(end)) = (self.deadline, self.ends_at)
            && deadline >= end
        {
            errors.add("deadline", format!("{deadline} is not before the end of the rollout ({end})"));
        }
        if self.activate_on != ActivateOn::Now && !self.offline_activation {
            let message =
                "needs offline_activation: a device that goes down or has just come up may not be able to ask";
            errors.add("activate_on", message);
        }
        if self.offline_activation && self.caps.activations != Cap::default() {
            let message =
                "cannot go with caps on activations: devices that do not ask do not know how many others switch";
            errors.add("offline_activation", message);
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

/// Reads a selector. An empty one may be a mistake, so it is not everybody.
fn selector(text: &str) -> Result<Selector, String> {
    if text.trim().is_empty() {
        return Err("is empty; write all for every device".to_owned());
    }
    Selector::parse(text).map_err(|error| error.to_string())
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
