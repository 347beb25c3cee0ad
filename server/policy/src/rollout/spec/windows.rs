//! Windows as they were typed.

use std::time::Duration;

use chrono_tz::Tz;

use super::{Errors, MAX_PARTS, WindowSpec, minutes};
use crate::window::{CronStart, Gate, MAX_WINDOW, Start, Window, WindowTz, spans::MAX_OPENINGS, week};

pub(super) fn read(specs: &[WindowSpec], errors: &mut Errors) -> Vec<Window> {
    if specs.len() > MAX_PARTS {
        errors.add("windows", format!("there are {}; at most {MAX_PARTS} are allowed", specs.len()));
    }
    let windows = specs.iter().take(MAX_PARTS).enumerate();
    let read: Vec<Window> = windows.filter_map(|(n, spec)| one(spec, &format!("windows[{n}]"), errors)).collect();
    let openings: usize = read.iter().map(|window| window.start.openings_a_day(window.duration)).sum();
    if openings > MAX_OPENINGS {
        let message = format!(
            "open {openings} times a day, at most {MAX_OPENINGS} are allowed; make them longer, so that those that follow \
             each other are one, or let them open less often"
        );
        errors.add("windows", message);
    }
    read
}

fn one(spec: &WindowSpec, path: &str, errors: &mut Errors) -> Option<Window> {
    let tz = match spec.tz.as_str() {
        "site" => Some(WindowTz::Site),
        name => {
            let zone = zone(name).map_err(|error| format!("{error}, or `site`"));
            errors.keep(format!("{path}.tz"), zone).map(WindowTz::Zone)
        }
    };
    let start = match (&spec.start, &spec.cron) {
        (Some(at), None) => weekly(&spec.days, at, path, errors),
        (None, Some(text)) => {
            if !spec.days.is_empty() {
                errors.add(format!("{path}.days"), "belongs to start; cron names its days itself");
            }
            errors.keep(format!("{path}.cron"), cron(text))
        }
        (None, None) | (Some(_), Some(_)) => {
            errors.add(path, "needs either start or cron");
            None
        }
    };
    let duration = minutes(spec.duration_min);
    if duration.is_zero() || duration > MAX_WINDOW {
        let longest = MAX_WINDOW.as_secs() / 60;
        errors.add(
            format!("{path}.duration_min"),
            format!("is {}; 1 to {longest} minutes are allowed", spec.duration_min),
        );
    }
    if !spec.gates.download && !spec.gates.install {
        errors.add(format!("{path}.gates"), "is empty; a window restricts download, install or both");
    }
    Some(Window { tz: tz?, start: start?, duration, gates: spec.gates, mode: spec.mode })
}

/// An IANA name.
pub(super) fn zone(name: &str) -> Result<Tz, String> {
    let zone = name.parse().ok();
    zone.ok_or_else(|| format!("{name:?} is no time zone; an IANA name such as America/New_York is wanted"))
}

fn weekly(days: &[String], at: &str, path: &str, errors: &mut Errors) -> Option<Start> {
    let time = errors.keep(format!("{path}.start"), week::time(at));
    let mut found = Vec::new();
    for name in days {
        if let Some(day) = errors.keep(format!("{path}.days"), week::day(name))
            && !found.contains(&day)
        {
            found.push(day);
        }
    }
    if days.is_empty() {
        found = week::every_day();
    }
    Some(Start::Weekly { days: found, at: time? })
}

fn cron(text: &str) -> Result<Start, String> {
    let start = Start::Cron(text.parse::<CronStart>().map_err(|error| error.to_string())?);
    if start.ever_opens() { Ok(start) } else { Err(format!("{text:?} never comes")) }
}

/// An install that never fits into a window would never happen.
pub(super) fn check_lengths(windows: &[Window], expected_install: Duration, errors: &mut Errors) {
    let mut installing = windows.iter().filter(|window| window.gates.restrict(Gate::Install)).peekable();
    if installing.peek().is_some() && installing.all(|window| window.duration < expected_install) {
        errors.add(
            "expected_install_min",
            format!("{} minutes are longer than every window for installing", expected_install.as_secs() / 60),
        );
    }
}
