//! A rollout: one release, one selector, one policy.
//!
//! [`Spec`] is what an operator asks for. [`Spec::plan`] checks it and gives a [`Plan`], in which impossible policies
//! do not exist. A [`Rollout`] is a plan and how far it has come.

mod spec;
mod undo;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use callboard_proto::{
    digest::Digest,
    ids::{RolloutId, RolloutName, SiteId},
    instruction::ActivateOn,
    time::Timestamp,
};
use chrono_tz::Tz;
pub use spec::{HaltKind, HaltSpec, PhaseSpec, PolicyKind, Spec, SpecError, WindowSpec};
pub use undo::undo_name;

use crate::{
    audience::Audience,
    bucket::Draw,
    device::{Device, Member},
    guard::{HaltRule, Limits},
    selector::Selector,
    window::{Clock, Gate, Restricting, Tables, Window, Zone},
};

/// Lowest to highest priority is 0 to this.
pub const MAX_PRIORITY: u32 = 1000;
/// Priority of a rollout that asks for none.
pub const DEFAULT_PRIORITY: u32 = 500;
/// Attempts for one device, unless asked otherwise.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
/// Absence that makes a check-in the first of a connection, unless asked otherwise.
pub const DEFAULT_MIN_ABSENCE: Duration = Duration::from_secs(3600);

/// A rollout and how far it has come.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Its identity; salts the times at which its devices come.
    pub id: RolloutId,
    /// What it is to do.
    pub plan: Plan,
    /// Whether it runs.
    pub state: RolloutState,
    /// Why it is in this state, where someone or something said so (`gate of phase canary: ...`).
    pub state_reason: Option<String>,
    /// Whether a second person has approved it.
    pub countersigned: bool,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// The last open phase; the ones before it are open too.
    pub open_phase: usize,
    /// Who was in which phase when it started. It never changes; [`Rollout::member`] knows what came later.
    pub members: Arc<Audience>,
    /// With [`Unit::Site`], the phase in which each site moves, those that came later too.
    pub sites: BTreeMap<SiteId, usize>,
    /// When its windows are open, as far as that was worked out beforehand ([`crate::catalog::Catalog::foresee`]). Without
    /// them answers are the same, and take longer.
    pub tables: Arc<Tables>,
}

/// What a rollout is to do, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For people.
    pub name: RolloutName,
    /// What it brings.
    pub release: Digest,
    /// Whom it is for.
    pub selector: Selector,
    /// When membership is decided.
    pub audience: Membership,
    /// When it offers.
    pub policy: Policy,
    /// When devices may download or install; none means always.
    pub windows: Vec<Window>,
    /// One at least. Only [`Policy::Progressive`] has more.
    pub phases: Vec<Phase>,
    /// What is ranked and moves together.
    pub unit: Unit,
    /// How many devices may download and activate at the same time, and how many get an offer in a minute.
    pub limits: Limits,
    /// When it stops by itself.
    pub halt: Vec<HaltRule>,
    /// 0 to 1000, highest first.
    pub priority: u32,
    /// Attempts for one device.
    pub max_attempts: u32,
    /// Whether something older than what is installed is meant.
    pub allow_downgrade: bool,
    /// Whether freezes let it pass once a second person has approved it.
    pub security: bool,
    /// Time that must be left in a window, or before the site trades, for an install to begin.
    pub expected_install: Duration,
    /// Whether installs may begin while the site trades.
    pub during_trading: bool,
    /// Whether devices may activate by themselves within times that they are told beforehand.
    pub offline_activation: bool,
    /// When they do.
    pub activate_on: ActivateOn,
    /// From then on windows are ignored.
    pub deadline: Option<Timestamp>,
    /// From then on nothing is offered, and what is not activating expires. A live rollout without an end is a
    /// baseline.
    pub ends_at: Option<Timestamp>,
    /// The zone of devices whose zone nobody knows.
    pub default_tz: Tz,
}

/// When membership is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// When the rollout starts.
    Frozen,
    /// At any check-in. Who was offered something stays a member; who was not does as long as the selector matches.
    Live,
}

/// When a rollout offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At the next check-in.
    Immediate,
    /// From then on, and inside the windows.
    Scheduled {
        /// When; without it, the windows alone say.
        start_at: Option<Timestamp>,
    },
    /// To the devices of open phases.
    Progressive,
    /// At the first check-in of a connection.
    OnConnect {
        /// Absence that makes a check-in the first of a connection.
        min_absence: Duration,
    },
}

/// What is ranked and moves together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Every device by itself.
    Device,
    /// All devices of a site; a device without one is a site of its own.
    Site,
}

/// A slice of the audience and the gate behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// For people.
    pub name: String,
    /// Which slice.
    pub share: Share,
    /// Successes in a hundred completed devices that open the next phase.
    pub success_percent: u32,
    /// Completed devices in a hundred of the phase that open the next phase.
    pub completed_percent: u32,
    /// Completed devices without which the next phase never opens (all of a smaller phase).
    pub min_completed: u32,
    /// After that, `min_completed` alone is enough.
    pub max_wait: Option<Duration>,
    /// How long the phase must stay healthy after its gate is met. A device that regresses meanwhile is a failure.
    pub soak: Duration,
    /// Who opens the next phase when gate and soak allow it.
    pub approval: Approval,
}

/// Who opens the next phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approval {
    /// The rollout does, by itself.
    #[default]
    Auto,
    /// A person says so.
    Manual,
}

/// Which slice of the audience a phase is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// Up to so many in a hundred of the units that no selector has taken, phases before included.
    Percent(u32),
    /// These.
    Selector(Selector),
}

/// Whether a rollout runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RolloutState {
    /// Not started yet.
    Draft,
    /// Offering.
    Running,
    /// Held by an operator, a gate or a halt rule; nothing is granted.
    Paused,
    /// Everything that could be done is done.
    Completed,
    /// Called off. Keep it in the catalog while assignments of it are not final: their devices must be told.
    Cancelled,
}

impl RolloutState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Draft, Self::Running, Self::Paused, Self::Completed, Self::Cancelled];

    /// The name in the API and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether devices have to do with it.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Whether an operator may move it to `next`; [`RolloutState::Completed`] is not an operator's to give.
    pub const fn allows(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Draft, Self::Running | Self::Cancelled)
                | (Self::Running, Self::Paused | Self::Cancelled)
                | (Self::Paused, Self::Running | Self::Cancelled)
        )
    }
}

impl Rollout {
    /// A plan that has not been started.
    pub fn draft(id: RolloutId, plan: Plan) -> Self {
        Self {
            id,
            plan,
            state: RolloutState::Draft,
            state_reason: None,
            countersigned: false,
            started_at: None,
            open_phase: 0,
            members: Arc::default(),
            sites: BTreeMap::new(),
            tables: Arc::default(),
        }
    }

    /// From when on it offers: the start, or what it is scheduled for if that is later. `None` for a draft.
    pub fn begins_at(&self) -> Option<Timestamp> {
        self.started_at.map(|started| self.plan.begins_at(started))
    }

    /// Whether freezes let it pass.
    pub fn passes_freezes(&self) -> bool {
        self.plan.security && self.countersigned
    }

    /// The site with which `device` moves.
    pub fn moving(&self, device: &Device) -> Option<SiteId> {
        device.site.clone().filter(|_| self.plan.unit == Unit::Site)
    }

    /// The place that `device` has in it; `None` if it is no member.
    pub fn member(&self, device: &Device) -> Option<Member> {
        let since = device.member_of.iter().find(|one| one.rollout == self.id).copied();
        since.or_else(|| {
            let phase = self.members.phase_of(device.number)?;
            Some(Member { rollout: self.id, phase, excluded: self.members.why_excluded(device.number) })
        })
    }
}

impl Plan {
    /// From when on it offers if it is started at `started`.
    pub fn begins_at(&self, started: Timestamp) -> Timestamp {
        match self.policy {
            Policy::Scheduled { start_at: Some(start_at) } => started.max(start_at),
            _ => started,
        }
    }

    /// By what its units are ranked.
    pub fn draw(&self) -> Draw {
        Draw::of(&self.name, self.release)
    }

    /// Whether it runs on for ever.
    pub fn is_baseline(&self) -> bool {
        self.audience == Membership::Live && self.ends_at.is_none()
    }

    /// The windows that restrict `gate`, each with the zone it follows.
    pub fn windows_for(&self, gate: Gate, device: &Device, now: Timestamp) -> Vec<(&Window, Zone)> {
        Restricting::of(&self.windows, gate, Clock::of(device, now), self.default_tz).listed()
    }
}

#[cfg(test)]
mod tests;
