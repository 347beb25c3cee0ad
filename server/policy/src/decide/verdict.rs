//! What one rollout means for one device.

use std::fmt;

use callboard_proto::{
    ids::{AssignmentId, RolloutId},
    instruction::ActivateOn,
    state::AssignmentState,
    time::Timestamp,
};

use super::CancelWhy;
use crate::{
    audience::Exclusion,
    device::Deferral,
    guard::{Full, Grant, Paced},
    release::Misfit,
    site::Withheld,
    window::{Gate, Span, Zone},
};

/// What one rollout means for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a draft, completed or cancelled.
    NotActive,
    /// Its end has passed.
    Ended,
    /// Its release is not in the catalog.
    ReleaseUnknown,
    /// It is not for this device.
    NotInAudience,
    /// It was for this device, and was not offered to it as long as it was.
    LeftAudience,
    /// The device runs the release.
    AlreadyInstalled,
    /// The device cannot take the release.
    DoesNotFit(Misfit),
    /// The device is through with it.
    Finished(AssignmentState),
    /// It succeeded here, but the device runs something older again, or has the product no more.
    Regressed,
    /// It begins later.
    NotBegun {
        /// When.
        at: Timestamp,
    },
    /// Another rollout of the same product comes first.
    Superseded {
        /// Which one.
        by: RolloutId,
    },
    /// The device is to install by itself what another one has brought, and does so one by one.
    Behind {
        /// Which one.
        by: RolloutId,
    },
    /// The device's phase is not open.
    PhaseNotOpen {
        /// Which phase.
        phase: usize,
    },
    /// It is paused.
    Paused,
    /// Everything is kept away from the device.
    Withheld(Withheld),
    /// The last attempt failed, and the next one is made later.
    RetryLater {
        /// When.
        at: Timestamp,
        /// Which try that will be, of those that the rollout allows.
        attempt: u32,
    },
    /// It offers at the first check-in of a connection, which this is not.
    InSession,
    /// No window is open.
    WindowClosed {
        /// For what.
        gate: Gate,
        /// When the next one is open; `None` if none that is long enough is in sight.
        opens: Option<Span>,
        /// Whose clock that is.
        zone: Zone,
    },
    /// A freeze is in force, or begins before an install could be done.
    Frozen {
        /// Its place in the catalog.
        freeze: usize,
        /// From when to when.
        span: Span,
        /// What it holds back.
        gate: Gate,
        /// When that is possible again; `None` if no time for it comes soon.
        opens: Option<Span>,
        /// Whose clock that is.
        zone: Zone,
    },
    /// The site trades, or begins to before an install could be done.
    Trading {
        /// `None` if it trades now.
        begins: Option<Timestamp>,
        /// When installing is possible; `None` if no time for it comes soon.
        opens: Option<Span>,
        /// Whose clock that is.
        zone: Zone,
    },
    /// The site allows no downloads at this hour.
    NoBandwidth {
        /// Until then; `None` if that does not change within a week.
        opens: Option<Timestamp>,
    },
    /// The device has not enough room for the release.
    NoSpace {
        /// Bytes that it has free.
        free: u64,
        /// Bytes that the release takes at least.
        needed: u64,
    },
    /// Other devices hold all places that the rollout's caps allow.
    Full(Full),
    /// The offers that its pace allows in this minute are made.
    Paced(Paced),
    /// The device went silent while it activated.
    TimedOut,
    /// It did, and has come back without knowing anything of it.
    TriedAgain {
        /// Which assignment.
        assignment: AssignmentId,
    },
    /// The device is to download.
    Offer {
        /// In which phase.
        phase: usize,
        /// What this means for the membership sets.
        admission: Admission,
        /// Why now.
        grounds: Grounds,
    },
    /// It is downloading.
    Downloading {
        /// Which assignment.
        assignment: AssignmentId,
    },
    /// It is to activate.
    Activate {
        /// Which assignment.
        assignment: AssignmentId,
        /// Not to be begun after.
        not_after: Option<Timestamp>,
        /// Why now.
        grounds: Grounds,
    },
    /// It is to activate by itself, when it goes down or has come up.
    Waits {
        /// When.
        on: ActivateOn,
        /// Why now.
        grounds: Grounds,
    },
    /// It is activating.
    Activating,
    /// What it has of this rollout is to be dropped.
    Drop {
        /// Which assignment.
        assignment: AssignmentId,
        /// Why.
        why: CancelWhy,
    },
}

/// What a grant means for the device's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing: it is a member.
    Member,
    /// It joins a live rollout: add it to the phase.
    Joins,
    /// It was excluded and can take the release now: from now on it counts.
    Returns {
        /// Why it was excluded.
        was: Exclusion,
    },
}

/// Why something may be done now, as far as windows have to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// None restricts it.
    Unrestricted,
    /// One is open.
    Window {
        /// Until then.
        until: Timestamp,
        /// Whose clock that is.
        zone: Zone,
    },
    /// They are closed, but the device was away for all of this one, in best-effort mode.
    MissedWindow {
        /// From when to when it was open.
        span: Span,
        /// Whose clock that is.
        zone: Zone,
    },
    /// They do not count any more.
    Overdue {
        /// Since then.
        deadline: Timestamp,
    },
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrestricted => Ok(()),
            Self::Window { until, zone } => write!(f, "; the window closes at {until} ({zone})"),
            Self::MissedWindow { span, zone } => {
                write!(f, "; it was away for the whole window from {} to {} ({zone})", span.start, span.end)
            }
            Self::Overdue { deadline } => write!(f, "; since the deadline at {deadline} windows do not count"),
        }
    }
}

impl Verdict {
    /// Whether the rollout is, or was, for this device.
    pub(super) const fn concerns_device(&self) -> bool {
        !matches!(self, Self::NotActive | Self::NotInAudience | Self::LeftAudience)
    }

    /// How much it says about why a device has nothing to do; the highest is told.
    pub(super) const fn weight(&self) -> u8 {
        match self {
            Self::NotActive | Self::NotInAudience | Self::LeftAudience | Self::Ended | Self::Superseded { .. } => 1,
            Self::AlreadyInstalled | Self::Finished(AssignmentState::Succeeded) => 2,
            Self::DoesNotFit(_) | Self::Finished(_) | Self::Regressed | Self::ReleaseUnknown => 3,
            _ => 4,
        }
    }

    /// Whether an offer would be made, were it not for a limit that others have reached or the time of the day.
    pub(super) const fn puts_off(&self) -> bool {
        matches!(
            self,
            Self::WindowClosed { gate: Gate::Download, .. }
                | Self::Frozen { gate: Gate::Download, .. }
                | Self::NoBandwidth { .. }
                | Self::NoSpace { .. }
                | Self::Full(Full { grant: Grant::Download, .. })
                | Self::Paced(_)
                | Self::Behind { .. }
        )
    }

    /// Whether nothing but time keeps the device from installing what it has.
    pub(super) const fn waits_for_time(&self) -> bool {
        matches!(
            self,
            Self::WindowClosed { gate: Gate::Install, .. }
                | Self::Frozen { gate: Gate::Install, .. }
                | Self::Trading { .. }
                | Self::Waits { .. }
        )
    }

    /// What it means for a device that could go on otherwise.
    pub(super) const fn defers(&self) -> Option<Deferral> {
        match self {
            Self::WindowClosed { .. } => Some(Deferral::Window),
            Self::Trading { .. } => Some(Deferral::TradingHours),
            Self::Frozen { .. } => Some(Deferral::Freeze),
            _ => None,
        }
    }

    /// When it may change by itself: the stretch in which something is possible then.
    pub fn changes_at(&self) -> Option<Span> {
        match *self {
            Self::NotBegun { at } | Self::RetryLater { at, .. } | Self::NoBandwidth { opens: Some(at) } => {
                Some(Span { start: at, end: at })
            }
            Self::WindowClosed { opens, .. } | Self::Frozen { opens, .. } | Self::Trading { opens, .. } => opens,
            _ => None,
        }
    }

    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotActive => "rollout_not_active",
            Self::Ended | Self::Drop { why: CancelWhy::RolloutEnded, .. } => "rollout_ended",
            Self::ReleaseUnknown => "release_unknown",
            Self::NotInAudience => "not_in_audience",
            Self::LeftAudience => "left_audience",
            Self::AlreadyInstalled => "already_installed",
            Self::DoesNotFit(misfit) | Self::Drop { why: CancelWhy::NoLongerFits(misfit), .. } => misfit.code(),
            Self::Finished(state) => state.as_str(),
            Self::Regressed => "regressed",
            Self::NotBegun { .. } => "not_begun",
            Self::Superseded { .. } | Self::Drop { why: CancelWhy::Superseded { .. }, .. } => "superseded",
            Self::Behind { .. } => "one_by_one",
            Self::PhaseNotOpen { .. } => "phase_not_open",
            Self::Paused => "rollout_paused",
            Self::Withheld(why) => why.code(),
            Self::RetryLater { .. } => "retry_later",
            Self::InSession => "waits_for_connect",
            Self::WindowClosed { gate: Gate::Download, .. } => "download_window_closed",
            Self::WindowClosed { gate: Gate::Install, .. } => "install_window_closed",
            Self::Frozen { .. } => "frozen",
            Self::Trading { .. } => "trading_hours",
            Self::NoBandwidth { .. } => "no_bandwidth",
            Self::NoSpace { .. } => "no_space",
            Self::Full(Full { grant: Grant::Download, .. }) => "downloads_full",
            Self::Full(Full { grant: Grant::Activation, .. }) => "activations_full",
            Self::Paced(_) => "paced",
            Self::TimedOut => "timed_out",
            Self::TriedAgain { .. } => "tried_again",
            Self::Offer { .. } => "offered",
            Self::Downloading { .. } => "downloading",
            Self::Activate { .. } => "install_now",
            Self::Waits { on: ActivateOn::Boot, .. } => "waits_for_boot",
            Self::Waits { .. } => "waits_for_shutdown",
            Self::Activating => "activating",
            Self::Drop { why: CancelWhy::RolloutCancelled, .. } => "rollout_cancelled",
        }
    }
}
