//! Tables of rollouts, of their devices, and of what one would do.

use std::fmt::Write as _;

use callboard_proto::{
    admin::{Assignment, ComesFirst, Counts, Preview, PreviewZone, Rollout},
    ids::DeviceName,
    time::Timestamp,
};
use chrono_tz::Tz;

use crate::cli::table;

/// Names shown of a phase; the JSON has more.
const NAMES_SHOWN: usize = 20;

/// One row for each rollout.
pub(super) fn list(rollouts: &[Rollout]) -> String {
    let rows = rollouts.iter().map(|rollout| {
        let sum = |count: fn(&Counts) -> u32| {
            let counts = rollout.phases.iter().map(|phase| u64::from(count(&phase.counts)));
            counts.sum::<u64>().to_string()
        };
        [
            rollout.spec.name.to_string(),
            table::word(&rollout.state),
            rollout.spec.release.clone(),
            table::word(&rollout.spec.policy),
            sum(|counts| counts.succeeded),
            sum(Counts::unsuccessful),
            sum(Counts::wanted),
            table::or_empty(rollout.started_at),
            rollout.spec.selector.clone().unwrap_or_default(),
        ]
    });
    let headings = ["NAME", "STATE", "RELEASE", "POLICY", "SUCCEEDED", "FAILED", "OF", "STARTED", "SELECTOR"];
    table::list(headings, rows)
}

/// One row for each device.
pub(super) fn assignments(assignments: &[Assignment]) -> String {
    let rows = assignments.iter().map(|one| {
        let failure = one.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.text.trim()));
        [
            one.device.to_string(),
            one.phase.to_string(),
            one.state.as_str().to_owned(),
            one.attempt.to_string(),
            one.updated_at.to_string(),
            failure.unwrap_or_default(),
        ]
    });
    table::list(["DEVICE", "PHASE", "STATE", "ATTEMPT", "SINCE", "FAILURE"], rows)
}

/// Counts, members of the phases, and what stands in the way.
pub(super) fn preview(preview: &Preview) -> String {
    let mut text = table::fields([
        ("release", preview.release.short()),
        ("devices", preview.devices.to_string()),
        ("online", preview.online.to_string()),
        ("already installed", preview.already_installed.to_string()),
        ("incompatible", preview.incompatible.to_string()),
        ("not yet reported", preview.unreported.to_string()),
    ]);
    let phases = preview
        .phases
        .iter()
        .map(|phase| [phase.name.clone(), phase.size.to_string(), phase.online.to_string(), some(&phase.devices)]);
    // Writing to a String cannot fail.
    let _ = write!(text, "\n\n{}", table::list(["PHASE", "SIZE", "ONLINE", "DEVICES"], phases));
    let held_back = |one: &&PreviewZone| {
        one.never > 0 || one.first_closes_at.is_some() || one.last_opens_at.is_some_and(|last| last > preview.at)
    };
    let zones: Vec<_> = preview.zones.iter().filter(held_back).map(zone).collect();
    if !zones.is_empty() {
        let headings = ["ZONE", "DEVICES", "COULD INSTALL FROM", "UNTIL", "LAST ONE FROM", ""];
        let _ = write!(text, "\n\n{}", table::list(headings, zones));
    }
    if preview.unreported > 0 {
        let _ = write!(text, "\n\nnot yet reported, so members until they do: {}", some(&preview.unreported_devices));
    }
    if !preview.incompatible_devices.is_empty() {
        let rows = preview.incompatible_devices.iter().map(|one| [one.device.to_string(), one.reason.text.clone()]);
        let _ = write!(text, "\n\n{}", table::list(["INCOMPATIBLE", "WHY"], rows));
    }
    if !preview.conflicts.is_empty() {
        let rows = preview.conflicts.iter().map(|one| {
            let first = match one.comes_first {
                ComesFirst::This => "this one".to_owned(),
                ComesFirst::Other => one.rollout.to_string(),
            };
            [one.rollout.to_string(), one.devices.to_string(), first]
        });
        let _ = write!(text, "\n\n{}", table::list(["CONFLICTS WITH", "DEVICES IN COMMON", "COMES FIRST"], rows));
    }
    text
}

/// Times as clocks show them in the zone.
fn zone(one: &PreviewZone) -> [String; 6] {
    let tz: Option<Tz> = one.zone.parse().ok();
    let local = |at: Option<Timestamp>| match (at, tz) {
        (Some(at), Some(tz)) => at.utc().with_timezone(&tz).format("%a %Y-%m-%d %H:%M").to_string(),
        (at, _) => table::or_empty(at),
    };
    let last = one.last_opens_at.filter(|last| Some(*last) != one.first_opens_at);
    let never = if one.never > 0 { format!("not within four weeks: {}", one.never) } else { String::new() };
    let devices = one.devices.to_string();
    [one.zone.clone(), devices, local(one.first_opens_at), local(one.first_closes_at), local(last), never]
}

/// The first names of a list.
fn some(devices: &[DeviceName]) -> String {
    let mut names: Vec<String> = devices.iter().take(NAMES_SHOWN).map(ToString::to_string).collect();
    if devices.len() > NAMES_SHOWN {
        names.push("...".to_owned());
    }
    names.join(", ")
}
