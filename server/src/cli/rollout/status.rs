//! How a rollout stands, in words and counts.

use std::fmt::Write as _;

use callboard_proto::{
    admin::{Approved, Audience, Counts, Forecast, PhaseProgress, Rollout, RolloutSpec, Unit},
    text::shown,
};

use super::{guards, halt, phase, window};
use crate::cli::{release::upload::human, table};

/// Characters of a bar in a table.
const WIDTH: u32 = 10;

/// Everything about one rollout.
pub(super) fn details(rollout: &Rollout) -> String {
    let spec = &rollout.spec;
    let state = match &rollout.state_reason {
        Some(reason) => format!("{}: {reason}", table::word(&rollout.state)),
        None => table::word(&rollout.state),
    };
    let mut text = table::fields([
        ("rollout", spec.name.to_string()),
        ("id", rollout.id.to_string()),
        ("state", state),
        ("release", format!("{} ({})", spec.release, rollout.release.short())),
        ("policy", table::word(&spec.policy)),
        ("devices", spec.selector.clone().unwrap_or_else(|| "all".to_owned())),
        ("audience", audience(spec)),
        ("begins", table::or_empty(spec.start_at)),
        ("windows", windows(spec)),
        ("phases", phases_to_come(rollout)),
        ("deadline", table::or_empty(spec.deadline)),
        ("ends", table::or_empty(spec.ends_at)),
        ("limits", guards::in_words(spec)),
        ("halts", halt::in_words(&spec.halt)),
        ("takes back", table::or_empty(rollout.takes_back.as_ref())),
        (
            "security",
            if spec.security { "freezes let it pass once it is countersigned".to_owned() } else { String::new() },
        ),
        ("created", format!("{} by {}", rollout.created_at, rollout.created_by)),
        ("changed by", table::or_empty(rollout.edited_by.as_ref())),
        ("countersigned", table::or_empty(rollout.countersigned.as_ref().map(approved))),
        ("started", table::or_empty(rollout.started_at)),
        ("ended", table::or_empty(rollout.ended_at)),
        ("served", served(rollout)),
        ("events", events(rollout)),
    ]);
    if rollout.phases.is_empty() {
        return text;
    }
    let rows = rollout.phases.iter().map(|phase| {
        let counts = &phase.counts;
        let [succeeded, failed, wanted] = [counts.succeeded, counts.unsuccessful(), counts.wanted()];
        let [succeeded, failed, wanted] = [succeeded, failed, wanted].map(|n| n.to_string());
        let opened = table::or_empty(phase.opened_at);
        let devices = join([sentence(counts), excluded(phase)]);
        [phase.name.clone(), opened, bar(counts, WIDTH), succeeded, failed, wanted, devices, gate(phase)]
    });
    let headings = ["PHASE", "OPENED", "PROGRESS", "SUCCEEDED", "FAILED", "OF", "DEVICES", "GATE"];
    // Writing to a String cannot fail.
    let _ = write!(text, "\n\n{}", table::list(headings, rows));
    text
}

/// The same, with when it will be done.
pub(super) fn with_forecast(rollout: &Rollout, ahead: Option<&Forecast>) -> String {
    let mut text = details(rollout);
    if let Some(ahead) = ahead {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n\n{}", forecast(ahead));
    }
    text
}

/// When a rollout will be done.
pub(super) fn forecast(forecast: &Forecast) -> String {
    let done = match (forecast.from, forecast.to) {
        (Some(from), Some(to)) => format!("between {from} and {to}"),
        (Some(from), None) => format!("not before {from}"),
        _ if forecast.left == 0 => String::new(),
        _ => "not enough data".to_owned(),
    };
    let left = format!(
        "{}, {} of them unreached",
        callboard_policy::counted(forecast.left.into(), "device"),
        forecast.unreached
    );
    table::fields([("left", left), ("done", done), ("basis", forecast.basis.clone())])
}

/// Who is in it, and what moves together.
fn audience(spec: &RolloutSpec) -> String {
    let who = match (spec.audience, spec.ends_at) {
        (Audience::Frozen, _) => "frozen: fixed at the start",
        (Audience::Live, None) => "live: devices that match later join, without an end",
        (Audience::Live, Some(_)) => "live: devices that match later join",
    };
    match spec.unit {
        Unit::Device => who.to_owned(),
        Unit::Site => format!("{who}; whole sites move together"),
    }
}

/// The phases of a rollout that has not started: nobody is in them yet.
fn phases_to_come(rollout: &Rollout) -> String {
    let planned = rollout.spec.phases.iter().filter(|_| rollout.phases.is_empty());
    planned.map(phase::in_words).collect::<Vec<_>>().join("; ")
}

/// When it may work; trading hours and freezes come on top.
fn windows(spec: &RolloutSpec) -> String {
    let mut parts: Vec<String> = spec.windows.iter().map(window::in_words).collect();
    if spec.expected_install_min > 0 {
        parts.push(format!("an install takes {} min", spec.expected_install_min));
    }
    if spec.during_trading {
        parts.push("during trading hours too".to_owned());
    }
    parts.join("; ")
}

/// What the next phase waits for, or who let it open.
fn gate(phase: &PhaseProgress) -> String {
    let waits = phase.gate.as_ref().map(|gate| gate.text.clone());
    let met = phase.gate_met_at.map(|at| format!("met since {at}"));
    let skipped = phase.soak_skipped_at.map(|at| format!("soak skipped at {at}"));
    let approved = phase.approved.as_ref().map(|approval| format!("approved {}", approved(approval)));
    [waits, met, skipped, approved].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn approved(approval: &Approved) -> String {
    format!("by {} at {}", approval.by, approval.at)
}

/// One phase as a line of text.
pub(super) fn line(phase: &PhaseProgress) -> String {
    let gate = phase.gate.as_ref().map(|gate| format!("; {}", gate.text)).unwrap_or_default();
    let counts = &phase.counts;
    shown(&format!("{}: {} ({}){gate}", phase.name, result(counts), join([sentence(counts), excluded(phase)])))
        .into_owned()
}

/// The counts that are not zero, in the order in which devices pass through them.
pub(super) fn sentence(counts: &Counts) -> String {
    let named = [
        (counts.unreached, "unreached"),
        (counts.queued, "queued"),
        (counts.downloading, "downloading"),
        (counts.staged, "staged"),
        (counts.deferred.total(), "deferred"),
        (counts.activating, "activating"),
        (counts.verifying, "verifying"),
        (counts.silent, "silent"),
        (counts.succeeded, "succeeded"),
        (counts.rolled_back, "rolled back"),
        (counts.failed, "failed"),
        (counts.timed_out, "timed out"),
        (counts.cancelled, "cancelled"),
    ];
    let shown: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    shown.join(", ")
}

/// Those that do not count, by why.
fn excluded(phase: &PhaseProgress) -> String {
    let count = |why: &str| phase.excluded.get(why).copied().unwrap_or_default();
    let known = [
        ("already_installed", "already installed"),
        ("out_of_service", "out of service"),
        ("left_audience", "no longer matching"),
    ];
    let other = |why: &String| known.iter().all(|(code, _)| why != code);
    let misfits: Vec<String> =
        phase.excluded.iter().filter(|(why, _)| other(why)).map(|(why, n)| format!("{n} {why}")).collect();
    let all: u32 = phase.excluded.iter().filter(|(why, _)| other(why)).map(|(_, n)| n).sum();
    let mut parts: Vec<String> = known
        .iter()
        .map(|(code, words)| (count(code), words))
        .filter(|(n, _)| *n > 0)
        .map(|(n, words)| format!("{n} {words}"))
        .collect();
    if all > 0 {
        parts.push(format!("{all} incompatible ({})", misfits.join(", ")));
    }
    parts.join(", ")
}

fn join(parts: [String; 2]) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "no devices".to_owned() } else { parts.join(", ") }
}

/// Bytes that devices were sent, over all phases.
fn served(rollout: &Rollout) -> String {
    let bytes: u64 = rollout.phases.iter().map(|phase| phase.bytes_served).sum();
    if bytes == 0 { String::new() } else { human(bytes) }
}

/// From the first to the last change of a device.
fn events(rollout: &Rollout) -> String {
    let first = rollout.phases.iter().filter_map(|phase| phase.first_event_at).min();
    let last = rollout.phases.iter().filter_map(|phase| phase.last_event_at).max();
    first.zip(last).map(|(first, last)| format!("first {first}, last {last}")).unwrap_or_default()
}

/// What came of it so far; the page says the same.
pub(in crate::cli) fn result(counts: &Counts) -> String {
    format!("{} succeeded, {} failed of {}", counts.succeeded, counts.unsuccessful(), counts.wanted())
}

/// A bar of `width` characters, in the order of the page's colours: `#` succeeded, `x` failed, `>` at work. A single
/// failure of a large fleet is a character too.
pub(in crate::cli) fn bar(counts: &Counts, width: u32) -> String {
    let share = |n: u32, round: fn(u64, u64) -> Option<u64>| {
        let cells = round(u64::from(n) * u64::from(width), u64::from(counts.wanted())).unwrap_or(0);
        u32::try_from(cells).unwrap_or(width)
    };
    let up = |n: u64, of: u64| n.checked_add(of.checked_sub(1)?)?.checked_div(of);
    let failed = share(counts.unsuccessful(), up).min(width);
    let succeeded = share(counts.succeeded, u64::checked_div).min(width - failed);
    let busy = share(counts.open(), up).min(width - failed - succeeded);
    let cells = [('#', succeeded), ('x', failed), ('>', busy), ('.', width - failed - succeeded - busy)];
    let drawn = cells.into_iter().flat_map(|(cell, n)| (0..n).map(move |_| cell));
    format!("[{}]", drawn.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counts: Counts) -> String {
        format!("{} {}", bar(&counts, 10), result(&counts))
    }

    #[test]
    fn success_and_failure_are_told_apart() {
        let counts = Counts { size: 10, excluded: 2, succeeded: 3, rolled_back: 1, staged: 4, ..Counts::default() };
        let excluded = [("already_installed".to_owned(), 1), ("incompatible_hw".to_owned(), 1)].into();
        let phase = PhaseProgress { name: "canary".to_owned(), counts, excluded, ..PhaseProgress::default() };
        assert_eq!(
            line(&phase),
            "canary: 3 succeeded, 1 failed of 8 (4 staged, 3 succeeded, 1 rolled back, 1 already installed, 1 incompatible (1 incompatible_hw))"
        );
        assert_eq!(shown(counts), "[###xx>>>>>] 3 succeeded, 1 failed of 8");
        for bad in [
            Counts { size: 1, rolled_back: 1, ..Counts::default() },
            Counts { size: 1, failed: 1, ..Counts::default() },
            Counts { size: 1, timed_out: 1, ..Counts::default() },
        ] {
            assert_eq!(shown(bad), "[xxxxxxxxxx] 0 succeeded, 1 failed of 1");
        }
    }

    #[test]
    fn a_bar_shows_every_failure_and_is_full_only_when_all_succeeded() {
        let all = |succeeded, failed, queued| {
            let size = succeeded + failed + queued;
            bar(&Counts { size, succeeded, failed, queued, ..Counts::default() }, 10)
        };
        assert_eq!(all(10, 0, 0), "[##########]");
        assert_eq!(all(999, 1, 0), "[#########x]");
        assert_eq!(all(999, 0, 1), "[#########>]");
        assert_eq!(all(1, 0, 999), "[>>>>>>>>>>]");
        assert_eq!(all(u32::MAX - 1, 1, 0), "[#########x]");
        assert_eq!(bar(&Counts { size: 2, cancelled: 2, ..Counts::default() }, 10), "[..........]");
        assert_eq!(bar(&Counts::default(), 10), "[..........]");
        assert_eq!(line(&PhaseProgress::default()), ": 0 succeeded, 0 failed of 0 (no devices)");
    }
}
