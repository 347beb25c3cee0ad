//! What one rollout means for one device, in words.

use callboard_proto::{instruction::Reason, state::AssignmentState, time::Timestamp};

use super::{CancelWhy, verdict::Verdict};
use crate::{
    device::{Connectivity, Contact, Device},
    freeze::Freeze,
    guard::{Full, Grant, Paced},
    release::{self, Misfit, Release},
    rollout::{Policy, Rollout, RolloutState},
    selector::Seen,
    window::{Gate, Span, Zone},
};

/// What a sentence about a verdict may mention.
pub(super) struct Subject<'a> {
    pub(super) now: Timestamp,
    pub(super) rollout: &'a Rollout,
    pub(super) release: Option<&'a Release>,
    pub(super) device: &'a Device,
    pub(super) contact: &'a Contact,
    /// The rollout that comes first, where one does.
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
        Verdict::NotActive => format!("it is {}{}", subject.rollout.state.as_str(), why_cancelled(subject.rollout)),
        Verdict::Ended => format!("it ended at {}", time(subject.rollout.plan.ends_at)),
        Verdict::ReleaseUnknown => format!("{release} is not known to this server"),
        Verdict::NotInAudience | Verdict::LeftAudience => not_in_audience(subject, *verdict == Verdict::LeftAudience),
        Verdict::AlreadyInstalled => format!("{release} is installed"),
        Verdict::DoesNotFit(why) => misfit(why),
        Verdict::Finished(AssignmentState::Succeeded) => format!("{release} was installed"),
        Verdict::Finished(AssignmentState::RolledBack) => {
            format!("{release} failed here and was rolled back; {}", hint())
        }
        Verdict::Finished(AssignmentState::Failed) => format!("{release} failed here and needs attention; {}", hint()),
        Verdict::Finished(state) => format!("the assignment is {}", state.as_str()),
        Verdict::Regressed => {
            let product = subject.release.map(|release| &release.product);
            match product.filter(|product| subject.device.installed(product).is_none()) {
                Some(product) => format!("{release} was installed, but the device has no {product} any more"),
                None => format!("{release} was installed, but the device runs something older again"),
            }
        }
        Verdict::Offer { phase, grounds, .. } => {
            format!("download {release}{}{grounds}", in_phase(subject.rollout, phase))
        }
        Verdict::Downloading { .. } if is_staged(subject) => format!("{release} is to be taken up again"),
        Verdict::Downloading { .. } => format!("{release} is being downloaded"),
        Verdict::Activate { grounds, .. } => format!("install {release}{grounds}"),
        Verdict::Waits { grounds, .. } => format!("{release} is ready{grounds}"),
        Verdict::Activating => format!("{release} is being installed"),
        Verdict::Drop { why, .. } => match why {
            CancelWhy::RolloutCancelled => format!("it was cancelled{}", why_cancelled(subject.rollout)),
            CancelWhy::RolloutEnded => format!("it ended at {}", time(subject.rollout.plan.ends_at)),
            CancelWhy::Superseded { .. } => superseded(subject),
            CancelWhy::NoLongerFits(why) => misfit(why),
        },
        _ => verdict.code().to_owned(),
    }
}

fn is_staged(subject: &Subject<'_>) -> bool {
    subject.device.assignment(subject.rollout.id).is_some_and(|one| one.state == AssignmentState::Staged)
}

/// What somebody, or a halt rule, said when it was called off.
fn why_cancelled(rollout: &Rollout) -> String {
    match &rollout.state_reason {
        Some(why) if rollout.state == RolloutState::Cancelled => format!(" ({why})"),
        _ => String::new(),
    }
}

/// Sentences about what is waited for.
fn waiting(verdict: &Verdict, subject: &Subject<'_>) -> Option<String> {
    let rollout = subject.rollout;
    Some(match *verdict {
        Verdict::NotBegun { at } => format!("it begins at {at}"),
        Verdict::Superseded { .. } => superseded(subject),
        Verdict::Behind { .. } => match subject.other {
            Some(other) => format!("the device installs what rollout {} has brought first, by itself", other.plan.name),
            None => "the device installs something else first, by itself".to_owned(),
        },
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
        Verdict::NoSpace { free, needed } => {
            let (free, needed) = (size(free), size(needed.saturating_add(999_999)));
            format!(
                "the release takes {needed} of free space at least, and the device has {free}; it is offered when there is room"
            )
        }
        Verdict::Full(full) => no_place(subject, full),
        Verdict::Paced(paced) => out_of_pace(paced),
        Verdict::TimedOut => {
            format!("the device went silent while it installed{}; a late report or a retry decides", silence(subject))
        }
        Verdict::TriedAgain { .. } => {
            format!("the device went silent while it installed{}, and knows nothing of it now", silence(subject))
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
    if subject.rollout.plan.security {
        text += "; a second person's approval lets this security rollout pass";
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

/// Whole units, so that what is rounded up is never what is less rounded down.
fn size(bytes: u64) -> String {
    match bytes / 1_000_000 {
        megabytes @ 0..10_000 => format!("{megabytes} MB"),
        megabytes => format!("{} GB ({megabytes} MB)", megabytes / 1000),
    }
}

fn out_of_pace(paced: Paced) -> String {
    let Paced { rate, until, doubles_after } = paced;
    let plural = |n: u64| if n == 1 { "" } else { "s" };
    let text = format!("it makes {rate} offer{} a minute, and the next minute begins at {until}", plural(rate));
    match doubles_after {
        Some(n) => format!("{text}; twice as many after {n} more success{}", if n == 1 { "" } else { "es" }),
        None => text,
    }
}

fn superseded(subject: &Subject<'_>) -> String {
    let Some(other) = subject.other else {
        return "another rollout comes first for this product".to_owned();
    };
    let (first, own) = (other.plan.priority, subject.rollout.plan.priority);
    let why = match (other.begins_at(), subject.rollout.begins_at()) {
        _ if first != own => format!("its priority is {first}, and {own} here"),
        (Some(later), Some(at)) if later != at => format!("both have priority {own}, and it began at {later}"),
        _ => format!("both have priority {own}, and it is the newer one"),
    };
    format!("rollout {} comes first for this product ({why})", other.plan.name)
}

/// Since when it is silent, and what was taken of that.
fn silence(subject: &Subject<'_>) -> String {
    let Some(one) = subject.device.assignment(subject.rollout.id) else {
        return String::new();
    };
    let timed_out = one.attention_since.map(|at| format!(", timed out at {at}")).unwrap_or_default();
    format!(" (attempt {}, last heard of at {}{timed_out})", one.attempt, one.heard_at)
}

fn not_in_audience(subject: &Subject<'_>, left: bool) -> String {
    let last_seen = subject.contact.last_seen;
    // A device that is being answered is online.
    let seen = Seen { last_seen, status: Connectivity::Online, now: subject.now };
    match subject.rollout.plan.selector.why_not(subject.device, &seen) {
        Some(why) if left => format!("it is not for this device any more ({why})"),
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
