//! What one rollout means for one device, and how that is said.

use std::fmt;

use callboard_proto::{
    ids::{AssignmentId, RolloutId},
    instruction::{ActivateOn, Reason},
    state::AssignmentState,
    time::Timestamp,
};

use super::CancelWhy;
use crate::{
    device::{Connectivity, Contact, Deferral, Device},
    freeze::Freeze,
    guard::{Full, Grant},
    release::{self, Misfit, Release},
    rollout::{Policy, Rollout},
    selector::Seen,
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
    /// The device runs the release.
    AlreadyInstalled,
    /// The device cannot take the release.
    DoesNotFit(Misfit),
    /// The device is through with it.
    Finished(AssignmentState),
    /// It succeeded here, but the device runs something older again.
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
    /// Other devices hold all places that the rollout's caps allow.
    Full(Full),
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

/// What a grant means for the membership sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing: it is a member.
    Member,
    /// It joins a live rollout: add it to the phase.
    Joins,
    /// It was excluded and can take the release now: take it off the excluded set.
    Returns,
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
        !matches!(self, Self::NotActive | Self::NotInAudience)
    }

    /// How much it says about why a device has nothing to do; the highest is told.
    pub(super) const fn weight(&self) -> u8 {
        match self {
            Self::NotActive | Self::NotInAudience | Self::Ended | Self::Superseded { .. } => 1,
            Self::AlreadyInstalled | Self::Finished(AssignmentState::Succeeded) => 2,
            Self::DoesNotFit(_) | Self::Finished(_) | Self::Regressed | Self::ReleaseUnknown => 3,
            _ => 4,
        }
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

    /// When it may change by itself.
    pub(super) fn changes_at(&self) -> Option<Span> {
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
            Self::AlreadyInstalled => "already_installed",
            Self::DoesNotFit(misfit) | Self::Drop { why: CancelWhy::NoLongerFits(misfit), .. } => misfit.code(),
            Self::Finished(state) => state.as_str(),
            Self::Regressed => "regressed",
            Self::NotBegun { .. } => "not_begun",
            Self::Superseded { .. } | Self::Drop { why: CancelWhy::Superseded { .. }, .. } => "superseded",
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
            Self::Full(Full { grant: Grant::Download, .. }) => "downloads_full",
            Self::Full(Full { grant: Grant::Activation, .. }) => "activations_full",
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

/// What a sentence about a verdict may mention.
pub(super) struct Subject<'a> {
    pub(super) now: Timestamp,
    pub(super) rollout: &'a Rollout,
    pub(super) release: Option<&'a Release>,
    pub(super) device: &'a Device,
    pub(super) contact: &'a Contact,
    /// The rollout that supersedes, where one does.
    pub(super) other: Option<&'a Rollout>,
    pub(super) freezes: &'a [Freeze],
}

/// The verdict in words.
pub(super) fn reason(verdict: &Verdict, subject: &Subject<'_>) -> Reason {
    let text = match waiting(verdict, subject) {
        Some(text) => text,
        None => settled(verdict, subject),
    };
    Reason { code: verdict.code().to_owned(), text: format!("rollout {}: {text}", subject.rollout.plan.name) }
}

fn settled(verdict: &Verdict, subject: &Subject<'_>) -> String {
    let release = subject.release.map_or_else(
        || format!("release {}", subject.rollout.plan.release.short()),
        |release| format!("{} {}", release.product, release.version),
    );
    let name = &subject.rollout.plan.name;
    let hint = || release::retry_hint(name, subject.device);
    let misfit = |misfit: Misfit| {
        subject.release.map_or_else(|| misfit.code().to_owned(), |release| misfit.text(release, subject.device, name))
    };
    match *verdict {
        Verdict::NotActive => format!("it is {}", subject.rollout.state.as_str()),
        Verdict::Ended => format!("it ended at {}", time(subject.rollout.plan.ends_at)),
        Verdict::ReleaseUnknown => format!("{release} is not known to this server"),
        Verdict::NotInAudience => not_in_audience(subject),
        Verdict::AlreadyInstalled => format!("{release} is installed"),
        Verdict::DoesNotFit(why) => misfit(why),
        Verdict::Finished(AssignmentState::Succeeded) => format!("{release} was installed"),
        Verdict::Finished(AssignmentState::RolledBack) => {
            format!("{release} failed here and was rolled back; {}", hint())
        }
        Verdict::Finished(AssignmentState::Failed) => format!("{release} failed here and needs attention; {}", hint()),
        Verdict::Finished(state) => format!("the assignment is {}", state.as_str()),
        Verdict::Regressed => format!("{release} was installed, but the device runs something older again"),
        Verdict::Offer { phase, grounds, .. } => {
            format!("download {release}{}{grounds}", in_phase(subject.rollout, phase))
        }
        Verdict::Downloading { .. } => format!("{release} is being downloaded"),
        Verdict::Activate { grounds, .. } => format!("install {release}{grounds}"),
        Verdict::Waits { grounds, .. } => format!("{release} is ready{grounds}"),
        Verdict::Activating => format!("{release} is being installed"),
        Verdict::Drop { why, .. } => match why {
            CancelWhy::RolloutCancelled => "it was cancelled".to_owned(),
            CancelWhy::RolloutEnded => format!("it ended at {}", time(subject.rollout.plan.ends_at)),
            CancelWhy::Superseded { .. } => superseded(subject),
            CancelWhy::NoLongerFits(why) => misfit(why),
        },
        _ => verdict.code().to_owned(),
    }
}

/// Sentences about what is waited for.
fn waiting(verdict: &Verdict, subject: &Subject<'_>) -> Option<String> {
    let rollout = subject.rollout;
    Some(match *verdict {
        Verdict::NotBegun { at } => format!("it begins at {at}"),
        Verdict::Superseded { .. } => superseded(subject),
        Verdict::PhaseNotOpen { phase } => format!(
            "it waits for phase {}, and phase {} is the last one open",
            phase_name(rollout, phase),
            phase_name(rollout, rollout.open_phase)
        ),
        Verdict::Paused => match &rollout.state_reason {
            Some(why) => format!("it is paused ({why})"),
            None => "it is paused".to_owned(),
        },
        Verdict::Withheld(why) => why.text(subject.device),
        Verdict::RetryLater { at, attempt } => {
            format!("try {attempt} of {} is made at {at}", rollout.plan.max_attempts)
        }
        Verdict::InSession => {
            let minutes = match rollout.plan.policy {
                Policy::OnConnect { min_absence } => min_absence.as_secs() / 60,
                _ => 0,
            };
            format!("it offers only when the device boots or comes back after {minutes} minutes")
        }
        Verdict::WindowClosed { gate, opens, zone } => {
            let what = doing(gate);
            match opens {
                Some(span) => format!("the window for {what} opens at {} ({zone})", span.start),
                None => format!("no window that is long enough for {what} is in sight ({zone})"),
            }
        }
        Verdict::Frozen { freeze, span, gate, opens, zone } => frozen(subject, freeze, span, gate, opens, zone),
        Verdict::Trading { begins, opens, zone } => trading(subject, begins, opens, zone),
        Verdict::NoBandwidth { opens } => {
            let until = opens.map(|at| format!(" until {at}")).unwrap_or_default();
            format!("the site allows no downloads{until} ({})", subject.device.site_rules.bandwidth)
        }
        Verdict::Full(full) => no_place(subject, full),
        Verdict::TimedOut => "the device went silent while it installed; a late report or a retry decides".to_owned(),
        Verdict::TriedAgain { .. } => {
            "the device went silent while it installed, and knows nothing of it now".to_owned()
        }
        _ => return None,
    })
}

const fn doing(gate: Gate) -> &'static str {
    match gate {
        Gate::Download => "downloading",
        Gate::Install => "installing",
    }
}

fn frozen(subject: &Subject<'_>, freeze: usize, span: Span, gate: Gate, opens: Option<Span>, zone: Zone) -> String {
    let Some(freeze) = subject.freezes.get(freeze) else {
        return "a freeze is in force".to_owned();
    };
    let mut text = format!("freeze {} ({}) ", freeze.name, freeze.reason);
    if span.start <= subject.now {
        text += &format!("lasts until {} ({zone})", span.end);
    } else {
        let minutes = subject.rollout.plan.expected_install.as_secs() / 60;
        text += &format!("begins at {} ({zone}), and installing takes {minutes} minutes", span.start);
    }
    match opens {
        Some(opens) if opens.start == span.end => {}
        Some(opens) => text += &format!("; {} is possible from {}", doing(gate), opens.start),
        None => text += &format!("; no time for {} is in sight", doing(gate)),
    }
    text
}

fn trading(subject: &Subject<'_>, begins: Option<Timestamp>, opens: Option<Span>, zone: Zone) -> String {
    let hours = &subject.device.site_rules.trading;
    let what = match begins {
        None => format!("the site trades ({hours}; {zone})"),
        Some(at) => {
            let minutes = subject.rollout.plan.expected_install.as_secs() / 60;
            format!("the site begins to trade at {at} ({hours}; {zone}), and installing takes {minutes} minutes")
        }
    };
    match opens {
        Some(span) => format!("{what}; installing is possible from {}", span.start),
        None => format!("{what}; no time for installing is in sight"),
    }
}

fn no_place(subject: &Subject<'_>, full: Full) -> String {
    let what = match full.grant {
        Grant::Download => "downloads",
        Grant::Activation => "activations",
    };
    let whose = match (full.at_site, &subject.device.site) {
        (true, Some(site)) => format!("site {site}"),
        _ => "the rollout".to_owned(),
    };
    let oldest = full.holders.oldest.map(|at| format!(", oldest since {at}")).unwrap_or_default();
    format!("{whose} has {} of {} {what} in flight{oldest}", full.holders.count, full.cap)
}

fn superseded(subject: &Subject<'_>) -> String {
    match subject.other {
        Some(other) => format!("rollout {} comes first for this product", other.plan.name),
        None => "another rollout comes first for this product".to_owned(),
    }
}

fn not_in_audience(subject: &Subject<'_>) -> String {
    let last_seen = subject.contact.last_seen;
    // A device that is being answered is online.
    let seen = Seen { last_seen, status: Connectivity::Online, now: subject.now };
    match subject.rollout.plan.selector.why_not(subject.device, &seen) {
        Some(why) => format!("it is not for this device ({why})"),
        None => "its audience was fixed when it started, without this device".to_owned(),
    }
}

fn in_phase(rollout: &Rollout, phase: usize) -> String {
    if rollout.plan.phases.len() > 1 { format!(", phase {}", phase_name(rollout, phase)) } else { String::new() }
}

fn phase_name(rollout: &Rollout, phase: usize) -> &str {
    rollout.plan.phases.get(phase).map_or("?", |phase| phase.name.as_str())
}

fn time(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}
